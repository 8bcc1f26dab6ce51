package live

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/test/cloud/sim"
)

// Objects are what a State is made of.
type Objects struct {
	Nodes    []*corev1.Node
	Pods     []*corev1.Pod
	Policies []Policy
	Events   []*corev1.Event
	Moves    []Move
	// Bills are the clouds' records by virtual node.
	Bills   map[string]sim.Record
	Stopped bool
}

// Policy is a BurstPolicy or a ClusterBurstPolicy.
type Policy struct {
	// Name is KIND NAMESPACE/NAME.
	Name   string
	Spec   v1alpha1.BurstPolicySpec
	Status v1alpha1.BurstPolicyStatus
}

// Move is a pod that comes to a node or leaves it.
type Move struct {
	Time            time.Time
	Namespace, Node string
	// Provider of the node, empty for a local one.
	Provider string
	Left     bool
}

// Build makes the state of a moment.
func Build(now, since time.Time, o Objects) State {
	s := State{Time: now, Since: since, Stopped: o.Stopped, Local: []Node{}, Virtual: []Node{}, Limits: []Limit{}}
	nodes := map[string]*Node{}
	for _, n := range slices.SortedFunc(slices.Values(o.Nodes), func(a, b *corev1.Node) int { return cmp.Compare(a.Name, b.Name) }) {
		nodes[n.Name] = newNode(n)
	}
	for _, p := range o.Pods {
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		if p.Spec.NodeName == "" {
			s.Waiting.add(now, p)
			continue
		}
		if n := nodes[p.Spec.NodeName]; n != nil {
			n.add(p)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		n := nodes[name]
		if n.Provider == "" {
			s.Local = append(s.Local, *n)
			continue
		}
		n.Bill = newBill(now, o.Bills[name])
		s.Virtual = append(s.Virtual, *n)
	}
	for _, p := range slices.SortedFunc(slices.Values(o.Policies), func(a, b Policy) int { return cmp.Compare(a.Name, b.Name) }) {
		s.Limits = append(s.Limits, limits(p)...)
	}
	s.Events = newEvents(o.Events, o.Moves)
	return s
}

func newNode(n *corev1.Node) *Node {
	out := &Node{Name: n.Name, Cordoned: n.Spec.Unschedulable, AllocatableCPU: n.Status.Allocatable.Cpu().AsApproximateFloat64()}
	if n.Labels[v1alpha1.VirtualNodeLabel] == v1alpha1.VirtualNodeValue {
		out.Provider = cmp.Or(n.Labels[v1alpha1.ProviderLabel], "virtual")
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			out.Ready = c.Status == corev1.ConditionTrue
		}
	}
	out.NoCapacity = slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.NoCapacityTaintKey })
	return out
}

func (n *Node) add(p *corev1.Pod) {
	requests := resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{})
	n.RequestedCPU += requests.Cpu().AsApproximateFloat64()
	if p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
		n.Running++
		return
	}
	n.Starting++
}

func (w *Waiting) add(now time.Time, p *corev1.Pod) {
	w.Pods++
	if waited := now.Sub(p.CreationTimestamp.Time); waited > 0 {
		w.OldestSeconds = max(w.OldestSeconds, int(waited.Seconds()))
	}
}

// newBill adds up a cloud's record. A cloud that has charged for nothing yet has no
// currency.
func newBill(now time.Time, r sim.Record) *Bill {
	b := &Bill{}
	for _, e := range r.Entries {
		if e.Price == nil {
			continue
		}
		b.Currency = e.Price.Currency
		b.Spent += e.Cost(now)
		if e.To == nil {
			b.Groups++
			b.PerHour += (e.CPU*e.Price.CPU + e.MemoryGiB*e.Price.MemoryGiB) * time.Hour.Seconds()
		}
	}
	return b
}

func limits(p Policy) []Limit {
	var out []Limit
	add := func(target string, l *v1alpha1.Limits, u *v1alpha1.Usage) {
		if l == nil {
			return
		}
		if u == nil { // the controller has not written it yet
			u = &v1alpha1.Usage{}
		}
		one := func(name string, used, most resource.Quantity) {
			share := 1.0
			if m := most.AsApproximateFloat64(); m > 0 {
				share = used.AsApproximateFloat64() / m
			}
			out = append(out, Limit{Policy: p.Name, Target: target, Resource: name, Used: used.String(), Max: most.String(), Share: share})
		}
		if l.Pods != nil {
			one("pods", *resource.NewQuantity(u.Pods, resource.DecimalSI), *resource.NewQuantity(int64(*l.Pods), resource.DecimalSI))
		}
		if l.CPU != nil {
			one("cpu", u.CPU, *l.CPU)
		}
		if l.Memory != nil {
			one("memory", u.Memory, *l.Memory)
		}
	}
	add("", p.Spec.Limits, p.Status.Usage)
	for _, t := range p.Spec.Targets {
		i := slices.IndexFunc(p.Status.Targets, func(s v1alpha1.TargetStatus) bool { return s.Name == t.Name })
		if i < 0 {
			add(t.Name, t.Limits, nil)
			continue
		}
		add(t.Name, t.Limits, p.Status.Targets[i].Usage)
	}
	return out
}

// routine are the events of containers that come with every pod; that a pod comes to
// a node or leaves it is told by its Move.
var routine = map[string]bool{
	"Scheduled": true, "Pulling": true, "Pulled": true, "Created": true, "Started": true, "Killing": true, "GroupCreated": true,
}

// newEvents are the newest events and moves. What happened alike to pods of the same
// namespace in the same second is one.
func newEvents(events []*corev1.Event, moves []Move) []Event {
	type key struct {
		second          int64
		namespace, what string
	}
	out := []Event{}
	at, counts := map[key]int{}, map[key]int{}
	add := func(k key, e Event) {
		counts[k]++
		if counts[k] == 1 {
			at[k] = len(out)
			out = append(out, e)
			return
		}
		out[at[k]].Object = fmt.Sprintf("%d pods of %s", counts[k], k.namespace)
	}
	for _, e := range slices.SortedStableFunc(slices.Values(events), func(a, b *corev1.Event) int {
		return cmp.Or(eventTime(a).Compare(eventTime(b)), cmp.Compare(a.Name, b.Name))
	}) {
		if routine[e.Reason] && e.Type == corev1.EventTypeNormal {
			continue
		}
		k := key{second: eventTime(e).Unix(), namespace: e.InvolvedObject.Namespace, what: e.Reason}
		if e.InvolvedObject.Kind != "Pod" {
			k.what += string(e.UID)
		}
		add(k, Event{
			Time: eventTime(e), Warning: e.Type == corev1.EventTypeWarning, Object: objectName(e.InvolvedObject),
			Message: e.Reason + ": " + strings.Join(strings.Fields(e.Message), " "),
		})
	}
	for _, m := range moves {
		verb := "went to "
		if m.Left {
			verb = "left "
		}
		add(key{second: m.Time.Unix(), namespace: m.Namespace, what: verb + m.Node},
			Event{Time: m.Time, Place: cmp.Or(m.Provider, "local"), Object: "1 pod of " + m.Namespace, Message: verb + m.Node})
	}
	slices.SortStableFunc(out, func(a, b Event) int { return a.Time.Compare(b.Time) })
	return out[max(0, len(out)-MaxEvents):]
}

func eventTime(e *corev1.Event) time.Time {
	switch {
	case e.Series != nil:
		return e.Series.LastObservedTime.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	default:
		return e.LastTimestamp.Time
	}
}

func objectName(o corev1.ObjectReference) string {
	name := o.Name
	if o.Namespace != "" && o.Kind != "Node" {
		name = o.Namespace + "/" + name
	}
	if o.Kind == "Pod" {
		return name
	}
	return o.Kind + " " + name
}
