package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A pod that only one of the clouds can run goes only there, whichever way it is
// granted.
func TestPodGoesWhereItCanRun(t *testing.T) {
	fill(t)
	tests := map[string]struct {
		spec  podSpec
		grant string
	}{
		"at admission": {podSpec{container: "workingDir: /srv"}, "Admission"},
		"late":         {podSpec{container: "workingDir: /srv", extra: preferApart}, "Late"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, "picky", overflow())
			kubectl(t, deployment("strays", 6, test.spec), "--namespace="+ns, "apply", "-f", "-")
			mustEventually(t, time.Minute, "all six run on ECI", func(ctx context.Context) (bool, error) {
				list, err := client().CoreV1().Pods(ns).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
				if err != nil {
					return false, err
				}
				for _, p := range list.Items {
					if p.Spec.NodeName != eciNode {
						return false, fmt.Errorf("pod %s is on %s, which cannot set a working directory", p.Name, p.Spec.NodeName)
					}
				}
				return len(list.Items) == 6, nil
			})
			for _, p := range pods(t, ns) {
				if got := p.Annotations[grantAnnotation]; got != test.grant {
					t.Errorf("pod %s was granted %q, want %q", p.Name, got, test.grant)
				}
			}
		})
	}
}
