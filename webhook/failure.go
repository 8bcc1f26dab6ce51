package webhook

import (
	"errors"
	"fmt"
)

// cause says why a request failed open. It is a metric label; the list is
// closed.
type cause string

const (
	causeUnreadable  cause = "unreadable"
	causeOversized   cause = "oversized"
	causeUndecodable cause = "undecodable"
	causeUnexpected  cause = "unexpected"
	causeUnsynced    cause = "unsynced"
	causeDeadline    cause = "deadline"
	causeCanceled    cause = "canceled"
	causeOverload    cause = "overload"
	causePanic       cause = "panic"
	causeNotMerge    cause = "not_merge"
)

// sentences are what the creator of the object reads. The full warning must stay
// within maxWarning, for clients may cut longer ones.
var sentences = map[cause]string{
	causeUnreadable:  "the admission request could not be read",
	causeOversized:   "the admission request is larger than 7 MiB",
	causeUndecodable: "the admission request could not be decoded",
	causeUnexpected:  "this webhook does not handle such requests",
	causeUnsynced:    "the webhook has just started",
	causeDeadline:    "the policies took too long to decide",
	causeCanceled:    "the API server did not wait for the answer",
	causeOverload:    "the webhook is overloaded",
	causePanic:       "internal error, see the webhook's log",
	causeNotMerge:    "internal error, the patch would not only add",
}

// failure is an error with the cause that it is counted under.
type failure struct {
	cause cause
	err   error
}

func (f *failure) Error() string {
	if f.err == nil {
		return sentences[f.cause]
	}
	return sentences[f.cause] + ": " + f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

func fail(c cause, format string, args ...any) error {
	return &failure{cause: c, err: fmt.Errorf(format, args...)}
}

// causeOf classifies an error of a hook; one without a cause is a defect.
func causeOf(err error) cause {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.cause
	}
	return causePanic
}

// failedOpenWarning is the warning for an object that was admitted unchanged.
func failedOpenWarning(hook hookName, c cause) string {
	return "autoburst: " + sentences[c] + "; " + hook.object() + " admitted unchanged"
}
