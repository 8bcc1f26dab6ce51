package providers

import (
	"net/http"
	"sync/atomic"
	"time"
)

// Clock is a Provider that knows by how much its cloud's clock differs.
type Clock interface {
	// Ahead is by how much the cloud's clock is ahead of this machine's, by the last
	// answer; it is not known before the first.
	Ahead() (ahead time.Duration, known bool)
}

// Hearing keeps what the dates of a cloud's answers tell of its clock. The zero
// value is ready, and it is safe for concurrent use.
type Hearing struct{ last atomic.Pointer[time.Duration] }

// Note takes in the header of an answer to a request that was sent and answered at
// these times. The Date has a resolution of a second, and was set between them.
func (h *Hearing) Note(header http.Header, sent, answered time.Time) {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return
	}
	var ahead time.Duration
	switch latest := date.Add(time.Second); {
	case date.After(answered):
		ahead = date.Sub(answered)
	case latest.Before(sent):
		ahead = latest.Sub(sent) // negative
	}
	h.last.Store(&ahead)
}

// Ahead implements [Clock].
func (h *Hearing) Ahead() (time.Duration, bool) {
	if ahead := h.last.Load(); ahead != nil {
		return *ahead, true
	}
	return 0, false
}
