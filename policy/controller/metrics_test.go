package controller

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/store"
)

func (f *fixture) figures(name, want string) {
	f.t.Helper()
	var lines []string
	for line := range strings.Lines(want) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	text := strings.Join(lines, "\n") + "\n"
	if err := testutil.GatherAndCompare(f.registry, strings.NewReader(text), name); err != nil {
		f.t.Error(err)
	}
}

func TestPolicyPods(t *testing.T) {
	f := newFixture(t)
	at := func(name, node string) *corev1.Pod {
		p := unschedulable(name)
		p.Spec.NodeName = node
		return p
	}
	f.view.pods["shop"] = []*corev1.Pod{at("1", "local-1"), at("2", "eci"), at("3", "eci"), at("4", "")}
	f.view.changes++
	f.observer.observe(t.Context())
	f.figures("autoburst_policy_pods", `
		# HELP autoburst_policy_pods [BETA] Pods that something decides for, by the kind of that and by where they are: on local nodes, on virtual nodes, or waiting for a node.
		# TYPE autoburst_policy_pods gauge
		autoburst_policy_pods{location="local",policy_kind="BurstPolicy"} 0
		autoburst_policy_pods{location="local",policy_kind="ClusterBurstPolicy"} 0
		autoburst_policy_pods{location="local",policy_kind="Namespace"} 1
		autoburst_policy_pods{location="local",policy_kind="Pod"} 0
		autoburst_policy_pods{location="virtual",policy_kind="BurstPolicy"} 0
		autoburst_policy_pods{location="virtual",policy_kind="ClusterBurstPolicy"} 0
		autoburst_policy_pods{location="virtual",policy_kind="Namespace"} 2
		autoburst_policy_pods{location="virtual",policy_kind="Pod"} 0
		autoburst_policy_pods{location="waiting",policy_kind="BurstPolicy"} 0
		autoburst_policy_pods{location="waiting",policy_kind="ClusterBurstPolicy"} 0
		autoburst_policy_pods{location="waiting",policy_kind="Namespace"} 1
		autoburst_policy_pods{location="waiting",policy_kind="Pod"} 0
	`)
}

// TestOldestWaitingPod checks that the age is by the scheduler's verdict, goes on
// after the grant under another reason, and ends when the pod has a node.
func TestOldestWaitingPod(t *testing.T) {
	f := newFixture(t)
	const head = `
		# HELP autoburst_waiting_pod_oldest_seconds [BETA] For how long the scheduler has found the oldest waiting pod unschedulable, by reason; AlreadyGranted for those that may burst and have no node yet.
		# TYPE autoburst_waiting_pod_oldest_seconds gauge
	`
	f.view.local = []*policy.LocalNode{local("roomy", "4")}
	f.clock.SetTime(start.Add(10 * time.Second))
	p := f.submit(unschedulable("web"))
	f.work()
	f.clock.Step(50 * time.Second)
	f.figures("autoburst_waiting_pod_oldest_seconds", head+`autoburst_waiting_pod_oldest_seconds{reason="FitsLocally"} 60`)
	f.view.local = nil
	f.look(store.KeyOf(p))
	f.figures("autoburst_waiting_pod_oldest_seconds", head+`autoburst_waiting_pod_oldest_seconds{reason="AlreadyGranted"} 60`)
	f.settle(p, "eci")
	if n, err := testutil.GatherAndCount(f.registry, "autoburst_waiting_pod_oldest_seconds"); n != 0 || err != nil {
		t.Errorf("%d figures once the pod has a node, %v", n, err)
	}
}
