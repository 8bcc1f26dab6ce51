package aci

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/autoburst/autoburst/providers"
)

// credentialSource makes the credential that requests are signed in with. One
// more way to sign in (a workload identity, a managed identity) is one more
// implementation.
type credentialSource interface {
	// current returns the credential to use now: the same value until what it
	// is made of has changed, or renew was called. Its error is a
	// *providers.Error without an operation.
	current() (azcore.TokenCredential, error)
	// renew makes current return a new credential with no tokens, if used is
	// still the current one.
	renew(used azcore.TokenCredential)
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

// secret returns the value that must not appear in any text.
func (s *clientSecret) secret() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made != "" {
		return s.made
	}
	return s.value
}

func (s *clientSecret) read() (string, error) {
	if s.file == "" {
		return s.value, nil
	}
	content, err := os.ReadFile(s.file)
	if err != nil {
		return "", &providers.Error{Class: providers.Misconfigured, Message: fmt.Sprintf("the client secret cannot be read: %v; mount the Secret there", err)}
	}
	secret := strings.TrimSpace(string(content))
	if secret == "" {
		return "", &providers.Error{Class: providers.Misconfigured, Message: fmt.Sprintf("the client secret's file %s is empty; put the secret of the service principal into it", s.file)}
	}
	return secret, nil
}
