package chaos

import (
	"flag"
	"math/rand/v2"
	"os"
	"testing"
)

var (
	rounds = flag.Int("rounds", 200, "how many rounds")
	seed   = flag.Uint64("seed", 0, "seed of the plan; 0 draws one")
	first  = flag.Int("first", 0, "number of the first round, to repeat a part of a run")
	settle = flag.Int("settle", 20, "rounds between two judgements")
)

// Random workloads under random faults, judged from the outside. A failure
// prints the seed, the rounds with their times, and what is known of the pods
// concerned; the same seed gives the same plan.
func TestChaos(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(rand.Uint32())
	}
	t.Logf("SEED=%d FIRST=%d ROUNDS=%d", *seed, *first, *rounds)
	result, err := Run(t.Context(), Options{
		Plan: NewPlan(*seed, *first, *rounds), SettleEvery: *settle, Race: raceEnabled, Progress: os.Stderr,
	})
	if err != nil {
		t.Fatalf("the run failed: %v", err)
	}
	t.Logf("%s", result.Summary)
	if len(result.Violations) == 0 {
		return
	}
	const shown = 20
	for _, v := range result.Violations[:min(shown, len(result.Violations))] {
		t.Error(v)
	}
	if more := len(result.Violations) - shown; more > 0 {
		t.Errorf("and %d more", more)
	}
	t.Logf("again: make chaos SEED=%d FIRST=%d ROUNDS=%d\nlogs in %s\n%s\n%s", *seed, *first, *rounds, result.Logs, result.Timelines, result.Rounds)
}
