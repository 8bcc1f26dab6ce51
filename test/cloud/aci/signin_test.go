package aci

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestFederatedCredentials(t *testing.T) {
	const issuer, subject = "https://cluster.example.com", "system:serviceaccount:autoburst-system:autoburst-vnode"
	key := newKey(t)
	c := newTestCloud(t, func(o *Options) {
		o.Applications[0].Federated = []FederatedCredential{{Issuer: issuer, Subject: subject, Keys: []crypto.PublicKey{key.Public()}}}
	})
	claims := func(edit func(*jwt.RegisteredClaims)) jwt.RegisteredClaims {
		of := jwt.RegisteredClaims{Issuer: issuer, Subject: subject, Audience: jwt.ClaimStrings{TokenExchange}, ExpiresAt: jwt.NewNumericDate(testStart.Add(time.Hour))}
		if edit != nil {
			edit(&of)
		}
		return of
	}
	signed := func(of jwt.RegisteredClaims, key *ecdsa.PrivateKey) string {
		token, err := jwt.NewWithClaims(jwt.SigningMethodES256, of).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	tests := map[string]struct {
		assertion, kind string
		wantStatus      int
		wantCode        float64
	}{
		"its own":          {signed(claims(nil), key), assertionType, http.StatusOK, 0},
		"no type":          {signed(claims(nil), key), "", http.StatusBadRequest, 900144},
		"no token":         {"no-token", assertionType, http.StatusUnauthorized, 50027},
		"another issuer":   {signed(claims(func(c *jwt.RegisteredClaims) { c.Issuer = "https://other.example.com" }), key), assertionType, http.StatusUnauthorized, 700211},
		"another audience": {signed(claims(func(c *jwt.RegisteredClaims) { c.Audience = jwt.ClaimStrings{"kubernetes"} }), key), assertionType, http.StatusUnauthorized, 700212},
		"another account":  {signed(claims(func(c *jwt.RegisteredClaims) { c.Subject += "2" }), key), assertionType, http.StatusUnauthorized, 700213},
		"expired":          {signed(claims(func(c *jwt.RegisteredClaims) { c.ExpiresAt = jwt.NewNumericDate(testStart) }), key), assertionType, http.StatusUnauthorized, 700024},
		"another's key":    {signed(claims(nil), newKey(t)), assertionType, http.StatusUnauthorized, 700027},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := c.tokenRequest(tokenForm("client_secret", "", "client_assertion", test.assertion, "client_assertion_type", test.kind))
			if got.status != test.wantStatus {
				t.Fatalf("got %d %s, want %d", got.status, got.raw, test.wantStatus)
			}
			if test.wantStatus == http.StatusOK {
				c.token, _ = got.body["access_token"].(string)
				if list := c.arm(http.MethodGet, testGroups, nil); list.status != http.StatusOK {
					t.Errorf("with the token: %d %s", list.status, list.raw)
				}
				return
			}
			wantAt(t, got.body, test.wantCode, "error_codes", 0)
		})
	}
}

func TestMetadataService(t *testing.T) {
	const own, assigned = "55555555-5555-5555-5555-555555555555", "66666666-6666-6666-6666-666666666666"
	const resourceID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/agent"
	c := newTestCloud(t, func(o *Options) {
		o.Identities = []ManagedIdentity{{TenantID: testTenant, ClientID: own}, {TenantID: testTenant, ClientID: assigned, ResourceID: resourceID}}
	})
	machine := httptest.NewServer(c.server.Metadata())
	t.Cleanup(machine.Close)
	published := url.Values{"api-version": {"2018-02-01"}, "resource": {"https://management.azure.com/"}}
	with := func(edits ...string) url.Values {
		values := url.Values{}
		for name, value := range published {
			values[name] = value
		}
		for i := 0; i+1 < len(edits); i += 2 {
			values.Set(edits[i], edits[i+1])
			if edits[i+1] == "" {
				values.Del(edits[i])
			}
		}
		return values
	}
	tests := map[string]struct {
		query      url.Values
		header     string
		wantStatus int
		want       string // the client of the token, or the error
	}{
		"the machine's own":  {with(), "Metadata", http.StatusOK, own},
		"by client":          {with("client_id", assigned), "Metadata", http.StatusOK, assigned},
		"by resource":        {with("msi_res_id", resourceID), "Metadata", http.StatusOK, assigned},
		"without the header": {with(), "X-Other", http.StatusBadRequest, "bad_request_102"},
		"without a version":  {with("api-version", ""), "Metadata", http.StatusBadRequest, "bad_request_100"},
		"without a resource": {with("resource", ""), "Metadata", http.StatusBadRequest, "invalid_request"},
		"another's resource": {with("resource", "https://graph.microsoft.com"), "Metadata", http.StatusBadRequest, "invalid_resource"},
		"an unknown client":  {with("client_id", testClient), "Metadata", http.StatusBadRequest, "invalid_request"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequest(http.MethodGet, machine.URL+"/metadata/identity/oauth2/token?"+test.query.Encode(), nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set(test.header, "true")
			got := c.do(r)
			if got.status != test.wantStatus {
				t.Fatalf("got %d %s, want %d", got.status, got.raw, test.wantStatus)
			}
			if test.wantStatus != http.StatusOK {
				wantAt(t, got.body, test.want, "error")
				return
			}
			wantAt(t, got.body, test.want, "client_id")
			wantAt(t, got.body, "3599", "expires_in")
			c.token, _ = got.body["access_token"].(string)
			if list := c.arm(http.MethodGet, testGroups, nil); list.status != http.StatusOK {
				t.Errorf("with the token: %d %s", list.status, list.raw)
			}
		})
	}
	if got := c.do(func() *http.Request {
		r, err := http.NewRequest(http.MethodGet, machine.URL+"/metadata/instance", nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}()); got.status != http.StatusNotFound {
		t.Errorf("another path: %d %s", got.status, got.raw)
	}
}

func TestMembersThatBelongTogether(t *testing.T) {
	const id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/web"
	assigned := func(ids ...string) func(map[string]any) {
		users := map[string]any{}
		for _, id := range ids {
			users[id] = map[string]any{}
		}
		return with(map[string]any{"type": "UserAssigned", "userAssignedIdentities": users}, "identity")
	}
	puller := func(credential map[string]any) func(map[string]any) {
		credential["server"] = "shop.azurecr.io"
		return with([]any{credential}, "properties", "imageRegistryCredentials")
	}
	share := func(share map[string]any) func(map[string]any) {
		return with([]any{map[string]any{"name": "share", "azureFile": share}}, "properties", "volumes")
	}
	property := func(name string, value any) func(map[string]any) { return with(value, "properties", name) }
	zones := func(zones ...any) func(map[string]any) { return with(zones, "zones") }
	policy := property("confidentialComputeProperties", map[string]any{"ccePolicy": "cG9saWN5"})
	tests := map[string]struct {
		edits []func(map[string]any)
		want  string // in the message; empty is accepted
	}{
		"a registry by an identity of the group": {[]func(map[string]any){assigned(id), puller(map[string]any{"identity": strings.ToUpper(id)})}, ""},
		"a registry by another identity":         {[]func(map[string]any){puller(map[string]any{"identity": id})}, "is not one of the container group"},
		"a registry by nothing":                  {[]func(map[string]any){puller(map[string]any{})}, "needs a username and a password, or an identity"},
		"a registry by both":                     {[]func(map[string]any){assigned(id), puller(map[string]any{"identity": id, "username": "u", "password": "p"})}, "has an identity and a user"},
		"an identity by name":                    {[]func(map[string]any){assigned("web")}, "is not the resource id"},
		"no identity of the type":                {[]func(map[string]any){assigned()}, "does not fit 0"},
		"a zone":                                 {[]func(map[string]any){zones("1")}, ""},
		"two zones":                              {[]func(map[string]any){zones("1", "2")}, "more than one"},
		"Spot in a zone":                         {[]func(map[string]any){zones("1"), property("priority", "Spot")}, "cannot choose its zone"},
		"a private address without a network":    {[]func(map[string]any){property("ipAddress", map[string]any{"type": "Private", "ports": []any{map[string]any{"port": 80}}})}, "needs a virtual network"},
		"an address without ports":               {[]func(map[string]any){property("ipAddress", map[string]any{"type": "Public", "ports": []any{}})}, "at least one port"},
		"two subnets":                            {[]func(map[string]any){property("subnetIds", []any{map[string]any{"id": "/a"}, map[string]any{"id": "/b"}})}, "more than one"},
		"a share":                                {[]func(map[string]any){share(map[string]any{"shareName": "data", "storageAccountName": "shop", "storageAccountKey": "a2V5"})}, ""},
		"a share without a key":                  {[]func(map[string]any){share(map[string]any{"shareName": "data", "storageAccountName": "shop"})}, "is missing"},
		"a policy":                               {[]func(map[string]any){property("sku", "Confidential"), policy}, ""},
		"a policy of a Standard group":           {[]func(map[string]any){policy}, "need the sku 'Confidential'"},
	}
	c := newTestCloud(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			group := strings.ToLower(strings.ReplaceAll(name, " ", "-"))
			if test.want == "" {
				c.put(group, http.StatusCreated, test.edits...)
				return
			}
			got := c.put(group, http.StatusBadRequest, test.edits...)
			if !strings.Contains(got.raw, test.want) {
				t.Errorf("got %s, want %q", got.raw, test.want)
			}
		})
	}
}
