package aci

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// OperationToken and OperationMetadata are the names of the token endpoint and of
// the machine's metadata service for Fault.Operation.
const (
	OperationToken    = "Token"
	OperationMetadata = "Metadata"
)

// Fault makes calls go wrong that would have been admitted. Its parts apply in
// the order delay, cut, answer; a Fault without Cut and Status only delays.
type Fault struct {
	// Operation is an operationId of the Swagger, such as
	// ContainerGroups_CreateOrUpdate, or OperationToken. Empty is every one.
	Operation string
	// Target is the name of the container group; empty is any.
	Target string
	// Calls is how many calls go wrong; zero is one, negative is all until
	// ClearFaults.
	Calls int
	// AfterEffect lets the call happen and spoils its answer only.
	AfterEffect bool
	// Delay passes on the server's clock before the rest of the fault.
	Delay time.Duration
	// Cut closes the connection without an answer.
	Cut bool
	// Status, Code and Message are the answer instead of the service's own.
	Status        int
	Code, Message string
	// RawBody is answered as it is, as by a proxy, with Status.
	RawBody string
	// RetryAfter is sent with Status, if positive.
	RetryAfter time.Duration
}

type faultList struct {
	mu     sync.Mutex
	faults []*Fault
}

func (l *faultList) add(f Fault) {
	if f.Calls == 0 {
		f.Calls = 1
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, &f)
}

func (l *faultList) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = nil
}

// next uses up one call of the first fault that concerns it.
func (l *faultList) next(operation, target string) (Fault, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, f := range l.faults {
		if f.Operation != "" && f.Operation != operation || f.Target != "" && !strings.EqualFold(f.Target, target) {
			continue
		}
		found := *f
		if f.Calls > 0 {
			if f.Calls--; f.Calls == 0 {
				l.faults = slices.Delete(l.faults, i, i+1)
			}
		}
		return found, true
	}
	return Fault{}, false
}

// strike carries out a fault. It returns the answer to give instead of the
// service's own, or nil.
func (s *Server) strike(f Fault, r *http.Request) *apiError {
	if f.Delay > 0 {
		timer := s.clock.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C():
		case <-r.Context().Done():
		case <-s.closing:
		}
	}
	if f.Cut {
		return &apiError{code: "ConnectionCut", cut: true}
	}
	if f.Status == 0 {
		return nil
	}
	return &apiError{
		status: f.Status, retryAfter: f.RetryAfter, raw: f.RawBody,
		code:    cmp.Or(f.Code, strings.ReplaceAll(http.StatusText(f.Status), " ", "")),
		message: cmp.Or(f.Message, "The request failed: "+http.StatusText(f.Status)+"."),
	}
}
