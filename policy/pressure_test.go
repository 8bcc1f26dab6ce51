package policy

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

func TestPressure(t *testing.T) {
	cooldown := func(s int32) *int32 { return &s }
	type step struct {
		at      time.Duration
		waiting int32
		open    bool
		next    time.Duration
	}
	for name, c := range map[string]struct {
		set   v1alpha1.Pressure
		steps []step
	}{
		"opens and closes at once": {
			v1alpha1.Pressure{UnschedulablePods: 2, CooldownSeconds: cooldown(0)},
			[]step{{0, 1, false, 0}, {time.Second, 2, true, 0}, {2 * time.Second, 1, false, 0}},
		},
		"holds before it opens": {
			v1alpha1.Pressure{UnschedulablePods: 2, ForSeconds: 5, CooldownSeconds: cooldown(0)},
			[]step{
				{0, 2, false, 5 * time.Second},
				{4 * time.Second, 3, false, time.Second},
				{5 * time.Second, 2, true, 0},
			},
		},
		"a dip while it holds starts anew": {
			v1alpha1.Pressure{UnschedulablePods: 2, ForSeconds: 5},
			[]step{
				{0, 2, false, 5 * time.Second},
				{3 * time.Second, 1, false, 0},
				{4 * time.Second, 2, false, 5 * time.Second},
				{8 * time.Second, 2, false, time.Second},
				{9 * time.Second, 2, true, 0},
			},
		},
		"cools down before it closes": {
			v1alpha1.Pressure{UnschedulablePods: 2, CooldownSeconds: cooldown(10)},
			[]step{
				{0, 2, true, 0},
				{time.Second, 0, true, 10 * time.Second},
				{9 * time.Second, 2, true, 0},
				{10 * time.Second, 0, true, 10 * time.Second},
				{19 * time.Second, 1, true, time.Second},
				{20 * time.Second, 1, false, 0},
			},
		},
		"defaults": {
			v1alpha1.Pressure{},
			[]step{{0, 0, false, 0}, {0, 1, true, 0}, {0, 0, true, time.Minute}, {time.Minute, 0, false, 0}},
		},
		"a late look": {
			v1alpha1.Pressure{UnschedulablePods: 1, ForSeconds: 5},
			[]step{{0, 1, false, 5 * time.Second}, {time.Hour, 1, true, 0}},
		},
		"a clock that is set back": {
			v1alpha1.Pressure{UnschedulablePods: 1, ForSeconds: 5},
			[]step{{time.Hour, 1, false, 5 * time.Second}, {0, 1, false, 5 * time.Second}, {5 * time.Second, 1, true, 0}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			var p Pressure
			for i, s := range c.steps {
				var next time.Duration
				p, next = p.Next(c.set, s.waiting, start.Add(s.at))
				if diff := cmp.Diff(step{s.at, s.waiting, s.open, s.next}, step{s.at, s.waiting, p.Open, next}, cmp.AllowUnexported(step{})); diff != "" {
					t.Fatalf("step %d (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}
