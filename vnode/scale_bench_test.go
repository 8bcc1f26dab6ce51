package vnode

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/providers"
)

// usualPod is a pod as a Deployment makes it and the API server holds it: with
// environment, probes, a token volume and what kubectl and the scheduler leave.
func usualPod(i int) *corev1.Pod {
	var env []corev1.EnvVar
	for k := range 20 {
		env = append(env, corev1.EnvVar{Name: fmt.Sprintf("SETTING_%d", k), Value: fmt.Sprintf("value-of-the-setting-%d-%d", k, i%7)})
	}
	probe := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Scheme: corev1.URISchemeHTTP}}, PeriodSeconds: 10, TimeoutSeconds: 1, FailureThreshold: 3, SuccessThreshold: 1}
	pod := testPod(fmt.Sprintf("shop-frontend-7d9c5b8f6d-%05d", i), func(p *corev1.Pod) {
		p.UID = types.UID(fmt.Sprintf("1b4e28ba-2fa1-11d2-883f-%012d", i))
		p.Labels = map[string]string{"app": "shop", "tier": "frontend", "pod-template-hash": "7d9c5b8f6d"}
		p.Annotations = map[string]string{corev1.LastAppliedConfigAnnotation: string(make([]byte, 2000)), "autoburst.io/decided-by": "ClusterBurstPolicy/all"}
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "shop-frontend-7d9c5b8f6d", UID: "rs", Controller: ptr.To(true)}}
		fields := new(metav1.FieldsV1)
		fields.SetRawBytes(make([]byte, 4000))
		p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kube-scheduler", FieldsV1: fields}}
		for _, c := range []string{"app", "proxy"} {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
				Name: c, Image: "registry.example.com/shop/" + c + ":1.2.3", Env: env, Args: []string{"--listen=:8080", "--log=json"},
				Resources:     corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("1Gi")}},
				LivenessProbe: probe.DeepCopy(), ReadinessProbe: probe.DeepCopy(),
				VolumeMounts: []corev1.VolumeMount{{Name: "kube-api-access", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}},
			})
		}
		p.Spec.Containers = p.Spec.Containers[1:]
		p.Spec.Volumes = []corev1.Volume{{Name: "kube-api-access", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}, {ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}}},
		}}}}}
		p.Spec.Tolerations = []corev1.Toleration{{Key: "node.kubernetes.io/not-ready", Operator: corev1.TolerationOpExists}, {Key: "node.kubernetes.io/unreachable", Operator: corev1.TolerationOpExists}}
	})
	// What came over the wire shares nothing with other pods.
	data, err := pod.Marshal()
	if err != nil {
		panic(err)
	}
	pod = new(corev1.Pod)
	if err := pod.Unmarshal(data); err != nil {
		panic(err)
	}
	s := running("app", "proxy")
	pod.Status = runningStatus(pod, &s, place{hostIP: "192.0.2.1"}, time.Now(), time.Now())
	return pod
}

// still is a reconciler of n pods that run, without an API server: nothing of
// what is measured may write.
func still(b *testing.B, n int, telling bool) (*reconciler, *memoryCloud) {
	b.Helper()
	cloud := newMemoryCloud()
	cloud.listStatus = telling
	var provider providers.Provider = cloud
	if telling {
		provider = tellingCloud{cloud}
	}
	cfg := newBedConfig().withDefaults()
	client := fakeClient()
	pods := newPodCache(client, testNode)
	metrics := NewMetrics(nil)
	log := slog.New(slog.DiscardHandler)
	clk := clock.RealClock{}
	keeper := newNodeKeeper(cfg, client, provider, clk, log, pods, metrics)
	r := newReconciler(cfg, client, provider, pods, newEventSink(client, testNode, clk, log, metrics), keeper, keeper.circuit, keeper.pulse, clk, log, metrics)
	r.queue = workqueue.NewTypedDelayingQueue[types.UID]()
	b.Cleanup(r.queue.ShutDown)
	for i := range n {
		pod := usualPod(i)
		s := running("app", "proxy")
		for c := range s.Containers {
			s.Containers[c].State = pod.Status.ContainerStatuses[c].State
		}
		cloud.put(pod, ours(), s)
		trimmed, err := trim(pod)
		if err != nil {
			b.Fatal(err)
		}
		if err := pods.informer.GetStore().Add(trimmed); err != nil {
			b.Fatal(err)
		}
	}
	return r, cloud
}

// work does all that is queued.
func (r *reconciler) work(ctx context.Context, b *testing.B) {
	for r.queue.Len() > 0 {
		uid, _ := r.queue.Get()
		if _, err := r.sync(ctx, uid); err != nil {
			b.Fatal(err)
		}
		r.queue.Done(uid)
	}
}

// BenchmarkSweep is a complete listing of groups that are as they were.
func BenchmarkSweep(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r, _ := still(b, n, true)
			ctx := context.Background()
			if err := r.sweep(ctx); err != nil {
				b.Fatal(err)
			}
			r.work(ctx, b)
			b.ReportAllocs()
			for b.Loop() {
				if err := r.sweep(ctx); err != nil {
					b.Fatal(err)
				}
				if r.queue.Len() > 0 {
					b.Fatalf("%d pods are looked at although nothing has changed", r.queue.Len())
				}
			}
		})
	}
}

// BenchmarkFullPass is a look at every pod, as each 5 minutes.
func BenchmarkFullPass(b *testing.B) {
	r, _ := still(b, 1000, true)
	ctx := context.Background()
	if err := r.sweep(ctx); err != nil {
		b.Fatal(err)
	}
	r.work(ctx, b)
	b.ReportAllocs()
	for b.Loop() {
		r.lookAtAll(true)
		r.work(ctx, b)
	}
}

// BenchmarkPlanOfReads is one look at which groups are due.
func BenchmarkPlanOfReads(b *testing.B) {
	r, cloud := still(b, 1000, false)
	ctx := context.Background()
	if err := r.sweep(ctx); err != nil {
		b.Fatal(err)
	}
	r.work(ctx, b)
	for _, id := range cloud.ids() {
		g, err := cloud.Get(ctx, id)
		if err != nil {
			b.Fatal(err)
		}
		r.ledger.take(time.Now(), time.Now(), *g)
	}
	now := time.Now().Add(time.Minute)
	b.ReportAllocs()
	for b.Loop() {
		r.due(now)
	}
}

// BenchmarkMemory reports what the agent keeps for each pod that runs.
func BenchmarkMemory(b *testing.B) {
	const n = 5000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		r, cloud := still(b, n, true)
		if err := r.sweep(context.Background()); err != nil {
			b.Fatal(err)
		}
		r.work(context.Background(), b)
		cloud.groups, cloud.specs, cloud.changed = nil, nil, nil
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/pod")
		runtime.KeepAlive(r)
	}
}
