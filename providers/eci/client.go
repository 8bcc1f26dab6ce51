package eci

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"

	"go.opentelemetry.io/otel/trace"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
)

const (
	apiVersion  = "2018-08-08"
	dialTimeout = 5 * time.Second
	// idlePerHost keeps connections for a burst of creates and deletes; the
	// default of two would make most of them shake hands anew.
	idlePerHost = 128
	// maxAnswer bounds what is read of one answer. The largest published one is
	// a log of 1 MiB.
	maxAnswer = 16 << 20
)

// client calls the API through the core of the vendor's SDK, which signs. The
// SDK's client rewrites its own http.Client at every call, knows no context and
// cannot be shared between goroutines; it is little more than a struct, so each
// call gets its own, and all share one transport.
type client struct {
	region, endpoint string
	version          string
	timeout          time.Duration
	credentials      CredentialSource
	refused          func(Credentials)
	transport        *http.Transport
	quota            *quota.Account
	// dates are those of the answers.
	dates providers.Hearing
}

func newClient(cfg *Config, account *quota.Account) *client {
	c := &client{
		quota: account, region: cfg.Region, endpoint: cfg.Endpoint, version: cmp.Or(cfg.Version, "dev"),
		timeout: cfg.Timeout, credentials: cfg.Credentials, refused: cfg.Refused,
		transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:       &tls.Config{RootCAs: cfg.RootCAs, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:   dialTimeout,
			MaxIdleConnsPerHost:   idlePerHost,
			IdleConnTimeout:       90 * time.Second,
			ExpectContinueTimeout: time.Second,
		},
	}
	if c.endpoint == "" {
		c.endpoint = "eci." + cfg.Region + ".aliyuncs.com"
	}
	if c.timeout == 0 {
		c.timeout = defaultTimeout
	}
	return c
}

// effect tells whether an action changes something: only then does it matter
// whether a failed call arrived.
type effect bool

const (
	reads  effect = false
	writes effect = true
)

// call sends one action and decodes its answer into out. The error is always a
// *providers.Error. When the cloud refuses the key and another one is to be
// had, since it was just changed, the call is repeated with that once.
func (c *client) call(ctx context.Context, action string, eff effect, form members, out any) (err error) {
	ctx, ended := providers.Traced(ctx, Name, action)
	defer func() { ended(err) }()
	key, err := c.credentials()
	if err != nil {
		return credentialsError(action, err)
	}
	first := c.callAs(ctx, key, action, eff, form, out)
	if first == nil || providers.ClassOf(first) != providers.Unauthorized {
		return first
	}
	if c.refused != nil {
		c.refused(key)
	}
	again, err := c.credentials()
	if err != nil || again == key {
		return first
	}
	return c.callAs(ctx, again, action, eff, form, out)
}

func credentialsError(action string, err error) error {
	return &providers.Error{
		Class: providers.Unauthorized, Operation: action, Code: "CredentialsUnreadable",
		Message: "the access key could not be read: " + err.Error(),
	}
}

func (c *client) callAs(ctx context.Context, key Credentials, action string, eff effect, form members, out any) (err error) {
	f := failure{action: action, effect: eff, secrets: form.secrets(key)}
	permit, err := c.quota.Take(ctx, action, priorityOf(ctx, action))
	if err != nil {
		return f.notPermitted(err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	trip := &roundTrip{ctx: ctx, base: c.transport, action: action, effect: eff, dates: &c.dates}
	defer func() {
		if trip.sent.Load() {
			permit.Done(err)
		} else {
			permit.Cancel()
		}
	}()

	// The SDK asserts types of members of error answers without looking.
	defer func() {
		if r := recover(); r != nil {
			err = f.unreadable(trip.status.Load())
		}
	}()

	core, err := c.core(key, trip)
	if err != nil {
		return f.local(err)
	}
	answer, err := core.ProcessCommonRequest(c.request(action, form))
	if trip.denied != nil {
		return trip.denied
	}
	if err != nil {
		return f.classify(ctx, err, trip)
	}
	if err := json.Unmarshal(answer.GetHttpContentBytes(), out); err != nil {
		return f.unreadable(trip.status.Load())
	}
	traceAnswer(ctx, answer.GetHttpContentBytes())
	return nil
}

// traceAnswer notes on a span that is recorded what the cloud calls the request.
func traceAnswer(ctx context.Context, body []byte) {
	var answer struct {
		RequestID string `json:"RequestId"`
	}
	if trace.SpanFromContext(ctx).IsRecording() && json.Unmarshal(body, &answer) == nil {
		providers.TraceRequest(ctx, answer.RequestID)
	}
}

// core is the SDK's client for one call.
func (c *client) core(key Credentials, trip http.RoundTripper) (*sdk.Client, error) {
	var auth any = credentials.NewAccessKeyCredential(key.AccessKeyID, key.AccessKeySecret)
	if key.SecurityToken != "" {
		auth = credentials.NewStsTokenCredential(key.AccessKeyID, key.AccessKeySecret, key.SecurityToken)
	}
	config := sdk.NewConfig()
	config.Transport = trip
	core, err := sdk.NewClientWithOptions(c.region, config, auth)
	if err != nil {
		return nil, err
	}
	// The context ends the call; the SDK's own timeout only must not come first.
	core.SetReadTimeout(c.timeout + time.Second)
	// The transport knows proxies. The SDK would compile NO_PROXY as a regular
	// expression and fail on some of its valid forms.
	core.SetNoProxy("localhost")
	core.AppendUserAgent("autoburst", c.version)
	core.SetCloseTrace(true) // a global tracer would be handed whole URLs
	return core, nil
}

// request is a POST with the members in the form: a query ends up in the logs
// of proxies, and has a limit.
func (c *client) request(action string, form members) *requests.CommonRequest {
	r := requests.NewCommonRequest()
	r.Method = requests.POST
	r.Scheme = requests.HTTPS
	r.Domain = c.endpoint // given, so that the SDK asks no location service
	r.Product = "Eci"
	r.Version = apiVersion
	r.ApiName = action
	r.AcceptFormat = "JSON"
	r.FormParams = maps.Clone(form.values)
	return r
}

// roundTrip binds one call's HTTP request to its context and notes how far it
// came.
type roundTrip struct {
	ctx    context.Context
	base   http.RoundTripper
	action string
	effect effect
	dates  *providers.Hearing
	// denied is why the request was not sent, by the permit of its context.
	denied *providers.Error
	// sent is true once the request had a connection, so that it may have
	// arrived.
	sent   atomic.Bool
	status atomic.Int32
}

var errRedirect = errors.New("the endpoint answers with a redirect")

// RoundTrip sends the request under the call's context.
func (t *roundTrip) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.effect == writes {
		if t.denied = providers.NotPermitted(t.ctx, t.action); t.denied != nil {
			return nil, t.denied
		}
	}
	ctx := httptrace.WithClientTrace(t.ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { t.sent.Store(true) },
	})
	begun := time.Now()
	resp, err := t.base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	t.dates.Note(resp.Header, begun, time.Now())
	t.status.Store(int32(resp.StatusCode))
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		// Following it would send the signed request, with all its secrets, to
		// another host.
		_ = resp.Body.Close()
		return nil, errRedirect
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxAnswer}
	return resp, nil
}

// boundedBody fails instead of filling the memory.
type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}
