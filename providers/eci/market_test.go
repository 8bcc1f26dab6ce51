package eci

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFullVSwitchesAreRemembered(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var m market
	all := []string{"vsw-1", "vsw-2", "vsw-3"}
	steps := []struct {
		at   time.Duration
		full string
		want []string // nil is all
	}{
		{0, "", nil},
		{0, "vsw-2", []string{"vsw-1", "vsw-3"}},
		{time.Minute, "vsw-1", []string{"vsw-3"}},
		{2 * time.Minute, "vsw-3", nil}, // somewhere one may be free again
		{shortFor - 1, "", nil},
		{shortFor, "", []string{"vsw-2"}},
		{shortFor + time.Minute, "", []string{"vsw-1", "vsw-2"}},
		{shortFor + 2*time.Minute, "", nil},
	}
	for _, s := range steps {
		if s.full != "" {
			m.note(now.Add(s.at), false, addressUnit(s.full))
		}
		if diff := cmp.Diff(s.want, m.addressed(now.Add(s.at), all)); diff != "" {
			t.Errorf("after %s, with %q full (-want +got):\n%s", s.at, s.full, diff)
		}
	}
}
