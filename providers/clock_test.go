package providers

import (
	"net/http"
	"testing"
	"time"
)

func TestHearing(t *testing.T) {
	sent := time.Date(2026, 5, 1, 12, 0, 0, 900e6, time.UTC)
	answered := sent.Add(200 * time.Millisecond) // in the next second
	for name, test := range map[string]struct {
		date  string
		want  time.Duration
		known bool
	}{
		"no date":         {},
		"no such date":    {date: "today"},
		"the same second": {date: "Fri, 01 May 2026 12:00:00 GMT", known: true},
		"the next second": {date: "Fri, 01 May 2026 12:00:01 GMT", known: true},
		"ahead":           {date: "Fri, 01 May 2026 12:05:00 GMT", want: 5*time.Minute - 1100*time.Millisecond, known: true},
		"behind":          {date: "Fri, 01 May 2026 11:50:00 GMT", want: -10*time.Minute + 100*time.Millisecond, known: true},
	} {
		t.Run(name, func(t *testing.T) {
			var h Hearing
			h.Note(http.Header{"Date": {test.date}}, sent, answered)
			if got, known := h.Ahead(); got != test.want || known != test.known {
				t.Errorf("ahead %s, known %t, want %s, %t", got, known, test.want, test.known)
			}
		})
	}
}
