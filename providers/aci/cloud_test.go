package aci_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/aci"
	"github.com/autoburst/autoburst/providers/providertest"
	emulator "github.com/autoburst/autoburst/test/cloud/aci"
	"github.com/autoburst/autoburst/test/cloud/sim"
)

const (
	testTenant       = "11111111-1111-1111-1111-111111111111"
	testClient       = "22222222-2222-2222-2222-222222222222"
	testSecret       = "the-client-secret"
	testSubscription = "33333333-3333-3333-3333-333333333333"
	testGroup        = "burst"
)

// quick makes a group run within some hundredths of a second.
var quick = sim.Timing{
	Schedule: 5 * time.Millisecond, Pull: 10 * time.Millisecond, Start: 5 * time.Millisecond,
	CrashBackOff: sim.BackOff{Initial: 20 * time.Millisecond}, PullBackOff: sim.BackOff{Initial: 20 * time.Millisecond},
}

// newCloud starts an emulated cloud whose one service principal has testSecret.
func newCloud(t testing.TB, edits ...func(*emulator.Options)) *emulator.Server {
	t.Helper()
	options := emulator.Options{
		Sim:           sim.Config{Timing: quick},
		Applications:  []emulator.Application{{TenantID: testTenant, ClientID: testClient, Secrets: []emulator.Secret{{Value: testSecret}}}},
		Subscriptions: []emulator.Subscription{{ID: testSubscription, ResourceGroups: []string{testGroup}}},
		Settings:      emulator.Settings{TransitTime: -1, RefuseUnknownMembers: true},
	}
	for _, edit := range edits {
		edit(&options)
	}
	server := emulator.NewServer(options)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("close the cloud: %v", err)
		}
	})
	return server
}

func newProvider(t testing.TB, server *emulator.Server, edits ...func(*aci.Config)) *aci.Provider {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(server.RootsPEM())
	config := aci.Config{
		SubscriptionID: testSubscription, ResourceGroup: testGroup, Region: "westeurope",
		TenantID: testTenant, ClientID: testClient, ClientSecret: testSecret,
		ClusterUID: "cluster-a", NodeName: "burst-aci", RootCAs: roots,
		Cloud: cloud.Configuration{
			ActiveDirectoryAuthorityHost: server.URL(),
			Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
				cloud.ResourceManager: {Endpoint: server.URL(), Audience: "https://management.azure.com"},
			},
		},
		SettleTime: -1,
	}
	for _, edit := range edits {
		edit(&config)
	}
	if config.Quota == nil {
		config.Quota = providertest.Unbounded(t, config.Plan())
	}
	p, err := aci.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func owner(uid string) providers.Owner {
	return providers.Owner{ClusterUID: "cluster-a", NodeName: "burst-aci", Namespace: "shop", PodName: "web-" + uid, PodUID: uid}
}

func podSpec(uid string) *providers.GroupSpec {
	return &providers.GroupSpec{
		Owner:         owner(uid),
		RestartPolicy: corev1.RestartPolicyAlways,
		Containers:    []providers.Container{{Name: "app", Image: "nginx", Ports: []corev1.ContainerPort{{ContainerPort: 80}}}},
	}
}

// within gives a test's calls a bound.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually reads the group until the condition holds.
func eventually(t *testing.T, p *aci.Provider, id, what string, holds func(*providers.Group) bool) *providers.Group {
	t.Helper()
	ctx := within(t)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		g, err := p.Get(ctx, id)
		if err != nil {
			t.Fatalf("waiting until %s: %v", what, err)
		}
		if holds(g) {
			return g
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("not in time: %s; last status %+v", what, g.Status)
		}
	}
}

func inPhase(phase providers.GroupPhase) func(*providers.Group) bool {
	return func(g *providers.Group) bool { return g.Status.Phase == phase }
}

func create(t *testing.T, p *aci.Provider, spec *providers.GroupSpec) string {
	t.Helper()
	id, err := p.Create(within(t), spec)
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	return id
}

func wantClass(t *testing.T, what string, err error, want providers.ErrorClass) {
	t.Helper()
	if got := providers.ClassOf(err); got != want {
		t.Errorf("%s: class %q, want %q: %v", what, got, want, err)
	}
}

// starts counts how often the containers of the cloud were started.
func starts(t *testing.T, server *emulator.Server) int {
	t.Helper()
	n := 0
	for _, g := range server.Fleet().Groups() {
		for _, e := range g.Snapshot().Events {
			if e.Reason == "Started" {
				n += e.Count
			}
		}
	}
	return n
}

func TestLifeOfAGroup(t *testing.T) {
	server := newCloud(t)
	p := newProvider(t, server)
	ctx := within(t)
	if err := p.Check(ctx); err != nil {
		t.Fatalf("Check: %v", err)
	}
	id := create(t, p, podSpec("0b1f"))
	g := eventually(t, p, id, "it runs", inPhase(providers.GroupRunning))
	if g.Owner != owner("0b1f") {
		t.Errorf("owner %+v", g.Owner)
	}
	s := g.Status
	if s.PodIP == "" || s.CPUMillis != 1000 || s.MemoryBytes != 1_500_000_000 {
		t.Errorf("address %q, size %d m, %d bytes", s.PodIP, s.CPUMillis, s.MemoryBytes)
	}
	if len(s.Containers) != 1 || !s.Containers[0].Ready || s.Containers[0].State.Running == nil || s.Containers[0].State.Running.StartedAt.IsZero() {
		t.Errorf("containers %+v", s.Containers)
	}
	if len(s.Events) == 0 {
		t.Error("no events")
	}

	groups, err := p.List(ctx)
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	want := []providers.Group{{ID: id, Name: id, Owner: owner("0b1f"), Mark: "Succeeded " + s.PodIP}}
	if diff := cmp.Diff(want, groups); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}

	for range 2 { // the second time there is none
		if err := p.Delete(ctx, id); err != nil {
			t.Fatalf("Delete: %v", err)
		}
	}
	_, err = p.Get(ctx, id)
	wantClass(t, "Get after Delete", err, providers.NotFound)
	if open := server.Fleet().Record().Open(); len(open) != 0 {
		t.Errorf("still billed: %+v", open)
	}
}

func TestCreateIsIdempotent(t *testing.T) {
	const put = "ContainerGroups_CreateOrUpdate"
	tests := map[string]struct {
		fault *emulator.Fault
		want  providers.ErrorClass // of the first call
	}{
		"repeated":                              {},
		"answer lost after the effect":          {&emulator.Fault{Operation: put, AfterEffect: true, Cut: true}, providers.Unknown},
		"connection cut before the effect":      {&emulator.Fault{Operation: put, Cut: true}, providers.Unknown},
		"500 after the effect":                  {&emulator.Fault{Operation: put, AfterEffect: true, Status: 500}, providers.Unknown},
		"503 before the effect":                 {&emulator.Fault{Operation: put, Status: 503}, providers.Unknown},
		"429":                                   {&emulator.Fault{Operation: put, Status: 429, RetryAfter: time.Second}, providers.Throttled},
		"the read before it is refused":         {&emulator.Fault{Operation: "ContainerGroups_Get", Status: 500}, providers.Unknown},
		"the read before it is cut":             {&emulator.Fault{Operation: "ContainerGroups_Get", Cut: true}, providers.Unknown},
		"the token endpoint fails before it":    {&emulator.Fault{Operation: emulator.OperationToken, Status: 503}, providers.Unavailable},
		"the token endpoint is cut before it":   {&emulator.Fault{Operation: emulator.OperationToken, Cut: true}, providers.Unavailable},
		"the group is in transition":            {&emulator.Fault{Operation: put, Status: 409, Code: "ContainerGroupTransitioning"}, providers.Conflict},
		"no capacity":                           {&emulator.Fault{Operation: put, Status: 409, Code: "ServiceUnavailable"}, providers.OutOfStock},
		"a registry that does not answer":       {&emulator.Fault{Operation: put, Status: 409, Code: "RegistryErrorResponse"}, providers.Conflict},
		"a proxy that does not know the answer": {&emulator.Fault{Operation: put, AfterEffect: true, Status: 504}, providers.Unknown},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server := newCloud(t)
			p := newProvider(t, server)
			if test.fault != nil {
				server.Inject(*test.fault)
				_, err := p.Create(within(t), podSpec("0b1f"))
				wantClass(t, "first Create", err, test.want)
			}
			first := create(t, p, podSpec("0b1f"))
			eventually(t, p, first, "it runs", inPhase(providers.GroupRunning))
			if second := create(t, p, podSpec("0b1f")); second != first {
				t.Errorf("ids %s and %s", first, second)
			}
			if n := len(server.Fleet().Groups()); n != 1 {
				t.Errorf("%d groups", n)
			}
			if n := starts(t, server); n != 1 {
				t.Errorf("the container started %d times", n)
			}
		})
	}
}

func TestConcurrentCreatesMakeOneGroup(t *testing.T) {
	server := newCloud(t)
	p := newProvider(t, server)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := p.Create(within(t), podSpec("0b1f")); err != nil {
				t.Errorf("Create: %v", err)
			}
		})
	}
	wg.Wait()
	eventually(t, p, "autoburst-0b1f", "it runs", inPhase(providers.GroupRunning))
	if n := starts(t, server); n != 1 {
		t.Errorf("the container started %d times", n)
	}
}

func TestLostAnswerIsNotRepeatedAtOnce(t *testing.T) {
	server := newCloud(t)
	p := newProvider(t, server, func(c *aci.Config) { c.SettleTime = time.Hour })
	server.Inject(emulator.Fault{Operation: "ContainerGroups_CreateOrUpdate", Cut: true})
	for range 2 {
		_, err := p.Create(within(t), podSpec("0b1f"))
		wantClass(t, "Create", err, providers.Unknown)
	}
	if n := len(server.Fleet().Groups()); n != 0 {
		t.Errorf("%d groups", n)
	}
	// Another pod does not wait.
	create(t, p, podSpec("0b20"))
}

func TestForeignGroupsAreLeftAlone(t *testing.T) {
	server := newCloud(t)
	p := newProvider(t, server)
	others := map[string]*aci.Provider{
		"another cluster": newProvider(t, server, func(c *aci.Config) { c.ClusterUID = "cluster-b" }),
		"another node":    newProvider(t, server, func(c *aci.Config) { c.NodeName = "burst-aci-2" }),
	}
	id := create(t, p, podSpec("0b1f"))
	eventually(t, p, id, "it runs", inPhase(providers.GroupRunning))
	for name, other := range others {
		t.Run(name, func(t *testing.T) {
			ctx := within(t)
			groups, err := other.List(ctx)
			if err != nil || len(groups) != 0 {
				t.Errorf("List: %v %v", groups, err)
			}
			_, err = other.Get(ctx, id)
			wantClass(t, "Get", err, providers.NotFound)
			if err := other.Delete(ctx, id); err == nil {
				t.Error("Delete pretends to have deleted it")
			}
			if _, err := p.Get(ctx, id); err != nil {
				t.Errorf("the owner does not find it: %v", err)
			}
		})
	}
}

func TestListIsWholeOrFails(t *testing.T) {
	server := newCloud(t, func(o *emulator.Options) { o.Settings.PageSize = 2 })
	p := newProvider(t, server)
	ctx := within(t)
	for i := range 7 {
		create(t, p, podSpec(fmt.Sprintf("pod-%d", i)))
	}
	groups, err := p.List(ctx)
	if err != nil || len(groups) != 7 {
		t.Fatalf("%d groups, %v", len(groups), err)
	}
	server.Inject(emulator.Fault{Operation: "ContainerGroups_ListByResourceGroup"})              // the first page comes
	server.Inject(emulator.Fault{Operation: "ContainerGroups_ListByResourceGroup", Status: 500}) // the second does not
	groups, err = p.List(ctx)
	wantClass(t, "List", err, providers.Unavailable)
	if groups != nil {
		t.Errorf("part of a list: %v", groups)
	}
}

func TestLogs(t *testing.T) {
	server := newCloud(t, func(o *emulator.Options) {
		o.Sim.Plan = func(sim.Spec, sim.Container, int) (sim.Plan, bool) {
			return sim.Plan{Log: []string{"one", "two", "three"}}, true
		}
	})
	p := newProvider(t, server)
	id := create(t, p, podSpec("0b1f"))
	eventually(t, p, id, "it runs", inPhase(providers.GroupRunning))
	tests := map[string]struct {
		options providers.LogOptions
		want    string
	}{
		"all":          {providers.LogOptions{}, "one\ntwo\nthree\n"},
		"tail":         {providers.LogOptions{Tail: 2}, "two\nthree\n"},
		"limit":        {providers.LogOptions{LimitBytes: 5}, "one\nt"},
		"since before": {providers.LogOptions{Since: time.Now().Add(-time.Hour)}, "one\ntwo\nthree\n"},
		"since later":  {providers.LogOptions{Since: time.Now().Add(time.Hour)}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			reader, err := p.Logs(within(t), id, "app", test.options)
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			got, err := io.ReadAll(reader)
			if err != nil || string(got) != test.want {
				t.Errorf("%q, %v, want %q", got, err, test.want)
			}
		})
	}
	_, err := p.Logs(within(t), id, "app", providers.LogOptions{Previous: true})
	wantClass(t, "previous run", err, providers.Unsupported)
	for name, ask := range map[string]func() (io.ReadCloser, error){
		"missing container": func() (io.ReadCloser, error) { return p.Logs(within(t), id, "other", providers.LogOptions{}) },
		"missing group":     func() (io.ReadCloser, error) { return p.Logs(within(t), "autoburst-0", "app", providers.LogOptions{}) },
	} {
		_, err := ask()
		wantClass(t, name, err, providers.NotFound)
	}
}

func TestEnds(t *testing.T) {
	tests := map[string]struct {
		policy corev1.RestartPolicy
		code   int
		want   providers.GroupPhase
		reason string
	}{
		"Never, 0":     {corev1.RestartPolicyNever, 0, providers.GroupSucceeded, "Completed"},
		"Never, 3":     {corev1.RestartPolicyNever, 3, providers.GroupFailed, "Error"},
		"OnFailure, 0": {corev1.RestartPolicyOnFailure, 0, providers.GroupSucceeded, "Completed"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server := newCloud(t, func(o *emulator.Options) {
				o.Sim.Plan = func(sim.Spec, sim.Container, int) (sim.Plan, bool) {
					return sim.Plan{Exits: true, ExitCode: test.code}, true
				}
			})
			p := newProvider(t, server)
			spec := podSpec("0b1f")
			spec.RestartPolicy = test.policy
			g := eventually(t, p, create(t, p, spec), "it has ended", inPhase(test.want))
			end := g.Status.Containers[0].State.Terminated
			if end == nil || end.ExitCode != int32(test.code) || end.Reason != test.reason || end.FinishedAt.IsZero() {
				t.Errorf("state %+v", g.Status.Containers[0].State)
			}
		})
	}
}

func TestCrashLoopShowsRestartsAndLastExitCode(t *testing.T) {
	server := newCloud(t, func(o *emulator.Options) {
		o.Sim.Plan = func(sim.Spec, sim.Container, int) (sim.Plan, bool) {
			return sim.Plan{Exits: true, ExitCode: 3}, true
		}
	})
	p := newProvider(t, server)
	g := eventually(t, p, create(t, p, podSpec("0b1f")), "it waits after two restarts", func(g *providers.Group) bool {
		c := g.Status.Containers[0]
		return c.RestartCount >= 2 && c.State.Waiting != nil && c.LastTerminationState.Terminated != nil
	})
	c := g.Status.Containers[0]
	if g.Status.Phase != providers.GroupRunning || c.State.Waiting.Reason != "CrashLoopBackOff" || c.LastTerminationState.Terminated.ExitCode != 3 {
		t.Errorf("phase %s, container %+v", g.Status.Phase, c)
	}
}

func TestImagePullFailureShows(t *testing.T) {
	server := newCloud(t, func(o *emulator.Options) {
		o.Sim.Images = func(string) sim.ImageVerdict { return sim.ImageNotFound }
	})
	p := newProvider(t, server)
	g := eventually(t, p, create(t, p, podSpec("0b1f")), "the reason shows", func(g *providers.Group) bool { return g.Status.Reason != "" })
	if g.Status.Phase != providers.GroupPending || g.Status.Reason != "ErrImagePull" && g.Status.Reason != "ImagePullBackOff" {
		t.Errorf("phase %s, reason %s", g.Status.Phase, g.Status.Reason)
	}
	if w := g.Status.Containers[0].State.Waiting; w == nil || w.Reason != g.Status.Reason || w.Message == "" {
		t.Errorf("container %+v", g.Status.Containers[0].State)
	}
}

func TestEverythingAtOnceIsAccepted(t *testing.T) {
	server := newCloud(t)
	p := newProvider(t, server, func(c *aci.Config) {
		c.SubnetID = "/subscriptions/" + testSubscription + "/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/v/subnets/s"
	})
	spec := podSpec("0b1f")
	yes, no, user := true, false, int64(1000)
	spec.InitContainers = []providers.Container{{Name: "init", Image: "busybox", Command: []string{"true"}}}
	spec.Containers[0].Env = []providers.EnvVar{{Name: "A", Value: "1"}, {Name: "B"}, {Name: "C", Value: "secret value", Secret: true}}
	spec.Volumes = []providers.Volume{
		{Name: "tmp", EmptyDir: &corev1.EmptyDirVolumeSource{}},
		{Name: "a--b", Files: &providers.Files{Secret: true, Items: []providers.File{{Path: "key", Data: []byte("value")}}}},
		{Name: "none", Files: &providers.Files{}},
	}
	spec.Containers[0].Mounts = []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}, {Name: "a--b", MountPath: "/b", ReadOnly: true}}
	spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}, PeriodSeconds: 10}
	spec.Containers[0].SecurityContext = &corev1.SecurityContext{
		RunAsUser: &user, RunAsNonRoot: &yes, AllowPrivilegeEscalation: &no,
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_BIND_SERVICE"}},
	}
	spec.DNS = &providers.DNS{Nameservers: []string{"10.0.0.10"}, Searches: []string{"svc.cluster.local"}}
	spec.RegistryCredentials = []providers.RegistryCredential{{Server: "https://index.docker.io/v1/", Username: "u", Password: "p"}}
	g := eventually(t, p, create(t, p, spec), "it runs", inPhase(providers.GroupRunning))
	if g.Status.PodIP == "" || len(g.Status.InitContainers) != 1 || !g.Status.InitContainers[0].Ready {
		t.Errorf("status %+v", g.Status)
	}
}
