package aci

import (
	"encoding/json"
	"io"
	"net/http"
	"time"
)

// apiError is one refusal in the form of CloudError of the Swagger:
// {"error":{"code","message","target"?}}.
type apiError struct {
	status     int
	code       string
	message    string
	target     string
	retryAfter time.Duration // sent as Retry-After in whole seconds when positive
	gateway    bool          // decided by the front end: x-ms-failure-cause: gateway
	challenge  string        // WWW-Authenticate
	raw        string        // the whole body, if set
	cut        bool          // close the connection instead of answering
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func badRequest(code, message string) *apiError {
	return &apiError{status: http.StatusBadRequest, code: code, message: message}
}

func conflict(code, message string) *apiError {
	return &apiError{status: http.StatusConflict, code: code, message: message}
}

func notFound(code, message string) *apiError {
	return &apiError{status: http.StatusNotFound, code: code, message: message, gateway: true}
}

type errorBody struct {
	Error errorDetail `json:"error"`
}

type errorDetail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Target  string `json:"target,omitempty"`
}

func (e *apiError) detail() errorDetail {
	return errorDetail{Code: e.code, Message: e.message, Target: e.target}
}

func writeError(w http.ResponseWriter, e *apiError) {
	if e.cut {
		panic(http.ErrAbortHandler) // net/http's way to drop a connection in silence
	}
	header := w.Header()
	if e.gateway {
		header.Set("X-Ms-Failure-Cause", "gateway")
	}
	if e.challenge != "" {
		header.Set("Www-Authenticate", e.challenge)
	}
	if e.retryAfter > 0 {
		header.Set("Retry-After", wholeSeconds(e.retryAfter))
	}
	if e.raw != "" {
		w.WriteHeader(e.status)
		_, _ = io.WriteString(w, e.raw) // the client went away: nobody is left to tell
		return
	}
	writeJSON(w, e.status, errorBody{Error: e.detail()})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		// Every body is made of plain values by this package.
		panic("aci: encode an answer: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(status)
	_, _ = w.Write(encoded) // the client went away: nobody is left to tell
}
