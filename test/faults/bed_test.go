package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
	"github.com/autoburst/autoburst/vnode"
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

// start starts the agent as a process with the chart's settings, quick
// intervals and those extra arguments, and waits until its node is ready.
func (b *bed) start(args ...string) *playground.Agent {
	b.Helper()
	a := b.startWith(b.Context(), args...)
	b.waitReady()
	return a
}

// startWith starts the agent and does not wait for it.
func (b *bed) startWith(ctx context.Context, args ...string) *playground.Agent {
	b.Helper()
	return b.startEnv(ctx, nil, args...)
}

func (b *bed) startEnv(ctx context.Context, env []string, args ...string) *playground.Agent {
	b.Helper()
	kubeconfig, err := b.kubeconfig(ctx)
	if err != nil {
		b.Fatal(err)
	}
	a, err := system.RunAgent(ctx, b.node, append([]string{
		"--kubeconfig=" + kubeconfig, "--sweep-interval=1s", "--fast-interval=200ms", "--check-interval=1s", "--missing-interval=1s",
	}, args...), append(b.env(), env...))
	if err != nil {
		b.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.agents = append(b.agents, a)
	return a
}

// kubeconfig leads through the tap, as the chart's ServiceAccount.
func (b *bed) kubeconfig(ctx context.Context) (string, error) {
	direct, err := system.ServiceAccountKubeconfig(ctx, playground.Namespace, playground.Release+"-vnode")
	if err != nil {
		return "", err
	}
	return b.tap.Kubeconfig(direct)
}

// agent is the agent that was started last, as a process.
func (b *bed) agent() *playground.Agent {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.agents[len(b.agents)-1]
}

// running tells whether an agent runs.
func (b *bed) running() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.agents, func(a *playground.Agent) bool { return a.Process.Err() == nil }) ||
		slices.ContainsFunc(b.inside, func(a *insideAgent) bool { return !a.stopped })
}

// stop ends the newest agent as an operator would.
func (b *bed) stop() {
	b.Helper()
	if err := b.agent().Process.Stop(20 * time.Second); err != nil {
		b.Error(err)
	}
}

// stopAll ends every agent that runs.
func (b *bed) stopAll() {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.agents {
		if a.Process.Err() == nil {
			if err := a.Process.Stop(20 * time.Second); err != nil {
				b.Error(err)
			}
		}
	}
	for _, a := range b.inside {
		a.stop()
	}
}

// insideAgent is an agent in this process, for scenarios on a fast clock.
type insideAgent struct {
	log     *logBuffer
	metrics *prometheus.Registry
	cancel  context.CancelFunc
	done    chan error
	stopped bool
}

func (a *insideAgent) stop() {
	if !a.stopped {
		a.cancel()
		if err := <-a.done; err != nil {
			a.log.note(err)
		}
		a.stopped = true
	}
}

// runInside starts an agent in this process, with the intervals of a real one
// on the bed's clock. wrap may stand between it and the cloud.
func (b *bed) runInside(edit func(*vnode.Config), wrap func(providers.Provider) providers.Provider) *insideAgent {
	b.Helper()
	path, err := b.kubeconfig(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		b.Fatal(err)
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		b.Fatal(err)
	}
	provider, err := b.providerOf(clusterUID, b.node, b.clock)
	if err != nil {
		b.Fatal(err)
	}
	if wrap != nil {
		provider = wrap(provider)
	}
	c := vnode.Config{ClusterUID: clusterUID, Node: vnode.NodeSettings{
		Name: b.node, InternalIP: "127.0.0.1", KubeletPort: 10250,
		Taint: corev1.Taint{Key: v1alpha1.ProviderTaintKey, Value: "faults", Effect: corev1.TaintEffectNoSchedule},
	}}
	if edit != nil {
		edit(&c)
	}
	a := &insideAgent{log: &logBuffer{}, metrics: prometheus.NewRegistry(), done: make(chan error, 1)}
	agent, err := vnode.New(c, client, provider, b.clock, slog.New(slog.NewTextHandler(a.log, nil)), vnode.NewMetrics(a.metrics))
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	go func() { a.done <- agent.Run(ctx) }()
	b.mu.Lock()
	b.inside = append(b.inside, a)
	b.mu.Unlock()
	b.waitReady()
	return a
}

// metric is the sum of a metric's series, of one operation if it is named.
func (a *insideAgent) metric(t *testing.T, name, operation string) float64 {
	t.Helper()
	families, err := a.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if operation == "" || slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == operation }) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// residentMemory is what the newest agent's process holds, in bytes.
func (b *bed) residentMemory() int {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.agent().Process.PID()))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kb int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	b.Fatal("/proc/PID/status has no VmRSS")
	return 0
}

// logBuffer keeps what an agent in this process logs.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// note adds an error that ended the agent.
func (l *logBuffer) note(err error) {
	fmt.Fprintf(l, "level=ERROR msg=\"the agent has ended\" error=%q\n", err)
}

func (l *logBuffer) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) tail(lines int) string {
	all := strings.Split(strings.TrimSpace(l.text()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// waitReady waits until the node is Ready and without taints of the control
// plane.
func (b *bed) waitReady() {
	b.Helper()
	b.must(time.Minute, "the node is ready", func() error {
		n, err := b.client.CoreV1().Nodes().Get(b.Context(), b.node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, taint := range n.Spec.Taints {
			if strings.HasPrefix(taint.Key, "node.kubernetes.io/") {
				return fmt.Errorf("it has the taint %s", taint.Key)
			}
		}
		if c := conditionOf(n, corev1.NodeReady); c.Status != corev1.ConditionTrue {
			return fmt.Errorf("Ready is %q: %s", c.Status, c.Message)
		}
		return nil
	})
}

func (b *bed) nodeObject() *corev1.Node {
	b.Helper()
	n, err := b.client.CoreV1().Nodes().Get(b.Context(), b.node, metav1.GetOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return n
}

func conditionOf(n *corev1.Node, kind corev1.NodeConditionType) corev1.NodeCondition {
	for _, c := range n.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.NodeCondition{}
}

func hasTaint(n *corev1.Node, key string) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == key })
}

// waitCondition waits until a condition of the node has that status.
func (b *bed) waitCondition(kind corev1.NodeConditionType, status corev1.ConditionStatus) corev1.NodeCondition {
	b.Helper()
	var found corev1.NodeCondition
	b.must(30*time.Second, fmt.Sprintf("the node's condition %s is %s", kind, status), func() error {
		found = conditionOf(b.nodeObject(), kind)
		if found.Status != status {
			return fmt.Errorf("it is %q: %s: %s", found.Status, found.Reason, found.Message)
		}
		return nil
	})
	return found
}

// edit changes a pod before it is created.
type edit func(*corev1.Pod)

func image(image string) edit { return func(p *corev1.Pod) { p.Spec.Containers[0].Image = image } }

func policy(policy corev1.RestartPolicy) edit {
	return func(p *corev1.Pod) { p.Spec.RestartPolicy = policy }
}

func withToken(p *corev1.Pod) { p.Spec.AutomountServiceAccountToken = ptr.To(true) }

// podSpec is a pod of the bed's node that runs until it is deleted.
func (b *bed) podSpec() corev1.PodSpec {
	return corev1.PodSpec{
		NodeName:                     b.node,
		Containers:                   []corev1.Container{{Name: "app", Image: "app:v1"}},
		AutomountServiceAccountToken: ptr.To(false),
		EnableServiceLinks:           ptr.To(false),
		Tolerations:                  []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
	}
}

// pod creates a pod that is bound to the node.
func (b *bed) pod(name string, edits ...edit) *corev1.Pod {
	b.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: b.ns}, Spec: b.podSpec()}
	for _, e := range edits {
		e(p)
	}
	p, err := b.client.CoreV1().Pods(b.ns).Create(b.Context(), p, metav1.CreateOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// pods creates that many pods name-0, name-1, …
func (b *bed) pods(n int, name string, edits ...edit) []*corev1.Pod {
	b.Helper()
	list := make([]*corev1.Pod, n)
	for i := range n {
		list[i] = b.pod(fmt.Sprintf("%s-%d", name, i), edits...)
	}
	return list
}

func (b *bed) get(name string) *corev1.Pod {
	b.Helper()
	p, err := b.client.CoreV1().Pods(b.ns).Get(b.Context(), name, metav1.GetOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// gone tells whether no pod of that name and UID exists.
func (b *bed) gone(p *corev1.Pod) bool {
	b.Helper()
	now, err := b.client.CoreV1().Pods(b.ns).Get(b.Context(), p.Name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		b.Fatal(err)
	}
	return err != nil || now.UID != p.UID
}

// wait waits until a pod fulfils a condition.
func (b *bed) wait(name, what string, condition func(*corev1.Pod) bool) *corev1.Pod {
	b.Helper()
	var p *corev1.Pod
	b.must(45*time.Second, "pod "+name+" "+what, func() error {
		p = b.get(name)
		if !condition(p) {
			return fmt.Errorf("it is %s: %s", summary(p), p.Status.Message)
		}
		return nil
	})
	return p
}

func running(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodRunning && len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Running != nil
}

func phase(phase corev1.PodPhase) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return p.Status.Phase == phase }
}

func (b *bed) waitRunning(pods ...*corev1.Pod) {
	b.Helper()
	for _, p := range pods {
		b.wait(p.Name, "runs", running)
	}
}

// waitWaits waits until a pod is Pending with a reason that has a prefix.
func (b *bed) waitWaits(name, reason string) *corev1.Pod {
	b.Helper()
	return b.wait(name, "is Pending for "+reason, func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodPending && strings.HasPrefix(p.Status.Reason, reason)
	})
}

// remove asks for the deletion of a pod as kubectl does.
func (b *bed) delete(p *corev1.Pod) {
	b.Helper()
	if err := b.client.CoreV1().Pods(b.ns).Delete(b.Context(), p.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID}}); err != nil {
		b.Fatal(err)
	}
}

// forget deletes a pod from the API server at once, without its node: kubectl
// delete --force --grace-period=0.
func (b *bed) forget(p *corev1.Pod) {
	b.Helper()
	if err := b.client.CoreV1().Pods(b.ns).Delete(b.Context(), p.Name, metav1.DeleteOptions{
		GracePeriodSeconds: ptr.To[int64](0), Preconditions: &metav1.Preconditions{UID: &p.UID},
	}); err != nil {
		b.Fatal(err)
	}
}

// groupsOf are the groups that the cloud holds for a pod.
func (b *bed) groupsOf(uid types.UID) []*sim.Group {
	return slices.DeleteFunc(b.Fleet().Groups(), func(g *sim.Group) bool { return podUID(g.Tags()) != string(uid) })
}

// group is the one group of a pod.
func (b *bed) group(p *corev1.Pod) *sim.Group {
	b.Helper()
	groups := b.groupsOf(p.UID)
	if len(groups) != 1 {
		b.Fatalf("pod %s has %d groups, want 1", p.Name, len(groups))
	}
	return groups[0]
}

// groupIDs are the IDs of all groups, in order.
func (b *bed) groupIDs() []string {
	var ids []string
	for _, g := range b.Fleet().Groups() {
		ids = append(ids, g.ID())
	}
	slices.Sort(ids)
	return ids
}

// waitGroups waits until the cloud holds that many groups.
func (b *bed) waitGroups(n int) {
	b.Helper()
	b.must(45*time.Second, fmt.Sprintf("the cloud holds %d groups", n), func() error {
		if have := len(b.Fleet().Groups()); have != n {
			return fmt.Errorf("it holds %d", have)
		}
		return nil
	})
}

// made counts the groups that the cloud ever made.
func (b *bed) made() int {
	ids := map[string]bool{}
	for _, e := range b.Record().Entries {
		ids[e.GroupID+e.From.String()] = true
	}
	return len(ids)
}

// calls counts the changing calls that the cloud received, of one operation or
// of all.
func (b *bed) calls(op operation) int {
	n := 0
	for _, c := range b.Record().Calls {
		if op == anything || c.Action == b.action(op) {
			n++
		}
	}
	return n
}

// accepted counts those of them that the cloud carried out.
func (b *bed) accepted(op operation) int {
	n := 0
	for _, c := range b.Record().Calls {
		if c.Action == b.action(op) && c.Code == "OK" {
			n++
		}
	}
	return n
}

// untouched fails when a container was started twice, or a group restarted.
func (b *bed) untouched() {
	b.Helper()
	for _, g := range b.Fleet().Groups() {
		state := g.Snapshot()
		if state.Restarts > 0 {
			b.Errorf("group %s was restarted %d times", g.ID(), state.Restarts)
		}
		for _, c := range state.Containers {
			if c.RestartCount > 0 {
				b.Errorf("container %s of group %s was restarted %d times", c.Name, g.ID(), c.RestartCount)
			}
		}
	}
}

// events are the events of a pod.
func (b *bed) events(p *corev1.Pod) []corev1.Event {
	b.Helper()
	list, err := b.client.CoreV1().Events(b.ns).List(b.Context(), metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(p.UID)})
	if err != nil {
		b.Fatal(err)
	}
	return list.Items
}

// waitEvent waits for an event of a pod whose reason or message contains a text.
func (b *bed) waitEvent(p *corev1.Pod, text string) corev1.Event {
	b.Helper()
	var found corev1.Event
	b.must(30*time.Second, "pod "+p.Name+" has an event with "+text, func() error {
		var all []string
		for _, e := range b.events(p) {
			if strings.Contains(e.Reason+" "+e.Message, text) {
				found = e
				return nil
			}
			all = append(all, e.Reason+": "+e.Message)
		}
		return fmt.Errorf("its events are %q", all)
	})
	return found
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
