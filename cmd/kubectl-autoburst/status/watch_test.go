package status

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/installation"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// TestWatch looks at once, again when a policy has changed, and ends with its context
// and with what looks; nothing is left running.
func TestWatch(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	changes := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/burstpolicies") || r.URL.Query().Get("watch") != "true" {
			http.Error(w, "no", http.StatusForbidden) // what may not be watched is no reason to end
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.(http.Flusher).Flush()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-changes:
				raw, err := json.Marshal(v1alpha1.BurstPolicy{TypeMeta: metav1.TypeMeta{Kind: "BurstPolicy", APIVersion: "autoburst.io/v1alpha1"}, ObjectMeta: metav1.ObjectMeta{Name: "p"}})
				if err != nil {
					t.Error(err)
				}
				// A failed write means that nobody watches any more.
				_ = json.NewEncoder(w).Encode(map[string]any{"type": "MODIFIED", "object": json.RawMessage(raw)})
				w.(http.Flusher).Flush()
			}
		}
	}))
	defer s.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c, err := installation.Connect(&rest.Config{Host: s.URL, Transport: transport}, "test")
	if err != nil {
		t.Fatal(err)
	}
	pace := Pace{Least: time.Millisecond, Most: time.Hour}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	looks := 0
	err = Watch(ctx, c, installation.Usual("autoburst-system"), pace, func(context.Context) error {
		if looks++; looks == 3 {
			cancel()
			return nil
		}
		go func() {
			select {
			case changes <- struct{}{}:
			case <-ctx.Done():
			}
		}()
		return nil
	})
	if err != nil || looks != 3 {
		t.Errorf("it looked %d times and ended with %v", looks, err)
	}
	failed := errors.New("no paper")
	if err := Watch(t.Context(), c, installation.Usual("autoburst-system"), pace, func(context.Context) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("when nothing can be shown it ended with %v", err)
	}
}

// The heartbeat of a node is no news, and all that is shown of it is.
func TestNews(t *testing.T) {
	node := func(change func(*corev1.Node)) watch.Event {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "virtual-eci"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionTrue}, {Type: v1alpha1.CapacityAvailableCondition, Status: corev1.ConditionTrue, Reason: "QuotaLeft"},
		}}}
		change(n)
		return watch.Event{Type: watch.Modified, Object: n}
	}
	same := func(*corev1.Node) {}
	tests := map[string]struct {
		event watch.Event
		want  bool
	}{
		"heartbeat":     {node(func(n *corev1.Node) { n.Status.Conditions[0].LastHeartbeatTime = metav1.Now() }), false},
		"not ready":     {node(func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse }), true},
		"cordoned":      {node(func(n *corev1.Node) { n.Spec.Unschedulable = true }), true},
		"no quota":      {node(func(n *corev1.Node) { n.Status.Conditions[1].Status = corev1.ConditionFalse }), true},
		"more room":     {node(func(n *corev1.Node) { n.Status.Allocatable = corev1.ResourceList{corev1.ResourcePods: *quantity("9")} }), true},
		"gone":          {watch.Event{Type: watch.Deleted, Object: node(same).Object}, true},
		"a policy":      {watch.Event{Type: watch.Modified, Object: &v1alpha1.BurstPolicy{}}, true},
		"one never met": {node(func(n *corev1.Node) { n.Name = "virtual-aci" }), true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			last := map[string]string{}
			news(last, node(same))
			if got := news(last, test.event); got != test.want {
				t.Errorf("is it news? %t", got)
			}
		})
	}
}
