package aci

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	// Fills in the resource manager's endpoint and audience of the known clouds.
	_ "github.com/Azure/azure-sdk-for-go/sdk/azcore/arm/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
)

// Environment variables that [ConfigFromEnv] reads. Those of older virtual
// nodes keep their names and meaning.
const (
	envResourceGroup  = "ACI_RESOURCE_GROUP"
	envRegion         = "ACI_REGION"
	envSubscriptionID = "AZURE_SUBSCRIPTION_ID"
	envTenantID       = "AZURE_TENANT_ID"
	envClientID       = "AZURE_CLIENT_ID"
	envClientSecret   = "AZURE_CLIENT_SECRET"
	// envClientSecretFile names a file with the secret, read again when it
	// changes.
	envClientSecretFile = "AZURE_CLIENT_SECRET_FILE"
	// envFederatedTokenFile is set by the webhook of workload identities, and by the
	// chart.
	envFederatedTokenFile = "AZURE_FEDERATED_TOKEN_FILE"
	// envCredentials chooses how to sign in by the name of azidentity's credential,
	// as in DefaultAzureCredential. Unset, it is what the others allow.
	envCredentials = "AZURE_TOKEN_CREDENTIALS"
	// envMetadata replaces the address of the machine's metadata service.
	envMetadata = "AZURE_POD_IDENTITY_AUTHORITY_HOST"
	// envNodeIdentity is the client ID of the identity of the machine that the
	// classic virtual node signs in as.
	envNodeIdentity = "VIRTUALNODE_USER_IDENTITY_CLIENTID"

	// envSubnetID is the whole resource ID; the other four spell it in parts.
	envSubnetID           = "ACI_SUBNET_ID"
	envVNetSubscriptionID = "ACI_VNET_SUBSCRIPTION_ID"
	envVNetResourceGroup  = "ACI_VNET_RESOURCE_GROUP"
	envVNetName           = "ACI_VNET_NAME"
	envSubnetName         = "ACI_SUBNET_NAME"
	// envAllowedSubnetIDs are resource IDs, separated by commas.
	envAllowedSubnetIDs = "ACI_ALLOWED_SUBNET_IDS"
	envPublicIP         = "ACI_PUBLIC_IP"

	envPriority = "ACI_PRIORITY"
	envSKU      = "ACI_SKU"
	envZone     = "ACI_ZONE"

	// The first two are resource IDs, separated by commas, the third is pairs of
	// REGISTRY=RESOURCE-ID.
	envPodIdentities      = "ACI_POD_IDENTITIES"
	envAllowedIdentities  = "ACI_ALLOWED_IDENTITIES"
	envRegistryIdentities = "ACI_REGISTRY_IDENTITIES"

	// Those of the classic virtual node, but for the file.
	envLogAnalyticsID      = "LOG_ANALYTICS_ID"
	envLogAnalyticsKey     = "LOG_ANALYTICS_KEY"
	envLogAnalyticsKeyFile = "LOG_ANALYTICS_KEY_FILE"
	envClusterResourceID   = "CLUSTER_RESOURCE_ID"

	// envEnvironment chooses one of the public clouds, by any of the names that
	// Azure's tools have for it; the next three replace parts of it.
	envEnvironment   = "AZURE_ENVIRONMENT"
	envAuthorityHost = "AZURE_AUTHORITY_HOST"
	envEndpoint      = "ACI_ARM_ENDPOINT"
	envAudience      = "ACI_ARM_AUDIENCE"
	// envCAFile is a PEM bundle to trust instead of the system's.
	envCAFile = "ACI_CA_FILE"
)

// ConfigFromEnv reads the settings of the cloud from environment variables. The
// caller adds ClusterUID and NodeName. The error names every variable that is
// missing or wrong, never its value where that may be secret.
func ConfigFromEnv(getenv func(string) string) (Config, error) {
	c := Config{
		SubscriptionID: getenv(envSubscriptionID),
		ResourceGroup:  getenv(envResourceGroup),
		Region:         getenv(envRegion),
		TenantID:       getenv(envTenantID),
		ClientID:       getenv(envClientID),
	}
	var problems []error
	for _, required := range []struct{ name, value string }{
		{envSubscriptionID, c.SubscriptionID},
		{envResourceGroup, c.ResourceGroup},
		{envRegion, c.Region},
	} {
		if required.value == "" {
			problems = append(problems, fmt.Errorf("environment variable %s is not set", required.name))
		}
	}
	problems = append(problems, c.signInFromEnv(getenv), c.groupsFromEnv(getenv))
	var err error
	if c.SubnetID, err = subnetFromEnv(getenv); err != nil {
		problems = append(problems, err)
	}
	if c.Cloud, err = cloudFromEnv(getenv); err != nil {
		problems = append(problems, err)
	}
	if c.RootCAs, err = rootsFromEnv(getenv); err != nil {
		problems = append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return Config{}, fmt.Errorf("settings of Azure Container Instances: %w", err)
	}
	return c, nil
}

func subnetFromEnv(getenv func(string) string) (string, error) {
	if id := getenv(envSubnetID); id != "" {
		if !subnetRule.MatchString(id) {
			return "", fmt.Errorf("environment variable %s: %q is not the resource ID of a subnet", envSubnetID, id)
		}
		return id, nil
	}
	network, subnet := getenv(envVNetName), getenv(envSubnetName)
	if network == "" && subnet == "" {
		return "", nil
	}
	subscription := getenv(envVNetSubscriptionID)
	if subscription == "" {
		subscription = getenv(envSubscriptionID)
	}
	group := getenv(envVNetResourceGroup)
	for _, part := range []struct{ name, value string }{
		{envVNetName, network}, {envSubnetName, subnet}, {envVNetResourceGroup, group},
	} {
		if part.value == "" {
			return "", fmt.Errorf("environment variable %s is not set, but the subnet needs %s, %s and %s (or %s alone)",
				part.name, envVNetName, envSubnetName, envVNetResourceGroup, envSubnetID)
		}
	}
	id := fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.Network/virtualNetworks/%s/subnets/%s",
		subscription, group, network, subnet)
	if !subnetRule.MatchString(id) {
		return "", fmt.Errorf("environment variables %s, %s and %s do not make the resource ID of a subnet: %q",
			envVNetResourceGroup, envVNetName, envSubnetName, id)
	}
	return id, nil
}

func cloudFromEnv(getenv func(string) string) (cloud.Configuration, error) {
	base, err := knownCloud(getenv(envEnvironment))
	if err != nil {
		return cloud.Configuration{}, err
	}
	manager := base.Services[cloud.ResourceManager]
	result := cloud.Configuration{ActiveDirectoryAuthorityHost: base.ActiveDirectoryAuthorityHost}
	for _, part := range []struct {
		name   string
		target *string
		url    bool
	}{
		{envAuthorityHost, &result.ActiveDirectoryAuthorityHost, true},
		{envEndpoint, &manager.Endpoint, true},
		{envAudience, &manager.Audience, false},
	} {
		value := getenv(part.name)
		if value == "" {
			continue
		}
		if part.url {
			if err := validateHTTPS(value); err != nil {
				return cloud.Configuration{}, fmt.Errorf("environment variable %s: %w", part.name, err)
			}
		}
		*part.target = value
	}
	result.Services = map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: manager}
	return result, nil
}

func knownCloud(name string) (cloud.Configuration, error) {
	switch strings.ToLower(name) {
	case "", "azurecloud", "azurepublic", "azurepubliccloud":
		return cloud.AzurePublic, nil
	case "azureusgovernment", "azureusgovernmentcloud":
		return cloud.AzureGovernment, nil
	case "azurechina", "azurechinacloud":
		return cloud.AzureChina, nil
	}
	return cloud.Configuration{}, fmt.Errorf("environment variable %s: %q is none of AzurePublic, AzureUSGovernment, AzureChina", envEnvironment, name)
}

func rootsFromEnv(getenv func(string) string) (*x509.CertPool, error) {
	path := getenv(envCAFile)
	if path == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("environment variable %s: %w", envCAFile, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("environment variable %s: %s holds no PEM certificate", envCAFile, path)
	}
	return pool, nil
}
