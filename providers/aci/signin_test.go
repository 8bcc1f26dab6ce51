package aci_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/golang-jwt/jwt/v5"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/aci"
	emulator "github.com/autoburst/autoburst/test/cloud/aci"
)

const (
	testIssuer  = "https://kubernetes.default.svc"
	testSubject = "system:serviceaccount:autoburst-system:autoburst-vnode"
)

// federation is a cluster whose ServiceAccount tokens the cloud trusts, and the file
// that one is projected into.
type federation struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	file string
}

func newFederation(t *testing.T) *federation {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &federation{t: t, key: key, file: filepath.Join(t.TempDir(), "token")}
}

func (f *federation) trusted(o *emulator.Options) {
	o.Applications[0].Secrets = nil
	o.Applications[0].Federated = []emulator.FederatedCredential{{Issuer: testIssuer, Subject: testSubject, Keys: []crypto.PublicKey{f.key.Public()}}}
}

// project writes a token of the subject into the file and returns it.
func (f *federation) project(subject string) string {
	f.t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.RegisteredClaims{
		Issuer: testIssuer, Subject: subject, Audience: jwt.ClaimStrings{emulator.TokenExchange}, ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour)),
	}).SignedString(f.key)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(f.file, []byte(token), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return token
}

func TestWorkloadIdentity(t *testing.T) {
	f := newFederation(t)
	server := newCloud(t, f.trusted)
	p := newProvider(t, server, func(c *aci.Config) { c.ClientSecret, c.FederatedTokenFile = "", f.file })
	ctx := within(t)

	err := p.Check(ctx)
	wantClass(t, "no file", err, providers.Misconfigured)
	if !strings.Contains(err.Error(), "api://AzureADTokenExchange") {
		t.Errorf("the error does not say what to do: %v", err)
	}
	wrong := f.project("system:serviceaccount:default:default")
	err = p.Check(ctx)
	wantClass(t, "another account's token", err, providers.Unauthorized)
	if !strings.Contains(err.Error(), "AADSTS700213") || strings.Contains(err.Error(), wrong) {
		t.Errorf("error %v", err)
	}
	// Mended without a restart: the file is not taken from azidentity's memory.
	f.project(testSubject)
	if err := p.Check(ctx); err != nil {
		t.Fatalf("mended token: %v", err)
	}
	id := create(t, p, podSpec("0b1f"))
	if _, err := p.Get(ctx, id); err != nil {
		t.Errorf("Get: %v", err)
	}
	server.RevokeTokens()
	wantClass(t, "revoked", p.Check(ctx), providers.Unauthorized)
	if err := p.Check(ctx); err != nil {
		t.Errorf("after signing in anew: %v", err)
	}
	if err := os.Remove(f.file); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(ctx); err != nil {
		t.Errorf("a token of the cloud is good without the file: %v", err)
	}
}

// metadata serves the machine's metadata on an address of its own.
func metadata(t *testing.T, server *emulator.Server) string {
	t.Helper()
	machine := httptest.NewServer(server.Metadata())
	t.Cleanup(machine.Close)
	return machine.URL
}

func TestManagedIdentity(t *testing.T) {
	// azidentity keeps the tokens of managed identities for the whole process, so
	// each test has clients of its own.
	const user, system = "77777777-7777-7777-7777-777777777771", "77777777-7777-7777-7777-777777777772"
	identities := map[string]emulator.ManagedIdentity{
		"user-assigned":   {TenantID: testTenant, ClientID: user, ResourceID: "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/agent"},
		"system-assigned": {TenantID: testTenant, ClientID: system},
	}
	for name, identity := range identities {
		t.Run(name, func(t *testing.T) {
			server := newCloud(t, func(o *emulator.Options) {
				o.Applications, o.Identities = nil, []emulator.ManagedIdentity{identity}
			})
			endpoint := metadata(t, server)
			p := newProvider(t, server, func(c *aci.Config) {
				c.TenantID, c.ClientID, c.ClientSecret = "", "", ""
				c.ManagedIdentity, c.MetadataEndpoint = true, endpoint
				if identity.ResourceID != "" {
					c.ClientID = identity.ClientID
				}
			})
			ctx := within(t)
			server.Inject(emulator.Fault{Operation: emulator.OperationMetadata, Status: http.StatusGone})
			wantClass(t, "the service is updated", p.Check(ctx), providers.Unavailable)
			server.Inject(emulator.Fault{Operation: emulator.OperationMetadata, Status: http.StatusTooManyRequests, RetryAfter: time.Second})
			wantClass(t, "too many requests", p.Check(ctx), providers.Throttled)
			server.Inject(emulator.Fault{Operation: emulator.OperationMetadata, Calls: -1, Cut: true})
			wantClass(t, "cut", p.Check(ctx), providers.Unavailable)
			server.ClearFaults()
			if err := p.Check(ctx); err != nil {
				t.Fatalf("Check: %v", err)
			}
			create(t, p, podSpec("0b1f"))
			server.RevokeTokens()
			wantClass(t, "revoked", p.Check(ctx), providers.Unauthorized)
			if err := p.Check(ctx); err != nil {
				t.Errorf("after signing in anew: %v", err)
			}
		})
	}
}

func TestManagedIdentityThatTheMachineLacks(t *testing.T) {
	server := newCloud(t)
	endpoint := metadata(t, server)
	for name, client := range map[string]string{"user-assigned": "77777777-7777-7777-7777-777777777773", "system-assigned": ""} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t, server, func(c *aci.Config) {
				c.TenantID, c.ClientID, c.ClientSecret = "", client, ""
				c.ManagedIdentity, c.MetadataEndpoint = true, endpoint
				// Of its own, or a token of another test would do.
				c.Cloud.Services = map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: server.URL(), Audience: "https://management.core.windows.net/"}}
			})
			err := p.Check(within(t))
			wantClass(t, "Check", err, providers.Unauthorized)
			if !strings.Contains(err.Error(), "Identity not found") || strings.Contains(err.Error(), "://") {
				t.Errorf("error %v", err)
			}
		})
	}
	p := newProvider(t, server, func(c *aci.Config) {
		c.TenantID, c.ClientID, c.ClientSecret = "", "77777777-7777-7777-7777-777777777774", ""
		c.ManagedIdentity, c.MetadataEndpoint = true, "http://127.0.0.1:1"
	})
	wantClass(t, "no metadata service", p.Check(within(t)), providers.Unavailable)
}
