//go:build !race

package webhook

const raceSlowdown = 1
