package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

const (
	decisionGate = "autoburst.io/decision"
	scaleUpDelay = "cluster-autoscaler.kubernetes.io/pod-scale-up-delay"
	burstFirst   = "{overflow: {nodeAutoscaler: BurstFirst}}"
)

// sightings are what an autoscaler could have seen of the pods of a namespace.
type sightings struct {
	stop context.CancelFunc
	done chan struct{}

	mu sync.Mutex
	// gated are pods that were created with our gate, unschedulable those that the
	// scheduler ever called so, at the gate those whose gate is not open yet.
	gated, unschedulable, atGate map[string]bool
	broken                       error
}

func watchSightings(t *testing.T, namespace string) *sightings {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &sightings{stop: cancel, done: make(chan struct{}), gated: map[string]bool{}, unschedulable: map[string]bool{}, atGate: map[string]bool{}}
	_, events, err := playground.WatchPods(ctx, client(), namespace)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	go func() {
		defer close(s.done)
		for e := range events {
			s.see(e)
		}
	}()
	t.Cleanup(func() { cancel(); <-s.done })
	return s
}

func (s *sightings) see(e playground.PodEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Err != nil {
		s.broken = e.Err
		return
	}
	delete(s.atGate, e.Pod.Name)
	if hasGate(e.Pod, decisionGate) {
		s.gated[e.Pod.Name], s.atGate[e.Pod.Name] = true, true
	}
	if isUnschedulable(e.Pod) {
		s.unschedulable[e.Pod.Name] = true
	}
}

// counts are how many pods were gated, are so still, and were ever unschedulable.
func (s *sightings) counts(t *testing.T) (gated, atGate, unschedulable int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		t.Fatal(s.broken)
	}
	return len(s.gated), len(s.atGate), len(s.unschedulable)
}

func hasGate(p *corev1.Pod, name string) bool {
	for _, g := range p.Spec.SchedulingGates {
		if g.Name == name {
			return true
		}
	}
	return false
}

func bound(t *testing.T, namespace string, n int) func(context.Context) (bool, error) {
	t.Helper()
	return func(context.Context) (bool, error) {
		on := 0
		for _, p := range pods(t, namespace) {
			if p.Spec.NodeName != "" {
				on++
			}
		}
		if on != n {
			return false, fmt.Errorf("%d pods have a node", on)
		}
		return true, nil
	}
}

// In a full cluster pods of BurstFirst that are not granted at admission burst
// before any autoscaler can see them: they are never unschedulable.
func TestBurstFirst(t *testing.T) {
	fill(t)
	ns := namespace(t, "burst-first", nil)
	policy(t, ns, "first", burstFirst)
	seen := watchSightings(t, ns)
	kubectl(t, deployment("strays", 10, podSpec{extra: preferApart}), "--namespace="+ns, "apply", "-f", "-")
	mustEventually(t, time.Minute, "ten pods have a node", bound(t, ns, 10))
	for _, p := range pods(t, ns) {
		if p.Spec.NodeName != eciNode && p.Spec.NodeName != aciNode {
			t.Errorf("pod %s is on %s", p.Name, p.Spec.NodeName)
		}
		if got := p.Annotations[scaleUpDelay]; got != "300s" {
			t.Errorf("pod %s has the scale-up delay %q, want 300s", p.Name, got)
		}
		if got := p.Annotations[grantAnnotation]; got != "Late" {
			t.Errorf("pod %s was granted %q, want Late", p.Name, got)
		}
	}
	if gated, atGate, unschedulable := seen.counts(t); gated != 10 || atGate != 0 || unschedulable != 0 {
		t.Errorf("%d pods were gated, %d are still, %d were unschedulable; want 10, 0 and 0", gated, atGate, unschedulable)
	}

	// Granted at admission: nothing to hold back.
	kubectl(t, barePod("plain", podSpec{}), "--namespace="+ns, "apply", "-f", "-")
	if p := pod(t, ns, "plain"); len(p.Spec.SchedulingGates) > 0 || p.Annotations[scaleUpDelay] != "" || p.Annotations[grantAnnotation] != "Admission" {
		t.Errorf("a pod that is granted at admission has gates %v and annotations %v", p.Spec.SchedulingGates, p.Annotations)
	}
}

// While there is local room, gated pods take it first, and those that find it
// promised to others wait for the outcome: no strays, and little to see for an
// autoscaler.
func TestBurstFirstIsLocalFirst(t *testing.T) {
	const extra = 12
	ns := namespace(t, "burst-local", nil)
	policy(t, ns, "first", burstFirst)
	seen := watchSightings(t, ns)
	watch, err := playground.WatchPlacements(context.Background(), client())
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	kubectl(t, deployment("strays", slots+extra, podSpec{extra: preferApart}), "--namespace="+ns, "apply", "-f", "-")
	mustEventually(t, time.Minute, "all pods have a node", bound(t, ns, slots+extra))
	byNode := watch.ByNode(ns)
	if n := byNode[eciNode] + byNode[aciNode]; n != extra {
		t.Errorf("%d pods burst, want %d: %v", n, extra, byNode)
	}
	for _, s := range watch.Strays() {
		t.Error("stray:", s)
	}
	gated, atGate, unschedulable := seen.counts(t)
	if gated != slots+extra || atGate != 0 {
		t.Errorf("%d pods were gated and %d are still, want %d and 0", gated, atGate, slots+extra)
	}
	t.Logf("%d of %d pods were unschedulable for a while", unschedulable, slots+extra)
}

// leader is the elected replica, by the metric of every one.
func leader(t *testing.T) *playground.Controller {
	t.Helper()
	var found *playground.Controller
	mustEventually(t, time.Minute, "a replica is elected", func(ctx context.Context) (bool, error) {
		for _, c := range system.Controllers() {
			ok, err := metricIs(ctx, c, `leader_election_master_status{name="autoburst-controller"} 1`)
			if err != nil {
				return false, err
			}
			if ok {
				found = c
			}
		}
		return found != nil, nil
	})
	return found
}

func metricIs(ctx context.Context, c *playground.Controller, line string) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Metrics+"/metrics", nil)
	if err != nil {
		return false, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	var b strings.Builder
	if err := resp.Write(&b); err != nil {
		return false, err
	}
	return strings.Contains(b.String(), "\n"+line+"\n"), nil
}

// waitLive waits until every replica takes an elected controller to be at work,
// or none does.
func waitLive(t *testing.T, want string) {
	t.Helper()
	mustEventually(t, time.Minute, "autoburst_controller_live is "+want+" everywhere", func(ctx context.Context) (bool, error) {
		for _, c := range system.Controllers() {
			if ok, err := metricIs(ctx, c, "autoburst_controller_live "+want); !ok {
				return false, err
			}
		}
		return true, nil
	})
}

// twoControllers brings the number of replicas back to two after a test.
func twoControllers(t *testing.T) {
	t.Cleanup(func() {
		for len(system.Controllers()) < 2 {
			if _, err := system.StartController(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		if err := system.WaitWebhook(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
}

// Our gate strands no pod, however the controllers end.
func TestGatesNeverStrand(t *testing.T) {
	fill(t)
	ns := namespace(t, "stranded", nil)
	policy(t, ns, "first", burstFirst)
	twoControllers(t)
	names := map[string][]string{}
	create := func(prefix string, n int, spec podSpec) {
		t.Helper()
		var b strings.Builder
		for i := range n {
			name := fmt.Sprintf("%s-%d", prefix, i)
			names[prefix] = append(names[prefix], name)
			b.WriteString(barePod(name, spec))
		}
		kubectl(t, b.String(), "--namespace="+ns, "apply", "-f", "-")
	}
	atGate := func(prefix string) int {
		n := 0
		for _, name := range names[prefix] {
			if hasGate(pod(t, ns, name), decisionGate) {
				n++
			}
		}
		return n
	}
	kill := func(c *playground.Controller) { system.RemoveController(c, (*cluster.Process).Kill) }

	// The leader is killed. The other replica goes on setting gates while the Lease
	// looks fresh to it, and opens them once it is elected.
	waitLive(t, "1")
	kill(leader(t))
	killed := time.Now()
	create("orphan", 5, podSpec{extra: preferApart})
	if n := atGate("orphan"); n == 0 {
		t.Fatal("no pod was gated after the leader was killed, so this shows nothing")
	}
	mustEventually(t, 40*time.Second, "the next leader has opened all gates", func(context.Context) (bool, error) { return atGate("orphan") == 0, nil })
	t.Logf("%v after the leader was killed all gates were open", time.Since(killed).Round(100*time.Millisecond))
	for _, name := range names["orphan"] {
		waitPod(t, ns, name, "runs on a virtual node", func(p *corev1.Pod) bool { return onNode(eciNode)(p) || onNode(aciNode)(p) })
	}

	// Both are killed, one after the other: gates are left, new pods get none, and
	// whoever comes next opens them.
	if _, err := system.StartController(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := system.WaitWebhook(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitLive(t, "1")
	kill(leader(t))
	create("left", 5, podSpec{extra: preferApart})
	for _, c := range system.Controllers() {
		kill(c)
	}
	left := atGate("left")
	if left == 0 {
		t.Fatal("no gate was left, so this shows nothing")
	}
	create("later", 3, podSpec{extra: preferApart})
	if n := atGate("later"); n != 0 {
		t.Errorf("%d pods were gated without a controller", n)
	}
	started := time.Now()
	if _, err := system.StartController(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustEventually(t, 40*time.Second, "the next controller has opened all gates", func(context.Context) (bool, error) { return atGate("left") == 0, nil })
	t.Logf("%d gates were left; %v after a controller was started all were open", left, time.Since(started).Round(100*time.Millisecond))
	for _, prefix := range []string{"left", "later"} {
		for _, name := range names[prefix] {
			waitPod(t, ns, name, "runs on a virtual node", func(p *corev1.Pod) bool { return onNode(eciNode)(p) || onNode(aciNode)(p) })
		}
	}

	// All are stopped in good order: they take our gates with them, and leave those
	// of others.
	if err := system.WaitWebhook(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitLive(t, "1")
	create("both", 3, podSpec{extra: preferApart + "schedulingGates: [{name: example.com/wait}]"})
	if n := atGate("both"); n != 3 {
		t.Fatalf("%d pods stand at our gate beside another, want 3", n)
	}
	for _, c := range system.Controllers() {
		system.RemoveController(c, endProcess(t))
	}
	if n := atGate("both"); n != 0 {
		t.Errorf("%d gates are left after all controllers stopped", n)
	}
	for _, name := range names["both"] {
		if p := pod(t, ns, name); !hasGate(p, "example.com/wait") {
			t.Errorf("pod %s lost the gate of its owner", name)
		}
	}

	// Gates that a crash left can be opened by hand.
	create("byhand", 2, podSpec{extra: "schedulingGates: [{name: " + decisionGate + "}, {name: example.com/wait}]"})
	if n := atGate("byhand"); n != 2 {
		t.Fatalf("%d pods stand at the gate, want 2", n)
	}
	openByHand(t)
	for _, name := range names["byhand"] {
		if p := pod(t, ns, name); hasGate(p, decisionGate) || !hasGate(p, "example.com/wait") {
			t.Errorf("pod %s has the gates %v after they were opened by hand", name, p.Spec.SchedulingGates)
		}
	}
}

// openByHand runs the lines of docs/autoscalers.md that open all gates.
func openByHand(t *testing.T) {
	t.Helper()
	root, err := cluster.RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(root, "docs", "autoscalers.md"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```sh\n(kubectl get pods[^`]*)```").FindStringSubmatch(string(b))
	if m == nil {
		t.Fatal("docs/autoscalers.md has no lines that begin with kubectl get pods")
	}
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "kubectl"), []byte("#!/bin/sh\nexec "+system.Binary+" kubectl \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", m[1])
	cmd.Env = append(os.Environ(), "KUBECONFIG="+system.Kubeconfig, "PATH="+bin+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// says writes an event on a pod as an autoscaler does.
func says(t *testing.T, component, reason, message string, p *corev1.Pod) {
	t.Helper()
	now := metav1.Now()
	_, err := client().CoreV1().Events(p.Namespace).Create(t.Context(), &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: p.Name + ".", Namespace: p.Namespace},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID, APIVersion: "v1"},
		Reason:         reason, Message: message, Type: corev1.EventTypeNormal, Count: 1,
		Source: corev1.EventSource{Component: component}, FirstTimestamp: now, LastTimestamp: now,
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// Pods of NodeFirst burst when no autoscaler adds a node for them, and otherwise
// wait for it.
func TestNodeFirst(t *testing.T) {
	fill(t)
	ns := namespace(t, "node-first", nil)
	policy(t, ns, "nodes", "{overflow: {nodeAutoscaler: NodeFirst, afterPendingSeconds: 4}}")
	const scaleUp = "pod triggered scale-up: [{pool 1->2 (max: 5)}]"
	for _, name := range []string{"silent", "declined", "coming", "karpenter"} {
		kubectl(t, barePod(name, podSpec{}), "--namespace="+ns, "apply", "-f", "-")
		p := waitPod(t, ns, name, "is unschedulable", isUnschedulable)
		if p.Annotations[grantAnnotation] != "" || p.Annotations[scaleUpDelay] != "" {
			t.Errorf("pod %s has annotations %v, want neither a grant nor a delay", name, p.Annotations)
		}
		switch name {
		case "declined":
			says(t, "cluster-autoscaler", "NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached", p)
		case "coming":
			says(t, "cluster-autoscaler", "TriggeredScaleUp", scaleUp, p)
		case "karpenter":
			says(t, "karpenter", "Nominated", "Pod should schedule on: nodeclaim/default-x7k2p", p)
		}
	}
	granted := func(p *corev1.Pod) bool { return p.Annotations[grantAnnotation] == "Late" }
	for _, name := range []string{"silent", "declined"} {
		waitPod(t, ns, name, "is granted, as no node comes", granted)
	}
	for name, by := range map[string]string{"coming": "cluster-autoscaler", "karpenter": "karpenter"} {
		mustEventually(t, 30*time.Second, "the owner of pod "+name+" is told that a node is coming", func(ctx context.Context) (bool, error) {
			list, err := client().EventsV1().Events(ns).List(ctx, metav1.ListOptions{})
			if err != nil {
				return false, err
			}
			for _, e := range list.Items {
				if e.Regarding.Name == name && e.Reason == "WaitsToBurst" && e.Action == "NodeComing" && strings.Contains(e.Note, by+" said so") {
					return true, nil
				}
			}
			return false, nil
		})
		out, errOut, code := plugin(t, system.Kubeconfig, "", "explain", "pod/"+name, "--namespace="+ns)
		if code != 0 || errOut != "" {
			t.Errorf("explain ended with %d: %s", code, errOut)
		}
		if !strings.Contains(out, by+" said so") || !strings.Contains(out, "NodeComing") {
			t.Errorf("explain does not say that %s adds a node:\n%s", by, out)
		}
		if p := pod(t, ns, name); granted(p) {
			t.Errorf("pod %s was granted though a node is coming", name)
		}
	}

	// cluster-autoscaler gives up: its word counts no more.
	says(t, "cluster-autoscaler", "NotTriggerScaleUp", "pod didn't trigger scale-up: 1 in backoff after failed scale-up", pod(t, ns, "coming"))
	waitPod(t, ns, "coming", "is granted, as the autoscaler has taken its word back", granted)

	// Karpenter's node comes.
	if err := system.AddNode(t.Context(), "local-new", "1", "4Gi", 10); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		// Nobody would end a pod on a node that is gone.
		if _, err := system.Kubectl(ctx, "", "--namespace="+ns, "delete", "pod", "karpenter", "--grace-period=0", "--force"); err != nil {
			t.Error(err)
		}
		if _, err := system.Kubectl(ctx, "", "delete", "node", "local-new"); err != nil {
			t.Error(err)
		}
	})
	p := waitPod(t, ns, "karpenter", "has a node", func(p *corev1.Pod) bool { return p.Spec.NodeName != "" })
	if p.Spec.NodeName != "local-new" || granted(p) {
		t.Errorf("the pod is on %s, granted %q; want it on the new node", p.Spec.NodeName, p.Annotations[grantAnnotation])
	}
}

// Without a live controller nobody measures pressure: it counts as closed, however
// the policy's status was left.
func TestPressureIsUnknownWithoutController(t *testing.T) {
	fill(t)
	ns := namespace(t, "stale", nil)
	twoControllers(t)
	policy(t, ns, "pressure", "{overflow: {pressure: {unschedulablePods: 1, cooldownSeconds: 600}}}")
	kubectl(t, barePod("opens", podSpec{}), "--namespace="+ns, "apply", "-f", "-")
	kubectl(t, "", "--namespace="+ns, "wait", "burstpolicy/pressure", "--for=condition=UnderPressure=True", "--timeout=20s")
	reason := func(name string) string {
		t.Helper()
		kubectl(t, barePod(name, podSpec{}), "--namespace="+ns, "apply", "-f", "-")
		return pod(t, ns, name).Annotations["autoburst.io/reason"]
	}
	waitLive(t, "1")
	if got := reason("fresh"); got != "LocalFirst" {
		t.Errorf("with a live controller the reason is %q, want LocalFirst", got)
	}
	// A new replica that finds the Lease in other hands cannot know whether anybody is
	// at work.
	for _, c := range system.Controllers() {
		system.RemoveController(c, (*cluster.Process).Kill)
	}
	leases := client().CoordinationV1().Leases(playground.Namespace)
	lease, err := leases.Get(t.Context(), "autoburst-controller", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = new("gone"), new(int32(300))
	lease.Spec.RenewTime = new(metav1.NowMicro())
	if _, err := leases.Update(t.Context(), lease, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := leases.Delete(context.Background(), "autoburst-controller", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	if _, err := system.StartController(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := system.WaitWebhook(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitLive(t, "0")
	if got := reason("stale"); got != "PressureUnknown" {
		t.Errorf("without a controller the reason is %q, want PressureUnknown", got)
	}
	first := namespace(t, "stale-first", nil)
	kubectl(t, "{apiVersion: autoburst.io/v1alpha1, kind: BurstPolicy, metadata: {name: first}, spec: "+burstFirst+"}", "--namespace="+first, "apply", "-f", "-")
	kubectl(t, "", "label", "namespace", first, "autoburst.io/served=true", "--overwrite")
	mustEventually(t, 20*time.Second, "a pod is decided by the policy, without a gate", func(ctx context.Context) (bool, error) {
		if _, err := system.Kubectl(ctx, barePod("ungated", podSpec{extra: preferApart}), "--namespace="+first, "replace", "--force", "-f", "-"); err != nil {
			return false, err
		}
		p := pod(t, first, "ungated")
		if hasGate(p, decisionGate) {
			t.Error("a pod was gated though no controller is known to be at work")
		}
		return p.Annotations["autoburst.io/policy"] == "BurstPolicy/first" && p.Annotations[scaleUpDelay] == "300s", nil
	})
}
