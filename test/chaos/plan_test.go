package chaos

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The same seed gives the same plan, and a round is the same whichever round a
// run begins with.
func TestPlanIsPure(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		first := rapid.IntRange(0, 40).Draw(t, "first")
		whole := NewPlan(seed, 0, first+3)
		part := NewPlan(seed, first, 3)
		if diff := cmp.Diff(whole.Rounds[first:], part.Rounds); diff != "" {
			t.Errorf("rounds %d to %d differ when they are planned alone (-whole +part):\n%s", first, first+2, diff)
		}
		if NewPlan(seed, 0, 5).String() == NewPlan(seed+1, 0, 5).String() {
			t.Errorf("seeds %d and %d give the same plan", seed, seed+1)
		}
	})
}

// Every step can be carried out: it says where, on what, and how often, and what
// it is about was made in a round that is not cleaned up yet.
func TestPlanIsSound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		n := rapid.IntRange(0, 300).Draw(t, "round")
		made := map[string]bool{}
		for i := max(0, n-keep+1); i <= n; i++ {
			for _, w := range workloads(seed, i) {
				made[w.Name], made[w.PodName()] = true, true
			}
		}
		created := 0
		for _, s := range newRound(seed, n).Steps {
			if s.Workload != nil {
				created++
			}
			if s.Name != "" && !made[s.Name] {
				t.Errorf("round %d: %s is about something that is not there", n, s)
			}
			if s.Of != "" && !made[s.Of] {
				t.Errorf("round %d: %s waits for something that is not there", n, s)
			}
			if s.Cloud == "" && s.Do != Cleanup {
				t.Errorf("round %d: %s is nowhere", n, s)
			}
			if s.For > 10*time.Second && s.Mode != ofLists {
				t.Errorf("round %d: %s lasts too long: a node may be without an agent for 40 s", n, s)
			}
		}
		if want := len(workloads(seed, n)); created != want {
			t.Errorf("round %d makes %d workloads, want %d", n, created, want)
		}
	})
}

// 200 rounds have all that there is.
func TestPlanHasEverything(t *testing.T) {
	text := NewPlan(1, 0, 200).String()
	for _, do := range []Action{
		Create, Delete, Force, Recreate, Scale, Evict, Cleanup, Throttle, Error, CutFirst, CutAfter, Slow, SlowCall, LateCall, Partial, Garbled, Forget,
		Outage, Shortage, Vanish, Restart, Rotate, HoldWatches, HoldExpired, APIDown, APISlow, APIError, APICut, Kill, Term, Pause,
	} {
		if !strings.Contains(text, string(do)+" ") {
			t.Errorf("no round does %s", do)
		}
	}
	for _, kind := range []Kind{BarePod, Deployment, StatefulSet, Job} {
		if !strings.Contains(text, string(Create)+" "+string(kind)+" ") {
			t.Errorf("no round makes a %s", kind)
		}
	}
}

// What a container is told is what its cloud understands.
func TestBehaviourSurvivesTheCommand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Behaviour{
			Crashes: rapid.IntRange(0, 5).Draw(t, "crashes"), Exits: rapid.Bool().Draw(t, "exits"),
			For: time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond, Code: rapid.IntRange(0, 255).Draw(t, "code"),
		}
		got, ok := parseBehaviour(want.command())
		if !ok || got != want {
			t.Errorf("%v became %v", want, got)
		}
	})
	if _, ok := parseBehaviour([]string{"sh", "-c", "true"}); ok {
		t.Error("any command is understood")
	}
}
