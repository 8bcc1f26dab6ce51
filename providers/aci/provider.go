// Package aci runs pods as container groups of Azure Container Instances, by
// the resource provider Microsoft.ContainerInstance, api-version 2023-05-01.
//
// The name of a group comes from its pod's UID, and a PUT of a name is the
// service's only idempotency. Since a PUT on a living group restarts its
// containers, a group is put only after it is known to be absent, and nothing
// below the agent repeats a request.
package aci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	sdk "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerinstance/armcontainerinstance/v2"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
)

// name is the provider's short name.
const name = "aci"

// Provider is [providers.Provider] on Azure Container Instances.
type Provider struct {
	config   Config
	client   *http.Client
	sessions *sessions
	creates  *creates
	quota    *quota.Account
	dates    providers.Hearing // of the resource manager's answers

	integrals integrals
}

var _ providers.Provider = (*Provider)(nil)

// New returns a provider. It asks nothing of the cloud; wrong credentials show
// in [Provider.Check]. The error names every field that is missing or wrong.
func New(config Config) (*Provider, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("configuration of Azure Container Instances: %w", err)
	}
	if config.Clock == nil {
		config.Clock = clock.RealClock{}
	}
	if config.SettleTime == 0 {
		config.SettleTime = defaultSettleTime
	}
	client := config.HTTPClient
	if client == nil {
		client = newHTTPClient(config.RootCAs)
	}
	account := config.Quota
	if account == nil {
		var err error
		if account, err = quota.New(config.Plan(), quota.Settings{}, clock.RealClock{}, nil); err != nil {
			return nil, fmt.Errorf("quota of Azure Container Instances: %w", err)
		}
	}
	p := &Provider{config: config, client: client, quota: account}
	p.integrals.known = map[string]map[string]*integral{}
	p.sessions = newSessions(&p.config, client, account, &p.dates)
	p.creates = newCreates(config.Clock, config.SettleTime)
	return p, nil
}

// Quota is the account's request quota, which every call is counted against.
func (p *Provider) Quota() *quota.Account { return p.quota }

// Ahead implements [providers.Clock].
func (p *Provider) Ahead() (time.Duration, bool) { return p.dates.Ahead() }

// Close closes idle connections. Calls under way go on.
func (p *Provider) Close() { p.client.CloseIdleConnections() }

// Name is "aci".
func (p *Provider) Name() string { return name }

// Location is the region, and the zone that groups are bound to, if they are.
func (p *Provider) Location() providers.Location {
	location := providers.Location{Region: p.config.Region}
	if p.config.Zone != "" {
		// As Azure's own nodes name their zone.
		location.Zone = p.config.Region + "-" + p.config.Zone
	}
	return location
}

// do makes one call with the present session and turns its error into the one
// that the caller may see. secrets are values of the request that must not be
// in it.
func (p *Provider) do(ctx context.Context, op operation, secrets redactor, call func(context.Context, *session) error) (err error) {
	ctx, ended := providers.Traced(ctx, name, op.name)
	defer func() { ended(err) }()
	if op != opGet {
		ctx = quota.With(ctx, op.priority)
	}
	j := &journey{}
	s, err := p.sessions.get()
	if err != nil {
		return op.fail(ctx, err, j, secrets)
	}
	secrets = append(secrets, p.sessions.source.secrets()...)
	err = op.fail(ctx, call(withJourney(ctx, j), s), j, secrets)
	switch class := providers.ClassOf(err); {
	case class == providers.Unauthorized, class == providers.Misconfigured && !j.sent():
		p.sessions.refused(s)
	}
	return err
}

// checkedGroup is a name that no group bears: names of groups end in a UID.
const checkedGroup = groupNamePrefix + "check"

// Check reads a group that does not exist. To be told so, the credentials must
// be valid, and the resource group must exist and be readable.
func (p *Provider) Check(ctx context.Context) error {
	_, err := p.read(ctx, opCheck, checkedGroup)
	if providers.ClassOf(err) == providers.NotFound {
		return nil
	}
	return err
}

// read gets one group, whoever owns it.
func (p *Provider) read(ctx context.Context, op operation, id string) (sdk.ContainerGroup, error) {
	var group sdk.ContainerGroup
	err := p.do(ctx, op, nil, func(ctx context.Context, s *session) error {
		resp, err := s.groups.Get(ctx, p.config.ResourceGroup, id, nil)
		group = resp.ContainerGroup
		return err
	})
	return group, err
}

// Get returns a group of this virtual node with its status. The group of
// another owner is not found.
func (p *Provider) Get(ctx context.Context, id string) (*providers.Group, error) {
	group, err := p.read(ctx, opGet, id)
	if err != nil {
		return nil, err
	}
	result := p.group(&group)
	if result == nil {
		return nil, foreign(opGet, id)
	}
	result.Status = p.status(&group)
	return result, nil
}

// status is the state of a group of this virtual node. A want of machines that was
// noticed late concerns groups of its kind: if that is not the node's own, it is the
// pod's alone.
func (p *Provider) status(g *sdk.ContainerGroup) *providers.GroupStatus {
	s := groupStatus(g, p.config.Clock.Now())
	if s.Refused == "" || g.Properties == nil {
		return s
	}
	zone := ""
	if len(g.Zones) > 0 {
		zone = value(g.Zones[0])
	}
	if p.config.special(s.Spot, value(g.Properties.SKU) == sdk.ContainerGroupSKUConfidential, zone) {
		s.Refused = providers.NoSuchStock
	}
	return s
}

// foreign is the error about a group that this virtual node does not own.
func foreign(op operation, id string) error {
	return &providers.Error{
		Operation: op.name, Class: providers.NotFound,
		Message: fmt.Sprintf("container group %s is not owned by this virtual node", id),
	}
}

// group is the neutral form without status, nil for a group of another owner.
func (p *Provider) group(g *sdk.ContainerGroup) *providers.Group {
	owner := ownerOf(g.Tags)
	if !p.owns(owner) || g.Name == nil {
		return nil
	}
	result := &providers.Group{ID: strings.ToLower(*g.Name), Name: *g.Name, Owner: owner}
	if g.Properties != nil {
		state := value(g.Properties.ProvisioningState)
		result.Deleting = strings.EqualFold(state, "Deleting")
		// A deployment is done when the containers have started; a restart by the
		// platform passes through other states, and may change the address.
		result.Mark = state
		if g.Properties.IPAddress != nil {
			result.Mark += " " + value(g.Properties.IPAddress.IP)
		}
	}
	return result
}

// Create makes the pod's group unless it exists. It returns when the service
// has accepted it. The ID is the group's name.
func (p *Provider) Create(ctx context.Context, spec *providers.GroupSpec) (string, error) {
	request, err := buildGroup(&p.config, spec)
	if err != nil {
		return "", opCreate.fail(ctx, err, &journey{}, nil)
	}
	if !p.owns(spec.Owner) {
		return "", &providers.Error{
			Operation: opCreate.name, Class: providers.Misconfigured,
			Message: fmt.Sprintf("pod %s/%s is not for this virtual node: its owner names another cluster or node", spec.Owner.Namespace, spec.Owner.PodName),
		}
	}
	id := groupName(spec.Owner.PodUID)
	leave, err := p.creates.enter(ctx, id)
	if err != nil {
		return "", opCreate.fail(ctx, err, &journey{}, nil)
	}
	defer leave()

	existing, err := p.read(ctx, opCreate.before(), id)
	switch {
	case err == nil:
		p.creates.settle(id)
		if err := p.adopt(opCreate, &existing, spec.Owner.PodUID); err != nil {
			return "", err
		}
		return id, nil
	case providers.ClassOf(err) != providers.NotFound:
		return "", err
	}
	if wait := p.creates.unsettled(id); wait > 0 {
		return "", &providers.Error{
			Operation: opCreate.name, Class: providers.Unknown, RetryAfter: wait,
			Message: "the answer to an earlier request was lost, and it may still take effect",
		}
	}
	err = p.put(ctx, id, request.body, append(secretsOf(spec), request.hidden...))
	if providers.ClassOf(err) == providers.Unknown {
		p.creates.lost(id)
	} else {
		p.creates.settle(id)
	}
	if err != nil {
		if request.special {
			err = ofOneKind(err)
		}
		return "", err
	}
	return id, nil
}

// ofOneKind keeps the want of room for groups of a kind that a single pod has asked
// for from being taken for that of the node, which would hold all its pods back.
func ofOneKind(err error) error {
	var e *providers.Error
	if !providers.ForWantOfRoom(err) || !errors.As(err, &e) {
		return err
	}
	one := *e
	one.Class = providers.NoSuchStock
	one.Message += "; that is of the kind of group that the pod's annotations ask for, and pods of the node's own kind are not held back"
	return &one
}

// adopt checks that a group that exists under the pod's name is the pod's.
func (p *Provider) adopt(op operation, existing *sdk.ContainerGroup, podUID string) error {
	if found := ownerOf(existing.Tags); !p.owns(found) || found.PodUID != podUID {
		return &providers.Error{
			Operation: op.name, Class: providers.Conflict,
			Message: fmt.Sprintf("container group %s exists and is not the pod's; it is left alone, remove it if nobody needs it", groupName(podUID)),
		}
	}
	return nil
}

// put sends the definition and does not wait for the deployment.
func (p *Provider) put(ctx context.Context, id string, body sdk.ContainerGroup, secrets redactor) error {
	return p.do(ctx, opCreate, secrets, func(ctx context.Context, s *session) error {
		var answer *http.Response
		_, err := s.groups.BeginCreateOrUpdate(policy.WithCaptureResponse(ctx, &answer), p.config.ResourceGroup, id, body, nil)
		return unlessAccepted(answer, err)
	})
}

// unlessAccepted drops an error that arose after the service had accepted a
// write: what follows is the SDK looking for a way to poll.
func unlessAccepted(answer *http.Response, err error) error {
	if err != nil && answer != nil && answer.StatusCode >= 200 && answer.StatusCode < 300 {
		return nil
	}
	return err
}

// Delete removes a group of this virtual node. The service does so before it
// answers, in about 4 s. It is no error if there is none; the group of another
// owner stays, and is not found.
func (p *Provider) Delete(ctx context.Context, id string) error {
	existing, err := p.read(ctx, opDelete.before(), id)
	switch {
	case providers.ClassOf(err) == providers.NotFound:
		return nil
	case err != nil:
		return err
	case !p.owns(ownerOf(existing.Tags)):
		return foreign(opDelete, id)
	}
	err = p.do(ctx, opDelete, nil, func(ctx context.Context, s *session) error {
		var answer *http.Response
		_, err := s.groups.BeginDelete(policy.WithCaptureResponse(ctx, &answer), p.config.ResourceGroup, id, nil)
		return unlessAccepted(answer, err)
	})
	if providers.ClassOf(err) == providers.NotFound {
		return nil
	}
	return err
}

// value is *p, or the zero value.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// secretsOf lists the values of a specification that an error must not show:
// the environment, the files, the registries' passwords.
func secretsOf(spec *providers.GroupSpec) redactor {
	var secrets redactor
	for _, containers := range [][]providers.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			for _, e := range containers[i].Env {
				secrets = append(secrets, e.Value)
			}
		}
	}
	for _, v := range spec.Volumes {
		if v.AzureFile != nil {
			secrets = append(secrets, v.AzureFile.AccountKey)
		}
		if v.Files == nil {
			continue
		}
		for _, f := range v.Files.Items {
			secrets = append(secrets, string(f.Data), encode(f.Data))
		}
	}
	for _, c := range spec.RegistryCredentials {
		secrets = append(secrets, c.Password, c.Username)
	}
	return secrets
}
