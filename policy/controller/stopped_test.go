package controller

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// TestStopped: nothing is granted while bursting is stopped, waits and pressure
// go on being measured, and once it is lifted all pods are granted at the next
// look, which the change of the rules asks for.
func TestStopped(t *testing.T) {
	pressed := &v1alpha1.BurstPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "pressed"},
		Spec: v1alpha1.BurstPolicySpec{
			Mode:     v1alpha1.ModeOverflow,
			Overflow: &v1alpha1.Overflow{AfterPendingSeconds: 30, Pressure: &v1alpha1.Pressure{UnschedulablePods: 1}},
		},
		Status: v1alpha1.BurstPolicyStatus{Conditions: []metav1.Condition{{Type: v1alpha1.ConditionUnderPressure, Status: metav1.ConditionTrue}}},
	}
	f := newFixture(t)
	f.setPolicies(pressed)
	f.rules(func(s *policy.Snapshot) { s.Stopped = true })
	gauge := func(want string) {
		t.Helper()
		text := "# HELP autoburst_stopped [BETA] 1 while this replica sees that an operator has stopped all bursting, 0 otherwise.\n" +
			"# TYPE autoburst_stopped gauge\nautoburst_stopped " + want + "\n"
		if err := testutil.GatherAndCompare(f.registry, strings.NewReader(text), "autoburst_stopped"); err != nil {
			t.Error(err)
		}
	}
	gauge("1")

	f.submit(unschedulable("web"))
	f.submit(unschedulable("db"))
	if again := f.work(); again != 0 {
		t.Errorf("looked at again after %v, want not until something changes", again)
	}
	f.clock.Step(time.Minute) // the wait is over
	f.granter.waiting.again()
	f.work()
	if n := f.granter.waiting.want(policy.Ref{Kind: policy.KindPolicy, Namespace: "shop", Name: "pressed"}); n != 2 {
		t.Errorf("%d pods count for the pressure, want 2", n)
	}
	if f.patches != 0 {
		t.Fatalf("%d pods were patched", f.patches)
	}

	f.rules(func(s *policy.Snapshot) { s.Stopped = false })
	gauge("0")
	f.granter.waiting.RulesChanged()
	select {
	case <-f.granter.waiting.rules:
		f.granter.waiting.again()
	default:
		t.Fatal("the change of the rules asks for no look")
	}
	f.work()
	for _, name := range []string{"web", "db"} {
		if n := tolerates(f.pod("shop", name), hardTaint); n != 1 {
			t.Errorf("pod %s has %d tolerations of the hard taint, want 1", name, n)
		}
		if diff := cmp.Diff([]string{EventStopped, EventBurstGranted}, f.events.of(name)); diff != "" {
			t.Errorf("events of %s (-want +got):\n%s", name, diff)
		}
	}
}
