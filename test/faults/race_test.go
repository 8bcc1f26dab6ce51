//go:build race

package faults

// raceEnabled builds the agent with the race detector when the tests have it.
const raceEnabled = true
