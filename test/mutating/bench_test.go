package mutating

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BenchmarkCreate compares what admission adds to the creation of a pod: in the
// API server itself, and by a call of the webhook. The pods are gated, so that no
// scheduler competes; each is compared with one of a namespace that is not served,
// created right before. It ends with the webhook installed.
func BenchmarkCreate(b *testing.B) {
	const pods = 200
	plainNamespace, served := namespace(b, "bench-none", ""), namespace(b, "bench-always", "Always")
	for _, mode := range []string{"policy", "webhook"} {
		if mode == "webhook" {
			reinstall(b, "admission=Webhook")
		}
		b.Run(mode, func(b *testing.B) {
			for range b.N {
				took := map[string][]time.Duration{}
				for i := range pods {
					for _, ns := range []string{plainNamespace, served} {
						p := plain(fmt.Sprintf("%s-%d", mode, i))
						p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "autoburst.io/bench"}}
						begin := time.Now()
						created, err := create(b.Context(), ns, p, false)
						took[ns] = append(took[ns], time.Since(begin))
						if err != nil {
							b.Fatal(err)
						}
						if got := created.Annotations["autoburst.io/grant"]; (got != "") != (ns == served) {
							b.Fatalf("a pod of namespace %s was granted %q", ns, got)
						}
					}
				}
				for ns, name := range map[string]string{plainNamespace: "none", served: mode} {
					slices.Sort(took[ns])
					b.ReportMetric(float64(took[ns][pods/2].Microseconds())/1000, name+"-p50-ms")
					b.ReportMetric(float64(took[ns][pods*99/100].Microseconds())/1000, name+"-p99-ms")
				}
				for _, ns := range []string{plainNamespace, served} {
					if err := client().CoreV1().Pods(ns).DeleteCollection(b.Context(), metav1.DeleteOptions{GracePeriodSeconds: new(int64)}, metav1.ListOptions{}); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
