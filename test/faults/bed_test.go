package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

// bed is what one scenario has for itself: a cloud, a virtual node, a namespace
// and a tap between its agents and the API server. When the scenario is over, it
// removes the pods as a user would and checks what holds everywhere.
type bed struct {
	*testing.T
	cloud
	node, ns string
	tap      *cluster.Tap
	clock    *fastClock // nil where the cloud has the real time

	client  kubernetes.Interface // an administrator's
	history *history
	// ends are the phases that the scenario means pods to end in, by name.
	ends map[string]corev1.PodPhase
	// coldRoles is whether the API server starts meanwhile: for a moment it knows
	// no Roles yet and forbids everything.
	coldRoles bool

	mu     sync.Mutex
	agents []*playground.Agent // the agents as processes, newest last
	inside []*insideAgent
}

// onBothClouds runs a scenario on each cloud, at the same time as others.
func onBothClouds(t *testing.T, o cloudOptions, scenario func(b *bed)) {
	t.Helper()
	t.Parallel()
	for _, name := range []string{"eci", "aci"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scenario(newBed(t, name, o))
		})
	}
}

// newBed makes a bed without an agent.
func newBed(t *testing.T, cloud string, o cloudOptions) *bed {
	t.Helper()
	i := int(nodes[cloud].Add(1)) - 1
	if i >= nodesPerCloud {
		t.Fatalf("all %d virtual nodes of %s are taken: raise nodesPerCloud", nodesPerCloud, cloud)
	}
	b := &bed{
		T: t, node: nodeName(cloud, i), ns: nodeName(cloud, i),
		client: admin, ends: map[string]corev1.PodPhase{},
	}
	if err := system.CreateNamespace(t.Context(), b.ns, nil); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.tap, err = system.NewTap(); err != nil {
		t.Fatal(err)
	}
	if o.speed > 0 {
		b.clock = newFastClock(t, o.speed)
		o.clock = b.clock
	}
	b.cloud = newCloud(t, cloud, o)
	b.history = newHistory(b.ns)
	t.Cleanup(b.finish)
	return b
}

// finish empties the bed and checks what holds everywhere.
func (b *bed) finish() {
	b.Helper()
	ctx := context.Background()
	if b.Failed() {
		b.report()
	}
	b.tap.Restore()
	b.ClearFaults()
	b.short(false)
	b.rate(1<<20, 1<<20)
	if err := b.tap.Up(); err != nil {
		b.Error(err)
	}
	if !b.running() {
		b.startWith(ctx)
	}
	if _, err := system.Kubectl(ctx, "", "--namespace="+b.ns, "delete", "statefulsets,replicasets,jobs,pods", "--all", "--wait=false"); err != nil {
		b.Error(err)
	}
	b.eventually(time.Minute, "all pods and their groups are gone", func() error {
		pods, err := b.client.CoreV1().Pods(b.ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		if groups := b.Fleet().Groups(); len(pods.Items)+len(groups) > 0 {
			return fmt.Errorf("%d pods and %d groups are left", len(pods.Items), len(groups))
		}
		return nil
	})
	b.stopAll()
	b.history.stop()
	b.checkBill()
	b.checkPhases()
	b.checkLogs()
	if err := errors.Join(b.Close(), b.tap.Close()); err != nil {
		b.Error(err)
	}
	for _, err := range []error{
		b.client.CoreV1().Nodes().Delete(ctx, b.node, metav1.DeleteOptions{}),
		b.client.CoreV1().Namespaces().Delete(ctx, b.ns, metav1.DeleteOptions{}),
	} {
		if err != nil && !apierrors.IsNotFound(err) {
			b.Error(err)
		}
	}
}

// report is what helps to understand a failure.
func (b *bed) report() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.agents {
		b.Logf("--- %s\n%s", a.Process.Name, a.Process.Tail(60))
	}
	for _, a := range b.inside {
		b.Logf("--- agent in this process\n%s", a.log.tail(60))
	}
	for _, c := range b.Record().Calls {
		b.Logf("call %s %s %s: %s", c.Time.Format("15:04:05.000"), c.Action, c.Target, c.Code)
	}
	for _, p := range b.history.all() {
		b.Logf("pod %s: %s", p.Name, summary(p))
	}
}

func summary(p *corev1.Pod) string {
	s := fmt.Sprintf("%s %s %s %q", p.UID, p.ResourceVersion, p.Status.Phase, p.Status.Reason)
	if p.DeletionTimestamp != nil {
		s += " deleting"
	}
	for _, c := range p.Status.ContainerStatuses {
		switch {
		case c.State.Running != nil:
			s += " running"
		case c.State.Terminated != nil:
			s += fmt.Sprintf(" ended:%d", c.State.Terminated.ExitCode)
		case c.State.Waiting != nil:
			s += " waiting:" + c.State.Waiting.Reason
		}
	}
	return s
}

// checkBill fails when a pod had two billed groups at once, ever.
func (b *bed) checkBill() {
	b.Helper()
	byUID := map[string][]sim.BillingEntry{}
	for _, e := range b.Record().Entries {
		uid := podUID(e.Tags)
		byUID[uid] = append(byUID[uid], e)
	}
	for uid, entries := range byUID {
		slices.SortFunc(entries, func(a, b sim.BillingEntry) int { return a.From.Compare(b.From) })
		for i, e := range entries[1:] {
			if before := entries[i]; before.To == nil || before.To.After(e.From) {
				b.Errorf("pod %s was billed for the groups %s and %s at once", uid, before.GroupID, e.GroupID)
			}
		}
		if last := entries[len(entries)-1]; last.To == nil {
			b.Errorf("pod %s is still billed for the group %s", uid, last.GroupID)
		}
	}
}

// podUID is the pod of a group, by its tags.
func podUID(tags map[string]string) string {
	for key, value := range tags {
		if strings.HasSuffix(key, "pod-uid") {
			return value
		}
	}
	return ""
}

// checkPhases fails when a pod ended that the scenario does not end. The status
// of a pod that is being deleted says how its containers were ended.
func (b *bed) checkPhases() {
	b.Helper()
	for _, p := range b.history.all() {
		ended := p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded
		if ended && p.DeletionTimestamp == nil && b.ends[p.Name] != p.Status.Phase {
			b.Errorf("pod %s is %s (%s: %s)", p.Name, p.Status.Phase, p.Status.Reason, p.Status.Message)
		}
	}
}

// checkLogs fails for what no log of the agent may contain.
func (b *bed) checkLogs() {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	check := func(name, text string) {
		for _, bad := range []string{"DATA RACE", "\npanic: ", "is forbidden: User", playground.ECISecretKey, playground.ACIClientPassword} {
			if strings.HasPrefix(bad, "is forbidden") && b.coldRoles {
				continue
			}
			if i := strings.Index(text, bad); i >= 0 {
				b.Errorf("the log of %s contains %q: …%s", name, bad, text[max(0, i-200):min(len(text), i+400)])
			}
		}
	}
	for _, a := range b.agents {
		text, err := os.ReadFile(a.Process.Log)
		if err != nil {
			b.Error(err)
		}
		check(a.Process.Name, string(text))
	}
	for _, a := range b.inside {
		check("the agent in this process", a.log.text())
	}
}

// eventually fails the test, and lets it go on, when the condition does not
// hold within the time.
func (b *bed) eventually(timeout time.Duration, what string, condition func() error) {
	b.Helper()
	if err := playground.Poll(context.Background(), timeout, what, func(context.Context) (bool, error) {
		err := condition()
		return err == nil, err
	}); err != nil {
		b.Error(err)
	}
}

// must ends the test when the condition does not hold within the time.
func (b *bed) must(timeout time.Duration, what string, condition func() error) {
	b.Helper()
	if err := playground.Poll(context.Background(), timeout, what, func(context.Context) (bool, error) {
		err := condition()
		return err == nil, err
	}); err != nil {
		b.Fatal(err)
	}
}

// holds fails the test when the condition ceases to hold within the time.
func (b *bed) holds(d time.Duration, what string, condition func() error) {
	b.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	over := time.NewTimer(d)
	defer over.Stop()
	for {
		if err := condition(); err != nil {
			b.Fatalf("%s: %v", what, err)
		}
		select {
		case <-tick.C:
		case <-over.C:
			return
		}
	}
}

// sweeps waits until the agent has asked for the list of groups so many times
// more. On ECI most questions are for the changes only.
func (b *bed) sweeps(n int) {
	b.Helper()
	if b.name() == "eci" {
		n *= 4
	}
	var mu sync.Mutex
	seen := 0
	remove := b.Hook(sim.Hook{Before: func(p sim.Passage) {
		if p.Action == b.action(list) && p.Target == "" {
			mu.Lock()
			defer mu.Unlock()
			seen++
		}
	}})
	defer remove()
	b.must(time.Minute, fmt.Sprintf("the agent sweeps %d times", n), func() error {
		mu.Lock()
		defer mu.Unlock()
		if seen < n {
			return fmt.Errorf("it has %d times", seen)
		}
		return nil
	})
}

// statusWrites are the requests by which an agent changes a pod's status.
func statusWrites(r cluster.Request) bool { return r.Is("patch", "pods/status") }

// podWatches are an agent's watches of its pods.
func podWatches(r cluster.Request) bool { return r.Is("watch", "pods") }

// file writes a file of the test's own and returns its path. It outlives the
// scenario: the agent reads it until the bed is empty.
func (b *bed) file(name, content string) string {
	b.Helper()
	path := filepath.Join(system.Dir, b.node+"-"+name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}
