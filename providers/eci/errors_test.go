package eci

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	sdkerrors "github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"

	"github.com/autoburst/autoburst/providers"
)

func TestClassOf(t *testing.T) {
	tests := []struct {
		action  string
		status  int
		code    string
		message string
		want    providers.ErrorClass
	}{
		{actionCreate, 400, "Throttling", "", providers.Throttled},
		{actionCreate, 400, "Throttling.User", "", providers.Throttled},
		{actionDescribe, 400, "Throttling.Api", "", providers.Throttled},
		{actionCreate, 400, "Degrade.Api", "", providers.Throttled},
		{actionCreate, 403, "Throttling.Vcpu.PerDay", "", providers.QuotaExceeded},
		{actionCreate, 403, "QuotaExceeded", "", providers.QuotaExceeded},
		{actionCreate, 403, "InvalidVSwitchId.IpNotEnough", "", providers.OutOfStock},
		{actionCreate, 403, "OperationDenied.NoStock", "", providers.OutOfStock},
		{actionCreate, 403, "Zone.NotOnSale", "", providers.OutOfStock},
		{actionCreate, 403, "Spot.NotMatched", "", providers.OutOfStock},
		{actionCreate, 400, "Account.Arrearage", "", providers.AccountSuspended},
		{actionCreate, 400, "InvalidPaymentMethod.InsufficientBalance", "", providers.AccountSuspended},
		{actionCreate, 403, "Forbidden.RiskControl", "", providers.Misconfigured},
		{actionCreate, 403, "Forbidden.AccountClosed", "", providers.AccountSuspended},
		{actionCreate, 404, "InvalidVSwitchId.NotFound", "", providers.Misconfigured},
		{actionCreate, 403, "OperationDenied.SecurityGroupMisMatch", "", providers.Misconfigured},
		{actionCreate, 400, "MissingVSwitchId", "", providers.Misconfigured},
		{actionCreate, 400, "InvalidParameter", "SecurityGroupId sg-1 is not in the VPC.", providers.Misconfigured},
		{actionCreate, 400, "InvalidParameter", `The vSwitch "vsw-1" does not exist.`, providers.Misconfigured},
		{actionCreate, 400, "InvalidParameter", `Container.1.Image "vSwitch" is bad.`, providers.InvalidPod},
		{actionCreate, 403, "NoPermission", "", providers.Unauthorized},
		{actionCreate, 403, "Forbidden.RAM", "", providers.Unauthorized},
		{actionDescribe, 404, "InvalidAccessKeyId.NotFound", "", providers.Unauthorized},
		{actionDescribe, 400, "InvalidSecurityToken.Expired", "", providers.Unauthorized},
		{actionDescribe, 400, "SignatureDoesNotMatch", "", providers.Unauthorized},
		{actionCreate, 400, "InvalidParameter.CPU.Memory", "", providers.InvalidPod},
		{actionCreate, 400, "InvalidParameter.DuplicatedName", "", providers.InvalidPod},
		{actionCreate, 400, "MissingParameter", "Container.1.Image is mandatory for this action.", providers.InvalidPod},
		{actionCreate, 404, "ImageSnapshot.NotFound", "", providers.InvalidPod},
		{actionDelete, 400, "InvalidParameter", "", providers.Unknown},
		{actionDescribe, 400, "InvalidParameter", "", providers.Unknown},
		{actionDelete, 400, "OperationConflict", "", providers.Conflict},
		{actionDelete, 400, "IncorrectStatus", "", providers.Conflict},
		{actionCreate, 400, "IdempotentParameterMismatch", "", providers.Conflict},
		{actionCreate, 503, "ServiceUnavailable", "", providers.Unavailable},
		{actionCreate, 500, "InternalError", "", providers.Unknown},
		{actionDescribe, 500, "InternalError", "", providers.Unavailable},
		{actionLog, 408, "Request Timeout", "", providers.Unavailable},
		{actionCreate, 500, "InvalidParameter", "", providers.Unknown},
		{actionCreate, 400, "SomethingNew", "", providers.Unknown},
		{actionCreate, 403, "SomethingNew", "", providers.Unauthorized},
	}
	for _, tt := range tests {
		t.Run(tt.action+"/"+tt.code, func(t *testing.T) {
			f := failure{action: tt.action, effect: effect(tt.action == actionCreate || tt.action == actionDelete)}
			if got := f.classOf(tt.code, tt.message, tt.status); got != tt.want {
				t.Errorf("class %s, want %s", got, tt.want)
			}
		})
	}
}

// served is a provider whose endpoint is the handler.
func served(t *testing.T, h http.HandlerFunc) *Provider {
	t.Helper()
	web := httptest.NewUnstartedServer(h)
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.StartTLS()
	t.Cleanup(web.Close)
	u, err := url.Parse(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	p := testProvider(t)
	p.client.endpoint = u.Host
	p.client.credentials = StaticCredentials(Credentials{hushID, hushSecret, hushToken})
	p.client.transport = web.Client().Transport.(*http.Transport)
	t.Cleanup(p.Close)
	return p
}

const (
	hushID     = "LTAI-hush-hush"
	hushSecret = "key/hush+secret="
	hushToken  = "token hush hush"
)

// hushed are the secrets of hushSpec and of the key.
var hushed = []string{hushID, hushSecret, hushToken, "env&hush&4711", "plain-hush-4712", "file hush 4713", "ZmlsZSBodXNoIDQ3MTM=", "registry/hush=4714", "robot-hush"}

func hushSpec() *providers.GroupSpec {
	s := smallSpec()
	s.Containers[0].Env = []providers.EnvVar{{Name: "PASSWORD", Value: hushed[3], Secret: true}, {Name: "PLAIN", Value: hushed[4]}}
	s.Volumes = []providers.Volume{{Name: "v", Files: &providers.Files{Secret: true, Items: []providers.File{{Path: "key", Data: []byte(hushed[5])}}}}}
	s.RegistryCredentials = []providers.RegistryCredential{{Server: "r.example.com", Username: hushed[8], Password: hushed[7]}}
	return s
}

func wantHush(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	text := err.Error()
	for _, s := range append([]string{"://", "Signature="}, hushed...) {
		for _, form := range []string{s, url.QueryEscape(s), url.QueryEscape(url.QueryEscape(s))} {
			if strings.Contains(text, form) {
				t.Errorf("the error shows %q: %s", form, text)
			}
		}
	}
	if len(text) > 600 {
		t.Errorf("the error has %d bytes", len(text))
	}
}

// TestErrorsAreRedacted has a server tell back everything that it was sent.
func TestErrorsAreRedacted(t *testing.T) {
	everything := func(r *http.Request) string {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		return "sent: " + r.URL.String() + " " + r.Form.Encode() + " " + strings.Join(hushed, " ")
	}
	answer := func(w http.ResponseWriter, status int, code, message string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"RequestId": "REQ-1", "Code": code, "Message": message})
	}
	tests := map[string]struct {
		handler http.HandlerFunc
		class   providers.ErrorClass
		code    string
	}{
		"every value told back": {
			func(w http.ResponseWriter, r *http.Request) { answer(w, 400, "InvalidParameter", everything(r)) },
			providers.Misconfigured, "InvalidParameter", // it names members of the agent's settings too
		},
		"each value in a word of its own": {
			func(w http.ResponseWriter, _ *http.Request) {
				answer(w, 400, "InvalidParameter", "The value "+strings.Join(hushed, ", ")+" is bad.")
			},
			providers.InvalidPod, "InvalidParameter",
		},
		"clipped values": {
			func(w http.ResponseWriter, _ *http.Request) {
				answer(w, 400, "InvalidParameter", "The value "+hushed[4][:13]+"… is bad.")
			},
			providers.InvalidPod, "InvalidParameter",
		},
		"the string that was signed": {
			func(w http.ResponseWriter, r *http.Request) {
				answer(w, 400, "SignatureDoesNotMatch", "Specified signature is not matched with our calculation. server string to sign is:"+url.QueryEscape(everything(r)))
			},
			providers.Unauthorized, "SignatureDoesNotMatch",
		},
		"a signature": {
			func(w http.ResponseWriter, _ *http.Request) {
				answer(w, 400, "InvalidParameter", "sent: Action=x&Signature=abcdef")
			},
			providers.InvalidPod, "InvalidParameter",
		},
		"a page of HTML": {
			func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(502)
				_, _ = w.Write([]byte("<html>" + everything(r) + "</html>"))
			},
			providers.Unknown, "UnreadableAnswer",
		},
		"a document on which the SDK panics": {
			func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(400)
				_, _ = w.Write([]byte(`{"Code": 4, "Message": ["x"], "RequestId": 7}`))
			},
			providers.Unknown, "UnreadableAnswer",
		},
		"success that is none": {
			func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("OK")) },
			providers.Unknown, "UnreadableAnswer",
		},
		"success without an ID": {
			func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"RequestId":"R"}`)) },
			providers.Unknown, "UnreadableAnswer",
		},
		"a redirect": {
			func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://elsewhere.example.com/?"+r.URL.RawQuery, http.StatusTemporaryRedirect)
			},
			providers.Misconfigured, "Redirected",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := served(t, tt.handler).Create(t.Context(), hushSpec())
			wantHush(t, err)
			if e := asError(t, err); e.Class != tt.class || e.Code != tt.code {
				t.Errorf("class %s, code %s, want %s, %s", e.Class, e.Code, tt.class, tt.code)
			}
		})
	}
}

func TestNothingIsInTheURL(t *testing.T) {
	var query url.Values
	p := served(t, func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.Query()
		if r.Method != http.MethodPost {
			t.Errorf("method %s, want POST", r.Method)
		}
		if err := r.ParseForm(); err != nil || r.PostForm.Get("Container.1.EnvironmentVar.1.Value") != hushed[3] {
			t.Errorf("the form has not the pod's environment: %v", err)
		}
		_, _ = w.Write([]byte(`{"ContainerGroupId":"eci-1"}`))
	})
	if _, err := p.Create(t.Context(), hushSpec()); err != nil {
		t.Fatal(err)
	}
	for name := range query {
		for _, prefix := range []string{"Container", "Volume", "Image", "Tag", "InitContainer"} {
			if strings.HasPrefix(name, prefix) {
				t.Errorf("the URL has the member %s", name)
			}
		}
	}
}

func TestUnreachableEndpoint(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p := testProvider(t)
	p.client.endpoint = dead
	p.client.credentials = StaticCredentials(Credentials{hushID, hushSecret, hushToken})
	_, err = p.Create(t.Context(), hushSpec())
	wantHush(t, err)
	// Nothing was sent: the pod can be created without a look at the cloud.
	if c := providers.ClassOf(err); c != providers.Unavailable {
		t.Errorf("class %s, want Unavailable", c)
	}
	if !strings.Contains(err.Error(), "could not be reached") {
		t.Errorf("error %q does not say that the endpoint could not be reached", err)
	}
}

func TestUntrustedEndpoint(t *testing.T) {
	called := false
	p := served(t, func(http.ResponseWriter, *http.Request) { called = true })
	p.client.transport = newClient(&p.cfg, p.Quota()).transport // knows the system's roots only
	_, err := p.Create(t.Context(), hushSpec())
	wantHush(t, err)
	if c := providers.ClassOf(err); c != providers.Unavailable || called {
		t.Errorf("class %s, request sent %v, want Unavailable and nothing sent", c, called)
	}
}

func TestKeyChangesUnderTheCall(t *testing.T) {
	keys := []Credentials{{AccessKeyID: "old", AccessKeySecret: "s"}, {AccessKeyID: "new", AccessKeySecret: "s"}}
	var asked []string
	p := served(t, func(w http.ResponseWriter, r *http.Request) {
		id := r.URL.Query().Get("AccessKeyId")
		asked = append(asked, id)
		if id == "old" {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"Code":"InvalidAccessKeyId.NotFound","Message":"gone"}`))
			return
		}
		_, _ = w.Write([]byte(`{"ContainerGroups":[]}`))
	})
	p.client.credentials = func() (Credentials, error) {
		key := keys[0]
		keys = []Credentials{keys[len(keys)-1]}
		return key, nil
	}
	if err := p.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	if strings.Join(asked, " ") != "old new" {
		t.Errorf("calls with the keys %q, want old, then new", asked)
	}
}

// TestListLooksAgain: a service that forgets the filter shows foreign groups.
func TestListLooksAgain(t *testing.T) {
	p := served(t, func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		if r.Form.Get("Action") == actionStatus {
			_, _ = w.Write([]byte(`{"Data":[{"ContainerGroupId":"eci-foreign"},{"ContainerGroupId":"eci-other"},{"ContainerGroupId":"eci-own"}]}`))
			return
		}
		_, _ = w.Write([]byte(`{"ContainerGroups":[
			{"ContainerGroupId":"eci-foreign","Status":"Running"},
			{"ContainerGroupId":"eci-other","Status":"Running","Tags":[{"Key":"autoburst.io/cluster","Value":"cluster-uid"},{"Key":"autoburst.io/node","Value":"other"}]},
			{"ContainerGroupId":"eci-own","Status":"Running","Tags":[{"Key":"autoburst.io/cluster","Value":"cluster-uid"},{"Key":"autoburst.io/node","Value":"burst-eci"}]}]}`))
	})
	for range 2 {
		list, err := p.List(t.Context())
		if err != nil || len(list) != 1 || list[0].ID != "eci-own" {
			t.Errorf("List = %+v, %v, want eci-own alone", list, err)
		}
	}
}

// TestListIsWholeOrNothing: answers from which groups may be missing.
func TestListIsWholeOrNothing(t *testing.T) {
	const one = `{"Data":[{"ContainerGroupId":"eci-1","Status":"Running"}]}`
	for name, answer := range map[string]struct{ statuses, groups string }{
		"no list":                     {statuses: `{"RequestId":"R"}`},
		"a null list":                 {statuses: `{"Data":null}`},
		"a circle":                    {statuses: `{"Data":[],"NextToken":"again"}`},
		"no ID":                       {statuses: `{"Data":[{"Status":"Running"}]}`},
		"no group":                    {statuses: `{"Data":[7]}`},
		"half an answer":              {statuses: `{"Data":[{"ContainerGroupId":"eci-1"`},
		"no description":              {statuses: one, groups: `{"RequestId":"R"}`},
		"a null description":          {statuses: one, groups: `{"ContainerGroups":null}`},
		"descriptions in a circle":    {statuses: one, groups: `{"ContainerGroups":[],"NextToken":"again"}`},
		"a description without an ID": {statuses: one, groups: `{"ContainerGroups":[{"Status":"Running"}]}`},
		"half a description":          {statuses: one, groups: `{"ContainerGroups":[{"ContainerGroupId":"eci-1"`},
	} {
		t.Run(name, func(t *testing.T) {
			p := served(t, func(w http.ResponseWriter, r *http.Request) {
				if err := r.ParseForm(); err != nil {
					t.Error(err)
				}
				if r.Form.Get("Action") == actionStatus {
					_, _ = w.Write([]byte(answer.statuses))
					return
				}
				_, _ = w.Write([]byte(answer.groups))
			})
			list, err := p.List(t.Context())
			if list != nil || providers.ClassOf(err) != providers.Unavailable {
				t.Errorf("List = %+v, %v, want Unavailable and no list", list, err)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	p := served(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	err := p.Check(t.Context())
	e := asError(t, err)
	if e.Class != providers.Throttled || e.RetryAfter != 7*time.Second {
		t.Errorf("error %#v, want Throttled with a wait of 7 s", err)
	}
}

func TestContextEndsTheCall(t *testing.T) {
	release := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	p := served(t, func(http.ResponseWriter, *http.Request) {
		cancel() // the request has arrived
		<-release
	})
	t.Cleanup(func() { close(release) })
	start := time.Now()
	_, err := p.Create(ctx, hushSpec())
	wantHush(t, err)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	if e := asError(t, err); e.Class != providers.Unknown || e.Code != "Canceled" {
		t.Errorf("class %s, code %s, want Unknown, Canceled: the request may have arrived", e.Class, e.Code)
	}
}

func TestEmptySDKErrorIsNotTrusted(t *testing.T) {
	f := failure{action: actionCreate, effect: writes}
	e := f.refused(sdkerrors.NewServerError(http.StatusForbidden, "<html>", "").(*sdkerrors.ServerError))
	if e.Class != providers.Unauthorized || strings.Contains(e.Error(), "html") {
		t.Errorf("error %v, want Unauthorized without the page", e)
	}
}

// asError demands a provider's own error.
func asError(t *testing.T, err error) *providers.Error {
	t.Helper()
	var e *providers.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %#v, want a *providers.Error", err)
	}
	return e
}
