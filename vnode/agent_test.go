package vnode

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
)

func TestMain(m *testing.M) {
	// A fake watch panics when it is not read as fast as a crowd of pods writes.
	watch.DefaultChanSize = 10_000
	goleak.VerifyTestMain(m,
		// Started by the package's init and never stopped.
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
		goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

// bed is an agent between a cloud in memory and a fake API server. It lives in
// a synctest bubble: its time is not that of the wall.
type bed struct {
	*testing.T
	cloud    *memoryCloud
	provider providers.Provider // the cloud, unless a test puts something around it
	client   *fake.Clientset
	agent    *Agent
	cfg      Config
	quiet    bool // log warnings only
	stop     func()
	// telling is whether the cloud tells what has changed.
	telling bool
}

// as makes the bed's cloud one of the kinds that there are.
func (b *bed) as(k kind) {
	b.telling = k == tellsChanges
	b.cloud.listStatus = k != listsBare
}

// newBed makes a bed; objects are there before the agent starts.
func newBed(t *testing.T, objects ...runtime.Object) *bed {
	t.Helper()
	b := &bed{T: t, cloud: newMemoryCloud(), client: fakeClient(objects...)}
	b.cfg = newBedConfig()
	return b
}

func newBedConfig() Config {
	return Config{
		ClusterUID: testCluster,
		Node: NodeSettings{
			Name: testNode, InternalIP: "192.0.2.1", KubeletPort: 10250, KubeletVersion: "v1.36.3-autoburst-test",
			Taint: corev1.Taint{Key: v1alpha1.ProviderTaintKey, Value: "alibabacloud", Effect: corev1.TaintEffectNoSchedule},
		},
	}
}

// fakeClient is client-go's fake with resource versions that grow, as those of
// the API server do.
func fakeClient(objects ...runtime.Object) *fake.Clientset {
	version := newVersions(objects)
	client := fake.NewClientset(objects...)
	version.react(client, client.Tracker())
	return client
}

// crowdClient is a fakeClient without managed fields, which take milliseconds for
// each write: for thousands of pods.
func crowdClient(objects ...runtime.Object) *fake.Clientset {
	version := newVersions(objects)
	tracker := clienttesting.NewObjectTracker(scheme.Scheme, scheme.Codecs.UniversalDecoder())
	for _, obj := range objects {
		_ = tracker.Add(obj) // an object of the scheme
	}
	client := &fake.Clientset{}
	client.AddReactor("*", "*", clienttesting.ObjectReaction(tracker))
	client.AddWatchReactor("*", func(a clienttesting.Action) (bool, watch.Interface, error) {
		w, err := tracker.Watch(a.GetResource(), a.GetNamespace())
		return err == nil, w, err
	})
	version.react(client, tracker)
	return client
}

// versions gives objects resource versions.
type versions struct{ last atomic.Int64 }

func newVersions(objects []runtime.Object) *versions {
	v := &versions{}
	v.last.Store(1000)
	for _, obj := range objects {
		v.next(obj)
	}
	return v
}

func (v *versions) next(obj runtime.Object) {
	if m, err := meta.Accessor(obj); err == nil {
		m.SetResourceVersion(strconv.FormatInt(v.last.Add(1), 10))
	}
}

// react gives what is written through the client a version, and new objects a UID.
func (v *versions) react(client *fake.Clientset, tracker clienttesting.ObjectTracker) {
	client.PrependReactor("create", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if c, ok := a.(clienttesting.CreateAction); ok && c.GetSubresource() == "" {
			v.next(c.GetObject())
			if m, err := meta.Accessor(c.GetObject()); err == nil && m.GetUID() == "" {
				m.SetUID(types.UID("uid-" + m.GetResourceVersion()))
			}
		}
		return false, nil, nil
	})
	client.PrependReactor("update", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if u, ok := a.(clienttesting.UpdateAction); ok {
			v.next(u.GetObject())
		}
		return false, nil, nil
	})
	client.PrependReactor("patch", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		handled, obj, err := clienttesting.ObjectReaction(tracker)(a)
		if err != nil || obj == nil {
			return handled, obj, err
		}
		obj = obj.DeepCopyObject()
		v.next(obj)
		return true, obj, tracker.Update(a.GetResource(), obj, a.GetNamespace())
	})
}

func (b *bed) start() {
	b.Helper()
	level := slog.LevelDebug
	if b.quiet {
		level = slog.LevelWarn
	}
	log := slog.New(slog.NewTextHandler(b.Output(), &slog.HandlerOptions{Level: level}))
	if b.provider == nil {
		b.provider = b.cloud
	}
	if b.telling {
		b.provider = tellingCloud{b.cloud}
	}
	agent, err := New(b.cfg, b.client, b.provider, clock.RealClock{}, log, NewMetrics(nil))
	if err != nil {
		b.Fatal(err)
	}
	b.agent = agent
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- agent.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			b.Errorf("Run returned %v", err)
		}
		b.stop = func() {}
	}
	b.Cleanup(func() { b.stop() })
}

// eventually waits, in the bubble's time, until the condition returns nil.
func (b *bed) eventually(what string, condition func() error) {
	b.Helper()
	var err error
	for range 3000 {
		synctest.Wait()
		if err = condition(); err == nil {
			return
		}
		<-time.After(100 * time.Millisecond) // the bubble's clock moves at once
	}
	b.Fatalf("%s: not within 300 s: %v", what, err)
}

// settle lets the bubble's time pass.
func (b *bed) settle(d time.Duration) {
	<-time.After(d) // the bubble's clock moves at once
	synctest.Wait()
}

func (b *bed) create(pod *corev1.Pod) {
	b.Helper()
	if _, err := b.client.CoreV1().Pods(pod.Namespace).Create(b.Context(), pod, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
}

func (b *bed) pod(name string) *corev1.Pod {
	b.Helper()
	pod, err := b.client.CoreV1().Pods("default").Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return pod
}

// remove deletes a pod as the API server does for a pod on a node: it waits for
// the node.
func (b *bed) remove(name string) {
	b.Helper()
	pod := b.pod(name)
	pod.DeletionTimestamp = ptr.To(metav1.Now())
	pod.DeletionGracePeriodSeconds = ptr.To[int64](30)
	if _, err := b.client.CoreV1().Pods("default").Update(b.Context(), pod, metav1.UpdateOptions{}); err != nil {
		b.Fatal(err)
	}
}

func (b *bed) phase(name string, want corev1.PodPhase) {
	b.Helper()
	b.eventually("pod "+name+" is "+string(want), func() error {
		if got := b.pod(name).Status; got.Phase != want {
			return fmt.Errorf("phase %q, reason %q, message %q", got.Phase, got.Reason, got.Message)
		}
		return nil
	})
}

func (b *bed) absent(name string) {
	b.Helper()
	b.eventually("pod "+name+" is gone", func() error {
		_, err := b.client.CoreV1().Pods("default").Get(context.Background(), name, metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("get returned %w", err)
		}
		return nil
	})
}

func (b *bed) groups(want ...string) {
	b.Helper()
	b.eventually(fmt.Sprintf("groups are %v", want), func() error {
		if got := b.cloud.ids(); fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})
}

func (b *bed) events(name string) map[string]int {
	b.Helper()
	list, err := b.client.CoreV1().Events("default").List(context.Background(), metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	got := map[string]int{}
	for _, e := range list.Items {
		if e.InvolvedObject.Name == name {
			got[e.Reason]++
		}
	}
	return got
}

// onPatch calls f with the name of every pod that is patched from now on.
func (b *bed) onPatch(f func(name string)) {
	b.client.PrependReactor("patch", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if p, ok := a.(clienttesting.PatchAction); ok {
			f(p.GetName())
		}
		return false, nil, nil
	})
}

// testPod is a pod bound to the node.
func testPod(name string, edit ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid-" + name), Generation: 1},
		Spec: corev1.PodSpec{
			NodeName: testNode, RestartPolicy: corev1.RestartPolicyAlways, ServiceAccountName: "default",
			EnableServiceLinks: ptr.To(true), DNSPolicy: corev1.DNSDefault,
			Containers: []corev1.Container{{Name: "app", Image: "nginx"}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	for _, e := range edit {
		e(pod)
	}
	return pod
}

func ours() providers.Owner { return providers.Owner{ClusterUID: testCluster, NodeName: testNode} }

func ran(pod *corev1.Pod) {
	s := running("app")
	pod.Status = runningStatus(pod, &s, place{hostIP: "192.0.2.1"}, time.Now(), time.Now())
}
