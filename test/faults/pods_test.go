package faults

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

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
