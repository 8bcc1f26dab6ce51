package aci

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy/burstable"
)

// seedEnv are the variables of an agent as its documentation sets them.
func seedEnv() map[string]string {
	return map[string]string{
		"ACI_RESOURCE_GROUP": "aci-group", "ACI_REGION": "japaneast",
		"AZURE_SUBSCRIPTION_ID": "sub", "AZURE_TENANT_ID": "tenant",
		"AZURE_CLIENT_ID": "client", "AZURE_CLIENT_SECRET": "s3cret-value",
	}
}

func TestConfigFromEnv(t *testing.T) {
	base := Config{
		SubscriptionID: "sub", ResourceGroup: "aci-group", Region: "japaneast",
		TenantID: "tenant", ClientID: "client", ClientSecret: "s3cret-value", Cloud: cloud.AzurePublic,
	}
	with := func(edit func(*Config)) Config {
		c := base
		edit(&c)
		return c
	}
	tests := map[string]struct {
		env  map[string]string
		want Config
	}{
		"the seed's": {nil, base},
		"a file": {map[string]string{"AZURE_CLIENT_SECRET": "", "AZURE_CLIENT_SECRET_FILE": "/s"}, with(func(c *Config) {
			c.ClientSecret, c.ClientSecretFile = "", "/s"
		})},
		"a subnet by ID": {map[string]string{"ACI_SUBNET_ID": subnet}, with(func(c *Config) { c.SubnetID = subnet })},
		"a subnet in parts": {map[string]string{"ACI_VNET_NAME": "v", "ACI_SUBNET_NAME": "aci", "ACI_VNET_RESOURCE_GROUP": "net"}, with(func(c *Config) {
			c.SubnetID = "/subscriptions/sub/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/v/subnets/aci"
		})},
		"a subnet elsewhere": {map[string]string{"ACI_VNET_NAME": "v", "ACI_SUBNET_NAME": "aci", "ACI_VNET_RESOURCE_GROUP": "net", "ACI_VNET_SUBSCRIPTION_ID": "other"}, with(func(c *Config) {
			c.SubnetID = "/subscriptions/other/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/v/subnets/aci"
		})},
		"the cloud of a government": {map[string]string{"AZURE_ENVIRONMENT": "AzureUSGovernment"}, with(func(c *Config) { c.Cloud = cloud.AzureGovernment })},
		"another's short name":      {map[string]string{"AZURE_ENVIRONMENT": "AzureChina"}, with(func(c *Config) { c.Cloud = cloud.AzureChina })},
		"a workload identity": {map[string]string{"AZURE_CLIENT_SECRET": "", "AZURE_FEDERATED_TOKEN_FILE": "/t"}, with(func(c *Config) {
			c.ClientSecret, c.FederatedTokenFile = "", "/t"
		})},
		"a secret before a token": {map[string]string{"AZURE_FEDERATED_TOKEN_FILE": "/t"}, base},
		"a token by choice": {map[string]string{"AZURE_FEDERATED_TOKEN_FILE": "/t", "AZURE_TOKEN_CREDENTIALS": "WorkloadIdentityCredential"}, with(func(c *Config) {
			c.ClientSecret, c.FederatedTokenFile = "", "/t"
		})},
		"a managed identity": {map[string]string{
			"AZURE_CLIENT_SECRET": "", "AZURE_CLIENT_ID": "", "AZURE_TENANT_ID": "", "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
			"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://127.0.0.1:8080/",
		}, with(func(c *Config) {
			c.TenantID, c.ClientID, c.ClientSecret = "", "", ""
			c.ManagedIdentity, c.MetadataEndpoint = true, "http://127.0.0.1:8080/"
		})},
		"the classic managed identity": {map[string]string{"AZURE_CLIENT_SECRET": "", "AZURE_CLIENT_ID": "", "VIRTUALNODE_USER_IDENTITY_CLIENTID": "node"}, with(func(c *Config) {
			c.ClientID, c.ClientSecret, c.ManagedIdentity = "node", "", true
		})},
		"Spot": {map[string]string{"ACI_PRIORITY": "Spot", "ACI_PUBLIC_IP": "false"}, with(func(c *Config) { c.Spot, c.NoPublicIP = true, true })},
		"what groups get": {map[string]string{
			"ACI_SKU": "Confidential", "ACI_ZONE": "3", "ACI_ALLOWED_SUBNET_IDS": subnet + ", " + subnet + "2",
			"ACI_POD_IDENTITIES": identityOf("pod"), "ACI_ALLOWED_IDENTITIES": "*",
			"ACI_REGISTRY_IDENTITIES": "a.azurecr.io=" + identityOf("a") + ",b.azurecr.io=" + identityOf("b"),
			"LOG_ANALYTICS_ID":        "w", "LOG_ANALYTICS_KEY": "k", "LOG_ANALYTICS_KEY_FILE": "/k", "CLUSTER_RESOURCE_ID": "/c",
		}, with(func(c *Config) {
			c.Confidential, c.Zone, c.AllowedSubnetIDs = true, "3", []string{subnet, subnet + "2"}
			c.Identities, c.AllowedIdentities = []string{identityOf("pod")}, []string{"*"}
			c.RegistryIdentities = map[string]string{"a.azurecr.io": identityOf("a"), "b.azurecr.io": identityOf("b")}
			c.LogAnalytics = &LogAnalytics{WorkspaceID: "w", Key: "k", KeyFile: "/k", ClusterResourceID: "/c"}
		})},
		"another cloud": {map[string]string{"AZURE_ENVIRONMENT": "AzureChinaCloud"}, with(func(c *Config) { c.Cloud = cloud.AzureChina })},
		"private endpoints": {map[string]string{"AZURE_AUTHORITY_HOST": "https://login.example", "ACI_ARM_ENDPOINT": "https://arm.example", "ACI_ARM_AUDIENCE": "api://arm"}, with(func(c *Config) {
			c.Cloud = cloud.Configuration{
				ActiveDirectoryAuthorityHost: "https://login.example",
				Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
					cloud.ResourceManager: {Endpoint: "https://arm.example", Audience: "api://arm"},
				},
			}
		})},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			env := seedEnv()
			maps.Copy(env, test.env)
			got, err := ConfigFromEnv(func(name string) string { return env[name] })
			if err != nil {
				t.Fatal(err)
			}
			// Only the resource manager of a cloud is of use here.
			test.want.Cloud.Services = map[cloud.ServiceName]cloud.ServiceConfiguration{
				cloud.ResourceManager: test.want.Cloud.Services[cloud.ResourceManager],
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfigFromEnvNamesTheVariable(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		env  map[string]string
		want string
	}{
		"no resource group":   {map[string]string{"ACI_RESOURCE_GROUP": ""}, "ACI_RESOURCE_GROUP is not set"},
		"no region":           {map[string]string{"ACI_REGION": ""}, "ACI_REGION is not set"},
		"no subscription":     {map[string]string{"AZURE_SUBSCRIPTION_ID": ""}, "AZURE_SUBSCRIPTION_ID is not set"},
		"no tenant":           {map[string]string{"AZURE_TENANT_ID": ""}, "AZURE_TENANT_ID is not set"},
		"no client":           {map[string]string{"AZURE_CLIENT_ID": ""}, "AZURE_CLIENT_ID is not set"},
		"no secret":           {map[string]string{"AZURE_CLIENT_SECRET": ""}, "nothing to sign in with: set environment variable AZURE_CLIENT_SECRET"},
		"no secret by choice": {map[string]string{"AZURE_CLIENT_SECRET": "", "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential"}, "neither environment variable AZURE_CLIENT_SECRET nor AZURE_CLIENT_SECRET_FILE is set"},
		"no token by choice":  {map[string]string{"AZURE_TOKEN_CREDENTIALS": "WorkloadIdentityCredential"}, "AZURE_FEDERATED_TOKEN_FILE is not set"},
		"an unknown choice":   {map[string]string{"AZURE_TOKEN_CREDENTIALS": "AzureCLICredential"}, "AZURE_TOKEN_CREDENTIALS"},
		"no metadata service": {map[string]string{"AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential", "AZURE_POD_IDENTITY_AUTHORITY_HOST": "127.0.0.1:8080"}, "AZURE_POD_IDENTITY_AUTHORITY_HOST"},
		"unknown priority":    {map[string]string{"ACI_PRIORITY": "Low"}, "ACI_PRIORITY"},
		"Spot in a subnet":    {map[string]string{"ACI_PRIORITY": "Spot", "ACI_SUBNET_ID": subnet}, "ACI_PRIORITY: Spot groups cannot have what ACI_SUBNET_ID"},
		"Spot in a zone":      {map[string]string{"ACI_PRIORITY": "Spot", "ACI_ZONE": "1"}, "ACI_PRIORITY: Spot groups cannot have what ACI_ZONE"},
		"unknown SKU":         {map[string]string{"ACI_SKU": "Dedicated"}, "ACI_SKU"},
		"unknown zone":        {map[string]string{"ACI_ZONE": "eu-1"}, "ACI_ZONE"},
		"neither yes nor no":  {map[string]string{"ACI_PUBLIC_IP": "never"}, "ACI_PUBLIC_IP"},
		"bad allowed subnet":  {map[string]string{"ACI_ALLOWED_SUBNET_IDS": "aci"}, "ACI_ALLOWED_SUBNET_IDS"},
		"bad identity":        {map[string]string{"ACI_POD_IDENTITIES": "*"}, "ACI_POD_IDENTITIES"},
		"bad allowed one":     {map[string]string{"ACI_ALLOWED_IDENTITIES": "web"}, "ACI_ALLOWED_IDENTITIES"},
		"bad registry":        {map[string]string{"ACI_REGISTRY_IDENTITIES": "a.azurecr.io"}, "ACI_REGISTRY_IDENTITIES"},
		"no workspace key":    {map[string]string{"LOG_ANALYTICS_ID": "w"}, "LOG_ANALYTICS_ID"},
		"no workspace":        {map[string]string{"LOG_ANALYTICS_KEY": "s3cret-value"}, "LOG_ANALYTICS_KEY"},
		"half a subnet":       {map[string]string{"ACI_SUBNET_NAME": "s"}, "ACI_VNET_NAME is not set"},
		"no network's group":  {map[string]string{"ACI_SUBNET_NAME": "s", "ACI_VNET_NAME": "v"}, "ACI_VNET_RESOURCE_GROUP is not set"},
		"bad subnet":          {map[string]string{"ACI_SUBNET_ID": "aci"}, "ACI_SUBNET_ID"},
		"unknown cloud":       {map[string]string{"AZURE_ENVIRONMENT": "AzureMoon"}, "AZURE_ENVIRONMENT"},
		"authority in HTTP":   {map[string]string{"AZURE_AUTHORITY_HOST": "http://login"}, "AZURE_AUTHORITY_HOST"},
		"endpoint in HTTP":    {map[string]string{"ACI_ARM_ENDPOINT": "http://arm"}, "ACI_ARM_ENDPOINT"},
		"endpoint with a key": {map[string]string{"ACI_ARM_ENDPOINT": "https://u:s3cret-value@arm"}, "ACI_ARM_ENDPOINT"},
		"no CA file":          {map[string]string{"ACI_CA_FILE": empty + ".not"}, "ACI_CA_FILE"},
		"empty CA file":       {map[string]string{"ACI_CA_FILE": empty}, "ACI_CA_FILE"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			env := seedEnv()
			maps.Copy(env, test.env)
			_, err := ConfigFromEnv(func(name string) string { return env[name] })
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "s3cret-value") {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestNewNamesTheField(t *testing.T) {
	valid := Config{
		SubscriptionID: "s", ResourceGroup: "g", Region: "r", TenantID: "t", ClientID: "c", ClientSecret: "x",
		ClusterUID: "u", NodeName: "n",
	}
	tests := map[string]struct {
		edit func(*Config)
		want string
	}{
		"subscription":   {func(c *Config) { c.SubscriptionID = "" }, "SubscriptionID"},
		"resource group": {func(c *Config) { c.ResourceGroup = "" }, "ResourceGroup"},
		"region":         {func(c *Config) { c.Region = "" }, "Region"},
		"tenant":         {func(c *Config) { c.TenantID = "" }, "TenantID"},
		"client":         {func(c *Config) { c.ClientID = "" }, "ClientID"},
		"secret":         {func(c *Config) { c.ClientSecret = "" }, "ClientSecret"},
		"cluster":        {func(c *Config) { c.ClusterUID = "" }, "ClusterUID"},
		"long cluster":   {func(c *Config) { c.ClusterUID = strings.Repeat("u", 257) }, "ClusterUID"},
		"node":           {func(c *Config) { c.NodeName = "" }, "NodeName"},
		"subnet":         {func(c *Config) { c.SubnetID = "aci" }, "SubnetID"},
		"two ways in":    {func(c *Config) { c.ManagedIdentity = true }, "more than one way to sign in"},
		"metadata":       {func(c *Config) { c.MetadataEndpoint = "127.0.0.1" }, "MetadataEndpoint"},
		"another subnet": {func(c *Config) { c.AllowedSubnetIDs = []string{"aci"} }, "AllowedSubnetIDs"},
		"zone":           {func(c *Config) { c.Zone = "one" }, "Zone"},
		"Spot":           {func(c *Config) { c.Spot, c.Confidential = true, true }, "Spot and Confidential"},
		"identity":       {func(c *Config) { c.Identities = []string{"web"} }, "web"},
		"registry":       {func(c *Config) { c.RegistryIdentities = map[string]string{"a": "web"} }, "web"},
		"workspace":      {func(c *Config) { c.LogAnalytics = &LogAnalytics{WorkspaceID: "w"} }, "LogAnalytics"},
		"cloud":          {func(c *Config) { c.Cloud.ActiveDirectoryAuthorityHost = "https://a" }, "Cloud"},
	}
	if _, err := New(valid); err != nil {
		t.Fatalf("valid: %v", err)
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			config := valid
			test.edit(&config)
			if _, err := New(config); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestInstanceDiscovery(t *testing.T) {
	for host, private := range map[string]bool{
		"": false, "https://login.microsoftonline.com/": false, "https://login.microsoftonline.com": false,
		"https://login.chinacloudapi.cn/": false, "https://login.example/": true, "https://127.0.0.1:1": true,
	} {
		if got := isPrivateAuthority(host); got != private {
			t.Errorf("%q: %v", host, got)
		}
	}
}

func TestCapabilities(t *testing.T) {
	config := Config{SubscriptionID: "s", ResourceGroup: "g", Region: "r", TenantID: "t", ClientID: "c", ClientSecret: "x", ClusterUID: "u", NodeName: "n"}
	open, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	config.SubnetID = subnet
	private, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	if open.Capabilities().Has("DNSConfig") || !private.Capabilities().Has("DNSConfig") {
		t.Error("a resolver configuration is possible in a subnet only")
	}
	c := open.Capabilities()
	if c.Provider != open.Name() || c.Limits.MilliCPU != 31_000 || c.Limits.MemoryBytes != 240_000_000_000 {
		t.Errorf("%+v", c)
	}
	for inSubnet, p := range map[bool]*Provider{false: open, true: private} {
		want := Capabilities(inSubnet)
		if inSubnet {
			want.ACI.SubnetID = subnet
		}
		if diff := cmp.Diff(want, p.Capabilities()); diff != "" {
			t.Errorf("capabilities, in a subnet %v (-published +of the node):\n%s", inSubnet, diff)
		}
	}
	if len(c.String()) > 1000 {
		t.Errorf("%d bytes are much for an annotation", len(c.String()))
	}
}

// TestRefusedBeforeItBursts holds what the policy side knows against what the
// service publishes, since a pod that only the request refuses has failed.
func TestRefusedBeforeItBursts(t *testing.T) {
	ports := func(list ...int32) (out []corev1.ContainerPort) {
		for _, p := range list {
			out = append(out, corev1.ContainerPort{ContainerPort: p})
		}
		return out
	}
	tests := map[string]struct {
		spec corev1.PodSpec
		want []string
	}{
		"a deadline, which the agent keeps": {spec: corev1.PodSpec{ActiveDeadlineSeconds: to.Ptr[int64](60)}},
		"ports at the edges of the reserved ranges": {
			spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: ports(22, 1025, 1027, 3389)}, {Ports: ports(65534)}}},
			want: []string{
				"spec.containers[0].ports[0].containerPort", "spec.containers[0].ports[1].containerPort",
				"spec.containers[0].ports[2].containerPort", "spec.containers[0].ports[3].containerPort",
				"spec.containers[1].ports[0].containerPort",
			},
		},
		"MongoDB":                       {spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: ports(27017)}}}, want: []string{"spec.containers[0].ports[0].containerPort"}},
		"ports beside them":             {spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: ports(21, 1024, 1028, 3388, 3400)}}}},
		"more ports beside them":        {spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: ports(19999, 30001, 49151, 65535)}}}},
		"one port of two containers":    {spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: ports(80)}, {Ports: ports(80)}}}, want: []string{"spec.containers[1].ports[0].containerPort"}},
		"sixty containers of two kinds": {spec: corev1.PodSpec{InitContainers: make([]corev1.Container, 1), Containers: make([]corev1.Container, 59)}},
		"sixty-one":                     {spec: corev1.PodSpec{InitContainers: make([]corev1.Container, 59), Containers: make([]corev1.Container, 2)}, want: []string{"spec.containers"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, r := range burstable.Check(&corev1.Pod{Spec: test.spec}, Capabilities(false)) {
				got = append(got, r.Field)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("refused fields (-want +got):\n%s", diff)
			}
		})
	}
}

// TestVariablesAreDocumented wants each variable that is read on the page, and none
// there that is not.
func TestVariablesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/aci.md")
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]bool{}
	_, _ = ConfigFromEnv(func(name string) string { // what is wrong with nothing does not matter
		read[name] = true
		// So that every way to sign in is looked at.
		return map[string]string{envCredentials: managedIdentityCredential, envVNetName: "v"}[name]
	})
	for name := range read {
		if !strings.Contains(string(page), "`"+name) {
			t.Errorf("docs/aci.md does not speak of %s", name)
		}
	}
	for _, name := range regexp.MustCompile("`((?:ACI|AZURE|LOG|CLUSTER|VIRTUALNODE)_[A-Z_]+)").FindAllStringSubmatch(string(page), -1) {
		if !read[name[1]] {
			t.Errorf("docs/aci.md speaks of %s, which is not read", name[1])
		}
	}
}
