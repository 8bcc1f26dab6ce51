package aci

import (
	"net/http"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	sdk "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerinstance/armcontainerinstance/v2"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
)

// session is the SDK's clients with one credential. A client keeps its tokens
// as long as it lives, so another credential needs another session.
type session struct {
	credential azcore.TokenCredential
	groups     *sdk.ContainerGroupsClient
	containers *sdk.ContainersClient
	// manager sends what the SDK's clients are not made for.
	manager  *arm.Client
	location *sdk.LocationClient
}

// sessions holds the present session.
type sessions struct {
	subscription string
	source       credentialSource
	options      arm.ClientOptions

	mu      sync.Mutex
	present *session
}

// get returns the session for the credential of this moment. Its error is a
// *providers.Error without an operation.
func (s *sessions) get() (*session, error) {
	credential, err := s.source.current()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.present != nil && s.present.credential == credential {
		return s.present, nil
	}
	groups, err := sdk.NewContainerGroupsClient(s.subscription, credential, &s.options)
	if err != nil {
		return nil, &providers.Error{Class: providers.Misconfigured, Message: redactor(nil).text(err.Error())}
	}
	containers, err := sdk.NewContainersClient(s.subscription, credential, &s.options)
	if err != nil {
		return nil, &providers.Error{Class: providers.Misconfigured, Message: redactor(nil).text(err.Error())}
	}
	manager, err := arm.NewClient("autoburst", "v1.0.0", credential, &s.options)
	if err != nil {
		return nil, &providers.Error{Class: providers.Misconfigured, Message: redactor(nil).text(err.Error())}
	}
	location, err := sdk.NewLocationClient(s.subscription, credential, &s.options)
	if err != nil {
		return nil, &providers.Error{Class: providers.Misconfigured, Message: redactor(nil).text(err.Error())}
	}
	s.present = &session{credential: credential, groups: groups, containers: containers, manager: manager, location: location}
	return s.present, nil
}

// refused is told of a session whose token the cloud did not take: the next one
// signs in anew instead of using the same token until it expires.
func (s *sessions) refused(used *session) { s.source.renew(used.credential) }

// noRetries: the agent is the one layer that repeats. Repeated by the SDK after
// a lost answer, a PUT would restart the containers that the first one made.
var noRetries = policy.RetryOptions{MaxRetries: -1}

func newSessions(config *Config, client *http.Client, account *quota.Account, dates *providers.Hearing) *sessions {
	s := &sessions{
		subscription: config.SubscriptionID,
		options: arm.ClientOptions{
			ClientOptions: azcore.ClientOptions{
				Cloud:     config.Cloud,
				Retry:     noRetries,
				Telemetry: config.telemetry(),
				Transport: managerTransport{client, account, dates},
			},
			// Registering needs a right on the whole subscription and minutes of
			// waiting inside a call; the error says what to do instead.
			DisableRPRegistration: true,
		},
	}
	s.source = newCredentialSource(config, client)
	return s
}
