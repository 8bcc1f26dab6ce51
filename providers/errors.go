package providers

import (
	"errors"
	"fmt"
	"time"
)

// ErrorClass says what the caller can do about an error.
type ErrorClass string

// The classes of errors. Everything that a provider cannot place is Unknown.
const (
	// NotFound: the group does not exist.
	NotFound ErrorClass = "NotFound"
	// Throttled: too many requests; repeat after RetryAfter or a back-off.
	Throttled ErrorClass = "Throttled"
	// Unavailable: the cloud failed or could not be reached, and it is known
	// that nothing was changed; repeat after a back-off.
	Unavailable ErrorClass = "Unavailable"
	// Unknown: the request may or may not have had its effect; ask, or repeat
	// the idempotent call.
	Unknown ErrorClass = "Unknown"
	// Conflict: the group is in transition; repeat after a back-off.
	Conflict ErrorClass = "Conflict"
	// Unauthorized: credentials are wrong, expired or lack a right.
	Unauthorized ErrorClass = "Unauthorized"
	// Misconfigured: the agent's own settings (subnet, resource group) are
	// refused.
	Misconfigured ErrorClass = "Misconfigured"
	// AccountSuspended: the account may make nothing now, mostly because a payment
	// is due.
	AccountSuspended ErrorClass = "AccountSuspended"
	// QuotaExceeded: the account's quota is used up; repeat when there is room.
	QuotaExceeded ErrorClass = "QuotaExceeded"
	// OutOfStock: the cloud has no machine of this size now.
	OutOfStock ErrorClass = "OutOfStock"
	// NoSuchStock: the cloud has no machine now of the kind that this pod alone asks
	// for, such as a spot instance or one instance type. It tells nothing of others.
	NoSuchStock ErrorClass = "NoSuchStock"
	// InvalidPod: the cloud refuses this pod for good.
	InvalidPod ErrorClass = "InvalidPod"
)

// Error is the only error that a [Provider] returns. It never holds a secret:
// its text is made of the cloud's code and a redacted message, never of a URL
// or a request.
type Error struct {
	Class ErrorClass
	// Operation is what was asked, such as "CreateContainerGroup".
	Operation string
	// Code is the cloud's own error code, such as "OperationDenied.NoStock".
	Code string
	// Message is the cloud's message, redacted and cut.
	Message string
	// RequestID is what the cloud's support asks for.
	RequestID string
	// RetryAfter is the wait that the cloud asked for, zero if none.
	RetryAfter time.Duration
	// Spent is set on a create that is refused because a group was made for the pod
	// before, which does not exist any more.
	Spent bool
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s", e.Operation, e.Class)
	if e.Code != "" {
		s += " (" + e.Code + ")"
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.RequestID != "" {
		s += " [request " + e.RequestID + "]"
	}
	return s
}

// ClassOf returns the class of a provider's error, Unknown for any other error,
// and "" for nil.
func ClassOf(err error) ErrorClass {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return Unknown
}

// ForWantOfRoom tells whether the cloud refused for want of room, of its own or in
// the account's quota.
func ForWantOfRoom(err error) bool {
	class := ClassOf(err)
	return class == OutOfStock || class == QuotaExceeded
}

// Permanent tells whether repeating the same request for the same pod is
// pointless.
func Permanent(err error) bool { return ClassOf(err) == InvalidPod }
