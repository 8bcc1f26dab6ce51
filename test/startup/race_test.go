//go:build race

package startup

// raceEnabled builds the programs under test with the race detector when the
// tests have it.
const raceEnabled = true
