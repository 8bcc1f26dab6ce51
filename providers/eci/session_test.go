package eci_test

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/eci"
	"github.com/autoburst/autoburst/providers/providertest"
	emulator "github.com/autoburst/autoburst/test/cloud/eci"
)

const (
	roleARN     = "acs:ram::1234567890:role/burst"
	providerARN = "acs:ram::1234567890:oidc-provider/cluster"
)

// identity is what gives keys of the account, behind TLS and without.
// httptest gives all of its servers one certificate, so the account's is known.
func (c *cloud) identity(t *testing.T, o emulator.IdentityOptions) (i *emulator.Identity, sts, metadata string) {
	t.Helper()
	i = c.NewIdentity(o)
	secure, plain := httptest.NewTLSServer(i), httptest.NewServer(i)
	t.Cleanup(secure.Close)
	t.Cleanup(plain.Close)
	return i, strings.TrimPrefix(secure.URL, "https://"), strings.TrimPrefix(plain.URL, "http://")
}

// fromEnv makes a provider of variables, as the agent does.
func (c *cloud) fromEnv(t *testing.T, env map[string]string) *eci.Provider {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{
		"ECI_REGION": region, "ECI_VSWITCH": "vsw-h", "ECI_SECURITY_GROUP": "sg-1", "ECI_ENDPOINT": c.host,
		"ECI_CA_FILE": filepath.Join(dir, "ca.pem"),
	}
	for k, v := range env {
		all[k] = v
	}
	if err := os.WriteFile(all["ECI_CA_FILE"], pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.certificate}), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := eci.ConfigFromEnv(func(name string) string { return all[name] })
	if err != nil {
		t.Fatal(err)
	}
	cfg.ClusterUID, cfg.NodeName = "cluster-a", "burst-eci"
	cfg.Quota = providertest.Unbounded(t, cfg.Plan())
	p, err := eci.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func TestRoleByToken(t *testing.T) {
	c := newCloud(t)
	token := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		if err := os.WriteFile(token, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	i, sts, _ := c.identity(t, emulator.IdentityOptions{
		RoleARN: roleARN, ProviderARN: providerARN, Verify: func(s string) bool { return s == "the-service-account-token" },
	})
	env := map[string]string{
		"ALIBABA_CLOUD_ROLE_ARN": roleARN, "ALIBABA_CLOUD_OIDC_PROVIDER_ARN": providerARN, "ALIBABA_CLOUD_OIDC_TOKEN_FILE": token,
		"ECI_STS_ENDPOINT": sts,
	}
	write("another-cluster's-token")
	p := c.fromEnv(t, env)
	err := p.Check(within(t))
	if providers.ClassOf(err) != providers.Unauthorized || !strings.Contains(err.Error(), "AuthenticationFail.OIDCToken.Invalid") {
		t.Errorf("error %v for a wrong token, want the service's code", err)
	}
	if strings.Contains(err.Error(), "another-cluster") {
		t.Errorf("the error shows the token: %v", err)
	}
	write("the-service-account-token\n")
	p = c.fromEnv(t, env)
	for range 3 {
		if err := p.Check(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	if n := i.Given("AssumeRoleWithOIDC"); n != 1 {
		t.Errorf("%d keys were asked for, want 1 for all calls", n)
	}
}

func TestRoleOfTheInstance(t *testing.T) {
	c := newCloud(t)
	i, _, metadata := c.identity(t, emulator.IdentityOptions{InstanceRole: "burst"})
	p := c.fromEnv(t, map[string]string{"ALIBABA_CLOUD_ECS_METADATA": "burst", "ECI_METADATA_ENDPOINT": metadata})
	for range 3 {
		if err := p.Check(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	if n := i.Given("metadata"); n != 1 {
		t.Errorf("%d keys were asked for, want 1 for all calls", n)
	}
	p = c.fromEnv(t, map[string]string{"ALIBABA_CLOUD_ECS_METADATA": "nobody", "ECI_METADATA_ENDPOINT": metadata})
	if err := p.Check(within(t)); providers.ClassOf(err) != providers.Unauthorized || !strings.Contains(err.Error(), "HTTP 404") {
		t.Errorf("error %v for a role that the instance has not, want that it is refused", err)
	}
}
