package aci

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// However the service delays, loses or repeats minutes, a counter never goes back
// while its start stays, never counts more than was used between its start and its
// end, and a start is never earlier than the end of what was told before it.
func TestIntegralIsACounter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		begun := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		used := rapid.SliceOfN(rapid.Float64Range(0, 4000), 30, 30).Draw(t, "milliCPU")
		told := rapid.SliceOfN(rapid.Bool(), 30, 30).Draw(t, "told")
		s := integrals{known: map[string]map[string]*integral{}}
		var since, at time.Time
		var total uint64
		for now := 1; now <= 30; now += rapid.IntRange(1, 8).Draw(t, "minutes") {
			m := minutes{}
			delay := rapid.IntRange(0, 3).Draw(t, "delay")
			for i := max(0, now-10); i < now-delay; i++ {
				if told[i] {
					m[begun.Add(time.Duration(i)*time.Minute)] = &minute{milliCPU: &used[i]}
				}
			}
			for _, c := range s.add("g", map[string]minutes{"app": m}, begun.Add(time.Duration(now)*time.Minute)) {
				if c.CPUNanoseconds == nil {
					t.Fatal("a measurement without CPU time")
				}
				if c.Since.Equal(since) && (*c.CPUNanoseconds < total || c.At.Before(at)) {
					t.Fatalf("from %s on, %d ns up to %s after %d ns up to %s", since, *c.CPUNanoseconds, c.At, total, at)
				}
				if !c.Since.Equal(since) && c.Since.Before(at) {
					t.Fatalf("begun anew at %s, before the end %s of what was told", c.Since, at)
				}
				most := 0.0
				for i := int(c.Since.Sub(begun) / time.Minute); i < int(c.At.Sub(begun)/time.Minute); i++ {
					most += used[i] * 60e6
				}
				if diff := float64(*c.CPUNanoseconds) - most; diff > 1 || diff < -1 {
					t.Fatalf("%d ns from %s to %s, want %f", *c.CPUNanoseconds, c.Since, c.At, most)
				}
				since, at, total = c.Since, c.At, *c.CPUNanoseconds
			}
		}
	})
}

func TestIntegralsAreForgotten(t *testing.T) {
	s := integrals{known: map[string]map[string]*integral{}}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	cpu := 1.0
	s.add("old", map[string]minutes{"app": {now.Add(-time.Minute): {milliCPU: &cpu}}}, now)
	later := now.Add(time.Hour)
	s.add("new", map[string]minutes{"app": {later.Add(-time.Minute): {milliCPU: &cpu}}}, later)
	if len(s.known) != 1 || s.known["new"] == nil {
		t.Errorf("known %v, want the new group only", s.known)
	}
}
