package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apitypes "k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const drained = "virtual-eci"

// stage is a cluster with one virtual node, in a synctest bubble. Its agent ends
// evicted pods after a while, and says how many groups there are.
type stage struct {
	*testing.T
	client *fake.Clientset
	out    bytes.Buffer

	grace     time.Duration     // from eviction to the end of a pod
	blocked   map[string]bool   // pods whose eviction a budget refuses
	stuck     map[string]bool   // pods that do not end
	groups    func() int        // that the cloud holds
	broken    func() string     // why the cloud cannot be listed
	mute      bool              // the agent does not answer
	evictions map[string]*int64 // by pod, with the grace period
	writes    []string          // every change, in order
}

func newStage(t *testing.T, objects ...runtime.Object) *stage {
	t.Helper()
	s := &stage{
		T: t, grace: time.Second, blocked: map[string]bool{}, stuck: map[string]bool{},
		groups: func() int { return 0 }, broken: func() string { return "" }, evictions: map[string]*int64{},
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: drained, UID: "node", Labels: map[string]string{v1alpha1.VirtualNodeLabel: v1alpha1.VirtualNodeValue},
		Annotations: map[string]string{v1alpha1.CapabilitiesAnnotation: "{}"},
	}}
	s.client = fake.NewClientset(append(objects, node)...)
	s.client.PrependReactor("create", "pods", s.evict)
	s.client.PrependReactor("patch", "nodes", s.answer)
	// The fake knows no field selectors.
	s.client.PrependReactor("list", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		handled, obj, err := clienttesting.ObjectReaction(s.client.Tracker())(a)
		if list, ok := obj.(*corev1.PodList); ok && a.GetNamespace() == metav1.NamespaceAll {
			list.Items = slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.Spec.NodeName != drained })
		}
		return handled, obj, err
	})
	s.client.PrependReactor("*", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if verb := a.GetVerb(); verb != "get" && verb != "list" && verb != "watch" {
			s.writes = append(s.writes, verb+" "+strings.TrimSuffix(a.GetResource().Resource+"/"+a.GetSubresource(), "/"))
		}
		return false, nil, nil
	})
	return s
}

func (s *stage) evict(a clienttesting.Action) (bool, runtime.Object, error) {
	if a.GetSubresource() != "eviction" {
		return false, nil, nil
	}
	eviction, ok := a.(clienttesting.CreateAction).GetObject().(*policyv1.Eviction)
	if !ok {
		s.Fatalf("eviction of %T", a)
	}
	name := eviction.Name
	if s.blocked[name] {
		err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
		err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: policyv1.DisruptionBudgetCause, Message: "The disruption budget web needs 2 healthy pods and has 2 currently"}}
		return true, nil, err
	}
	s.evictions[name] = eviction.DeleteOptions.GracePeriodSeconds
	pods := schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	obj, err := s.client.Tracker().Get(pods, eviction.Namespace, name)
	if err != nil {
		return true, nil, err
	}
	pod, ok := obj.DeepCopyObject().(*corev1.Pod)
	if !ok || eviction.DeleteOptions.Preconditions == nil || *eviction.DeleteOptions.Preconditions.UID != pod.UID {
		s.Errorf("the eviction of %s does not say which pod of that name it means", name)
	}
	pod.DeletionTimestamp = ptr.To(metav1.Now())
	if s.stuck[name] {
		pod.Finalizers = []string{"example.com/hold"}
		return true, nil, s.client.Tracker().Update(pods, pod, pod.Namespace)
	}
	time.AfterFunc(s.grace, func() { _ = s.client.Tracker().Delete(pods, pod.Namespace, pod.Name) })
	return true, nil, s.client.Tracker().Update(pods, pod, pod.Namespace)
}

func (s *stage) answer(a clienttesting.Action) (bool, runtime.Object, error) {
	handled, obj, err := clienttesting.ObjectReaction(s.client.Tracker())(a)
	node, ok := obj.(*corev1.Node)
	if err != nil || !ok || s.mute || node.Annotations[v1alpha1.CountGroupsAnnotation] == "" {
		return handled, obj, err
	}
	count := v1alpha1.GroupCount{Request: node.Annotations[v1alpha1.CountGroupsAnnotation], Error: s.broken()}
	if count.Error == "" {
		count.Groups, count.Listed = s.groups(), time.Now().UTC().Format(time.RFC3339)
	}
	node = node.DeepCopy()
	node.Annotations[v1alpha1.GroupCountAnnotation] = count.String()
	return true, node, s.client.Tracker().Update(a.GetResource(), node, "")
}

// drain runs the command.
func (s *stage) drain(ctx context.Context, edit ...func(*drainOptions)) error {
	s.Helper()
	o := &drainOptions{
		streams:     genericiooptions.IOStreams{In: strings.NewReader(""), Out: io.MultiWriter(&s.out, s.Output()), ErrOut: s.Output()},
		gracePeriod: -1, releaseNamespace: "autoburst-system",
	}
	for _, e := range edit {
		e(o)
	}
	return newDrainer(o, s.client, drained).drain(ctx)
}

func (s *stage) wantOut(parts ...string) {
	s.Helper()
	for _, p := range parts {
		if !strings.Contains(s.out.String(), p) {
			s.Errorf("it did not print %q, but:\n%s", p, s.out.String())
		}
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("the error does not say %q: %v", p, err)
		}
	}
}

func (s *stage) node() *corev1.Node {
	s.Helper()
	node, err := s.client.CoreV1().Nodes().Get(s.Context(), drained, metav1.GetOptions{})
	if err != nil {
		s.Fatal(err)
	}
	return node
}

// podOn is a pod of a ReplicaSet on the node.
func podOn(name string, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "shop", UID: apitypes.UID("uid-" + name),
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web", Controller: ptr.To(true)}},
		},
		Spec:   corev1.PodSpec{NodeName: drained},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func bare(p *corev1.Pod)   { p.OwnerReferences = nil }
func daemon(p *corev1.Pod) { p.OwnerReferences[0].Kind = "DaemonSet" }
func done(p *corev1.Pod)   { p.Status.Phase = corev1.PodSucceeded }

func scratch(p *corev1.Pod) {
	p.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
}

func bubble(t *testing.T, name string, f func(*testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func TestDrain(t *testing.T) {
	bubble(t, "to the end", func(t *testing.T) {
		s := newStage(t, podOn("a"), podOn("b"), podOn("job", done, bare))
		left := 2
		s.groups = func() int { left--; return left + 1 }
		if err := s.drain(t.Context(), func(o *drainOptions) { o.gracePeriod = 7 }); err != nil {
			t.Fatal(err)
		}
		s.wantOut("node virtual-eci is cordoned", "pod shop/a is evicted", "pod shop/b is gone", "still holds 2 container groups",
			"node virtual-eci is empty", "--delete-node")
		if !s.node().Spec.Unschedulable {
			t.Error("the node is not cordoned")
		}
		if len(s.evictions) != 3 || ptr.Deref(s.evictions["a"], 0) != 7 {
			t.Errorf("evictions %v", s.evictions)
		}
	})
	bubble(t, "interrupted and run again", func(t *testing.T) {
		s := newStage(t, podOn("a"), podOn("b"))
		s.grace = 20 * time.Second
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, cancel)
		wantError(t, s.drain(ctx), "interrupted", "same command again", "kubectl uncordon virtual-eci")
		s.out.Reset()
		if err := s.drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.wantOut("cordoned already", "pod shop/a is being deleted already", "is empty")
		if n := len(slices.DeleteFunc(slices.Clone(s.writes), func(w string) bool { return w != "create pods/eviction" })); n != 2 {
			t.Errorf("%d evictions for 2 pods", n)
		}
	})
	bubble(t, "a pod that comes meanwhile", func(t *testing.T) {
		s := newStage(t)
		first := true
		s.groups = func() int {
			if first {
				first = false
				if err := s.client.Tracker().Add(podOn("late")); err != nil {
					t.Error(err)
				}
			}
			return 0
		}
		if err := s.drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.wantOut("pod shop/late is gone", "is empty")
	})
	bubble(t, "dry run", func(t *testing.T) {
		s := newStage(t, podOn("a"))
		if err := s.drain(t.Context(), func(o *drainOptions) { o.dryRun, o.deleteNode = true, true }); err != nil {
			t.Fatal(err)
		}
		s.wantOut("would cordon", "would evict pod shop/a", "would scale")
		if len(s.writes) > 0 {
			t.Errorf("it wrote: %v", s.writes)
		}
	})
}

func TestDrainRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want []string
		flag func(*drainOptions)
	}{
		"bare pods":         {podOn("x", bare), []string{"shop/x", "--force"}, func(o *drainOptions) { o.force = true }},
		"data in emptyDirs": {podOn("x", scratch), []string{"shop/x", "--delete-emptydir-data"}, func(o *drainOptions) { o.deleteEmptyDir = true }},
		"DaemonSets":        {podOn("x", daemon), []string{"shop/x", "--ignore-daemonsets", "NotIn [virtual-kubelet]"}, func(o *drainOptions) { o.ignoreDaemonSets = true }},
	} {
		bubble(t, name, func(t *testing.T) {
			s := newStage(t, test.pod)
			wantError(t, s.drain(t.Context()), append(test.want, "nothing was changed")...)
			if len(s.writes) > 0 {
				t.Errorf("it wrote: %v", s.writes)
			}
			if err := s.drain(t.Context(), test.flag); err != nil {
				t.Errorf("with the flag: %v", err)
			}
		})
	}
	bubble(t, "a local node", func(t *testing.T) {
		s := newStage(t)
		node := s.node()
		delete(node.Annotations, v1alpha1.CapabilitiesAnnotation)
		if _, err := s.client.CoreV1().Nodes().Update(t.Context(), node, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		wantError(t, s.drain(t.Context()), "not a virtual node of Autoburst", "kubectl drain")
	})
	bubble(t, "no node", func(t *testing.T) {
		s := newStage(t)
		if err := s.client.CoreV1().Nodes().Delete(t.Context(), drained, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		wantError(t, s.drain(t.Context()), "there is no node virtual-eci", "kubectl get nodes -l type=virtual-kubelet")
	})
}

// What stands in the way is named when the time is up.
func TestDrainGivesUp(t *testing.T) {
	within := func(d time.Duration) func(*drainOptions) { return func(o *drainOptions) { o.timeout = d } }
	alive := func(t *testing.T, s *stage) {
		t.Helper()
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-node-lease", Name: drained}}
		if err := s.client.Tracker().Add(lease); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		go func() {
			for {
				renewed := lease.DeepCopy()
				renewed.Spec.RenewTime = ptr.To(metav1.NowMicro())
				_ = s.client.Tracker().Update(coordinationv1.SchemeGroupVersion.WithResource("leases"), renewed, lease.Namespace)
				select {
				case <-ctx.Done():
					return
				case <-time.After(10 * time.Second):
				}
			}
		}()
	}
	bubble(t, "a budget", func(t *testing.T) {
		s := newStage(t, podOn("a"), podOn("b"))
		alive(t, s)
		s.blocked["b"] = true
		wantError(t, s.drain(t.Context(), within(30*time.Second)), "not drained after 30s", "1 pods are left", "pod shop/b cannot be evicted",
			"The disruption budget web needs 2 healthy pods", "run the same command again")
		s.wantOut("pod shop/a is gone", "pod shop/b cannot be evicted yet")
		if strings.Count(s.out.String(), "cannot be evicted yet") != 1 {
			t.Errorf("it repeats itself:\n%s", s.out.String())
		}
		delete(s.blocked, "b")
		if err := s.drain(t.Context()); err != nil {
			t.Error(err)
		}
	})
	bubble(t, "a finalizer", func(t *testing.T) {
		s := newStage(t, podOn("a"))
		alive(t, s)
		s.stuck["a"] = true
		wantError(t, s.drain(t.Context(), within(30*time.Second)), "pod shop/a is kept by its finalizers example.com/hold")
	})
	bubble(t, "no agent", func(t *testing.T) {
		s := newStage(t)
		s.mute = true
		wantError(t, s.drain(t.Context()), "no agent of node virtual-eci runs", "kubectl -n autoburst-system get deployments", "same command again")
	})
	bubble(t, "an agent that does not answer", func(t *testing.T) {
		s := newStage(t)
		alive(t, s)
		s.mute = true
		wantError(t, s.drain(t.Context(), within(3*time.Minute)), "has not said how many container groups")
		s.wantOut("has not answered yet")
	})
	bubble(t, "a cloud that does not answer", func(t *testing.T) {
		s := newStage(t)
		alive(t, s)
		s.broken = func() string { return "DescribeContainerGroups: Unavailable" }
		wantError(t, s.drain(t.Context(), within(time.Minute)), "its cloud cannot be listed: DescribeContainerGroups: Unavailable")
		s.wantOut("what it holds is not known")
	})
	bubble(t, "groups", func(t *testing.T) {
		s := newStage(t)
		alive(t, s)
		s.groups = func() int { return 1 }
		wantError(t, s.drain(t.Context(), within(time.Minute)), "its cloud still holds 1 container group")
	})
}

// The Node is deleted once no agent runs, which would register it again.
func TestDeleteNode(t *testing.T) {
	deleting := func(o *drainOptions) { o.deleteNode = true }
	election := func(holder string) *coordinationv1.Lease {
		return &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: "autoburst-system", Name: "agents", Labels: map[string]string{v1alpha1.AgentLabel: drained}},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: ptr.To[int32](10), RenewTime: ptr.To(metav1.NowMicro())},
		}
	}
	own := func() *coordinationv1.Lease {
		return &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-node-lease", Name: drained},
			Spec:       coordinationv1.LeaseSpec{LeaseDurationSeconds: ptr.To[int32](40), RenewTime: ptr.To(metav1.NowMicro())},
		}
	}
	deployment := func() *appsv1.Deployment {
		return &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Namespace: "autoburst-system", Name: "autoburst-vnode", Labels: map[string]string{v1alpha1.AgentLabel: drained}},
			Spec:       appsv1.DeploymentSpec{Replicas: ptr.To[int32](2)},
		}
	}
	agent := func() *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "autoburst-system", Name: "agent", Labels: map[string]string{v1alpha1.AgentLabel: drained}}}
	}
	gone := func(t *testing.T, s *stage) {
		t.Helper()
		if _, err := s.client.CoreV1().Nodes().Get(t.Context(), drained, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("reading the node: %v", err)
		}
	}
	update := func(t *testing.T, s *stage, lease *coordinationv1.Lease) {
		t.Helper()
		if err := s.client.Tracker().Update(coordinationv1.SchemeGroupVersion.WithResource("leases"), lease, lease.Namespace); err != nil {
			t.Error(err)
		}
	}

	bubble(t, "agents of a Deployment", func(t *testing.T) {
		s := newStage(t, deployment(), agent(), election("agent"), own())
		// What the Deployment's controller and the agent do.
		s.client.PrependReactor("patch", "deployments", func(a clienttesting.Action) (bool, runtime.Object, error) {
			patch, ok := a.(clienttesting.PatchAction)
			var scale struct{ Spec struct{ Replicas *int32 } }
			if !ok || a.GetSubresource() != "scale" || json.Unmarshal(patch.GetPatch(), &scale) != nil || ptr.Deref(scale.Spec.Replicas, -1) != 0 {
				t.Errorf("patch %v", a)
			}
			time.AfterFunc(5*time.Second, func() {
				update(t, s, election(""))
				time.AfterFunc(5*time.Second, func() {
					_ = s.client.Tracker().Delete(schema.GroupVersionResource{Version: "v1", Resource: "pods"}, "autoburst-system", "agent")
				})
			})
			return true, deployment(), nil
		})
		begun := time.Now()
		if err := s.drain(t.Context(), deleting); err != nil {
			t.Fatal(err)
		}
		gone(t, s)
		s.wantOut("Deployment autoburst-system/autoburst-vnode is scaled to 0", "helm upgrade", "waiting until the agents", "node virtual-eci is deleted")
		if took := time.Since(begun); took < 10*time.Second || took > 20*time.Second {
			t.Errorf("it took %s; the agents stopped after 10 s", took)
		}
	})
	bubble(t, "an agent that was killed", func(t *testing.T) {
		s := newStage(t, election("agent"), own())
		begun := time.Now()
		if err := s.drain(t.Context(), deleting); err != nil {
			t.Fatal(err)
		}
		gone(t, s)
		if took := time.Since(begun); took < 40*time.Second {
			t.Errorf("the node was deleted after %s, and its lease lasts 40 s", took)
		}
	})
	bubble(t, "an agent that runs by hand", func(t *testing.T) {
		s := newStage(t, own())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			for ctx.Err() == nil {
				update(t, s, own())
				<-time.After(10 * time.Second) // the bubble's clock
			}
		}()
		wantError(t, s.drain(t.Context(), deleting, func(o *drainOptions) { o.timeout = 5 * time.Minute }), "its agents have not stopped")
		s.wantOut("no Deployment in namespace autoburst-system is its own")
		cancel()
		if err := s.drain(t.Context(), deleting); err != nil {
			t.Fatal(err)
		}
		gone(t, s)
	})
	bubble(t, "interrupted when the agents had stopped", func(t *testing.T) {
		s := newStage(t, own())
		if err := s.drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.mute = true
		update(t, s, own())
		if err := s.client.Tracker().Add(election("")); err != nil {
			t.Fatal(err)
		}
		s.out.Reset()
		if err := s.drain(t.Context(), deleting); err != nil {
			t.Fatal(err)
		}
		gone(t, s)
		s.wantOut("the agents of node virtual-eci are stopped")
	})
	bubble(t, "a pod that comes while agents stop", func(t *testing.T) {
		s := newStage(t, deployment(), own())
		s.client.PrependReactor("patch", "deployments", func(clienttesting.Action) (bool, runtime.Object, error) {
			if err := s.client.Tracker().Add(podOn("late")); err != nil {
				t.Error(err)
			}
			return true, deployment(), nil
		})
		wantError(t, s.drain(t.Context(), deleting), "pod shop/late came to node virtual-eci while its agents stopped")
		if s.node() == nil {
			t.Error("the node is deleted")
		}
	})
}

func TestDrainUsage(t *testing.T) {
	for name, args := range map[string][]string{
		"no node":          {"drain"},
		"two nodes":        {"drain", "a", "b"},
		"negative timeout": {"drain", "a", "--timeout=-1s"},
		"negative grace":   {"drain", "a", "--grace-period=-7"},
		"unknown flag":     {"drain", "a", "--all"},
	} {
		t.Run(name, func(t *testing.T) {
			if e := execute(t, "", args...); e.code != exitUsage || e.errOut == "" {
				t.Errorf("ended with %d: %s", e.code, e.errOut)
			}
		})
	}
}
