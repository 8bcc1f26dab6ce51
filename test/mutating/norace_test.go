//go:build !race

package mutating

const raceEnabled = false
