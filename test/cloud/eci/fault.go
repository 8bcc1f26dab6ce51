package eci

import (
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Fault makes calls go wrong that would have been admitted. Exactly one of
// Code, RawBody and Cut says how; none of them only delays.
type Fault struct {
	// Action limits the fault to one action; empty is any.
	Action string
	// Match limits the fault to calls whose members it accepts; nil is all.
	Match func(members url.Values) bool
	// Calls is how many calls go wrong; zero is one, negative is all until
	// ClearFaults.
	Calls int
	// AfterEffect lets the action happen and spoils or delays its answer only.
	AfterEffect bool
	// Delay passes on the server's clock, before whatever else goes wrong.
	Delay time.Duration
	// Status and Code answer an error body. A zero Status is 500.
	Status        int
	Code, Message string
	// RawBody is answered as it is, as by a proxy, with Status.
	RawBody string
	// Cut closes the connection without an answer.
	Cut bool
}

// answer spoils the answer and reports whether it did.
func (f *Fault) answer(w http.ResponseWriter, refuseWith func(*apiError)) bool {
	status := f.Status
	if status == 0 {
		status = http.StatusInternalServerError
	}
	switch {
	case f.Cut:
		panic(http.ErrAbortHandler) // net/http's way to drop the connection
	case f.Code != "":
		refuseWith(&apiError{status: status, code: f.Code, message: f.Message})
	case f.RawBody != "":
		w.WriteHeader(status)
		// A failed write means that the client has gone.
		_, _ = w.Write([]byte(f.RawBody))
	default:
		return false
	}
	return true
}

// faults are the injected faults, oldest first.
type faults struct {
	mu   sync.Mutex
	list []*Fault
}

func (fs *faults) add(f Fault) {
	if f.Calls == 0 {
		f.Calls = 1
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = append(fs.list, &f)
}

func (fs *faults) clear() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = nil
}

// take uses up one call of the first fault that concerns the call.
func (fs *faults) take(action string, members url.Values) *Fault {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for i, f := range fs.list {
		if (f.Action != "" && f.Action != action) || (f.Match != nil && !f.Match(members)) {
			continue
		}
		if f.Calls > 0 {
			f.Calls--
			if f.Calls == 0 {
				fs.list = slices.Delete(fs.list, i, i+1)
			}
		}
		return f
	}
	return nil
}
