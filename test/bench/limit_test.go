package bench

import (
	"context"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/playground"
)

// maxLimitRatio is how much longer a burst may take under a limit that leaves
// room than without one.
const maxLimitRatio = 1.5

// BenchmarkLimit compares a burst of 200 pods under a limit of 1,000 with the
// same burst without a limit.
func BenchmarkLimit(b *testing.B) {
	ctx := context.Background()
	if err := system.CreateNamespace(ctx, "limited", nil); err != nil {
		b.Fatal(err)
	}
	if _, err := system.Kubectl(ctx, "{apiVersion: autoburst.io/v1alpha1, kind: BurstPolicy, metadata: {name: limited}, spec: {limits: {pods: 1000}}}",
		"--namespace=limited", "apply", "-f", "-"); err != nil {
		b.Fatal(err)
	}
	// Until every replica has a share: pods that only ask are granted at admission.
	if err := playground.Poll(ctx, time.Minute, "pods are granted at admission under the limit", func(ctx context.Context) (bool, error) {
		granted, err := grantedAtAdmission(ctx, 10)
		remove(b, "limited")
		return granted == 10, err
	}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		var ratios, withouts, withs []float64
		direct := 0
		for round := range rounds + 1 {
			var without, with time.Duration
			runs := []func() error{
				func() (err error) {
					without, err = create(b.Context(), pods("served", burstPods, nil))
					remove(b, "served")
					return err
				},
				func() (err error) {
					with, err = create(b.Context(), pods("limited", burstPods, nil))
					n, listErr := countAtAdmission(b.Context())
					if listErr != nil {
						b.Fatal(listErr)
					}
					direct += n
					remove(b, "limited")
					return err
				},
			}
			if round%2 == 1 { // neither is always first
				slices.Reverse(runs)
			}
			for _, run := range runs {
				if err := run(); err != nil {
					b.Fatal(err)
				}
			}
			if round == 0 {
				continue // connections, caches
			}
			withouts, withs = append(withouts, without.Seconds()), append(withs, with.Seconds())
			ratios = append(ratios, with.Seconds()/without.Seconds())
		}
		b.ReportMetric(median(withouts), "s/without-limit")
		b.ReportMetric(median(withs), "s/with-limit")
		b.ReportMetric(median(ratios), "ratio")
		b.ReportMetric(100*float64(direct)/float64(burstPods*(rounds+1)), "%/at-admission")
		if r := median(ratios); r > maxLimitRatio {
			b.Errorf("200 pods under a limit took %.2f times what they take without one (each run: %.2f), want at most %.2f", r, ratios, maxLimitRatio)
		}
	}
}

// grantedAtAdmission creates a few pods and counts those that were granted at
// once.
func grantedAtAdmission(ctx context.Context, count int) (int, error) {
	for _, p := range pods("limited", count, nil) {
		if _, err := client.CoreV1().Pods("limited").Create(ctx, p, metav1.CreateOptions{}); err != nil {
			return 0, err
		}
	}
	return countAtAdmission(ctx)
}

func countAtAdmission(ctx context.Context) (int, error) {
	list, err := client.CoreV1().Pods("limited").List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	return len(slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.Annotations["autoburst.io/grant"] != "Admission" })), nil
}
