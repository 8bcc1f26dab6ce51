package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func after(d time.Duration) time.Time { return noon.Add(d) }

func TestSuspensionObserve(t *testing.T) {
	suspended := Suspension{Count: 2, Since: after(0), Until: after(time.Minute), Reason: "because"}
	for name, c := range map[string]struct {
		state        Suspension
		refused, ran time.Time
		now          time.Time
		want         Suspension
	}{
		"nothing happened": {now: after(0)},
		"refused": {refused: after(time.Second), now: after(2 * time.Second), want: Suspension{
			Count: 1, Since: after(2 * time.Second), Until: after(32 * time.Second),
			Reason: "It is suspended, as its cloud refused a pod for good: OutOfStock.",
		}},
		"refused in the middle of a second": {refused: after(time.Second), now: after(1500 * time.Millisecond), want: Suspension{
			Count: 1, Since: after(1500 * time.Millisecond), Until: after(32 * time.Second),
			Reason: "It is suspended, as its cloud refused a pod for good: OutOfStock.",
		}},
		"refused before it was asked": {
			state: Suspension{Since: after(time.Second)}, refused: after(time.Second), now: after(2 * time.Second),
			want: Suspension{Since: after(time.Second)},
		},
		"refused again while suspended": {state: suspended, refused: after(30 * time.Second), now: after(31 * time.Second), want: suspended},
		"over, and the refusal is from while it was suspended": {
			state: suspended, refused: after(30 * time.Second), now: after(2 * time.Minute), want: suspended,
		},
		"refused again after it": {state: suspended, refused: after(61 * time.Second), now: after(62 * time.Second), want: Suspension{
			Count: 3, Since: after(62 * time.Second), Until: after(182 * time.Second),
			Reason: "It is suspended, as its cloud refused a pod for good: OutOfStock. This is time 3 in a row.",
		}},
		"refused an hour after it": {state: suspended, refused: after(2 * time.Hour), now: after(2 * time.Hour), want: Suspension{
			Count: 1, Since: after(2 * time.Hour), Until: after(2*time.Hour + 30*time.Second),
			Reason: "It is suspended, as its cloud refused a pod for good: OutOfStock.",
		}},
		"ended early by a success":         {state: suspended, ran: after(10 * time.Second), now: after(11 * time.Second), want: Suspension{Since: after(10 * time.Second)}},
		"a success before it does not":     {state: suspended, ran: after(-time.Second), now: after(11 * time.Second), want: suspended},
		"a success before a newer refusal": {state: suspended, ran: after(10 * time.Second), refused: after(20 * time.Second), now: after(21 * time.Second), want: suspended},
		"a success after it ends the row":  {state: suspended, ran: after(70 * time.Second), now: after(71 * time.Second), want: Suspension{Since: after(70 * time.Second)}},
		"a success after a refusal":        {refused: after(time.Second), ran: after(2 * time.Second), now: after(3 * time.Second), want: Suspension{Since: after(2 * time.Second)}},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.state.Observe(c.refused, v1alpha1.PodOutOfStock, c.ran, c.now)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if again := got.Observe(c.refused, v1alpha1.PodOutOfStock, c.ran, c.now); again != got {
				t.Errorf("the same facts change it again: %+v", again)
			}
		})
	}
}

func TestSuspensionsGrow(t *testing.T) {
	var got []time.Duration
	var s Suspension
	now := noon
	for range 8 {
		s = s.Observe(now, v1alpha1.PodOutOfStock, time.Time{}, now)
		got = append(got, s.Until.Sub(now))
		now = s.Until.Add(time.Second)
	}
	const s30, m = 30 * time.Second, time.Minute
	if diff := cmp.Diff([]time.Duration{s30, m, 2 * m, 4 * m, 8 * m, 15 * m, 15 * m, 15 * m}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// However refusals and successes come, a suspension lasts 15 minutes at most, and
// none begins without a refusal since the last look.
func TestSuspensionBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Suspension
		var refused, ran time.Time
		now := noon
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 1000).Draw(t, "seconds")) * time.Second)
			fresh := false
			switch rapid.IntRange(0, 2).Draw(t, "event") {
			case 0:
				refused, fresh = now, true
			case 1:
				ran = now
			}
			before := s
			s = s.Observe(refused, v1alpha1.PodRefused, ran, now)
			switch {
			case s.Until.Sub(now) > suspendMax:
				t.Fatalf("suspended for %s", s.Until.Sub(now))
			case s.Until.After(before.Until) && !fresh:
				t.Fatalf("suspended until %s without a refusal", s.Until)
			case fresh && !s.Active(now) && !now.Equal(before.Until): // the second of its end is part of it
				t.Fatal("a refusal does not suspend")
			case ran.Equal(now) && s.Active(now):
				t.Fatal("a success does not end the suspension")
			}
		}
	})
}

// A new leader goes on where the last one was: what the status holds is all it has.
func TestSuspensionSurvivesALeader(t *testing.T) {
	s := Suspension{Count: 3, Since: noon, Until: after(2 * time.Minute), Reason: "because"}
	var status v1alpha1.TargetStatus
	s.Show(&status, after(time.Second))
	want := v1alpha1.TargetStatus{Suspensions: 3, SuspendedUntil: &metav1.Time{Time: after(2 * time.Minute)}, Reason: "because"}
	if diff := cmp.Diff(want, status); diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}
	resumed := Resume(status, after(time.Minute))
	if !resumed.Active(after(time.Minute)) || resumed.Active(after(2*time.Minute)) {
		t.Errorf("the new leader has it suspended until %s", resumed.Until)
	}
	if next := resumed.Observe(after(3*time.Minute), v1alpha1.PodOutOfStock, time.Time{}, after(3*time.Minute)); next.Until != after(7*time.Minute) {
		t.Errorf("the next one ends at %s, want 4 minutes after the refusal", next.Until)
	}

	status.Reason = "None of its virtual nodes is ready."
	s.Show(&status, after(2*time.Minute))
	if status.SuspendedUntil != nil || status.Reason != "None of its virtual nodes is ready." {
		t.Errorf("after its end the status is %+v", status)
	}
	resumed = Resume(status, after(2*time.Minute))
	if next := resumed.Observe(after(3*time.Minute), v1alpha1.PodOutOfStock, time.Time{}, after(3*time.Minute)); next.Count != 4 {
		t.Errorf("after the end of one, a new leader counts %d in a row, want 4", next.Count)
	}
}

func TestSuspendShowsTheStatusToTheRules(t *testing.T) {
	p := &Policy{Targets: []Target{{Name: "eci", Suspended: "old"}, {Name: "aci"}}}
	p.Suspend([]v1alpha1.TargetStatus{{Name: "aci", SuspendedUntil: &metav1.Time{Time: noon}, Reason: "Because."}, {Name: "gone"}})
	if p.Targets[0].Suspended != "" || !strings.Contains(p.Targets[1].Suspended, "Because. It is tried again at 2026-03-01T12:00:00Z.") {
		t.Errorf("%+v", p.Targets)
	}
}
