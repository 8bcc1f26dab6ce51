package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/installation"
	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const (
	virtualNodes = installation.VirtualNodes
	localNodes   = v1alpha1.VirtualNodeLabel + "!=" + v1alpha1.VirtualNodeValue
	// chunk is how many nodes are asked for at a time.
	chunk = 500
	// mostNodes is on how many local nodes the pods are counted for one late
	// decision.
	mostNodes = 100
)

// apiServer reads from a cluster, and only what a decision needs.
type apiServer struct{ *installation.Clients }

type getter func(ctx context.Context, c *apiServer, namespace, name string) (subject, error)

// getters of the kinds that can be named, by all their names.
var getters = func() map[string]getter {
	pod := func(ctx context.Context, c *apiServer, namespace, name string) (subject, error) {
		p, err := c.Kube.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		return subject{name: "pod/" + name, pod: p}, err
	}
	template := func(o runtime.Object, err error) (subject, error) {
		if err != nil {
			return subject{}, err
		}
		s, _ := workload(o)
		return s, nil
	}
	deployment := func(ctx context.Context, c *apiServer, namespace, name string) (subject, error) {
		return template(c.Kube.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{}))
	}
	statefulSet := func(ctx context.Context, c *apiServer, namespace, name string) (subject, error) {
		return template(c.Kube.AppsV1().StatefulSets(namespace).Get(ctx, name, metav1.GetOptions{}))
	}
	job := func(ctx context.Context, c *apiServer, namespace, name string) (subject, error) {
		return template(c.Kube.BatchV1().Jobs(namespace).Get(ctx, name, metav1.GetOptions{}))
	}
	return map[string]getter{
		"pod": pod, "pods": pod, "po": pod,
		"deploy": deployment, "deployment": deployment, "deployments": deployment, "deployment.apps": deployment,
		"sts": statefulSet, "statefulset": statefulSet, "statefulsets": statefulSet, "statefulset.apps": statefulSet,
		"job": job, "jobs": job, "job.batch": job,
	}
}()

// world reads the namespaces of the pods, the policies that might select them,
// and the virtual nodes.
func (c *apiServer) world(ctx context.Context, subjects []subject, r release) (world, error) {
	w := &liveWorld{apiServer: c, namespace: r.namespace}
	o := policy.Objects{Excluded: []string{r.namespace}}
	for _, s := range subjects {
		name := s.pod.Namespace
		if slices.ContainsFunc(o.Namespaces, func(n *corev1.Namespace) bool { return n.Name == name }) {
			continue
		}
		n, err := c.Kube.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("reading namespace %s: %w", name, err)
		}
		o.Namespaces = append(o.Namespaces, n)
		own, err := c.BurstPolicies(ctx, name)
		if err != nil {
			return nil, err
		}
		o.Policies = appendPointers(o.Policies, own)
	}
	cluster, err := c.ClusterBurstPolicies(ctx)
	if err != nil {
		return nil, err
	}
	o.ClusterPolicies = appendPointers(nil, cluster)
	var admissions v1alpha1.BurstAdmissionList
	err = c.Policies.Get().Resource("burstadmissions").Do(ctx).Into(&admissions)
	switch {
	case apierrors.IsForbidden(err):
		w.notes = append(w.notes, "You may not read BurstAdmissions, which tell whether the API server admits pods by itself; a webhook is taken to.")
	case err != nil && !apierrors.IsNotFound(err): // the kind is not known to clusters of before
		return nil, fmt.Errorf("listing BurstAdmissions: %w", err)
	}
	o.AdmissionByPolicy = len(admissions.Items) > 0 // there is none where a webhook admits pods
	virtual, err := c.Virtual(ctx)
	if err != nil {
		return nil, err
	}
	o.Nodes = appendPointers(nil, virtual)

	found, err := c.Find(ctx, r.namespace)
	switch {
	case err == nil:
		o.Excluded = found.Excluded()
	case apierrors.IsForbidden(err):
		w.notes = append(w.notes, "You may not read the Deployment of the controller, which names the namespaces that are never touched; none are taken to be, beside those of Kubernetes and of Autoburst.")
	case !errors.Is(err, installation.ErrNotInstalled):
		return nil, err
	}
	o.Switch, err = c.Kube.CoreV1().ConfigMaps(r.namespace).Get(ctx, r.switchName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		o.Switch = nil // nobody has turned it on
	case apierrors.IsForbidden(err):
		o.Switch = nil
		w.notes = append(w.notes, fmt.Sprintf("You may not read the switch that stops all bursting, ConfigMap %s/%s; it is taken to be off.", r.namespace, r.switchName))
	case err != nil:
		return nil, fmt.Errorf("reading the switch, ConfigMap %s/%s: %w", r.namespace, r.switchName, err)
	}
	w.objects = o
	w.snapshot, _ = policy.NewSnapshot(o)
	return w, nil
}

func appendPointers[T any](to []*T, items []T) []*T {
	for i := range items {
		to = append(to, &items[i])
	}
	return to
}

// liveWorld is a cluster. What only some decisions need is read for these.
type liveWorld struct {
	*apiServer
	// namespace is where Autoburst is installed.
	namespace string
	objects   policy.Objects
	snapshot  *policy.Snapshot
	local     []*corev1.Node
	listed    bool // the local nodes are
	notes     []string
}

func (w *liveWorld) admission(ctx context.Context, pod *corev1.Pod) (policy.Explanation, []string, error) {
	e := policy.Explain(w.snapshot, pod.Namespace, pod)
	// Local nodes matter where their soft taints do.
	soft := *w.snapshot
	soft.LocalSoftTaint = true
	if !w.listed && policy.Evaluate(&soft, pod.Namespace, pod).Reason != e.Decision.Reason {
		if err := w.listLocal(ctx); err != nil {
			return e, nil, err
		}
		e = policy.Explain(w.snapshot, pod.Namespace, pod)
	}
	notes := slices.Clone(w.notes)
	// Whether a controller is at work matters to pressure and gates.
	gone := *w.snapshot
	gone.ControllerLive = false
	if d := policy.Evaluate(&gone, pod.Namespace, pod); d.Reason != e.Decision.Reason || d.Gate != e.Decision.Gate {
		held, note := w.leaseHeld(ctx)
		if notes = append(notes, note); !held {
			e = policy.Explain(&gone, pod.Namespace, pod)
		}
	}
	if e.Decision.Reason == policy.LocalFirst {
		notes = append(notes, fmt.Sprintf("The affinity of other pods is not read here. Where it draws or pushes this pod, the pod is granted late, once it is unschedulable (%s).", policy.OtherPodsTerms))
	}
	return e, notes, nil
}

// leaseHeld tells whether a controller is elected, and what that is known by.
// Whether its holder lives the webhook sees by watching, which takes longer than one
// look.
func (w *liveWorld) leaseHeld(ctx context.Context) (held bool, note string) {
	lease, err := w.Kube.CoordinationV1().Leases(w.namespace).Get(ctx, installation.LeaseName, metav1.GetOptions{})
	name := fmt.Sprintf("Lease %s/%s", w.namespace, installation.LeaseName)
	switch {
	case apierrors.IsNotFound(err), err == nil && ptr.Deref(lease.Spec.HolderIdentity, "") == "":
		return false, fmt.Sprintf("No controller is elected (%s), so pressure counts as closed and no gate is set.", name)
	case err != nil:
		return true, fmt.Sprintf("Whether a controller is at work is not known (%v); it is taken to be.", err)
	}
	return true, fmt.Sprintf("The controller is taken to be at work: %s is held by %s.", name, *lease.Spec.HolderIdentity)
}

// listLocal reads the local nodes, once.
func (w *liveWorld) listLocal(ctx context.Context) error {
	options := metav1.ListOptions{LabelSelector: localNodes, Limit: chunk}
	for !w.listed {
		list, err := w.Kube.CoreV1().Nodes().List(ctx, options)
		if err != nil {
			return fmt.Errorf("listing local nodes: %w", err)
		}
		w.local = appendPointers(w.local, list.Items)
		options.Continue = list.Continue
		w.listed = options.Continue == ""
	}
	s := *w.snapshot
	s.LocalSoftTaint = slices.ContainsFunc(w.local, func(n *corev1.Node) bool { return policy.IsReady(n) && policy.BearsSoftTaint(n) })
	w.snapshot = &s
	return nil
}

// late counts the pods on the virtual nodes, and those on a local node when the
// rules come to it.
func (w *liveWorld) late(ctx context.Context, pod *corev1.Pod, now time.Time) (policy.LateExplanation, error) {
	o := w.objects
	for _, n := range o.Nodes {
		pods, err := w.podsOn(ctx, n.Name)
		if err != nil {
			return policy.LateExplanation{}, err
		}
		o.Pods = appendPointers(o.Pods, pods)
	}
	if err := w.listLocal(ctx); err != nil {
		return policy.LateExplanation{}, err
	}
	s, _ := policy.NewSnapshot(o)
	var failed error
	workloads, err := w.workloads(ctx, pod)
	if err != nil {
		return policy.LateExplanation{}, err
	}
	e := policy.ExplainLate(s, pod.Namespace, pod, w.roomOn(ctx, pod, &failed), workloads, now)
	if failed == nil && e.Decision.Action == policy.Grant && e.Decision.NodeAutoscaler == v1alpha1.NodeFirst {
		said, err := w.scaleUp(ctx, pod)
		if err != nil {
			return e, err
		}
		e.Decision = policy.AwaitNode(e.Decision, said, now)
	}
	return e, failed
}

// scaleUp is what autoscalers have said of a pod, by its events.
func (w *liveWorld) scaleUp(ctx context.Context, pod *corev1.Pod) (policy.ScaleUp, error) {
	list, err := w.Kube.CoreV1().Events(pod.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("involvedObject.uid", string(pod.UID)).String(),
	})
	if err != nil {
		return policy.ScaleUp{}, fmt.Errorf("listing the events of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	var said policy.ScaleUp
	for i := range list.Items {
		said = said.Hear(&list.Items[i])
	}
	return said, nil
}

// roomOn is the local nodes with their room. Pods are counted on those only that
// would take the pod if they were empty. It stops where that fails.
func (w *liveWorld) roomOn(ctx context.Context, pod *corev1.Pod, failed *error) iter.Seq[*policy.LocalNode] {
	return func(yield func(*policy.LocalNode) bool) {
		counted := 0
		for _, n := range w.local {
			if !policy.IsReady(n) {
				continue
			}
			node := policy.NewLocalNode(n, policy.Usage{})
			if ok, _ := policy.Fits(pod, node); ok {
				if counted++; counted > mostNodes {
					*failed = fmt.Errorf("more than %d local nodes would have to be counted", mostNodes)
					return
				}
				pods, err := w.podsOn(ctx, n.Name)
				if err != nil {
					*failed = err
					return
				}
				var used policy.Usage
				for i := range pods {
					used.Add(policy.UsageOf(&pods[i]), 1)
				}
				node = policy.NewLocalNode(n, used)
			}
			if !yield(node) {
				return
			}
		}
	}
}

// podsOn lists the pods on one node that are not finished; the API server has an
// index for that.
func (w *liveWorld) podsOn(ctx context.Context, node string) ([]corev1.Pod, error) {
	list, err := w.Kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		FieldSelector: fields.AndSelectors(
			fields.OneTermEqualSelector("spec.nodeName", node),
			fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
			fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)),
		).String(),
		// From the API server's memory, where the index is.
		ResourceVersion: "0",
	})
	if err != nil {
		return nil, fmt.Errorf("listing the pods on node %s: %w", node, err)
	}
	return list.Items, nil
}
