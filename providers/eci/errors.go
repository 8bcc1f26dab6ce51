package eci

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	sdkerrors "github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"

	"github.com/autoburst/autoburst/providers"
)

// codes are the classes of the published error codes. Sources: the error lists
// of the actions in the official metadata of Eci 2018-08-08, and the gateway's
// common error codes (help.aliyun.com 434846, 48054).
var codes = map[string]providers.ErrorClass{
	"Degrade.Api":            providers.Throttled,
	"EipPurchaseFlowControl": providers.Throttled,

	"ServiceUnavailable": providers.Unavailable,
	"SignatureNonceUsed": providers.Unavailable, // the next call has another nonce

	"OperationConflict":              providers.Conflict,
	"IncorrectStatus":                providers.Conflict,
	"IncorrectOperation":             providers.Conflict,
	"IdempotentParameterMismatch":    providers.Conflict,
	"PrivateIpAddress.Already.InUse": providers.Conflict,

	"InvalidAccessKeyId.NotFound": providers.Unauthorized,
	"InvalidAccessKeyId.Inactive": providers.Unauthorized,
	"SignatureDoesNotMatch":       providers.Unauthorized,
	"IncompleteSignature":         providers.Unauthorized,
	"InvalidTimeStamp.Expired":    providers.Unauthorized,
	"InvalidTimeStamp.Format":     providers.Unauthorized,
	"MissingSecurityToken":        providers.Unauthorized,
	"NoPermission":                providers.Unauthorized,
	"NoPermission.Tag":            providers.Unauthorized,
	"Forbidden.RAM":               providers.Unauthorized,
	"Forbidden.SubUser":           providers.Unauthorized,
	"Forbidden.Unauthorized":      providers.Unauthorized,

	"Account.Arrearage":                              providers.AccountSuspended,
	"Payfor.CreditPayInsufficientBalance":            providers.AccountSuspended,
	"EipPayInsufficientBalance":                      providers.AccountSuspended,
	"ServiceNotEnabled":                              providers.Misconfigured,
	"FeatureAccessRestricted":                        providers.Misconfigured,
	"RegionDissolved":                                providers.Misconfigured,
	"OperationDenied.VswZoneMisMatch":                providers.Misconfigured,
	"OperationDenied.SecurityGroupMisMatch":          providers.Misconfigured,
	"InvalidUser.PassRoleForbidden":                  providers.Misconfigured,
	"RamRole.NotSupport":                             providers.Misconfigured,
	"CreateServiceLinkedRole.Denied":                 providers.Misconfigured,
	"OperationFailed.RiskControl":                    providers.Misconfigured,
	"RISK.RISK_CONTROL_REJECTION":                    providers.Misconfigured,
	"SecurityRisk.3DVerification":                    providers.Misconfigured,
	"InvalidOperation.ResourceManagedByCloudProduct": providers.Misconfigured,
	"InvalidProduct.NotFound":                        providers.Misconfigured,
	"InvalidApi.NotFound":                            providers.Misconfigured,
	"InvalidProtocol.NeedSsl":                        providers.Misconfigured,
	"InvalidSignatureMethod":                         providers.Misconfigured,
	"UnsupportedHTTPMethod":                          providers.Misconfigured,
	"NumberExceed.Tags":                              providers.Misconfigured,

	"QuotaExceeded":          providers.QuotaExceeded,
	"Throttling.Vcpu.PerDay": providers.QuotaExceeded,

	codeNoAddress:             providers.OutOfStock,
	"OperationDenied.NoStock": providers.OutOfStock,
	"Zone.NotOnSale":          providers.OutOfStock,
	"Spot.NotMatched":         providers.OutOfStock,
	"RecommendEmpty.InstanceTypeFamilyNotMatched": providers.OutOfStock,
}

// families are the classes of codes that begin alike, most telling first; they
// are asked when the code itself is in no list.
var families = []struct {
	prefix string
	class  providers.ErrorClass
}{
	{"Throttling", providers.Throttled},
	{"InvalidAccessKeyId", providers.Unauthorized},
	{"InvalidSecurityToken", providers.Unauthorized},
	{"NoPermission", providers.Unauthorized},
	{"Forbidden.RAM", providers.Unauthorized},
	{"Forbidden.AccountClosed", providers.AccountSuspended},
	{"Forbidden.", providers.Misconfigured},
	{"InvalidPaymentMethod", providers.AccountSuspended},
	{"InvalidVSwitchId", providers.Misconfigured},
	{"InvalidSecurityGroupId", providers.Misconfigured},
	{"InvalidRegionId", providers.Misconfigured},
	{"InvalidZoneId", providers.Misconfigured},
	{"InvalidResourceGroup", providers.Misconfigured},
	{"InvalidRamRole", providers.Misconfigured},
	{"MissingVSwitchId", providers.Misconfigured},
	{"MissingSecurityGroupId", providers.Misconfigured},
	{"MissingRegionId", providers.Misconfigured},
	{"QuotaExceeded", providers.QuotaExceeded},
	{"OperationDenied.NoStock", providers.OutOfStock},
}

// podFamilies are refusals of what a pod asks for, when a group is created.
var podFamilies = []string{
	"InvalidParameter", "InvalidParam", "Missing", "InvalidSpotCpuMemorySpec", "HighCpuMemConfigRequired",
	"ImageSnapshot.", "containerRepositoryAuthorizationFailed", "FeatureBasedConstraintConflict",
}

// ownMembers are what comes from the agent's settings. A refusal that names one
// of them is not the pod's fault, whatever its code: it must not fail the pod.
var ownMembers = regexp.MustCompile(`(?i)\b(RegionId|ZoneId|v-?switch(Ids?)?|security ?group(Id)?|resource ?group(Id)?|ram ?role(Name)?|ClientToken|ContainerGroupName)\b`)

// failure classifies what went wrong with one call.
type failure struct {
	action  string
	effect  effect
	secrets []string
}

func (f *failure) error(class providers.ErrorClass, code, message string) *providers.Error {
	return &providers.Error{Class: class, Operation: f.action, Code: code, Message: f.redact(message)}
}

// unanswered is the class of a call of which nothing is known: a read can be
// repeated, a write may have had its effect.
func (f *failure) unanswered() providers.ErrorClass {
	if f.effect == reads {
		return providers.Unavailable
	}
	return providers.Unknown
}

// local is an error before anything was sent.
func (f *failure) local(error) *providers.Error {
	return f.error(providers.Misconfigured, "RequestNotMade", "the SDK could not make the request")
}

// unreadable is an answer that is no document of the API.
func (f *failure) unreadable(status int32) *providers.Error {
	return f.error(f.unanswered(), "UnreadableAnswer", "HTTP "+strconv.Itoa(int(status))+" with an answer that is no document of the API; is the endpoint, or a proxy before it, right?")
}

// classify turns an error of the SDK into one of ours. The text of the SDK's
// errors is never used but for the member Message of an error document: it
// holds the whole URL with key and signature, or the text that was signed.
func (f *failure) classify(ctx context.Context, err error, trip *roundTrip) *providers.Error {
	var refused *sdkerrors.ServerError
	if errors.As(err, &refused) {
		return f.refused(refused)
	}
	class := f.unanswered()
	if !trip.sent.Load() {
		class = providers.Unavailable
	}
	switch {
	case errors.Is(err, errRedirect):
		return f.error(providers.Misconfigured, "Redirected", "the endpoint answers with a redirect, which is not followed; is it the API's?")
	case errors.Is(ctx.Err(), context.Canceled):
		return f.error(class, "Canceled", "the call was given up before the answer came")
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return f.error(class, "Timeout", "no answer in time")
	case !trip.sent.Load():
		return f.error(class, "NotConnected", "the endpoint could not be reached: "+cause(err))
	case trip.status.Load() != 0:
		return f.unreadable(trip.status.Load())
	default:
		return f.error(class, "NoAnswer", "the connection broke before the answer came: "+cause(err))
	}
}

// notPermitted is the error about a call that was not made, as the quota did not
// allow it in time.
func (f *failure) notPermitted(err error) *providers.Error {
	var own *providers.Error
	if errors.As(err, &own) {
		return own
	}
	return f.error(providers.Unavailable, "Canceled", "the call was given up before the request quota allowed it")
}

// cause is the innermost part of a network error, without the URL that
// *url.Error puts before it.
func cause(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err.Error()
	}
	return "unknown cause"
}

func (f *failure) refused(e *sdkerrors.ServerError) *providers.Error {
	code, status := e.ErrorCode(), e.HttpStatus()
	if code == "" {
		out := f.unreadable(int32(status))
		out.Class = f.classOfStatus(status)
		out.RetryAfter = retryAfter(e.RespHeaders)
		return out
	}
	out := f.error(f.classOf(code, e.Message(), status), f.redact(code), e.Message())
	switch code {
	case "SignatureDoesNotMatch", "IncompleteSignature":
		// The message repeats all that was signed.
		out.Message = "the signature is refused; is the secret that of the access key?"
	case "InvalidTimeStamp.Expired":
		out.Message = "the time of the request is refused; is this machine's clock right?"
	}
	out.RequestID = f.redact(e.RequestId())
	out.RetryAfter = retryAfter(e.RespHeaders)
	return out
}

func (f *failure) classOf(code, message string, status int) providers.ErrorClass {
	if class, ok := codes[code]; ok {
		return class
	}
	for _, fam := range families {
		if strings.HasPrefix(code, fam.prefix) {
			return fam.class
		}
	}
	if f.action == actionCreate && status >= 400 && status < 500 {
		for _, prefix := range podFamilies {
			if !strings.HasPrefix(code, prefix) {
				continue
			}
			if ownMembers.MatchString(code) || ownMembers.MatchString(firstWords(message)) {
				return providers.Misconfigured
			}
			return providers.InvalidPod
		}
	}
	return f.classOfStatus(status)
}

// firstWords is the part of a message that names the member in question.
func firstWords(s string) string {
	if i := strings.IndexAny(s, `"'`); i >= 0 {
		return s[:i]
	}
	return s
}

func (f *failure) classOfStatus(status int) providers.ErrorClass {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return providers.Unauthorized
	case http.StatusTooManyRequests:
		return providers.Throttled
	case http.StatusServiceUnavailable:
		return providers.Unavailable
	}
	if status == http.StatusRequestTimeout || status >= 500 {
		return f.unanswered()
	}
	return providers.Unknown
}

// retryAfter reads the header in seconds; ECI documents none, gateways send it.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(n)*time.Second, time.Hour)
}

const (
	maxMessage = 300
	// minReplaced is the length from which a secret in a message is blotted out.
	// A shorter one could be part of any word, so the whole message is withheld.
	minReplaced = 6
)

var (
	urls     = regexp.MustCompile(`(?i)\bhttps?://\S+`)
	unsigned = regexp.MustCompile(`(?i)string to sign|&?(Signature|AccessKeyId|SecurityToken)(=|%3D)`)
)

// redact takes out of a message what must not be seen: secrets of the call,
// also in the encodings of a request, URLs, and texts that were signed.
func (f *failure) redact(s string) string {
	const withheld = "(message withheld: it repeats the request)"
	if unsigned.MatchString(s) {
		return withheld
	}
	s = urls.ReplaceAllString(s, "(URL)")
	for _, secret := range f.secrets {
		for _, form := range []string{secret, url.QueryEscape(secret), url.QueryEscape(url.QueryEscape(secret))} {
			if !containsStart(s, form) {
				continue
			}
			if len(secret) < minReplaced {
				return withheld
			}
			s = strings.ReplaceAll(s, form, "(hidden)")
			if containsStart(s, form) {
				return withheld // a clipped part of the secret is left
			}
		}
	}
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxMessage {
		cut := maxMessage
		for !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return s
}

// containsStart tells whether s holds a secret or the beginning of one, since
// services clip the values that they quote.
func containsStart(s, secret string) bool {
	const telling = 12
	if len(secret) > telling {
		secret = secret[:telling]
	}
	return strings.Contains(s, secret)
}
