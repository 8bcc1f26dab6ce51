//go:build race

package webhook

// raceSlowdown is what the race detector may cost.
const raceSlowdown = 10
