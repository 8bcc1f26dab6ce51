package aci

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/autoburst/autoburst/providers"
)

// credentialSource makes the credential that requests are signed in with.
type credentialSource interface {
	// current returns the credential to use now: the same value until what it
	// is made of has changed, or renew was called. Its error is a
	// *providers.Error without an operation.
	current() (azcore.TokenCredential, error)
	// renew makes current return a new credential with no tokens, if used is
	// still the current one.
	renew(used azcore.TokenCredential)
	// secrets are the values that must not appear in any text.
	secrets() []string
}

// newCredentialSource is the way to sign in that the configuration chooses.
func newCredentialSource(config *Config, client *http.Client) credentialSource {
	options := azcore.ClientOptions{
		Cloud:     config.Cloud,
		Retry:     noRetries,
		Telemetry: config.telemetry(),
		Transport: authorityTransport{client},
	}
	private := isPrivateAuthority(config.Cloud.ActiveDirectoryAuthorityHost)
	switch {
	case config.ManagedIdentity:
		options.Transport = metadataTransport{authorityTransport{client}, config.MetadataEndpoint}
		return &ephemeral{make: func() (azcore.TokenCredential, error) { return newManagedIdentity(config.ClientID, options) }}
	case config.FederatedTokenFile != "":
		return &ephemeral{make: func() (azcore.TokenCredential, error) {
			return newWorkloadIdentity(azidentity.WorkloadIdentityCredentialOptions{
				ClientOptions: options, TenantID: config.TenantID, ClientID: config.ClientID,
				TokenFilePath: config.FederatedTokenFile, DisableInstanceDiscovery: private,
			})
		}}
	}
	return &clientSecret{
		tenant: config.TenantID, client: config.ClientID,
		value: config.ClientSecret, file: config.ClientSecretFile,
		options: azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: private},
	}
}

// clientSecret signs in as a service principal with a secret, from a value or
// from a file that may change.
type clientSecret struct {
	tenant, client string
	value, file    string
	options        azidentity.ClientSecretCredentialOptions

	mu         sync.Mutex
	credential azcore.TokenCredential
	made       string // the secret that credential was made of
}

func (s *clientSecret) current() (azcore.TokenCredential, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	secret, err := s.read()
	if err != nil {
		if s.credential != nil {
			// A file in the middle of its replacement: the old secret is valid
			// until the authority says otherwise.
			return s.credential, nil
		}
		return nil, err
	}
	if s.credential != nil && secret == s.made {
		return s.credential, nil
	}
	credential, err := azidentity.NewClientSecretCredential(s.tenant, s.client, secret, &s.options)
	if err != nil {
		return nil, &providers.Error{Class: providers.Misconfigured, Message: redactor{secret}.text(err.Error())}
	}
	s.credential, s.made = credential, secret
	return credential, nil
}

func (s *clientSecret) renew(used azcore.TokenCredential) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.credential == used {
		s.credential, s.made = nil, ""
	}
}

func (s *clientSecret) secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []string{s.value, s.made}
}

func (s *clientSecret) read() (string, error) {
	if s.file == "" {
		return s.value, nil
	}
	return readSecret(s.file, "the client secret", "mount the Secret there", "put the secret of the service principal into it")
}

// readSecret returns the content of a file without the space around it.
func readSecret(file, what, ifAbsent, ifEmpty string) (string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return "", &providers.Error{Class: providers.Misconfigured, Message: fmt.Sprintf("%s cannot be read: %v; %s", what, err, ifAbsent)}
	}
	secret := strings.TrimSpace(string(content))
	if secret == "" {
		return "", &providers.Error{Class: providers.Misconfigured, Message: fmt.Sprintf("%s: the file %s is empty; %s", what, file, ifEmpty)}
	}
	return secret, nil
}

// ephemeral signs in with what azidentity finds by itself each time, and keeps
// nothing that could give a secret away.
type ephemeral struct {
	make func() (azcore.TokenCredential, error)

	mu         sync.Mutex
	credential azcore.TokenCredential
}

func (s *ephemeral) current() (azcore.TokenCredential, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.credential == nil {
		credential, err := s.make()
		if err != nil {
			return nil, err
		}
		s.credential = credential
	}
	return s.credential, nil
}

func (s *ephemeral) renew(used azcore.TokenCredential) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.credential == used {
		s.credential = nil
	}
}

func (*ephemeral) secrets() []string { return nil }

// newWorkloadIdentity signs in with a token of the cluster. The file is looked at
// first, for azidentity does not say that it is the file which is missing.
func newWorkloadIdentity(options azidentity.WorkloadIdentityCredentialOptions) (azcore.TokenCredential, error) {
	if _, err := readSecret(options.TokenFilePath, "the token of the workload identity",
		"project a ServiceAccount token there, with the audience api://AzureADTokenExchange", "project a ServiceAccount token into it"); err != nil {
		return nil, err
	}
	credential, err := azidentity.NewWorkloadIdentityCredential(&options)
	if err != nil {
		return nil, &providers.Error{Class: providers.Misconfigured, Message: redactor(nil).text(err.Error())}
	}
	return credential, nil
}

// newManagedIdentity signs in as the machine, or as the one of its identities that
// client names.
func newManagedIdentity(client string, options azcore.ClientOptions) (azcore.TokenCredential, error) {
	o := azidentity.ManagedIdentityCredentialOptions{ClientOptions: options}
	if client != "" {
		o.ID = azidentity.ClientID(client)
	}
	credential, err := azidentity.NewManagedIdentityCredential(&o)
	if err != nil {
		return nil, &providers.Error{Class: providers.Misconfigured, Message: redactor(nil).text(err.Error())}
	}
	return &anew{credential: credential}, nil
}

// anew has a credential ask for its first token whatever it has: those of managed
// identities are kept for the whole process, also one that the cloud has refused. To
// ask with claims is how to say so.
type anew struct {
	credential azcore.TokenCredential
	asked      atomic.Bool
}

func (c *anew) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if !c.asked.Load() {
		options.Claims = `{"access_token":{}}`
	}
	token, err := c.credential.GetToken(ctx, options)
	if err == nil {
		c.asked.Store(true)
	}
	return token, err
}

// metadataTransport leads requests to the machine's metadata service to another
// address, if one is set; azidentity knows no other.
type metadataTransport struct {
	authorityTransport
	endpoint string
}

// metadataHost is the link-local address of the service on every machine of Azure.
const metadataHost = "169.254.169.254"

func (t metadataTransport) Do(req *http.Request) (*http.Response, error) {
	if t.endpoint == "" || req.URL.Host != metadataHost {
		return t.authorityTransport.Do(req)
	}
	endpoint, err := url.Parse(t.endpoint)
	if err != nil {
		return nil, fmt.Errorf("the address of the metadata service: %w", err)
	}
	led := req.Clone(req.Context())
	led.URL.Scheme, led.URL.Host, led.Host = endpoint.Scheme, endpoint.Host, endpoint.Host
	return t.authorityTransport.Do(led)
}
