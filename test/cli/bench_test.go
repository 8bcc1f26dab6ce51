package cli

import (
	"context"
	"flag"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/autoburst/autoburst/test/playground"
)

var podCount = flag.Int("pods", 100_000, "how many pods the benchmarks run beside")

// BenchmarkLarge measures the commands in a cluster with many pods, most of which have
// to do with nothing. A thousand wait in a served namespace.
func BenchmarkLarge(b *testing.B) {
	ctx := b.Context()
	config := system.Config()
	config.QPS, config.ContentType = -1, "application/vnd.kubernetes.protobuf"
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		b.Fatal(err)
	}
	const nodes, waiting = 200, 1000
	for name, annotations := range map[string]map[string]string{"bulk": nil, "waits": {"autoburst.io/mode": "Overflow"}} {
		if err := system.CreateNamespace(ctx, name, annotations); err != nil {
			b.Fatal(err)
		}
	}
	for i := range nodes { // nobody keeps them, so that only this test writes
		_, err := c.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("bulk-%d", i)}}, metav1.CreateOptions{})
		if err != nil {
			b.Fatal(err)
		}
	}
	begun := time.Now()
	create := func(namespace, node, name string) func() error {
		return func() error {
			_, err := c.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "web", "pod-template-hash": "7d4b9c6f5"}},
				Spec: corev1.PodSpec{
					NodeName: node, Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
					NodeSelector: map[string]string{"is": "nowhere"},
					Containers:   []corev1.Container{{Name: "app", Image: "nginx:1.29"}},
				},
			}, metav1.CreateOptions{})
			return err
		}
	}
	all := errgroup.Group{}
	all.SetLimit(64)
	for i := range *podCount {
		all.Go(create("bulk", fmt.Sprintf("bulk-%d", i%nodes), fmt.Sprintf("web-%d", i)))
	}
	for i := range waiting {
		all.Go(create("waits", "", fmt.Sprintf("web-%d", i)))
	}
	if err := all.Wait(); err != nil {
		b.Fatal(err)
	}
	b.Logf("made %d pods in %s", *podCount+waiting, time.Since(begun).Round(time.Second))
	err = playground.Poll(ctx, 5*time.Minute, "the API server shows them", func(ctx context.Context) (bool, error) {
		list, err := c.CoreV1().Pods("waits").List(ctx, metav1.ListOptions{Limit: 1, ResourceVersion: "0"})
		return err == nil && len(list.Items) > 0, err
	})
	if err != nil {
		b.Fatal(err)
	}
	for _, args := range [][]string{{"status"}, {"check"}, {"version"}} {
		b.Run(args[0], func(b *testing.B) {
			for b.Loop() {
				if out, err := runPlugin(b.Context(), args...); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
			}
		})
	}
}
