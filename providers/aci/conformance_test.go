package aci_test

import (
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/aci"
	"github.com/autoburst/autoburst/providers/providertest"
	emulator "github.com/autoburst/autoburst/test/cloud/aci"
)

func TestConformance(t *testing.T) {
	providertest.Run(t, func(t *testing.T) *providertest.Harness {
		server := newCloud(t, func(o *emulator.Options) {
			o.Sim.HostCommands, o.Sim.TempDir = true, t.TempDir()
			o.Settings.PageSize = 20
		})
		set := func(secret string) {
			server.PutApplication(emulator.Application{TenantID: testTenant, ClientID: testClient, Secrets: []emulator.Secret{{Value: secret}}})
			server.RevokeTokens()
		}
		p := newProvider(t, server)
		return &providertest.Harness{
			Provider:   p,
			ClusterUID: "cluster-a", NodeName: "burst-aci",
			Sibling: func(t testing.TB, clusterUID, nodeName string) providers.Provider {
				return newProvider(t, server, func(c *aci.Config) { c.ClusterUID, c.NodeName = clusterUID, nodeName })
			},
			Inject: func(f providertest.Fault) { inject(server, f) },
			Heal: func() {
				server.ClearFaults()
				providertest.Reopen(p.Quota())
			},
			Revoke:          func() { set("rotated-away") },
			Restore:         func() { set(testSecret) },
			Made:            func(podUID string) []string { return made(server, podUID) },
			MissingID:       "autoburst-00000000-0000-4000-8000-000000000000",
			Secrets:         []string{testSecret, "eyJ", "://"},
			NoPreviousLogs:  true,
			DeleteConflicts: true,
			NoPodIP:         true, // a group without ports has no address
		}
	})
}

// made lists the groups that the cloud's own records know of a pod. A group that
// was put twice counts twice: the second time restarts its containers.
func made(server *emulator.Server, podUID string) []string {
	var ids []string
	add := func(target string) {
		if id := path.Base(target); strings.HasSuffix(id, podUID) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	for _, g := range server.Fleet().Groups() {
		add(g.ID())
	}
	record := server.Fleet().Record()
	for _, e := range record.Entries {
		add(e.GroupID)
	}
	puts := 0
	for _, call := range record.Calls {
		if call.Action == operations[providertest.Create] && call.Code == "OK" && strings.HasSuffix(call.Target, podUID) {
			if puts++; puts > 1 {
				ids = append(ids, path.Base(call.Target))
			}
		}
	}
	return ids
}

var operations = map[providertest.Operation]string{
	providertest.Any:    "",
	providertest.Create: "ContainerGroups_CreateOrUpdate",
	providertest.Delete: "ContainerGroups_Delete",
	providertest.List:   "ContainerGroups_ListByResourceGroup",
	providertest.Get:    "ContainerGroups_Get",
	providertest.Logs:   "Containers_ListLogs",
}

// inject translates a fault into the cloud's words.
func inject(server *emulator.Server, f providertest.Fault) {
	fault := emulator.Fault{Operation: operations[f.Operation], Calls: f.Calls}
	if f.Skip > 0 { // a fault of no effect lets as many calls pass
		pass := fault
		pass.Calls = f.Skip
		server.Inject(pass)
	}
	if f.Calls == 0 {
		fault.Calls = -1
	}
	switch f.Kind {
	case providertest.Throttle:
		fault.Status, fault.Code, fault.RetryAfter = http.StatusTooManyRequests, "TooManyRequests", time.Second
	case providertest.Unavailable:
		fault.Status, fault.Code = http.StatusServiceUnavailable, "ServiceUnavailable"
	case providertest.Cut:
		fault.Cut = true
	case providertest.LoseAnswer:
		fault.Cut, fault.AfterEffect = true, true
	case providertest.Garbage:
		fault.Status, fault.RawBody = http.StatusBadGateway, "<html>https://proxy.example/?token=eyJhbGciOiJub25lIn0</html>"
	case providertest.Hang:
		fault.Delay = time.Minute
	}
	server.Inject(fault)
}
