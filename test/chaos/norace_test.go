//go:build !race

package chaos

// raceEnabled builds the agents with the race detector when the tests have it.
const raceEnabled = false
