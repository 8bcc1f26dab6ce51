package aci

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
)

// operation is one of the calls that this package makes.
type operation struct {
	name string
	// write: the call changes something, so that a lost answer leaves its
	// effect open.
	write bool
	// pod: the body describes a pod, which may be what is wrong with it.
	pod bool
	// priority is the call's place among those that use up the same request
	// quota. That of a Get is told by its context.
	priority quota.Priority
}

var (
	opCreate = operation{name: "CreateContainerGroup", write: true, pod: true}
	opDelete = operation{name: "DeleteContainerGroup", write: true}
	opGet    = operation{name: "GetContainerGroup"}
	opList   = operation{name: "ListContainerGroups", priority: quota.Listing}
	opLogs   = operation{name: "ListContainerLogs", priority: quota.Logging}
	opCheck  = operation{name: "CheckCloud", priority: quota.Listing}
	opUsage  = operation{name: "ListUsage", priority: quota.Listing}

	opMetrics = operation{name: "ListMetrics", priority: quota.Measuring}
)

// lost is the class of a call that the cloud failed to answer properly.
func (o operation) lost() providers.ErrorClass {
	if o.write {
		return providers.Unknown
	}
	return providers.Unavailable
}

// before is the read that precedes a write. If it is not answered, it stays open
// what an earlier write of the same group has done.
func (o operation) before() operation { return operation{name: o.name, write: true} }

// codes are the service's error codes that steer the agent (documentation and
// public recordings of Microsoft.ContainerInstance and Azure Resource Manager).
// What is not here is placed by its HTTP status.
var codes = map[string]providers.ErrorClass{
	"ContainerGroupTransitioning": providers.Conflict,
	// The group exists after all, with another definition: reading it again
	// tells whose it is.
	"InvalidContainerGroupUpdate": providers.Conflict,
	"ContainerLogNotAvailable":    providers.Conflict,
	// An image that cannot be had now, or not yet: a kubelet goes on trying, for
	// a pod that failed at once would be replaced at once by its owner, forever.
	"InaccessibleImage":     providers.Conflict,
	"RegistryErrorResponse": providers.Conflict,

	"ContainerGroupQuotaReached": providers.QuotaExceeded,
	"QuotaExceeded":              providers.QuotaExceeded,
	"SkuNotAvailable":            providers.OutOfStock,

	"SubscriptionRequestsThrottled": providers.Throttled,
	"TooManyRequests":               providers.Throttled,

	"InvalidAuthenticationToken": providers.Unauthorized,
	"ExpiredAuthenticationToken": providers.Unauthorized,
	"AuthenticationFailed":       providers.Unauthorized,
	"AuthorizationFailed":        providers.Unauthorized,
	"LinkedAuthorizationFailed":  providers.Unauthorized,

	"ResourceNotFound":       providers.NotFound,
	"ParentResourceNotFound": providers.NotFound,

	"ResourceGroupNotFound":                  providers.Misconfigured,
	"ResourceGroupBeingDeleted":              providers.Misconfigured,
	"SubscriptionNotFound":                   providers.Misconfigured,
	"InvalidSubscriptionId":                  providers.Misconfigured,
	"ReadOnlyDisabledSubscription":           providers.AccountSuspended,
	"MissingSubscriptionRegistration":        providers.Misconfigured,
	"MissingRegistrationForResourceProvider": providers.Misconfigured,
	"SubscriptionNotRegistered":              providers.Misconfigured,
	"NoRegisteredProviderFound":              providers.Misconfigured,
	"MissingApiVersionParameter":             providers.Misconfigured,
	"LocationNotAvailableForResourceType":    providers.Misconfigured,
	"RequestDisallowedByPolicy":              providers.Misconfigured,
	"ScopeLocked":                            providers.Misconfigured,
	"InvalidResourceReference":               providers.Misconfigured,
	"LinkedInvalidPropertyId":                providers.Misconfigured,
	"InvalidAuthenticationTokenTenant":       providers.Unauthorized,
	"InvalidAuthenticationTokenAudience":     providers.Unauthorized,
}

// hints tell the operator what to do about a code.
var hints = map[string]string{
	"MissingSubscriptionRegistration": "register it with: az provider register --namespace Microsoft.ContainerInstance",
	"ResourceGroupNotFound":           "create the resource group or correct the agent's setting",
	"SubscriptionNotFound":            "correct the agent's subscription, or the tenant of its credentials",
	"AuthorizationFailed":             "give the service principal a role with Microsoft.ContainerInstance/containerGroups/* on the resource group",
	"LinkedAuthorizationFailed":       "give the service principal the action Microsoft.Network/virtualNetworks/subnets/join/action on the subnet, and Microsoft.ManagedIdentity/userAssignedIdentities/assign/action on the identities",
	"ContainerGroupQuotaReached":      "ask Azure for a higher quota, or limit the burst",
}

// classify places a status and code.
func (o operation) classify(status int, code string) providers.ErrorClass {
	switch {
	case status == http.StatusTooManyRequests:
		return providers.Throttled
	case status == http.StatusRequestTimeout || status >= 500 || status < 400:
		// Also a success that the service does not document: it says nothing.
		return o.lost()
	case status == http.StatusConflict && code == "ServiceUnavailable":
		// No capacity in the region for the size asked.
		return providers.OutOfStock
	}
	if class, found := codes[code]; found {
		if class == providers.NotFound && o.pod {
			// A PUT needs nothing but what the agent's settings name.
			return providers.Misconfigured
		}
		return class
	}
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return providers.Unauthorized
	case http.StatusNotFound, http.StatusGone:
		if (o == opLogs || o == opExec || o == opAttach) && strings.HasSuffix(code, "NotFound") {
			// The container: the code is not published. Nothing is concluded
			// from what only somebody's kubectl has missed.
			return providers.NotFound
		}
		// Not the words of the resource manager: a proxy, a wrong endpoint. Absence
		// must be said clearly.
		return providers.Misconfigured
	case http.StatusConflict, http.StatusPreconditionFailed:
		return providers.Conflict
	}
	if !o.pod || strings.HasPrefix(code, "Subnet") || strings.Contains(code, "VirtualNetwork") {
		return providers.Misconfigured
	}
	return providers.InvalidPod
}

// fail makes the one error of a call. It holds neither err nor any part of a
// request.
func (o operation) fail(ctx context.Context, err error, j *journey, secrets redactor) error {
	if err == nil {
		return nil
	}
	var own *providers.Error
	if errors.As(err, &own) {
		result := *own
		result.Operation = o.name
		return &result
	}
	var signIn *azidentity.AuthenticationFailedError
	var answer *azcore.ResponseError
	// How azidentity says that the machine has no identity of its own; it exports
	// no type for it.
	var unavailable interface {
		error
		NonRetriable()
	}
	switch {
	case errors.As(err, &signIn):
		return o.failedSignIn(ctx, signIn, j, secrets)
	case errors.As(err, &answer) && answer.RawResponse != nil:
		return o.failedAnswer(answer, secrets)
	case !j.sent() && errors.As(err, &unavailable):
		return &providers.Error{Operation: o.name, Class: providers.Unauthorized, Message: "signing in: " + secrets.text(err.Error())}
	}
	result := &providers.Error{Operation: o.name, Class: providers.Unavailable, Message: secrets.text(networkText(ctx, err))}
	switch {
	case j.sent():
		result.Class = o.lost()
	case isCertificateError(err):
		result.Class = providers.Misconfigured
		result.Message += "; if the endpoint is private, give its certificate authority to the agent"
	}
	return result
}

func (o operation) failedAnswer(answer *azcore.ResponseError, secrets redactor) error {
	resp := answer.RawResponse
	var body struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	// A body in another form has no message to offer.
	_ = json.Unmarshal(payload(resp), &body)
	code := answer.ErrorCode
	if code == "" {
		code = body.Error.Code
	}
	message := secrets.text(body.Error.Message)
	if message == "" {
		message = fmt.Sprintf("the cloud answered HTTP %d without saying why", resp.StatusCode)
	}
	if hint := hints[code]; hint != "" {
		message += "; " + hint
	}
	return &providers.Error{
		Operation:  o.name,
		Class:      o.classify(resp.StatusCode, code),
		Code:       secrets.text(code),
		Message:    message,
		RequestID:  requestID(resp.Header),
		RetryAfter: retryAfter(resp.Header),
	}
}

var aadRule = regexp.MustCompile(`^(AADSTS\d+): (.*)$`)

// failedSignIn shows of a refusal to sign in only the authority's code and its
// first sentence line: the SDK's text holds the URL and the whole answer.
func (o operation) failedSignIn(ctx context.Context, err *azidentity.AuthenticationFailedError, j *journey, secrets redactor) error {
	result := &providers.Error{Operation: o.name, Class: providers.Unavailable}
	if err.RawResponse == nil {
		cause := j.signInFailure()
		switch {
		case ctx.Err() != nil || cause != nil:
			if cause == nil {
				cause = ctx.Err()
			}
			result.Message = "signing in: " + secrets.text(networkText(ctx, cause))
			if isCertificateError(cause) {
				result.Class = providers.Misconfigured
			}
		default:
			// The authority answered, but not as an authority.
			result.Class = providers.Misconfigured
			result.Message = "signing in: the authority did not answer as expected; check the tenant and the authority's address"
		}
		return result
	}
	var body struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		TraceID     string `json:"trace_id"`
	}
	_ = json.Unmarshal(payload(err.RawResponse), &body)
	line, _, _ := strings.Cut(strings.TrimSpace(body.Description), "\n")
	line, _, _ = strings.Cut(line, " Trace ID:")
	result.Code, result.Message = body.Error, line
	if m := aadRule.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
		result.Code, result.Message = m[1], m[2]
	}
	result.Code = secrets.text(result.Code)
	result.Message = "signing in: " + secrets.text(result.Message)
	result.RequestID = secrets.text(body.TraceID)
	result.RetryAfter = retryAfter(err.RawResponse.Header)
	switch status := err.RawResponse.StatusCode; {
	case status == http.StatusTooManyRequests:
		result.Class = providers.Throttled
	case status == http.StatusRequestTimeout || status >= 500:
		result.Class = providers.Unavailable
	case fromMetadata(err.RawResponse) && (status == http.StatusNotFound || status == http.StatusGone):
		// The metadata service is being updated (error handling of managed
		// identities' tokens, Microsoft Learn).
		result.Class = providers.Unavailable
		result.Message = fmt.Sprintf("signing in: the machine's metadata service answered HTTP %d", status)
	case body.Error == "":
		result.Class = providers.Misconfigured
		result.Message = fmt.Sprintf("signing in: the authority answered HTTP %d without saying why; check the tenant and the authority's address", status)
	default:
		result.Class = providers.Unauthorized
	}
	return result
}

// fromMetadata tells whether the machine's metadata service answered, and not the
// authority.
func fromMetadata(resp *http.Response) bool {
	return resp.Request != nil && strings.HasPrefix(resp.Request.URL.Path, "/metadata/")
}

// networkText describes a failure below HTTP without the URL.
func networkText(ctx context.Context, err error) string {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(ctx.Err(), context.Canceled) || errors.Is(err, context.Canceled):
		return "given up before the answer came"
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection ended before the answer"
	case isDecodeError(err):
		// The decoder's text quotes the answer.
		return "the answer could not be read"
	}
	return err.Error()
}

func isDecodeError(err error) bool {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	return errors.As(err, &syntax) || errors.As(err, &kind) || strings.Contains(err.Error(), "unmarshalling type")
}

func isCertificateError(err error) bool {
	var verification *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	return errors.As(err, &verification) || errors.As(err, &unknown) || errors.As(err, &host)
}

// payload is the body that the SDK has read. Without one, the status speaks
// alone.
func payload(resp *http.Response) []byte {
	body, err := runtime.Payload(resp)
	if err != nil {
		return nil
	}
	return body
}

var idRule = regexp.MustCompile(`^[A-Za-z0-9:._-]{1,128}$`)

// requestID is the ID by which Azure's activity log and support find a request.
func requestID(h http.Header) string {
	for _, name := range []string{"X-Ms-Correlation-Request-Id", "X-Ms-Request-Id"} {
		if id := h.Get(name); idRule.MatchString(id) {
			return id
		}
	}
	return ""
}

// retryAfter is the wait that an answer asks for, in the precedence of the SDK.
func retryAfter(h http.Header) time.Duration {
	for _, header := range []struct {
		name string
		unit time.Duration
	}{
		{"Retry-After-Ms", time.Millisecond},
		{"X-Ms-Retry-After-Ms", time.Millisecond},
		{"Retry-After", time.Second},
	} {
		if n, err := strconv.Atoi(h.Get(header.name)); err == nil && n > 0 {
			return time.Duration(n) * header.unit
		}
	}
	at, err := http.ParseTime(h.Get("Retry-After"))
	if err != nil {
		return 0
	}
	// Against the answer's own date, for clocks differ.
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil || at.Before(date) {
		return 0
	}
	return at.Sub(date)
}
