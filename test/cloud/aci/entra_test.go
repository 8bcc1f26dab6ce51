package aci

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestA01TokenEndpoint(t *testing.T) {
	c := newTestCloud(t)
	request := func(tenant string) answer {
		r, err := http.NewRequest(http.MethodGet, c.server.URL()+"/"+tenant+"/v2.0/.well-known/openid-configuration", nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.do(r)
	}
	got := request(testTenant)
	base := c.server.URL() + "/" + testTenant
	wantAt(t, got.body, base+"/oauth2/v2.0/token", "token_endpoint")
	wantAt(t, got.body, base+"/oauth2/v2.0/authorize", "authorization_endpoint")
	wantAt(t, got.body, base+"/v2.0", "issuer")

	if got := request("44444444-4444-4444-4444-444444444444"); got.status != http.StatusBadRequest || !strings.HasPrefix(at(got.body, "error_description").(string), "AADSTS90002:") {
		t.Errorf("unknown tenant: %d %s", got.status, got.raw)
	}
	token := c.tokenRequest(tokenForm())
	wantAt(t, token.body, "Bearer", "token_type")
	wantAt(t, token.body, 3599.0, "expires_in")
	wantAt(t, token.body, 3599.0, "ext_expires_in")

	// https only: plain HTTP gets no content (net/http answers 400).
	plain := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	insecure, err := plain.Get(strings.Replace(base, "https:", "http:", 1) + "/v2.0/.well-known/openid-configuration")
	if err != nil {
		t.Fatal(err)
	}
	insecure.Body.Close()
	if insecure.StatusCode != http.StatusBadRequest {
		t.Errorf("plain HTTP: status %d, want 400", insecure.StatusCode)
	}
}

func TestA01TokenFormIsChecked(t *testing.T) {
	tests := map[string]struct {
		edits      []string
		wantStatus int
		wantError  string
		wantCode   float64
	}{
		"no grant type":      {[]string{"grant_type", ""}, 400, "invalid_request", 900144},
		"no client":          {[]string{"client_id", ""}, 400, "invalid_request", 900144},
		"no scope":           {[]string{"scope", ""}, 400, "invalid_request", 900144},
		"other grant":        {[]string{"grant_type", "password"}, 400, "unsupported_grant_type", 70003},
		"unknown client":     {[]string{"client_id", "nobody"}, 400, "unauthorized_client", 700016},
		"no secret":          {[]string{"client_secret", ""}, 401, "invalid_client", 7000216},
		"scope of a user":    {[]string{"scope", "https://management.core.windows.net//user_impersonation"}, 400, "invalid_scope", 1002012},
		"foreign resource":   {[]string{"scope", "https://graph.microsoft.com/.default"}, 400, "invalid_resource", 500011},
		"only openid scopes": {[]string{"scope", "openid profile"}, 400, "invalid_resource", 500011},
	}
	c := newTestCloud(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := c.tokenRequest(tokenForm(test.edits...))
			if got.status != test.wantStatus {
				t.Errorf("status %d, want %d", got.status, test.wantStatus)
			}
			wantAt(t, got.body, test.wantError, "error")
			wantAt(t, got.body, test.wantCode, "error_codes", 0)
		})
	}
}

func TestA02InstanceDiscoveryUnderThePublicName(t *testing.T) {
	const authorize = "https%3A%2F%2Flogin.microsoftonline.com%2F" + testTenant + "%2Foauth2%2Fv2.0%2Fauthorize"
	tests := map[string]struct {
		query string
		want  int
	}{
		"published":          {"api-version=1.1&authorization_endpoint=" + authorize, http.StatusOK},
		"without a version":  {"authorization_endpoint=" + authorize, http.StatusBadRequest},
		"without endpoint":   {"api-version=1.1", http.StatusBadRequest},
		"of another service": {"api-version=1.1&authorization_endpoint=https%3A%2F%2Flogin.example.com%2Fcommon", http.StatusBadRequest},
	}
	c := newTestCloud(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequest(http.MethodGet, c.server.URL()+"/common/discovery/instance?"+test.query, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = publicAuthority
			got := c.do(r)
			if got.status != test.want {
				t.Fatalf("got %d %s, want %d", got.status, got.raw, test.want)
			}
			if test.want == http.StatusOK {
				wantAt(t, got.body, "https://"+publicAuthority+"/"+testTenant+"/v2.0/.well-known/openid-configuration", "tenant_discovery_endpoint")
			}
		})
	}
}

// Nothing but the emulator is asked: instance discovery is a call to a public
// host, which the emulator's own paths never need.
func TestA02NoInstanceDiscovery(t *testing.T) {
	c := newTestCloud(t)
	r, err := http.NewRequest(http.MethodGet, c.server.URL()+"/common/discovery/instance?api-version=1.1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.do(r); got.status < 400 {
		t.Errorf("instance discovery is answered with %d; it belongs to the public host", got.status)
	}
	if c.login() == "" {
		t.Error("no token without instance discovery")
	}
}

func TestA03WrongSecret(t *testing.T) {
	c := newTestCloud(t)
	got := c.tokenRequest(tokenForm("client_secret", "wrong-secret-value"))
	if got.status != http.StatusUnauthorized {
		t.Errorf("status %d, want 401", got.status)
	}
	wantAt(t, got.body, "invalid_client", "error")
	if text, _ := at(got.body, "error_description").(string); !strings.HasPrefix(text, "AADSTS7000215: ") {
		t.Errorf("error_description %q", text)
	}
	if strings.Contains(got.raw, "wrong-secret-value") {
		t.Error("the answer repeats the secret")
	}
}

func TestA03SecretsRotateAndExpire(t *testing.T) {
	c := newTestCloud(t)
	c.server.PutApplication(Application{TenantID: testTenant, ClientID: testClient, Secrets: []Secret{
		{Value: testSecret, Expires: testStart.Add(time.Hour)}, {Value: "next"},
	}})
	for _, secret := range []string{testSecret, "next"} {
		if got := c.tokenRequest(tokenForm("client_secret", secret)); got.status != http.StatusOK {
			t.Errorf("secret %s: %d", secret, got.status)
		}
	}
	c.clock.Step(time.Hour)
	got := c.tokenRequest(tokenForm())
	if got.status != http.StatusUnauthorized {
		t.Errorf("expired secret: status %d", got.status)
	}
	wantAt(t, got.body, 7000222.0, "error_codes", 0)
	if got := c.tokenRequest(tokenForm("client_secret", "next")); got.status != http.StatusOK {
		t.Errorf("the new secret: %d", got.status)
	}
}

func TestA03Tokens(t *testing.T) {
	tests := map[string]struct {
		spoil func(c *testCloud)
		want  string
	}{
		"none":                {func(c *testCloud) { c.token = "" }, "InvalidAuthenticationToken"},
		"garbage":             {func(c *testCloud) { c.token = "abc" }, "InvalidAuthenticationToken"},
		"one letter changed":  {func(c *testCloud) { c.token = c.token[:len(c.token)-8] + "AAAAAAAA" }, "InvalidAuthenticationToken"},
		"expired":             {func(c *testCloud) { c.clock.Step(time.Hour) }, "InvalidAuthenticationToken"},
		"revoked":             {func(c *testCloud) { c.server.RevokeTokens() }, "InvalidAuthenticationToken"},
		"application removed": {func(c *testCloud) { c.server.RemoveApplication(testTenant, testClient) }, "InvalidAuthenticationToken"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := newTestCloud(t)
			if got := c.arm(http.MethodGet, testGroups, nil); got.status != http.StatusOK {
				t.Fatalf("before: %d %s", got.status, got.raw)
			}
			test.spoil(c)
			got := c.arm(http.MethodGet, testGroups, nil)
			if got.status != http.StatusUnauthorized || got.code() != test.want {
				t.Errorf("got %d %s, want 401 %s", got.status, got.code(), test.want)
			}
			if got.header.Get("Www-Authenticate") == "" {
				t.Error("no WWW-Authenticate")
			}
		})
	}
}

func TestAuthorizationIsScoped(t *testing.T) {
	c := newTestCloud(t)
	c.server.PutApplication(Application{TenantID: testTenant, ClientID: testClient, Secrets: []Secret{{Value: testSecret}},
		Scopes: []string{"/subscriptions/" + testSubscription + "/resourcegroups/DEMO"}})
	if got := c.arm(http.MethodGet, testGroups, nil); got.status != http.StatusOK {
		t.Errorf("own resource group: %d %s", got.status, got.raw)
	}
	got := c.arm(http.MethodGet, strings.Replace(testGroups, "/demo/", "/other/", 1), nil)
	if got.status != http.StatusForbidden || got.code() != "AuthorizationFailed" {
		t.Errorf("other resource group: %d %s", got.status, got.raw)
	}
}
