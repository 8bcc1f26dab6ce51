package aci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/google/go-cmp/cmp"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/providertest"
)

const (
	clientSecretValue = "the~client~secret"
	accessToken       = "eyJhbGciOiJub25lIn0.eyJhdWQiOiJhcm0ifQ.c2lnbmF0dXJl"
	subscriptionID    = "5ab5c41b-0000-4000-8000-000000000000"
	tenantID          = "7e4a47a0-0000-4000-8000-000000000000"
)

// fakeCloud is an authority and a resource manager that answer as a test says.
type fakeCloud struct {
	authorize http.HandlerFunc // the token endpoint; nil issues tokens
	manage    http.HandlerFunc
	puts      atomic.Int32
}

func (f *fakeCloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration"):
		base := "https://" + r.Host + "/" + tenantID
		fmt.Fprintf(w, `{"token_endpoint":"%[1]s/token","authorization_endpoint":"%[1]s/authorize","issuer":"%[1]s/v2.0"}`, base)
	case strings.HasSuffix(r.URL.Path, "/token"):
		if f.authorize != nil {
			f.authorize(w, r)
			return
		}
		fmt.Fprintf(w, `{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"%s"}`, accessToken)
	case r.Method == http.MethodPut:
		f.puts.Add(1)
		f.manage(w, r)
	case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/autoburst-put"):
		// For a PUT there must be no group; for the rest, answer says.
		answer(404, "ResourceNotFound", "not found")(w, r)
	default:
		f.manage(w, r)
	}
}

// start serves f and returns a provider that talks to it.
func (f *fakeCloud) start(t *testing.T, edits ...func(*Config)) *Provider {
	t.Helper()
	server := httptest.NewUnstartedServer(f)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused certificates
	server.StartTLS()
	t.Cleanup(server.Close)
	config := Config{
		SubscriptionID: subscriptionID, ResourceGroup: "burst", Region: "westeurope",
		TenantID: tenantID, ClientID: "client", ClientSecret: clientSecretValue,
		ClusterUID: testOwner().ClusterUID, NodeName: testOwner().NodeName,
		HTTPClient: server.Client(),
		Cloud: cloud.Configuration{
			ActiveDirectoryAuthorityHost: server.URL,
			Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
				cloud.ResourceManager: {Endpoint: server.URL, Audience: "https://management.azure.com"},
			},
		},
	}
	for _, edit := range edits {
		edit(&config)
	}
	config.Quota = providertest.Unbounded(t, config.Plan())
	p, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func answer(status int, code, message string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Ms-Correlation-Request-Id", "11111111-aaaa")
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":{"code":%q,"message":%q}}`, code, message)
	}
}

func raw(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// hangUp ends the connection, once the request has been read, without an answer.
func hangUp(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	panic(http.ErrAbortHandler)
}

// secretSpec is a pod whose parts must not show in an error.
func secretSpec() *providers.GroupSpec {
	s := minimal()
	s.Owner.PodUID = "put"
	s.Containers[0].Env = []providers.EnvVar{{Name: "A", Value: "plain-environment"}, {Name: "B", Value: "secret-environment", Secret: true}}
	s.Volumes = []providers.Volume{{Name: "files", Files: &providers.Files{Secret: true, Items: []providers.File{{Path: "f", Data: []byte("file content")}}}}}
	s.RegistryCredentials = []providers.RegistryCredential{{Server: "r.example.com", Username: "registry-user", Password: "registry-password"}}
	return s
}

// forbidden lists what no error may contain, sent what no error of Create may,
// for only that call sends it.
var (
	forbidden = []string{"://", clientSecretValue, accessToken, "eyJ", "\n", "--------", "<html"}
	sent      = []string{"plain-environment", "secret-environment", "file content", "ZmlsZSBjb250ZW50", "registry-password"}
)

// calls are the methods of the provider by their names.
func calls(p *Provider) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Create": func(ctx context.Context) error { _, err := p.Create(ctx, secretSpec()); return err },
		"Delete": func(ctx context.Context) error { return p.Delete(ctx, "autoburst-1") },
		"Get":    func(ctx context.Context) error { _, err := p.Get(ctx, "autoburst-1"); return err },
		"List":   func(ctx context.Context) error { _, err := p.List(ctx); return err },
		"Logs": func(ctx context.Context) error {
			_, err := p.Logs(ctx, "autoburst-1", "app", providers.LogOptions{})
			return err
		},
		"Check": func(ctx context.Context) error { return p.Check(ctx) },
	}
}

func TestErrorClasses(t *testing.T) {
	const (
		ok            = providers.ErrorClass("")
		unknown       = providers.Unknown
		unavailable   = providers.Unavailable
		misconfigured = providers.Misconfigured
		unauthorized  = providers.Unauthorized
		throttled     = providers.Throttled
		conflict      = providers.Conflict
		notFound      = providers.NotFound
		invalid       = providers.InvalidPod
	)
	leak := "see https://portal.azure.com/x?sig=abc Bearer " + accessToken + " secret-environment plain-environment registry-password " +
		"ZmlsZSBjb250ZW50 " + clientSecretValue + "\nsecond line"
	tests := map[string]struct {
		manage http.HandlerFunc
		write  providers.ErrorClass // of Create's PUT; Delete fails at the read before it
		read   providers.ErrorClass
		code   string
	}{
		"429":                     {answer(429, "TooManyRequests", leak, "Retry-After", "7"), throttled, throttled, "TooManyRequests"},
		"500":                     {answer(500, "InternalServerError", leak), unknown, unavailable, "InternalServerError"},
		"502 of a proxy":          {raw(502, "<html>https://proxy "+accessToken+"</html>"), unknown, unavailable, ""},
		"503":                     {answer(503, "ServiceUnavailable", leak), unknown, unavailable, "ServiceUnavailable"},
		"408":                     {answer(408, "RequestTimeout", leak), unknown, unavailable, "RequestTimeout"},
		"cut":                     {hangUp, unknown, unavailable, ""},
		"no JSON in a success":    {raw(200, "<html>"), ok, unavailable, ""},
		"an undocumented success": {answer(206, "Partial", leak), ok, unavailable, "Partial"},
		"a redirect":              {raw(302, ""), unknown, unavailable, ""},
		"404 of a proxy":          {raw(404, "<html>"), misconfigured, misconfigured, ""},
		"no group":                {answer(404, "ResourceNotFound", leak), misconfigured, notFound, "ResourceNotFound"},
		"no resource group":       {answer(404, "ResourceGroupNotFound", leak), misconfigured, misconfigured, "ResourceGroupNotFound"},
		"no subscription":         {answer(404, "SubscriptionNotFound", leak), misconfigured, misconfigured, "SubscriptionNotFound"},
		"401":                     {answer(401, "InvalidAuthenticationToken", leak), unauthorized, unauthorized, "InvalidAuthenticationToken"},
		"403":                     {answer(403, "AuthorizationFailed", leak), unauthorized, unauthorized, "AuthorizationFailed"},
		"403 by policy":           {answer(403, "RequestDisallowedByPolicy", leak), misconfigured, misconfigured, "RequestDisallowedByPolicy"},
		"not registered":          {answer(409, "MissingSubscriptionRegistration", leak), misconfigured, misconfigured, "MissingSubscriptionRegistration"},
		"in transition":           {answer(409, "ContainerGroupTransitioning", leak), conflict, conflict, "ContainerGroupTransitioning"},
		"another 409":             {answer(409, "Whatever", leak), conflict, conflict, "Whatever"},
		"no capacity":             {answer(409, "ServiceUnavailable", leak), providers.OutOfStock, providers.OutOfStock, "ServiceUnavailable"},
		"quota":                   {answer(400, "ContainerGroupQuotaReached", leak), providers.QuotaExceeded, providers.QuotaExceeded, "ContainerGroupQuotaReached"},
		"image":                   {answer(400, "InaccessibleImage", leak), conflict, conflict, "InaccessibleImage"},
		"registry":                {answer(409, "RegistryErrorResponse", leak), conflict, conflict, "RegistryErrorResponse"},
		"update refused":          {answer(400, "InvalidContainerGroupUpdate", leak), conflict, conflict, "InvalidContainerGroupUpdate"},
		"subnet":                  {answer(400, "SubnetWithoutDelegation", leak), misconfigured, misconfigured, "SubnetWithoutDelegation"},
		"400":                     {answer(400, "InvalidRequestContent", leak), invalid, misconfigured, "InvalidRequestContent"},
		"413":                     {raw(413, "too large"), invalid, misconfigured, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			cloud := &fakeCloud{manage: test.manage}
			p := cloud.start(t)
			for method, call := range calls(p) {
				want := test.read
				switch {
				case method == "Delete" && want == unavailable:
					want = unknown
				case method == "Create":
					want = test.write
				case want == notFound && (method == "Delete" || method == "Check"):
					want = ok
				}
				err := call(t.Context())
				providertest.Reopen(p.Quota())
				if got := providers.ClassOf(err); got != want {
					t.Errorf("%s: class %q, want %q: %v", method, got, want, err)
				}
				checkText(t, method, err)
				var e *providers.Error
				if errors.As(err, &e) && e.Code != test.code {
					t.Errorf("%s: code %q, want %q", method, e.Code, test.code)
				}
			}
			// The SDK must not repeat it.
			if n := cloud.puts.Load(); n != 1 {
				t.Errorf("%d PUTs", n)
			}
		})
	}
}

// checkText fails for an error with anything secret, or that is not ours.
func checkText(t *testing.T, method string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	var e *providers.Error
	if !errors.As(err, &e) || error(e) != err || //nolint:errorlint // the error itself, nothing around it
		e.Operation == "" || e.Message == "" {
		t.Errorf("%s: no whole *providers.Error: %#v", method, err)
	}
	texts := forbidden
	if method == "Create" {
		texts = slices.Concat(forbidden, sent)
	}
	for _, text := range texts {
		if strings.Contains(err.Error(), text) {
			t.Errorf("%s: the error contains %q: %s", method, text, err)
		}
	}
}

func TestErrorDetails(t *testing.T) {
	cloud := &fakeCloud{manage: answer(429, "TooManyRequests", "slow down", "Retry-After", "7", "Retry-After-Ms", "")}
	err := cloud.start(t).Check(t.Context())
	want := &providers.Error{
		Class: providers.Throttled, Operation: "CheckCloud", Code: "TooManyRequests",
		Message: "slow down", RequestID: "11111111-aaaa", RetryAfter: 7 * time.Second,
	}
	if diff := cmp.Diff(error(want), err, cmp.AllowUnexported()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSignInErrors(t *testing.T) {
	refusal := func(status int, name, description string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"error":%q,"error_description":%q,"trace_id":"t-1"}`, name, description)
		}
	}
	tests := map[string]struct {
		authorize http.HandlerFunc
		class     providers.ErrorClass
		code      string
		message   string
	}{
		"wrong secret": {
			refusal(401, "invalid_client", "AADSTS7000215: Invalid client secret provided. Ensure it is the value "+clientSecretValue+". Trace ID: 1 Correlation ID: 2\r\nmore"),
			providers.Unauthorized, "AADSTS7000215", "signing in: Invalid client secret provided. Ensure it is the value [redacted].",
		},
		"unknown tenant": {
			refusal(400, "invalid_request", "AADSTS90002: Tenant not found.\r\nTrace ID: 1"),
			providers.Unauthorized, "AADSTS90002", "signing in: Tenant not found.",
		},
		"throttled":      {refusal(429, "temporarily_unavailable", "AADSTS50196: loop"), providers.Throttled, "AADSTS50196", "signing in: loop"},
		"down":           {raw(503, "<html>https://x</html>"), providers.Unavailable, "", ""},
		"not understood": {raw(404, "<html>"), providers.Misconfigured, "", ""},
		"cut":            {hangUp, providers.Unavailable, "", ""},
		"no token":       {raw(200, "<html>"), providers.Misconfigured, "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			cloud := &fakeCloud{authorize: test.authorize, manage: func(w http.ResponseWriter, r *http.Request) {
				t.Error("a request without a token")
			}}
			for method, call := range calls(cloud.start(t)) {
				err := call(t.Context())
				checkText(t, method, err)
				var e *providers.Error
				if !errors.As(err, &e) || e.Class != test.class || e.Code != test.code || test.message != "" && e.Message != test.message {
					t.Errorf("%s: %#v", method, err)
				}
			}
			if cloud.puts.Load() != 0 {
				t.Error("a PUT without a token")
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "https://" + listener.Addr().String()
	listener.Close()
	none := func(w http.ResponseWriter, r *http.Request) { t.Error("a request arrived") }
	tests := map[string]struct {
		edit func(*Config)
		want providers.ErrorClass
	}{
		"the resource manager": {func(c *Config) {
			c.Cloud.Services[cloud.ResourceManager] = cloud.ServiceConfiguration{Endpoint: address, Audience: "https://management.azure.com"}
		}, providers.Unavailable},
		"the authority":       {func(c *Config) { c.Cloud.ActiveDirectoryAuthorityHost = address }, providers.Unavailable},
		"foreign certificate": {func(c *Config) { c.HTTPClient = nil }, providers.Misconfigured},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for method, call := range calls((&fakeCloud{manage: none}).start(t, test.edit)) {
				err := call(t.Context())
				checkText(t, method, err)
				if got := providers.ClassOf(err); got != test.want {
					t.Errorf("%s: class %q, want %q: %v", method, got, test.want, err)
				}
			}
		})
	}
}

func TestContextEnds(t *testing.T) {
	t.Run("before the request", func(t *testing.T) {
		p := (&fakeCloud{manage: func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") }}).start(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for method, call := range calls(p) {
			err := call(ctx)
			checkText(t, method, err)
			if got := providers.ClassOf(err); got != providers.Unavailable {
				t.Errorf("%s: class %q: %v", method, got, err)
			}
		}
	})
	for name, want := range map[string]providers.ErrorClass{
		"Create": providers.Unknown, "Get": providers.Unavailable, "List": providers.Unavailable,
		"Logs": providers.Unavailable, "Check": providers.Unavailable,
	} {
		t.Run("during "+name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			p := (&fakeCloud{manage: func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				cancel()
				<-r.Context().Done()
			}}).start(t)
			err := calls(p)[name](ctx)
			checkText(t, name, err)
			if got := providers.ClassOf(err); got != want {
				t.Errorf("class %q, want %q: %v", got, want, err)
			}
		})
	}
}

func TestDeleteAnswers(t *testing.T) {
	tests := map[string]struct {
		answer http.HandlerFunc
		want   providers.ErrorClass
	}{
		"200":                       {raw(200, `{"name":"autoburst-1"}`), ""},
		"204":                       {raw(204, ""), ""},
		"202 without a way to poll": {raw(202, ""), ""},
		"404":                       {answer(404, "ResourceNotFound", "gone"), ""},
		"resource group gone":       {answer(404, "ResourceGroupNotFound", "gone"), providers.Misconfigured},
		"transition":                {answer(409, "ContainerGroupTransitioning", "wait"), providers.Conflict},
		"500":                       {answer(500, "InternalServerError", "oh"), providers.Unknown},
		"cut":                       {hangUp, providers.Unknown},
		"400":                       {answer(400, "Whatever", "oh"), providers.Misconfigured},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			deletes := 0
			p := (&fakeCloud{manage: func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodDelete {
					deletes++
					test.answer(w, r)
					return
				}
				fmt.Fprint(w, `{"name":"autoburst-1","tags":{"Autoburst-Cluster-UID":"8f3f","autoburst-node":"burst-aci","autoburst-pod-uid":"1"}}`)
			}}).start(t)
			err := p.Delete(t.Context(), "autoburst-1")
			if got := providers.ClassOf(err); got != test.want {
				t.Errorf("class %q, want %q: %v", got, test.want, err)
			}
			if deletes != 1 {
				t.Errorf("%d DELETEs", deletes)
			}
		})
	}
}

func TestCreateAdoptsOnlyItsOwn(t *testing.T) {
	tests := map[string]struct {
		tags string
		want providers.ErrorClass
	}{
		"its own":         {`"autoburst-cluster-uid":"8f3f","autoburst-node":"burst-aci","autoburst-pod-uid":"adopted"`, ""},
		"another pod":     {`"autoburst-cluster-uid":"8f3f","autoburst-node":"burst-aci","autoburst-pod-uid":"other"`, providers.Conflict},
		"another node":    {`"autoburst-cluster-uid":"8f3f","autoburst-node":"other","autoburst-pod-uid":"adopted"`, providers.Conflict},
		"another cluster": {`"autoburst-cluster-uid":"other","autoburst-node":"burst-aci","autoburst-pod-uid":"adopted"`, providers.Conflict},
		"no tags":         {``, providers.Conflict},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			cloud := &fakeCloud{manage: func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, `{"name":"autoburst-adopted","tags":{%s}}`, test.tags)
			}}
			spec := minimal()
			spec.Owner.PodUID = "adopted"
			id, err := cloud.start(t).Create(t.Context(), spec)
			if got := providers.ClassOf(err); got != test.want || (err == nil) != (id == "autoburst-adopted") {
				t.Errorf("id %q, class %q, want %q: %v", id, got, test.want, err)
			}
			if n := cloud.puts.Load(); n != 0 {
				t.Errorf("%d PUTs", n)
			}
		})
	}
}

func TestCreateRefusesBeforeItAsks(t *testing.T) {
	cloud := &fakeCloud{manage: func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") }}
	p := cloud.start(t)
	spec := minimal()
	spec.Containers[0].WorkingDir = "/"
	_, err := p.Create(t.Context(), spec)
	if !providers.Permanent(err) || !strings.HasPrefix(err.Error(), "CreateContainerGroup: InvalidPod: ") {
		t.Errorf("got %v", err)
	}
	spec = minimal()
	spec.Owner.NodeName = "other"
	if _, err := p.Create(t.Context(), spec); providers.ClassOf(err) != providers.Misconfigured {
		t.Errorf("got %v", err)
	}
}

func TestRedactor(t *testing.T) {
	secrets := redactor{"abcdefgh", "abcd", "xyz", ""}
	tests := map[string]struct{ in, text, event string }{
		"plain":     {"no  secret\nhere", "no secret here", "no secret here"},
		"values":    {"abcdefgh abcd xyz", "[redacted] [redacted] xyz", "[redacted] [redacted] xyz"},
		"URL":       {`Get "https://u:pw@r.io/v2/x?sig=1": EOF`, `Get "[URL]": EOF`, `Get "https://r.io/v2/x": EOF`},
		"token":     {"token " + accessToken, "token [redacted]", "token [redacted]"},
		"bearer":    {"Bearer opaque.value", "Bearer [redacted]", "Bearer [redacted]"},
		"pairs":     {`password=p "client_secret": "s" sig=x&y`, `password=[redacted] "client_secret": "[redacted]" sig=[redacted]&y`, `password=[redacted] "client_secret": "[redacted]" sig=[redacted]&y`},
		"too long":  {strings.Repeat("ä", 600), strings.Repeat("ä", 198) + "…", strings.Repeat("ä", 498) + "…"},
		"path only": {"/subscriptions/1", "/subscriptions/1", "/subscriptions/1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := secrets.text(test.in); got != test.text {
				t.Errorf("text %q, want %q", got, test.text)
			}
			if got := secrets.event(test.in); got != test.event {
				t.Errorf("event %q, want %q", got, test.event)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	tests := map[string]struct {
		header http.Header
		want   time.Duration
	}{
		"none":    {http.Header{}, 0},
		"seconds": {http.Header{"Retry-After": {"90"}}, 90 * time.Second},
		"millis":  {http.Header{"Retry-After": {"90"}, "X-Ms-Retry-After-Ms": {"1500"}}, 1500 * time.Millisecond},
		"date":    {http.Header{"Retry-After": {"Wed, 21 Oct 2026 07:28:30 GMT"}, "Date": {"Wed, 21 Oct 2026 07:28:00 GMT"}}, 30 * time.Second},
		"past":    {http.Header{"Retry-After": {"Wed, 21 Oct 2026 07:28:00 GMT"}, "Date": {"Wed, 21 Oct 2026 07:28:30 GMT"}}, 0},
		"garbage": {http.Header{"Retry-After": {"soon"}}, 0},
		"minus":   {http.Header{"Retry-After": {"-1"}}, 0},
	}
	for name, test := range tests {
		if got := retryAfter(test.header); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
