package store

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// What the project promises of a large cluster.
const (
	scaleNodes    = 5_000
	scalePods     = 100_000
	scalePolicies = 1_000
	// More than the pods need: those of earlier rollouts stay without pods.
	scaleReplicaSets = 20_000
	// One pod in so many waits for a node, and has its whole specification.
	scalePending = 100

	maxMemory      = 400 << 20
	maxUnselected  = 10 * time.Microsecond
	maxBursts      = 30 * time.Microsecond
	maxStoreUpdate = 5 * time.Microsecond
)

// scalePod is a pod as workloads commonly have them: two containers with
// environment, probes and mounts, and the managed fields of four writers.
func scalePod(i int) *corev1.Pod {
	app := fmt.Sprintf("app-%03d", i%500)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: fmt.Sprintf("team-%03d", i%200), Name: fmt.Sprintf("%s-7d4b9c6f5-%05d", app, i), GenerateName: app + "-7d4b9c6f5-",
			UID: types.UID(fmt.Sprintf("5f0c1e3a-0000-4000-8000-%012d", i)), ResourceVersion: fmt.Sprint(1_000_000 + i),
			CreationTimestamp: metav1.NewTime(time.Unix(1_790_000_000, 0)),
			Labels:            map[string]string{"app": app, "pod-template-hash": "7d4b9c6f5", "team": fmt.Sprintf("team-%03d", i%200), "tier": "web"},
			Annotations:       map[string]string{"prometheus.io/scrape": "true", "prometheus.io/port": "8080", "checksum/config": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: app + "-7d4b9c6f5", UID: types.UID(fmt.Sprintf("0aa0c1e3-0000-4000-8000-%012d", i%500)), Controller: ptr.To(true),
			}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, QOSClass: corev1.PodQOSBurstable, PodIP: "10.0.0.1"},
	}
	for w := range 4 {
		p.ManagedFields = append(p.ManagedFields, metav1.ManagedFieldsEntry{
			Manager: fmt.Sprint("writer-", w), Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", FieldsType: "FieldsV1",
			FieldsV1: metav1.NewFieldsV1(strings.Repeat("f", 600)),
		})
	}
	for _, name := range []string{"app", "proxy"} {
		c := corev1.Container{
			Name: name, Image: "registry.example/" + app + ":1.2.3",
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m"), corev1.ResourceMemory: resource.MustParse("256Mi")},
				Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("512Mi")},
			},
			Ports:         []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}},
			VolumeMounts:  []corev1.VolumeMount{{Name: "token", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}},
			LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}}},
		}
		for e := range 10 {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("SETTING_%d", e), Value: "some value of a setting"})
		}
		p.Spec.Containers = append(p.Spec.Containers, c)
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: name, Ready: true, Image: c.Image, ImageID: c.Image + "@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"})
	}
	p.Spec.Tolerations = []corev1.Toleration{
		{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To(int64(300))},
		{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To(int64(300))},
	}
	if i%scalePending == 0 {
		p.Status = corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
			Message: "0/5002 nodes are available: 5000 Insufficient cpu, 2 node(s) had untolerated taint(s).",
		}}}
	} else {
		p.Spec.NodeName = fmt.Sprintf("node-%04d", i%scaleNodes)
	}
	return p
}

// received is an object as an informer keeps it: decoded from the wire, so that
// no two objects share a string, then trimmed. The bytes are those of the API
// server's protobuf without its envelope.
func received(b *testing.B, shared *interner, p *corev1.Pod) *corev1.Pod {
	b.Helper()
	wire, err := p.Marshal()
	if err != nil {
		b.Fatal(err)
	}
	q := new(corev1.Pod)
	if err := q.Unmarshal(wire); err != nil {
		b.Fatal(err)
	}
	TrimPod(q)
	shared.pod(q)
	return q
}

// large is a Store of a large cluster and the informers' own caches of it, which
// hold the same objects.
func large(b *testing.B) (*Store, []toolscache.Indexer) {
	b.Helper()
	s := New(Options{})
	indexer := func() toolscache.Indexer {
		return toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, toolscache.Indexers{toolscache.NamespaceIndex: toolscache.MetaNamespaceIndexFunc})
	}
	nodes, pods, policies, owners := indexer(), indexer(), indexer(), indexer()
	for i := range scaleReplicaSets {
		r := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{
			Namespace: fmt.Sprintf("team-%03d", i%200), Name: fmt.Sprintf("app-%03d-%05d", i%500, i), UID: types.UID(fmt.Sprintf("0aa0c1e3-0000-4000-8000-%012d", i)),
			OwnerReferences: []metav1.OwnerReference{{Kind: "Deployment", Name: fmt.Sprintf("app-%03d", i%500), UID: types.UID(fmt.Sprintf("0bb0c1e3-0000-4000-8000-%012d", i%500)), Controller: ptr.To(true)}},
		}}
		r.Spec.Replicas = ptr.To(int32(10))
		o, err := trimOwner(r)
		if err == nil {
			err = owners.Add(o)
		}
		if err != nil {
			b.Fatal(err)
		}
		ownerHandler{s}.OnAdd(o, true)
	}
	for i := range 200 {
		s.setNamespace(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("team-%03d", i), Labels: map[string]string{"team": fmt.Sprintf("team-%03d", i)}}})
	}
	for i := range scaleNodes {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node-%04d", i), Labels: map[string]string{
			corev1.LabelHostname: fmt.Sprintf("node-%04d", i), corev1.LabelTopologyZone: fmt.Sprint("zone-", i%3), corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
		}}}
		n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("16"), corev1.ResourceMemory: resource.MustParse("64Gi"), corev1.ResourcePods: resource.MustParse("110")}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		TrimNode(n)
		if err := nodes.Add(n); err != nil {
			b.Fatal(err)
		}
		s.setNode(n)
	}
	for i := range scalePolicies {
		p := &v1alpha1.ClusterBurstPolicy{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("policy-%04d", i), UID: types.UID(fmt.Sprint("policy-", i))}}
		p.Spec.NamespaceSelector.MatchLabels = map[string]string{"team": fmt.Sprintf("team-%03d", i%200)}
		p.Spec.PodSelector.MatchLabels = map[string]string{"burst": fmt.Sprint(i)}
		if err := policies.Add(p); err != nil {
			b.Fatal(err)
		}
		s.setPolicy(p, &p.Status, func() *policy.Policy { return policy.Compile(p) })
	}
	h, shared := podHandler{s}, newInterner()
	for i := range scalePods {
		p := received(b, shared, scalePod(i))
		if err := pods.Add(p); err != nil {
			b.Fatal(err)
		}
		h.OnAdd(p, true)
	}
	s.rebuild(allSections)
	return s, []toolscache.Indexer{nodes, pods, policies, owners}
}

// BenchmarkScale holds a cluster of 100,000 pods, 20,000 ReplicaSets, 5,000 nodes
// and 1,000 policies to its cost in memory and time. The objects do not come through an API server
// but are decoded from its wire format and kept as the informers keep them.
func BenchmarkScale(b *testing.B) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(380 << 20)) // as the chart does
	debug.FreeOSMemory()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s, caches := large(b)
	runtime.ReadMemStats(&after)
	total := after.Sys - after.HeapReleased
	runtime.GC()
	runtime.ReadMemStats(&after)
	live := after.HeapAlloc - before.HeapAlloc
	b.Run("memory", func(b *testing.B) {
		for b.Loop() { // measured above, as it can be only once
		}
		b.ReportMetric(float64(live)/(1<<20), "MB-live")
		b.ReportMetric(float64(total)/(1<<20), "MB-of-process")
		if total > maxMemory {
			b.Errorf("the process holds %d MB, of which %d MB are in use, want at most %d MB", total>>20, live>>20, maxMemory>>20)
		}
	})

	h := podHandler{s}
	pending, bound := received(b, newInterner(), scalePod(0)), received(b, newInterner(), scalePod(1))
	within(b, "five pod events", 5*maxStoreUpdate, func(*testing.B) {
		// What a busy cluster sends of two pods.
		h.OnAdd(pending, false)
		h.OnAdd(bound, false)
		h.OnUpdate(bound, bound)
		h.OnDelete(bound)
		h.OnDelete(pending)
	})

	s.setNode(virtualNode())
	s.rebuild(0)
	snapshot := s.Snapshot()
	decide := func(burst string, want policy.Reason) func(*testing.B) {
		pod := scalePod(1)
		pod.Spec.NodeName = ""
		pod.Labels["burst"] = burst
		return func(b *testing.B) {
			if d := policy.Evaluate(snapshot, pod.Namespace, pod); d.Reason != want {
				b.Fatalf("the decision is %s (%s), want %s", d.Reason, d.Message, want)
			}
		}
	}
	within(b, "decide/unselected", maxUnselected, decide("no", policy.NotSelected))
	within(b, "decide/bursts", maxBursts, decide("201", policy.LocalFirst))
	runtime.KeepAlive(caches)
}

// within fails when f takes longer than it may. The first calls of a benchmark
// are too few to judge by.
func within(b *testing.B, name string, most time.Duration, f func(*testing.B)) {
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f(b)
		}
		if each := b.Elapsed() / time.Duration(b.N); b.N >= 1000 && each > most {
			b.Errorf("%v, want at most %v", each, most)
		}
	})
}

// virtualNode is one as the agent registers it.
func virtualNode() *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "virtual-eci", Labels: map[string]string{
		v1alpha1.VirtualNodeLabel: v1alpha1.VirtualNodeValue, v1alpha1.ProviderLabel: "eci",
	}}}
	n.Spec.Taints = []corev1.Taint{{Key: v1alpha1.ProviderTaintKey, Value: "alibabacloud", Effect: corev1.TaintEffectNoSchedule}}
	for i := range v1alpha1.SoftTaints {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: fmt.Sprint(v1alpha1.SoftTaintPrefix, i+1), Effect: corev1.TaintEffectPreferNoSchedule})
	}
	n.Annotations = map[string]string{v1alpha1.CapabilitiesAnnotation: burstable.Capabilities{Provider: "eci", Features: []burstable.Feature{burstable.HTTPProbe, burstable.SharedPorts}}.String()}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1000"), corev1.ResourceMemory: resource.MustParse("4Ti"), corev1.ResourcePods: resource.MustParse("1000")}
	return n
}
