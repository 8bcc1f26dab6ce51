package aci

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"k8s.io/utils/clock"
)

// Secret is one client secret of an application.
type Secret struct {
	Value string
	// Expires is when the secret stops being accepted; the zero time is never.
	Expires time.Time
}

// Application is a service principal that may ask for tokens.
type Application struct {
	TenantID string
	ClientID string
	Secrets  []Secret
	// Federated are the tokens of others that are taken in place of a secret.
	Federated []FederatedCredential
	// Scopes lists the resource ids at or below which the application may act,
	// such as /subscriptions/{id}/resourceGroups/{name}. Empty means everywhere.
	Scopes []string
}

// authority is the token service of the emulated cloud: OpenID configuration
// and the client credentials grant.
type authority struct {
	clock     clock.PassiveClock
	lifetime  time.Duration
	audiences []string

	mu           sync.RWMutex
	identities   []ManagedIdentity
	applications map[string]Application // by applicationKey
	tenants      map[string]bool
	signingKey   []byte
}

func newAuthority(clk clock.PassiveClock, lifetime time.Duration, audiences []string) *authority {
	return &authority{
		clock:        clk,
		lifetime:     lifetime,
		audiences:    audiences,
		applications: map[string]Application{},
		tenants:      map[string]bool{},
		signingKey:   randomKey(),
	}
}

func randomKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	return key
}

func applicationKey(tenant, client string) string {
	return strings.ToLower(tenant) + "/" + strings.ToLower(client)
}

func (a *authority) put(app Application) {
	a.mu.Lock()
	defer a.mu.Unlock()
	app.Secrets = slices.Clone(app.Secrets)
	app.Scopes = slices.Clone(app.Scopes)
	app.Federated = slices.Clone(app.Federated)
	a.applications[applicationKey(app.TenantID, app.ClientID)] = app
	a.tenants[strings.ToLower(app.TenantID)] = true
}

func (a *authority) remove(tenant, client string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.applications, applicationKey(tenant, client))
}

// revoke makes every token issued so far invalid.
func (a *authority) revoke() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.signingKey = randomKey()
}

func (a *authority) lookup(tenant, client string) (app Application, found, tenantKnown bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	app, found = a.applications[applicationKey(tenant, client)]
	return app, found, a.tenants[strings.ToLower(tenant)]
}

// entraError is a refusal of the token service. Codes and HTTP status are those
// of the Microsoft Entra error code reference.
type entraError struct {
	status  int
	error   string
	code    int
	message string
}

func (a *authority) writeError(w http.ResponseWriter, e entraError) {
	trace, correlation := uuid.NewString(), uuid.NewString()
	now := a.clock.Now().UTC().Format("2006-01-02 15:04:05Z")
	writeJSON(w, e.status, map[string]any{
		"error": e.error,
		"error_description": fmt.Sprintf("AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s",
			e.code, e.message, trace, correlation, now),
		"error_codes":    []int{e.code},
		"timestamp":      now,
		"trace_id":       trace,
		"correlation_id": correlation,
	})
}

func errTenant(tenant string) entraError {
	return entraError{http.StatusBadRequest, "invalid_request", 90002,
		fmt.Sprintf("Tenant '%s' not found.", tenant)}
}

func (a *authority) configuration(w http.ResponseWriter, r *http.Request) {
	tenant := r.PathValue("tenant")
	if _, _, known := a.lookup(tenant, ""); !known {
		a.writeError(w, errTenant(tenant))
		return
	}
	base := "https://" + r.Host + "/" + url.PathEscape(tenant)
	writeJSON(w, http.StatusOK, map[string]any{
		"token_endpoint":                        base + "/oauth2/v2.0/token",
		"authorization_endpoint":                base + "/oauth2/v2.0/authorize",
		"device_authorization_endpoint":         base + "/oauth2/v2.0/devicecode",
		"jwks_uri":                              base + "/discovery/v2.0/keys",
		"issuer":                                base + "/v2.0",
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt"},
		"response_types_supported":              []string{"code"},
		"response_modes_supported":              []string{"query"},
		"subject_types_supported":               []string{"pairwise"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"scopes_supported":                      []string{"openid", "profile", "offline_access"},
	})
}

// instances is the discovery of instances, which the service answers under its
// public name only: which hosts are one authority.
func (a *authority) instances(w http.ResponseWriter, r *http.Request) {
	authorize, err := url.Parse(r.URL.Query().Get("authorization_endpoint"))
	if err != nil || authorize.Host == "" || r.URL.Query().Get("api-version") == "" {
		a.writeError(w, entraError{http.StatusBadRequest, "invalid_request", 900144,
			"The request must contain the following parameters: 'api-version', 'authorization_endpoint'."})
		return
	}
	if authorize.Host != r.Host {
		a.writeError(w, entraError{http.StatusBadRequest, "invalid_instance", 50049, "Unknown or invalid instance."})
		return
	}
	tenant, _, _ := strings.Cut(strings.TrimPrefix(authorize.Path, "/"), "/")
	writeJSON(w, http.StatusOK, map[string]any{
		"tenant_discovery_endpoint": "https://" + r.Host + "/" + url.PathEscape(tenant) + "/v2.0/.well-known/openid-configuration",
		"api-version":               "1.1",
		"metadata": []map[string]any{{
			"preferred_network": r.Host, "preferred_cache": "login.windows.net",
			"aliases": []string{r.Host, "login.windows.net", "login.microsoft.com", "sts.windows.net"},
		}},
	})
}

func (a *authority) token(w http.ResponseWriter, r *http.Request) {
	tenant := r.PathValue("tenant")
	if err := r.ParseForm(); err != nil {
		a.writeError(w, entraError{http.StatusBadRequest, "invalid_request", 900144, "The request body is not a form."})
		return
	}
	// Credentials count only in the body, never in the URL.
	form := r.PostForm
	client := form.Get("client_id")
	app, found, tenantKnown := a.lookup(tenant, client)
	if !tenantKnown {
		a.writeError(w, errTenant(tenant))
		return
	}
	for _, name := range []string{"grant_type", "client_id", "scope"} {
		if form.Get(name) == "" {
			a.writeError(w, entraError{http.StatusBadRequest, "invalid_request", 900144,
				fmt.Sprintf("The request body must contain the following parameter: '%s'.", name)})
			return
		}
	}
	if form.Get("grant_type") != "client_credentials" {
		a.writeError(w, entraError{http.StatusBadRequest, "unsupported_grant_type", 70003,
			"The app requested an unsupported grant type."})
		return
	}
	if !found {
		a.writeError(w, entraError{http.StatusBadRequest, "unauthorized_client", 700016,
			fmt.Sprintf("Application with identifier '%s' was not found in the directory '%s'.", client, tenant)})
		return
	}
	check := func() (entraError, bool) { return a.checkSecret(app, form.Get("client_secret")) }
	if form.Get("client_assertion") != "" {
		check = func() (entraError, bool) {
			return a.checkAssertion(app, form.Get("client_assertion_type"), form.Get("client_assertion"))
		}
	}
	if refusal, ok := check(); !ok {
		a.writeError(w, refusal)
		return
	}
	audience, refusal, ok := a.checkScope(form.Get("scope"))
	if !ok {
		a.writeError(w, refusal)
		return
	}
	token, err := a.issue(app, audience, "https://"+r.Host+"/"+tenant+"/v2.0")
	if err != nil {
		a.writeError(w, entraError{http.StatusInternalServerError, "server_error", 50000, "Issuing the token failed."})
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"token_type":     "Bearer",
		"expires_in":     int(a.lifetime.Seconds()),
		"ext_expires_in": int(a.lifetime.Seconds()),
		"access_token":   token,
	})
}

func (a *authority) checkSecret(app Application, given string) (entraError, bool) {
	if given == "" {
		return entraError{http.StatusUnauthorized, "invalid_client", 7000216,
			"'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type."}, false
	}
	for _, secret := range app.Secrets {
		if subtle.ConstantTimeCompare([]byte(secret.Value), []byte(given)) != 1 {
			continue
		}
		if !secret.Expires.IsZero() && !a.clock.Now().Before(secret.Expires) {
			return entraError{http.StatusUnauthorized, "invalid_client", 7000222,
				fmt.Sprintf("The provided client secret keys for app '%s' are expired.", app.ClientID)}, false
		}
		return entraError{}, true
	}
	return entraError{http.StatusUnauthorized, "invalid_client", 7000215,
		fmt.Sprintf("Invalid client secret provided for app '%s'.", app.ClientID)}, false
}

// checkScope takes the one resource scope out of a space-separated list that may
// also name the OpenID scopes.
func (a *authority) checkScope(scope string) (string, entraError, bool) {
	var audience string
	for _, item := range strings.Fields(scope) {
		switch item {
		case "openid", "profile", "offline_access", "email":
			continue
		}
		resource, ok := strings.CutSuffix(item, "/.default")
		if !ok || audience != "" {
			return "", entraError{http.StatusBadRequest, "invalid_scope", 1002012,
				"The scope is not valid: client credential flows take one resource followed by /.default."}, false
		}
		audience = resource
	}
	if !a.acceptsAudience(audience) {
		return "", entraError{http.StatusBadRequest, "invalid_resource", 500011,
			fmt.Sprintf("The resource principal named '%s' was not found in the tenant.", audience)}, false
	}
	return audience, entraError{}, true
}

func (a *authority) acceptsAudience(audience string) bool {
	return slices.ContainsFunc(a.audiences, func(known string) bool {
		return strings.TrimRight(known, "/") == strings.TrimRight(audience, "/")
	})
}

type accessClaims struct {
	jwt.RegisteredClaims
	AppID    string `json:"appid"`
	TenantID string `json:"tid"`
}

func (a *authority) issue(app Application, audience, issuer string) (string, error) {
	now := a.clock.Now()
	a.mu.RLock()
	key := a.signingKey
	a.mu.RUnlock()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, accessClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			ID:        uuid.NewString(),
			Issuer:    issuer,
			Subject:   app.ClientID,
			Audience:  jwt.ClaimStrings{audience},
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(a.lifetime)),
		},
		AppID:    app.ClientID,
		TenantID: app.TenantID,
	}).SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign an access token: %w", err)
	}
	return token, nil
}

// authenticate checks the Authorization header of a resource request and says
// who asks.
func (a *authority) authenticate(header string) (Application, *apiError) {
	unauthorized := func(code, message string) *apiError {
		return &apiError{status: http.StatusUnauthorized, code: code, message: message, gateway: true,
			challenge: `Bearer error="invalid_token", error_description="` + message + `"`}
	}
	scheme, raw, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return Application{}, unauthorized("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
	}
	var claims accessClaims
	a.mu.RLock()
	key := a.signingKey
	a.mu.RUnlock()
	_, err := jwt.ParseWithClaims(strings.TrimSpace(raw), &claims,
		func(*jwt.Token) (any, error) { return key, nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithTimeFunc(a.clock.Now), jwt.WithExpirationRequired())
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return Application{}, unauthorized("InvalidAuthenticationToken", "The access token has expired.")
	case err != nil:
		return Application{}, unauthorized("InvalidAuthenticationToken", "The access token is invalid.")
	}
	if !slices.ContainsFunc(claims.Audience, a.acceptsAudience) {
		return Application{}, unauthorized("InvalidAuthenticationTokenAudience", "The access token has been obtained for another resource.")
	}
	app, found, _ := a.lookup(claims.TenantID, claims.AppID)
	if !found {
		return Application{}, unauthorized("InvalidAuthenticationToken", "The identity of the access token no longer exists.")
	}
	return app, nil
}

// allows says whether the application may act on a resource id.
func (app Application) allows(resourceID string) bool {
	if len(app.Scopes) == 0 {
		return true
	}
	id := strings.ToLower(resourceID)
	return slices.ContainsFunc(app.Scopes, func(scope string) bool {
		scope = strings.ToLower(strings.TrimRight(scope, "/"))
		return id == scope || strings.HasPrefix(id, scope+"/")
	})
}
