// Package eci runs container groups on Alibaba Cloud Elastic Container
// Instance (Eci 2018-08-08).
//
// It uses the core of the vendor's Go SDK, which signs and sends, and not its
// typed requests: these lack many members, send a broken exec probe with every
// container and put everything, secrets too, into the URL.
package eci

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
)

// Name is the cloud's short name.
const Name = "eci"

// The actions in use.
const (
	actionCreate   = "CreateContainerGroup"
	actionDelete   = "DeleteContainerGroup"
	actionDescribe = "DescribeContainerGroups"
	actionLog      = "DescribeContainerLog"
	actionUsage    = "ListUsage"
)

// pageSize is the largest page of DescribeContainerGroups.
const pageSize = 20

// Provider runs the groups of one virtual node in one region. Close it when
// its last call has returned.
type Provider struct {
	cfg       Config
	client    *client
	inventory *inventory
	clock     clock.PassiveClock
	market    market
	absences  absences
	// capabilities are those of the cloud with the settings for pods.
	capabilities burstable.Capabilities
}

var _ providers.Provider = (*Provider)(nil)

// New returns a Provider. It makes no call.
func New(cfg Config) (*Provider, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("settings of Alibaba Cloud ECI: %w", err)
	}
	if cfg.SettleTime == 0 {
		cfg.SettleTime = defaultSettleTime
	}
	account := cfg.Quota
	if account == nil {
		var err error
		if account, err = quota.New(cfg.Plan(), quota.Settings{}, clock.RealClock{}, nil); err != nil {
			return nil, fmt.Errorf("quota of Alibaba Cloud ECI: %w", err)
		}
	}
	return &Provider{
		cfg: cfg, client: newClient(&cfg, account), inventory: newInventory(), clock: clock.RealClock{},
		capabilities: cfg.capabilities(),
	}, nil
}

// Quota is the account's request quota, which every call is counted against.
func (p *Provider) Quota() *quota.Account { return p.client.quota }

// Ahead implements [providers.Clock].
func (p *Provider) Ahead() (time.Duration, bool) { return p.client.dates.Ahead() }

// Close gives up idle connections.
func (p *Provider) Close() { p.client.transport.CloseIdleConnections() }

// Name is "eci".
func (p *Provider) Name() string { return Name }

// Capabilities says what ECI can run, and what the settings add for every pod.
func (p *Provider) Capabilities() burstable.Capabilities { return p.capabilities }

// Location is the region and, where one is set, the zone.
func (p *Provider) Location() providers.Location {
	return providers.Location{Region: p.cfg.Region, Zone: p.cfg.Zone}
}

// Check asks for one group of this node.
func (p *Provider) Check(ctx context.Context) error {
	m := p.owned()
	m.integer("Limit", 1)
	var answer describeAnswer
	return p.client.call(quota.With(ctx, quota.Listing), actionDescribe, reads, m, &answer)
}

// Delete ends and removes a group, whoever's it is: the ID must come from
// Create or List. What the service answers for a group that
// does not exist, or is being deleted, is not published; so a refusal is judged
// by looking.
func (p *Provider) Delete(ctx context.Context, id string) error {
	m := newMembers()
	m.set("ContainerGroupId", id)
	var answer struct{}
	err := p.client.call(ctx, actionDelete, writes, m, &answer)
	switch providers.ClassOf(err) {
	case "", providers.Throttled, providers.Unauthorized, providers.Unavailable:
		return err
	}
	switch g, look := p.find(quota.With(ctx, quota.Confirming), id, false); {
	case providers.ClassOf(look) == providers.NotFound:
		return nil
	case look == nil && g.Status == statusTerminating:
		return nil
	}
	return err
}

// Get returns one group with its events. A group of another owner is not
// found.
func (p *Provider) Get(ctx context.Context, id string) (*providers.Group, error) {
	a, err := p.find(ctx, id, true)
	if err != nil {
		return nil, err
	}
	return a.known()
}

// The bounds of DescribeContainerLog.
const (
	maxLogLines = 2000
	maxLogBytes = 1 << 20
)

// Logs returns at most the newest 2000 lines and 1 MiB, which is what ECI
// gives. Since has whole seconds.
func (p *Provider) Logs(ctx context.Context, id, container string, opts providers.LogOptions) (io.ReadCloser, error) {
	m := newMembers()
	m.set("ContainerGroupId", id)
	m.set("ContainerName", container)
	tail := maxLogLines
	if opts.Tail > 0 {
		tail = min(opts.Tail, maxLogLines)
	}
	m.integer("Tail", int64(tail))
	if opts.LimitBytes > 0 {
		m.integer("LimitBytes", int64(min(opts.LimitBytes, maxLogBytes)))
	}
	if opts.Timestamps {
		m.boolean("Timestamps", true)
	}
	if opts.Previous {
		m.boolean("LastTime", true)
	}
	if !opts.Since.IsZero() {
		m.set("StartTime", opts.Since.UTC().Truncate(time.Second).Format("2006-01-02T15:04:05Z"))
	}
	var answer struct{ Content string }
	err := p.client.call(ctx, actionLog, reads, m, &answer)
	switch providers.ClassOf(err) {
	case "":
		return io.NopCloser(strings.NewReader(answer.Content)), nil
	case providers.Throttled, providers.Unauthorized, providers.Unavailable:
		return nil, err
	}
	if _, look := p.find(ctx, id, false); providers.ClassOf(look) == providers.NotFound {
		return nil, look
	}
	return nil, err
}

type describeAnswer struct {
	ContainerGroups *[]groupAnswer
	NextToken       string
}

// owned are the members that select this cluster's groups of this node.
func (p *Provider) owned() members {
	m := newMembers()
	for i, t := range []tag{{tagCluster, p.cfg.ClusterUID}, {tagNode, p.cfg.NodeName}} {
		at := element("Tag", i)
		m.set(at+".Key", t.Key)
		m.set(at+".Value", t.Value)
	}
	return m
}

// owns looks again at what the filter has let through.
func (p *Provider) owns(g *groupAnswer) bool {
	o := ownerOf(g.Tags)
	return o.ClusterUID == p.cfg.ClusterUID && o.NodeName == p.cfg.NodeName
}

// describe reads all pages of DescribeContainerGroups, or fails.
func (p *Provider) describe(ctx context.Context, m members) ([]groupAnswer, error) {
	m.integer("Limit", pageSize)
	return allPages(actionDescribe, m, func() ([]groupAnswer, string, error) {
		var page describeAnswer
		if err := p.client.call(ctx, actionDescribe, reads, m, &page); err != nil {
			return nil, "", err
		}
		if page.ContainerGroups == nil {
			return nil, "", incomplete(actionDescribe, "an answer has no list of groups")
		}
		return *page.ContainerGroups, page.NextToken, nil
	}, func(g groupAnswer) string { return g.ContainerGroupID })
}

// allPages reads one page after the other, with the token of the next in the
// members, or fails: a part is no list.
func allPages[T any](action string, m members, read func() (page []T, next string, err error), id func(T) string) ([]T, error) {
	var all []T
	index := map[string]int{} // a group that moves between pages is seen twice
	tokens := map[string]bool{}
	for {
		page, next, err := read()
		if err != nil {
			return nil, err
		}
		for _, g := range page {
			if id(g) == "" {
				return nil, incomplete(action, "an answer has a group without an ID")
			}
			if i, seen := index[id(g)]; seen {
				all[i] = g
				continue
			}
			index[id(g)] = len(all)
			all = append(all, g)
		}
		if next == "" {
			return all, nil
		}
		if tokens[next] {
			return nil, incomplete(action, "the pages of the list go round in a circle")
		}
		tokens[next] = true
		m.set("NextToken", next)
	}
}

func incomplete(action, why string) error {
	return &providers.Error{Class: providers.Unavailable, Operation: action, Code: "IncompleteList", Message: why}
}

// find returns one group of this node.
func (p *Provider) find(ctx context.Context, id string, events bool) (*groupAnswer, error) {
	ids, err := json.Marshal([]string{id})
	if err != nil {
		return nil, &providers.Error{Class: providers.NotFound, Operation: actionDescribe, Message: "the ID of the group is no text"}
	}
	m := newMembers()
	m.set("ContainerGroupIds", string(ids))
	if events {
		m.boolean("WithEvent", true)
	}
	groups, err := p.describe(ctx, m)
	if err != nil {
		return nil, err
	}
	for i := range groups {
		if groups[i].ContainerGroupID == id && p.owns(&groups[i]) {
			return &groups[i], nil
		}
	}
	return nil, &providers.Error{
		Class: providers.NotFound, Operation: actionDescribe, Code: "NotFound",
		Message: "there is no group " + strconv.Quote(id) + " of this node",
	}
}
