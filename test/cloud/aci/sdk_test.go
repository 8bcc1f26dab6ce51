package aci_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerinstance/armcontainerinstance/v2"

	"github.com/autoburst/autoburst/test/cloud/aci"
	"github.com/autoburst/autoburst/test/cloud/sim"
)

const (
	tenant       = "11111111-1111-1111-1111-111111111111"
	client       = "22222222-2222-2222-2222-222222222222"
	secret       = "the-client-secret"
	subscription = "33333333-3333-3333-3333-333333333333"
)

// sdk is a server with the real SDK's clients pointed at it.
type sdk struct {
	server     *aci.Server
	groups     *armcontainerinstance.ContainerGroupsClient
	containers *armcontainerinstance.ContainersClient
}

func newSDK(t *testing.T, clientSecret string, settings aci.Settings) sdk {
	t.Helper()
	server := aci.NewServer(aci.Options{
		Sim: sim.Config{Timing: sim.Timing{
			Schedule: 5 * time.Millisecond, Pull: 20 * time.Millisecond, Start: 5 * time.Millisecond,
			Restart: 5 * time.Millisecond, Stop: 10 * time.Millisecond,
		}},
		Applications:  []aci.Application{{TenantID: tenant, ClientID: client, Secrets: []aci.Secret{{Value: secret}}}},
		Subscriptions: []aci.Subscription{{ID: subscription, ResourceGroups: []string{"demo"}}},
		Settings:      settings,
	})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	transport := server.Client()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := server.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	options := policy.ClientOptions{
		Cloud: cloud.Configuration{
			ActiveDirectoryAuthorityHost: server.URL(),
			Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
				cloud.ResourceManager: {Endpoint: server.URL(), Audience: "https://management.core.windows.net/"},
			},
		},
		Transport: transport,
		Retry:     policy.RetryOptions{RetryDelay: time.Millisecond, MaxRetryDelay: 10 * time.Millisecond},
	}
	credential, err := azidentity.NewClientSecretCredential(tenant, client, clientSecret, &azidentity.ClientSecretCredentialOptions{
		ClientOptions: options, DisableInstanceDiscovery: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	factory, err := armcontainerinstance.NewClientFactory(subscription, credential, &arm.ClientOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	return sdk{server, factory.NewContainerGroupsClient(), factory.NewContainersClient()}
}

func definition(image string) armcontainerinstance.ContainerGroup {
	return armcontainerinstance.ContainerGroup{
		Location: to.Ptr("eastus"),
		Tags:     map[string]*string{"owner": to.Ptr("test")},
		Properties: &armcontainerinstance.ContainerGroupPropertiesProperties{
			OSType:        to.Ptr(armcontainerinstance.OperatingSystemTypesLinux),
			RestartPolicy: to.Ptr(armcontainerinstance.ContainerGroupRestartPolicyAlways),
			Containers: []*armcontainerinstance.Container{{
				Name: to.Ptr("app"),
				Properties: &armcontainerinstance.ContainerProperties{
					Image:     to.Ptr(image),
					Resources: &armcontainerinstance.ResourceRequirements{Requests: &armcontainerinstance.ResourceRequests{CPU: to.Ptr(1.0), MemoryInGB: to.Ptr(1.5)}},
				},
			}},
		},
	}
}

// poll follows an operation to its end. The SDK polls no more often than once a
// second.
func poll[T any](ctx context.Context, t *testing.T, what string, poller *runtime.Poller[T], err error) T {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	result, err := poller.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: time.Second})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return result
}

func TestSDKLifecycle(t *testing.T) {
	c := newSDK(t, secret, aci.Settings{PageSize: 2})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	create, err := c.groups.BeginCreateOrUpdate(ctx, "demo", "web", definition("nginx"), nil)
	created := poll(ctx, t, "create", create, err)
	if got := *created.Properties.ProvisioningState; got != "Succeeded" {
		t.Errorf("provisioningState %s", got)
	}
	for _, name := range []string{"web-2", "web-3"} {
		create, err := c.groups.BeginCreateOrUpdate(ctx, "demo", name, definition("nginx"), nil)
		poll(ctx, t, "create", create, err)
	}

	got, err := c.groups.Get(ctx, "demo", "web", nil)
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	if state := *got.Properties.InstanceView.State; state != "Running" {
		t.Errorf("state %s", state)
	}
	view := got.Properties.Containers[0].Properties.InstanceView
	if *view.CurrentState.State != "Running" || view.CurrentState.StartTime.IsZero() || *view.RestartCount != 0 || len(view.Events) == 0 {
		t.Errorf("instance view %+v", view)
	}

	var names []string
	for pager := c.groups.NewListByResourceGroupPager("demo", nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		for _, g := range page.Value {
			names = append(names, *g.Name)
			if g.Properties.InstanceView != nil {
				t.Errorf("the list shows the instance view of %s", *g.Name)
			}
		}
	}
	if strings.Join(names, " ") != "web web-2 web-3" {
		t.Errorf("listed %v", names)
	}

	logs, err := c.containers.ListLogs(ctx, "demo", "web", "app", &armcontainerinstance.ContainersClientListLogsOptions{Tail: to.Ptr[int32](1)})
	if err != nil || strings.Count(*logs.Content, "\n") != 1 {
		t.Errorf("logs: %v %v", logs.Content, err)
	}

	patched, err := c.groups.Update(ctx, "demo", "web", armcontainerinstance.Resource{Tags: map[string]*string{"owner": to.Ptr("other")}}, nil)
	if err != nil || *patched.Tags["owner"] != "other" {
		t.Errorf("update: %v", err)
	}
	restart, err := c.groups.BeginRestart(ctx, "demo", "web", nil)
	poll(ctx, t, "restart", restart, err)
	if _, err := c.groups.Stop(ctx, "demo", "web", nil); err != nil {
		t.Errorf("stop: %v", err)
	}
	start, err := c.groups.BeginStart(ctx, "demo", "web", nil)
	poll(ctx, t, "start", start, err)

	for _, name := range []string{"web", "web-2", "web-3", "web-4"} {
		remove, err := c.groups.BeginDelete(ctx, "demo", name, nil)
		if err != nil {
			t.Fatalf("delete: %v", err)
		}
		if !remove.Done() {
			t.Errorf("delete of %s is not done at once", name)
		}
	}
	var refused *azcore.ResponseError
	if _, err := c.groups.Get(ctx, "demo", "web", nil); !errors.As(err, &refused) || refused.ErrorCode != "ResourceNotFound" {
		t.Errorf("get after delete: %v", err)
	}
	if open := c.server.Record().Open(); len(open) != 0 {
		t.Errorf("still billed: %+v", open)
	}
}

func TestA03SDKReportsWrongSecret(t *testing.T) {
	c := newSDK(t, "wrong-secret-value", aci.Settings{})
	_, err := c.groups.Get(context.Background(), "demo", "web", nil)
	var failed *azidentity.AuthenticationFailedError
	if !errors.As(err, &failed) || !strings.Contains(err.Error(), "AADSTS7000215") {
		t.Errorf("got %v", err)
	}
}

func TestA13SDKReportsTheCode(t *testing.T) {
	c := newSDK(t, secret, aci.Settings{Shortages: []aci.Shortage{{}}})
	_, err := c.groups.BeginCreateOrUpdate(context.Background(), "demo", "web", definition("nginx"), nil)
	var refused *azcore.ResponseError
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusConflict || refused.ErrorCode != "ServiceUnavailable" {
		t.Errorf("got %v", err)
	}
}

func TestA41SDKRetries(t *testing.T) {
	c := newSDK(t, secret, aci.Settings{})
	ctx := context.Background()
	c.server.Inject(aci.Fault{Operation: "ContainerGroups_CreateOrUpdate", Calls: 3, Status: 500})
	if _, err := c.groups.BeginCreateOrUpdate(ctx, "demo", "web", definition("nginx"), nil); err != nil {
		t.Errorf("three failures: %v", err)
	}
	c.server.Inject(aci.Fault{Operation: "ContainerGroups_CreateOrUpdate", Calls: 4, Status: 500})
	if _, err := c.groups.BeginCreateOrUpdate(ctx, "demo", "web-2", definition("nginx"), nil); err == nil {
		t.Error("four failures did not reach the caller")
	}
}
