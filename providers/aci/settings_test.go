package aci_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/aci"
	emulator "github.com/autoburst/autoburst/test/cloud/aci"
)

func TestSecretFileRotatesWithoutRestart(t *testing.T) {
	server := newCloud(t)
	file := filepath.Join(t.TempDir(), "secret")
	p := newProvider(t, server, func(c *aci.Config) { c.ClientSecret, c.ClientSecretFile = "", file })
	ctx := within(t)
	wantClass(t, "no file", p.Check(ctx), providers.Misconfigured)
	write := func(secret string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("wrong-secret")
	err := p.Check(ctx)
	wantClass(t, "wrong secret", err, providers.Unauthorized)
	if !strings.Contains(err.Error(), "AADSTS7000215") || strings.Contains(err.Error(), "wrong-secret") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q", err)
	}
	write(testSecret)
	if err := p.Check(ctx); err != nil {
		t.Fatalf("mended secret: %v", err)
	}
	// The old secret goes, and with it the tokens.
	server.PutApplication(emulator.Application{TenantID: testTenant, ClientID: testClient, Secrets: []emulator.Secret{{Value: "next-secret"}}})
	server.RevokeTokens()
	write("next-secret")
	if err := p.Check(ctx); err != nil {
		t.Fatalf("rotated secret: %v", err)
	}
}

func TestRevokedTokenIsReplaced(t *testing.T) {
	server := newCloud(t)
	p := newProvider(t, server)
	ctx := within(t)
	if err := p.Check(ctx); err != nil {
		t.Fatal(err)
	}
	server.RevokeTokens()
	wantClass(t, "revoked", p.Check(ctx), providers.Unauthorized)
	if err := p.Check(ctx); err != nil {
		t.Errorf("after signing in anew: %v", err)
	}
}

func TestWrongSettings(t *testing.T) {
	server := newCloud(t)
	tests := map[string]struct {
		edit func(*aci.Config)
		want providers.ErrorClass
	}{
		"resource group":          {func(c *aci.Config) { c.ResourceGroup = "other" }, providers.Misconfigured},
		"subscription":            {func(c *aci.Config) { c.SubscriptionID = testTenant }, providers.Misconfigured},
		"client":                  {func(c *aci.Config) { c.ClientID = testTenant }, providers.Unauthorized},
		"tenant":                  {func(c *aci.Config) { c.TenantID = testClient }, providers.Unauthorized},
		"authority's certificate": {func(c *aci.Config) { c.RootCAs = x509.NewCertPool() }, providers.Misconfigured},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t, server, test.edit)
			ctx := within(t)
			wantClass(t, "Check", p.Check(ctx), test.want)
			_, err := p.List(ctx)
			wantClass(t, "List", err, test.want)
			_, err = p.Get(ctx, "autoburst-0b1f")
			wantClass(t, "Get", err, test.want)
			wantClass(t, "Delete", p.Delete(ctx, "autoburst-0b1f"), test.want)
			_, err = p.Create(ctx, podSpec("0b1f"))
			wantClass(t, "Create", err, test.want)
		})
	}
}

func TestConfigFromEnvReachesAPrivateCloud(t *testing.T) {
	server := newCloud(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, server.RootsPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		"ACI_RESOURCE_GROUP": testGroup, "ACI_REGION": "westeurope", "AZURE_SUBSCRIPTION_ID": testSubscription,
		"AZURE_TENANT_ID": testTenant, "AZURE_CLIENT_ID": testClient, "AZURE_CLIENT_SECRET": testSecret,
		"ACI_ARM_ENDPOINT": server.URL(), "AZURE_AUTHORITY_HOST": server.URL(), "ACI_CA_FILE": file,
	}
	config, err := aci.ConfigFromEnv(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	config.ClusterUID, config.NodeName = "cluster-a", "burst-aci"
	p, err := aci.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	if err := p.Check(within(t)); err != nil {
		t.Errorf("Check: %v", err)
	}
}

// TestCloudTakesSettings puts what annotations and settings ask for to the cloud,
// which checks that the members belong together.
func TestCloudTakesSettings(t *testing.T) {
	const (
		identity = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/web"
		subnet   = "/subscriptions/s/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/v/subnets/aci"
	)
	server := newCloud(t)
	key := filepath.Join(t.TempDir(), "key")
	p := newProvider(t, server, func(c *aci.Config) {
		c.AllowedIdentities, c.AllowedSubnetIDs = []string{"*"}, []string{subnet}
		c.RegistryIdentities = map[string]string{"shop.azurecr.io": identity}
		c.LogAnalytics = &aci.LogAnalytics{WorkspaceID: "workspace", KeyFile: key}
	})
	_, err := p.Create(within(t), podSpec("early"))
	wantClass(t, "without the workspace's key", err, providers.Misconfigured)
	if err := os.WriteFile(key, []byte("workspace-key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		edit func(*providers.GroupSpec)
		spot bool
	}{
		"spot": {func(s *providers.GroupSpec) {
			s.Annotations = map[string]string{"autoburst.io/aci-priority": "Spot", "autoburst.io/aci-public-ip": "false"}
		}, true},
		"confidential": {func(s *providers.GroupSpec) {
			s.Annotations = map[string]string{"virtual-kubelet.io/confidential-compute-cce-policy": "cG9saWN5", "autoburst.io/aci-zone": "1"}
		}, false},
		"subnet": {func(s *providers.GroupSpec) {
			s.Annotations = map[string]string{"autoburst.io/aci-subnet-id": subnet}
			s.DNS = &providers.DNS{Nameservers: []string{"10.0.0.10"}}
		}, false},
		"identities": {func(s *providers.GroupSpec) {
			s.Containers[0].Image = "shop.azurecr.io/web:1"
			s.Annotations = map[string]string{"autoburst.io/aci-identities": identity, "autoburst.io/aci-registry-identities": "tools.azurecr.io=" + identity}
		}, false},
		"name": {func(s *providers.GroupSpec) {
			s.Annotations = map[string]string{"virtualkubelet.io/dnsnamelabel": "shop-web"}
		}, false},
		"share": {func(s *providers.GroupSpec) {
			s.Volumes = []providers.Volume{{Name: "share", AzureFile: &providers.AzureFile{Share: "data", AccountName: "shop", AccountKey: "a2V5"}}}
			s.Containers[0].Mounts = []corev1.VolumeMount{{Name: "share", MountPath: "/data"}}
		}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			spec := podSpec(name)
			test.edit(spec)
			id := create(t, p, spec)
			g := eventually(t, p, id, "it runs", inPhase(providers.GroupRunning))
			if g.Status.Spot != test.spot || g.Status.Displaced {
				t.Errorf("spot %v, displaced %v", g.Status.Spot, g.Status.Displaced)
			}
		})
	}
}
