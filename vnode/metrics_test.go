package vnode

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/providers"
)

// TestFiguresOfTheLeader follows a pod from its binding, and a group that the cloud
// tells the size of; an agent that leads no more takes back what only a leader knows.
func TestFiguresOfTheLeader(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.as(tellsChanges)
		b.start()
		b.settle(time.Second)
		b.create(testPod("web", func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
		}))
		b.settle(25 * time.Second)
		told := running("app")
		told.CPUMillis, told.MemoryBytes = 2500, 5<<30
		b.cloud.set("g-uid-web", told)
		b.phase("web", corev1.PodRunning)
		b.settle(30 * time.Second) // the next sweep
		m := b.agent.metrics
		registry := prometheus.NewRegistry()
		registry.MustRegister(m.startup, m.cores, m.memory, m.pods)
		if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP autoburst_vnode_billed_cpu_cores [ALPHA] vCPUs of the groups that had not ended at the last sweep, in the sizes that the cloud sells.
# TYPE autoburst_vnode_billed_cpu_cores gauge
autoburst_vnode_billed_cpu_cores 2.5
# HELP autoburst_vnode_billed_memory_bytes [ALPHA] Memory of the groups that had not ended at the last sweep, in the sizes that the cloud sells.
# TYPE autoburst_vnode_billed_memory_bytes gauge
autoburst_vnode_billed_memory_bytes 5.36870912e+09
# HELP autoburst_vnode_pods [BETA] Pods of the virtual node at the last sweep, by phase.
# TYPE autoburst_vnode_pods gauge
autoburst_vnode_pods{phase="Failed"} 0
autoburst_vnode_pods{phase="Pending"} 0
autoburst_vnode_pods{phase="Running"} 1
autoburst_vnode_pods{phase="Succeeded"} 0
autoburst_vnode_pods{phase="Unknown"} 0
`), "autoburst_vnode_billed_cpu_cores", "autoburst_vnode_billed_memory_bytes", "autoburst_vnode_pods"); err != nil {
			t.Error(err)
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if h := f.GetMetric()[0].GetHistogram(); h != nil && (h.GetSampleCount() != 1 || h.GetSampleSum() < 24 || h.GetSampleSum() > 40) {
				t.Errorf("%d starts that took %g s, want one of 25 s", h.GetSampleCount(), h.GetSampleSum())
			}
		}
		if got := testutil.ToFloat64(m.requests.WithLabelValues("Create", codeOK)); got != 1 {
			t.Errorf("%g creates, want 1", got)
		}
		for _, condition := range conditionTypes {
			if got := testutil.ToFloat64(m.conditions.WithLabelValues(condition)); got != 1 {
				t.Errorf("condition %s is %g, want 1", condition, got)
			}
		}

		b.agent.metrics.standBy()
		for what, got := range map[string]float64{
			"leads": testutil.ToFloat64(m.leads), "reachable": testutil.ToFloat64(m.reachable), "cores": testutil.ToFloat64(m.cores),
			"ready": testutil.ToFloat64(m.conditions.WithLabelValues(string(corev1.NodeReady))), "pods": float64(testutil.CollectAndCount(m.pods)),
		} {
			if got != 0 {
				t.Errorf("%s is %g in an agent that stands by", what, got)
			}
		}
	})
}

func TestCallsAreCountedByCode(t *testing.T) {
	m := NewMetrics(nil)
	m.call("Create", time.Second, nil)
	m.call("Create", time.Second, &providers.Error{Class: providers.OutOfStock})
	m.call("Create", time.Second, &providers.Error{Class: providers.Throttled, Code: "QuotaOfRequests"})
	if err := testutil.CollectAndCompare(m.requests, strings.NewReader(`
# HELP autoburst_provider_requests_total [BETA] Calls to the cloud, by operation and by code: OK, or the class of the error.
# TYPE autoburst_provider_requests_total counter
autoburst_provider_requests_total{code="OK",operation="Create"} 1
autoburst_provider_requests_total{code="OutOfStock",operation="Create"} 1
autoburst_provider_requests_total{code="Throttled",operation="Create"} 1
`)); err != nil {
		t.Error(err)
	}
}
