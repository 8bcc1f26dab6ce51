package webhook

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// largeSnapshot is a cluster of a thousand namespaces and two hundred policies
// that look at every pod of shop before its namespace decides.
func largeSnapshot() *policy.Snapshot {
	s := snapshot()
	for i := range 1000 {
		s.Namespaces[fmt.Sprint("team-", i)] = policy.Namespace{}
	}
	for i := range 100 {
		p := v1alpha1.BurstPolicy{Spec: v1alpha1.BurstPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprint("other-", i)}},
		}}
		p.Namespace, p.Name = "shop", fmt.Sprint("p-", i)
		s.Policies["shop"] = append(s.Policies["shop"], policy.Compile(&p))
		c := v1alpha1.ClusterBurstPolicy{Spec: v1alpha1.ClusterBurstPolicySpec{
			NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{"team": fmt.Sprint(i)}},
		}}
		c.Name = fmt.Sprint("c-", i)
		s.Policies[""] = append(s.Policies[""], policy.Compile(&c))
	}
	s.Index = policy.NewIndex(s.Policies, s.Namespaces)
	return s
}

// largePod is a pod as large as they commonly get: three containers, 40
// environment variables, 11 KiB.
func largePod() string {
	var containers, env []string
	for i := range 40 {
		env = append(env, fmt.Sprintf(`{"name":"SETTING_%d","value":"%s"}`, i, strings.Repeat("v", 40)))
	}
	for i := range 3 {
		containers = append(containers, fmt.Sprintf(`{"name":"c%d","image":"registry.example/app:%d","env":[%s],
			"resources":{"requests":{"cpu":"250m","memory":"256Mi"},"limits":{"memory":"512Mi"}},
			"ports":[{"name":"http","containerPort":808%d,"protocol":"TCP"}],
			"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent"}`, i, i, strings.Join(env, ","), i))
	}
	return `{"kind":"Pod","apiVersion":"v1","metadata":{"generateName":"web-1-","labels":{"app":"web"},` + owned + `},"spec":{
		"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","schedulerName":"default-scheduler",
		"tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}],
		"containers":[` + strings.Join(containers, ",") + `]},"status":{}}`
}

// TestSpeed holds the handler to a p99 of 2 ms, from the request to the answer.
// Other programs on the machine only ever make it slower, so the best of a few
// rounds counts.
func TestSpeed(t *testing.T) {
	const (
		limit  = 2 * time.Millisecond
		rounds = 8
		each   = 1000
	)
	h, _ := register(t, Options{Snapshots: &facts{snapshot: largeSnapshot()}})
	body := []byte(review(largePod()))
	if r := postInProcess(t, h[PodsPath], body); r.AuditAnnotations["reason"] != string(policy.LocalFirst) || len(r.Patch) == 0 {
		t.Fatalf("the pod is not granted: %v", r.AuditAnnotations)
	}
	best := time.Hour
	for range rounds {
		durations := make([]time.Duration, each)
		for i := range durations {
			w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/?timeout=2s", bytes.NewReader(body))
			start := time.Now()
			h[PodsPath].ServeHTTP(w, r)
			durations[i] = time.Since(start)
		}
		slices.Sort(durations)
		best = min(best, durations[each*99/100])
		if best <= limit*raceSlowdown {
			break
		}
	}
	t.Logf("p99 %v for a pod of %d bytes", best, len(body))
	if best > limit*raceSlowdown {
		t.Errorf("p99 %v, want at most %v", best, limit*raceSlowdown)
	}
}

func BenchmarkPods(b *testing.B) {
	h, _ := register(b, Options{Snapshots: &facts{snapshot: largeSnapshot()}})
	for name, body := range map[string][]byte{
		"granted/small": []byte(review(plainPod)),
		"granted/large": []byte(review(largePod())),
		"ignored/large": []byte(review(largePod(), set("namespace", "other"))),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/?timeout=2s", bytes.NewReader(body))
				h[PodsPath].ServeHTTP(w, r)
			}
		})
	}
}
