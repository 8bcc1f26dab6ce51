package aci

import (
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerinstance/armcontainerinstance/v2"
)

// clientOptions point Azure's SDKs at the service.
func (s *service) clientOptions(client *http.Client) policy.ClientOptions {
	return policy.ClientOptions{
		Cloud: cloud.Configuration{
			ActiveDirectoryAuthorityHost: s.authority,
			Services:                     map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: s.manager, Audience: s.audience}},
		},
		Transport: client,
		Retry:     policy.RetryOptions{RetryDelay: time.Millisecond, MaxRetryDelay: 10 * time.Millisecond},
	}
}

// credential is azidentity's for the service's client.
func (s *service) credential(t *testing.T, secret string, client *http.Client) azcore.TokenCredential {
	t.Helper()
	credential, err := azidentity.NewClientSecretCredential(s.tenant, s.client, secret, &azidentity.ClientSecretCredentialOptions{
		ClientOptions: s.clientOptions(client), DisableInstanceDiscovery: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return credential
}

func (s *service) tokenOptions() policy.TokenRequestOptions {
	return policy.TokenRequestOptions{Scopes: []string{s.audience + "/.default"}}
}

// sdk is the SDK's client of container groups.
func (s *service) sdk(t *testing.T) *armcontainerinstance.ContainerGroupsClient {
	t.Helper()
	groups, err := armcontainerinstance.NewContainerGroupsClient(s.subscription, s.credential(t, s.secret, s.http),
		&arm.ClientOptions{ClientOptions: s.clientOptions(s.http)})
	if err != nil {
		t.Fatal(err)
	}
	return groups
}

// sdkDefinition is a small group as the SDK has it.
func (s *service) sdkDefinition() armcontainerinstance.ContainerGroup {
	return armcontainerinstance.ContainerGroup{
		Location: to.Ptr(s.location),
		Properties: &armcontainerinstance.ContainerGroupPropertiesProperties{
			OSType: to.Ptr(armcontainerinstance.OperatingSystemTypesLinux),
			Containers: []*armcontainerinstance.Container{{
				Name: to.Ptr("app"),
				Properties: &armcontainerinstance.ContainerProperties{
					Image: to.Ptr(s.image), Command: to.SliceOfPtrs("sleep", "3600"),
					Resources: &armcontainerinstance.ResourceRequirements{
						Requests: &armcontainerinstance.ResourceRequests{CPU: to.Ptr(1.0), MemoryInGB: to.Ptr(1.0)},
					},
				},
			}},
		},
	}
}
