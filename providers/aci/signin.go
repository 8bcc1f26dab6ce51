package aci

import (
	"errors"
	"fmt"
)

// Names of credentials, as DefaultAzureCredential takes them from
// AZURE_TOKEN_CREDENTIALS.
const (
	environmentCredential      = "EnvironmentCredential"
	workloadIdentityCredential = "WorkloadIdentityCredential"
	managedIdentityCredential  = "ManagedIdentityCredential"
)

// signInFromEnv reads how to sign in. Where more than one way is set up and none is
// chosen, it is the first of: secret, workload identity, managed identity.
func (c *Config) signInFromEnv(getenv func(string) string) error {
	secret, file, token := getenv(envClientSecret), getenv(envClientSecretFile), getenv(envFederatedTokenFile)
	chosen := getenv(envCredentials)
	switch {
	case chosen != "":
	case secret != "" || file != "":
		chosen = environmentCredential
	case token != "":
		chosen = workloadIdentityCredential
	case getenv(envNodeIdentity) != "":
		chosen = managedIdentityCredential
	default:
		return fmt.Errorf("nothing to sign in with: set environment variable %s or %s (a service principal), %s (a workload identity), or %s to %s",
			envClientSecret, envClientSecretFile, envFederatedTokenFile, envCredentials, managedIdentityCredential)
	}
	switch chosen {
	case environmentCredential:
		c.ClientSecret, c.ClientSecretFile = secret, file
		if secret == "" && file == "" {
			return errors.Join(fmt.Errorf("neither environment variable %s nor %s is set", envClientSecret, envClientSecretFile), c.named())
		}
		return c.named()
	case workloadIdentityCredential:
		c.FederatedTokenFile = token
		if token == "" {
			return errors.Join(fmt.Errorf("environment variable %s is not set", envFederatedTokenFile), c.named())
		}
		return c.named()
	case managedIdentityCredential:
		c.ManagedIdentity = true
		if c.ClientID == "" {
			c.ClientID = getenv(envNodeIdentity)
		}
		c.MetadataEndpoint = getenv(envMetadata)
		if c.MetadataEndpoint == "" {
			return nil
		}
		if err := validateMetadata(c.MetadataEndpoint); err != nil {
			return fmt.Errorf("environment variable %s: %w", envMetadata, err)
		}
		return nil
	}
	return fmt.Errorf("environment variable %s: %q is none of %s, %s, %s", envCredentials, chosen,
		environmentCredential, workloadIdentityCredential, managedIdentityCredential)
}

// named wants tenant and client, without which only a managed identity signs in.
func (c *Config) named() error {
	var problems []error
	for _, required := range []struct{ name, value string }{{envTenantID, c.TenantID}, {envClientID, c.ClientID}} {
		if required.value == "" {
			problems = append(problems, fmt.Errorf("environment variable %s is not set", required.name))
		}
	}
	return errors.Join(problems...)
}
