package status

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/installation"
	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const (
	// pageSize is how many objects are asked for at a time.
	pageSize = 500
	// mostWaiting is how many pods without a node are read, of all namespaces, before
	// no further page is asked for.
	mostWaiting = 5000
	// oldest is how many of them are shown.
	oldest = 5
)

var podsResource = corev1.SchemeGroupVersion.WithResource("pods")

// Read asks the API server. Pods are never listed all, and none with its spec and
// status: those without a node, where a policy or an annotation may have some waiting,
// and those on virtual nodes. What the user may not read is left out, with a note.
func Read(ctx context.Context, c *installation.Clients, r *installation.Release) (*Report, error) {
	out := &Report{
		Namespace: r.Namespace, Version: installation.Version(r.Controller), Switch: r.Namespace + "/" + r.SwitchName,
		Controller: Controller{
			Replicas: installation.Wanted(r.Controller), Ready: r.Controller.Status.ReadyReplicas, Admission: "Webhook",
		},
		Bursting: On, Policies: []Policy{}, Namespaces: []Namespace{}, VirtualNodes: []VirtualNode{}, Shortages: []Shortage{},
		Waiting: Waiting{Oldest: []WaitingPod{}},
	}
	if r.ByPolicy {
		out.Controller.Admission = "MutatingAdmissionPolicy"
	}
	if err := readRelease(ctx, c, r, out); err != nil {
		return nil, err
	}
	policies, err := c.BurstPolicies(ctx, "")
	if err != nil {
		return nil, err
	}
	for i := range policies {
		p := &policies[i]
		out.add(policy.KindPolicy, p.ObjectMeta, &p.Spec, &p.Status)
	}
	cluster, err := c.ClusterBurstPolicies(ctx)
	if err != nil {
		return nil, err
	}
	for i := range cluster {
		p := &cluster[i]
		out.add(policy.KindClusterPolicy, p.ObjectMeta, &p.Spec.BurstPolicySpec, &p.Status)
	}
	served, err := readNamespaces(ctx, c, out)
	if err != nil {
		return nil, err
	}
	if err := readNodes(ctx, c, out); err != nil {
		return nil, err
	}
	if err := readWaiting(ctx, c, served, out); err != nil {
		return nil, err
	}
	return out, nil
}

// note says what the user may not read, and takes other errors as they are.
func (r *Report) note(err error, what string) error {
	if !apierrors.IsForbidden(err) {
		return err
	}
	r.Notes = append(r.Notes, "You may not read "+what+".")
	return nil
}

func readRelease(ctx context.Context, c *installation.Clients, r *installation.Release, out *Report) error {
	stopped, err := c.Switch(ctx, r)
	switch {
	case err != nil:
		out.Bursting = Unknown
		if err := out.note(err, "the switch that stops all bursting, ConfigMap "+out.Switch); err != nil {
			return err
		}
	case stopped:
		out.Bursting = Stopped
	}
	leader, err := c.LeaderOf(ctx, r.Namespace, installation.LeaseName)
	if err != nil {
		return out.note(err, "who is elected, Lease "+r.Namespace+"/"+installation.LeaseName)
	}
	if !leader.Expired {
		out.Controller.Leader = leader.Holder
	}
	return nil
}

func (r *Report) add(kind string, meta metav1.ObjectMeta, spec *v1alpha1.BurstPolicySpec, status *v1alpha1.BurstPolicyStatus) {
	p := Policy{Kind: kind, Namespace: meta.Namespace, Name: meta.Name, Mode: cmp.Or(spec.Mode, v1alpha1.ModeOverflow), Priority: spec.Priority, Pods: status.Pods}
	switch ready := apimeta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady); {
	case ready == nil || status.ObservedGeneration != meta.Generation:
		p.Message = "No controller has looked at it yet."
	case ready.Status != metav1.ConditionTrue:
		p.Message = ready.Message
	default:
		p.Ready = true
	}
	if spec.Overflow != nil && spec.Overflow.Pressure != nil {
		p.Pressure = "Closed"
		if policy.IsUnderPressure(status.Conditions) {
			p.Pressure = "Open"
		}
	}
	p.Limits = limitsOf("", spec.Limits, status.Usage)
	for _, t := range spec.Targets {
		i := slices.IndexFunc(status.Targets, func(s v1alpha1.TargetStatus) bool { return s.Name == t.Name })
		var shown v1alpha1.TargetStatus
		if i >= 0 {
			shown = status.Targets[i]
		}
		p.Limits = append(p.Limits, limitsOf(t.Name, t.Limits, shown.Usage)...)
		if shown.SuspendedUntil != nil || shown.Reason != "" {
			r.Shortages = append(r.Shortages, Shortage{
				Of:    fmt.Sprintf("target %s of %s", t.Name, p.String()),
				Until: shown.SuspendedUntil, Times: shown.Suspensions, Message: shown.Reason,
			})
		}
	}
	r.Policies = append(r.Policies, p)
}

// String is KIND/NAME, with the namespace in between where there is one.
func (p Policy) String() string {
	if p.Namespace == "" {
		return p.Kind + "/" + p.Name
	}
	return p.Kind + "/" + p.Namespace + "/" + p.Name
}

func limitsOf(target string, limits *v1alpha1.Limits, used *v1alpha1.Usage) []Limit {
	if limits == nil {
		return nil
	}
	var out []Limit
	add := func(name string, limit *resource.Quantity, of func(*v1alpha1.Usage) resource.Quantity) {
		if limit == nil {
			return
		}
		l := Limit{Target: target, Resource: name, Limit: *limit}
		if used != nil {
			l.Used, l.Left = new(of(used)), new(limit.DeepCopy())
			l.Left.Sub(*l.Used)
			if l.Left.Sign() < 0 {
				l.Left = resource.NewQuantity(0, limit.Format)
			}
		}
		out = append(out, l)
	}
	if limits.Pods != nil {
		add("pods", resource.NewQuantity(int64(*limits.Pods), resource.DecimalSI), func(u *v1alpha1.Usage) resource.Quantity {
			return *resource.NewQuantity(u.Pods, resource.DecimalSI)
		})
	}
	add("cpu", limits.CPU, func(u *v1alpha1.Usage) resource.Quantity { return u.CPU.DeepCopy() })
	add("memory", limits.Memory, func(u *v1alpha1.Usage) resource.Quantity { return u.Memory.DeepCopy() })
	return out
}

// readNamespaces finds the served ones, by name; nil where the user may not list them.
func readNamespaces(ctx context.Context, c *installation.Clients, out *Report) (served map[string]bool, err error) {
	list, err := c.Served(ctx)
	if err != nil {
		return nil, out.note(err, "namespaces, so that none that is opted in by its annotation is shown")
	}
	served = map[string]bool{}
	for _, n := range list {
		served[n.Name] = true
		if mode := n.Annotations[v1alpha1.ModeAnnotation]; mode != "" {
			out.Namespaces = append(out.Namespaces, Namespace{Name: n.Name, Mode: mode})
		}
	}
	return served, nil
}

func readNodes(ctx context.Context, c *installation.Clients, out *Report) error {
	nodes, err := c.Virtual(ctx)
	if err != nil {
		return out.note(err, "nodes, so that no virtual node is shown")
	}
	for i := range nodes {
		n := &nodes[i]
		v := VirtualNode{
			Name: n.Name, Provider: n.Labels[v1alpha1.ProviderLabel], Region: n.Labels[corev1.LabelTopologyRegion], Zone: n.Labels[corev1.LabelTopologyZone],
		}
		v.State, v.Message = stateOf(n)
		v.Ready = v.State == ready
		pods, err := podsOn(ctx, c, n.Name)
		if err != nil {
			if err := out.note(err, "pods, so that what virtual nodes hold is not shown"); err != nil {
				return err
			}
		}
		v.Resources, v.Unsized = resourcesOf(n, pods)
		out.VirtualNodes = append(out.VirtualNodes, v)
		if capacity := installation.Condition(n, v1alpha1.CapacityAvailableCondition); capacity != nil && capacity.Status == corev1.ConditionFalse {
			out.Shortages = append(out.Shortages, Shortage{Of: "virtual node " + n.Name, Message: capacity.Reason + ": " + capacity.Message})
		}
	}
	out.Notes = slices.Compact(out.Notes)
	return nil
}

const ready = "Ready"

// stateOf is Ready, or the first thing that keeps pods away from a virtual node.
func stateOf(n *corev1.Node) (state, message string) {
	up, reachable := installation.Condition(n, corev1.NodeReady), installation.Condition(n, v1alpha1.CloudReachableCondition)
	switch {
	case up == nil || up.Status == corev1.ConditionUnknown:
		return "AgentLost", "Its agent does not report."
	case up.Status != corev1.ConditionTrue:
		return "NotReady", up.Reason + ": " + up.Message
	case n.Spec.Unschedulable:
		return "Cordoned", "No pod is bound to it; to take that back: kubectl uncordon " + n.Name
	case reachable != nil && reachable.Status == corev1.ConditionFalse:
		return "CloudUnreachable", reachable.Reason + ": " + reachable.Message
	case slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.NoCapacityTaintKey }):
		return "NoCapacity", ""
	}
	return ready, ""
}

// podsOn lists the metadata of the pods on a node that are not finished, from the API
// server's memory, where the index is.
func podsOn(ctx context.Context, c *installation.Clients, node string) ([]metav1.PartialObjectMetadata, error) {
	list, err := c.Metadata.Resource(podsResource).List(ctx, metav1.ListOptions{
		FieldSelector: fields.AndSelectors(
			fields.OneTermEqualSelector("spec.nodeName", node),
			fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
			fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)),
		).String(),
		ResourceVersion: "0",
	})
	if err != nil {
		return nil, fmt.Errorf("listing the pods on node %s: %w", node, err)
	}
	if list.Items == nil {
		return []metav1.PartialObjectMetadata{}, nil
	}
	return list.Items, nil
}

// resourcesOf adds up the sizes that the cloud sells. Nil pods were not read.
func resourcesOf(n *corev1.Node, pods []metav1.PartialObjectMetadata) (out []Resource, unsized int) {
	used := corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(int64(len(pods)), resource.DecimalSI)}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		used[name] = *resource.NewQuantity(0, n.Status.Allocatable.Name(name, resource.DecimalSI).Format)
	}
	for i := range pods {
		var size corev1.ResourceList
		if err := json.Unmarshal([]byte(pods[i].Annotations[v1alpha1.SizeAnnotation]), &size); err != nil {
			unsized++
			continue
		}
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			sum := used[name]
			sum.Add(size[name])
			used[name] = sum
		}
	}
	for _, name := range []corev1.ResourceName{corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory} {
		row := Resource{Name: string(name), Allocatable: n.Status.Allocatable[name]}
		if pods != nil {
			row.Used, row.Free = new(used[name]), new(row.Allocatable.DeepCopy())
			row.Free.Sub(used[name])
			if row.Free.Sign() < 0 {
				row.Free = resource.NewQuantity(0, row.Allocatable.Format)
			}
		}
		out = append(out, row)
	}
	return out, unsized
}

// readWaiting reads the pods without a node, where there may be any of a served
// namespace.
func readWaiting(ctx context.Context, c *installation.Clients, served map[string]bool, out *Report) error {
	waits := len(out.Namespaces) > 0 || served == nil
	for i := range out.Policies {
		waits = waits || out.Policies[i].Pods.Waiting > 0
	}
	if !waits || served != nil && len(served) == 0 {
		return nil
	}
	// From the API server's memory, so that it does not read all pods from etcd to find
	// these. API servers that do not page there answer with all at once.
	options := metav1.ListOptions{
		FieldSelector: fields.AndSelectors(
			fields.OneTermEqualSelector("spec.nodeName", ""),
			fields.OneTermEqualSelector("status.phase", string(corev1.PodPending)),
		).String(),
		Limit: pageSize, ResourceVersion: "0",
	}
	var all []metav1.PartialObjectMetadata
	for read := 0; ; {
		list, err := c.Metadata.Resource(podsResource).List(ctx, options)
		if err != nil {
			return out.note(fmt.Errorf("listing the pods without a node: %w", err), "pods, so that none that waits is shown")
		}
		read += len(list.Items)
		for i := range list.Items {
			if p := &list.Items[i]; (served == nil || served[p.Namespace]) && p.DeletionTimestamp == nil {
				all = append(all, *p)
			}
		}
		if options.Continue, options.ResourceVersion = list.Continue, ""; options.Continue == "" {
			break
		}
		if read >= mostWaiting {
			out.Waiting.More = true
			break
		}
	}
	slices.SortStableFunc(all, func(a, b metav1.PartialObjectMetadata) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	out.Waiting.Pods = len(all)
	for _, m := range all[:min(len(all), oldest)] {
		p, err := c.Kube.CoreV1().Pods(m.Namespace).Get(ctx, m.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err): // it has gone in this moment
			continue
		case err != nil:
			return out.note(fmt.Errorf("reading pod %s/%s: %w", m.Namespace, m.Name, err), "pods, so that what waits is not described")
		}
		out.Waiting.Oldest = append(out.Waiting.Oldest, waitingPod(p))
	}
	return nil
}

func waitingPod(p *corev1.Pod) WaitingPod {
	w := WaitingPod{
		Namespace: p.Namespace, Name: p.Name, Since: p.CreationTimestamp.Time,
		Policy: p.Annotations[v1alpha1.PolicyAnnotation], Reason: p.Annotations[v1alpha1.ReasonAnnotation],
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			w.Scheduler = c.Message
		}
	}
	switch {
	case len(p.Spec.SchedulingGates) > 0:
		w.Reason, w.Message = "Gated", "It stands at the gate "+p.Spec.SchedulingGates[0].Name+"."
	case p.Annotations[v1alpha1.GrantAnnotation] != "":
		w.Reason, w.Message = "Granted", "It may burst, and the scheduler has not bound it yet."
	case w.Reason != "":
		w.Message = policy.Reason(w.Reason).Sentence()
	default:
		w.Message = "Nothing is decided for it."
	}
	return w
}
