package aci

import (
	"testing"
	"time"
)

func TestSince(t *testing.T) {
	const content = "2026-03-01T11:58:00.5Z old\n" +
		"  of the old\n" +
		"2026-03-01T11:59:00Z new, at the moment\n" +
		"2026-03-01T11:59:01.000000001Z\n" +
		"  of the new\n" +
		"2026-03-01T12:00:00Z last line without an end"
	tests := map[string]struct {
		since      time.Time
		timestamps bool
		want       string
	}{
		"with times": {testStart, true, "2026-03-01T11:59:00Z new, at the moment\n2026-03-01T11:59:01.000000001Z\n  of the new\n2026-03-01T12:00:00Z last line without an end"},
		"without":    {testStart, false, "new, at the moment\n\n  of the new\nlast line without an end"},
		"all":        {testStart.Add(-time.Hour), false, "old\n  of the old\nnew, at the moment\n\n  of the new\nlast line without an end"},
		"none":       {testNow.Add(time.Second), true, ""},
	}
	for name, test := range tests {
		if got := since(content, test.since, test.timestamps); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
