package eci

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// apiError is an error answer of the service.
type apiError struct {
	status        int
	code, message string
	// retryAfter is a header of the answer, none if it is zero.
	retryAfter time.Duration
}

func (e *apiError) Error() string { return fmt.Sprintf("%d %s: %s", e.status, e.code, e.message) }

func refuse(status int, code, format string, args ...any) *apiError {
	return &apiError{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

func invalidParameter(format string, args ...any) *apiError {
	return refuse(http.StatusBadRequest, "InvalidParameter", format, args...)
}

// missingParameter names a required member; a top-level one also in the code.
func missingParameter(path string) *apiError {
	code := "MissingParameter"
	if !strings.Contains(path, ".") {
		code = "Missing" + path
	}
	return refuse(http.StatusBadRequest, code, "%s is mandatory for this action.", path)
}

// publishedRefusal is an error of an action's published list, with the
// published status and message. An argument fills a message that is only a
// placeholder.
func publishedRefusal(action, code string, args ...any) *apiError {
	for _, e := range published().served[action].errors {
		if e.Code == code {
			message := e.Message
			if len(args) > 0 {
				message = fmt.Sprintf(message, args...)
			}
			return &apiError{status: e.Status, code: e.Code, message: message}
		}
	}
	panic(fmt.Sprintf("%s does not publish the error %s", action, code))
}
