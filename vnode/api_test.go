package vnode

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	authnv1 "k8s.io/api/authentication/v1"
	authzv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/providers"
)

const threeLines = "2026-01-01T00:00:01Z one\n2026-01-01T00:00:02Z two\n2026-01-01T00:00:03Z three\n"

func TestContainerLogs(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.start()
		// Ended: its log does not grow.
		b.create(testPod("job", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }))
		b.groups("g-uid-job")
		b.cloud.set("g-uid-job", exited(0, "app"))
		b.phase("job", corev1.PodSucceeded)
		b.create(testPod("starting"))
		b.groups("g-uid-job", "g-uid-starting")
		b.create(testPod("refused", func(p *corev1.Pod) { p.Spec.HostNetwork = true }))
		b.phase("refused", corev1.PodFailed)
		b.cloud.mu.Lock()
		b.cloud.logs["app"] = threeLines
		b.cloud.mu.Unlock()
		handler := b.agent.Handler()
		for _, test := range []struct {
			path string
			code int
			want string
		}{
			{"/containerLogs/default/job/app", 200, "one\ntwo\nthree\n"},
			{"/containerLogs/default/job/app?tailLines=1", 200, "three\n"},
			{"/containerLogs/default/job/app?tailLines=0", 200, ""},
			{"/containerLogs/default/job/app?timestamps=true&tailLines=1", 200, "2026-01-01T00:00:03Z three\n"},
			{"/containerLogs/default/job/app?sinceTime=2026-01-01T00:00:02Z", 200, "two\nthree\n"},
			{"/containerLogs/default/job/app?limitBytes=5", 200, "one\nt"},
			{"/containerLogs/default/job/app?follow=true", 200, "one\ntwo\nthree\n"},
			{"/containerLogs/default/job/app?follow=true&limitBytes=5", 200, "one\nt"},
			{"/containerLogs/default/job/app?previous=true", 400, `previous terminated container "app" in pod "job" not found`},
			{"/containerLogs/default/job/app?tailLines=x", 400, "tailLines"},
			{"/containerLogs/default/job/none", 400, "container none is not valid for pod job"},
			{"/containerLogs/default/none/app", 404, `pod "default/none" not found`},
			{"/containerLogs/default/starting/app", 400, `is waiting to start: ContainerCreating`},
			{"/containerLogs/default/refused/app", 400, ReasonUnsupported},
			{"/exec/default/job/app", 501, "cannot connect to its containers"},
			{"/attach/default/job/app", 501, "cannot connect to its containers"},
			{"/portForward/default/job", 400, "does not run"},
			{"/healthz", 200, "ok"},
			{"/nothing", 404, ""},
		} {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, test.path, nil))
			body := w.Body.String()
			if w.Code != test.code || w.Code == 200 && body != test.want || w.Code != 200 && !strings.Contains(body, test.want) {
				t.Errorf("GET %s: %d %q, want %d %q", test.path, w.Code, body, test.code, test.want)
			}
		}
		for path, want := range map[string]int{"/pods": 3, "/runningpods/": 0} {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			var list corev1.PodList
			if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list.Items) != want {
				t.Errorf("GET %s: %d pods, error %v, want %d", path, len(list.Items), err, want)
			}
		}
		b.cloud.setFail(func(op, _ string, _ int) error {
			if op == "Logs" {
				return fault(providers.Unavailable, "ServiceUnavailable")
			}
			return nil
		})
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/containerLogs/default/job/app", nil))
		if w.Code != 500 || !strings.Contains(w.Body.String(), "ServiceUnavailable") {
			t.Errorf("logs of a cloud that is down: %d %q", w.Code, w.Body)
		}
	})
}

func TestFollowedLog(t *testing.T) {
	for name, test := range map[string]struct {
		tail  int
		polls []string // what the cloud has at each poll
		want  string
		stamp bool
	}{
		"grows":                        {polls: []string{"T1 a\n", "T1 a\nT2 b\n", "T1 a\nT2 b\n", "T1 a\nT2 b\nT3 c\n"}, want: "a\nb\nc\n"},
		"with times":                   {polls: []string{"T1 a\n", "T1 a\nT2 b\n"}, want: "T1 a\nT2 b\n", stamp: true},
		"many lines of one time":       {polls: []string{"T1 a\nT1 a\n", "T1 a\nT1 a\nT1 a\nT1 b\n", "T1 a\nT1 a\nT1 a\nT1 b\nT2 c\n"}, want: "a\na\na\nb\nc\n"},
		"tail within one time":         {tail: 1, polls: []string{"T1 a\nT1 b\n", "T1 a\nT1 b\nT1 c\n"}, want: "b\nc\n"},
		"begins empty":                 {polls: []string{"", "", "T1 a\n"}, want: "a\n"},
		"a line without end":           {polls: []string{"T1 a\nT2 hal", "T1 a\nT2 half\n"}, want: "a\nhalf\n"},
		"the last without end":         {polls: []string{"T1 a\n", "T1 a\nT2 end"}, want: "a\nend"},
		"the cloud gives no times":     {polls: []string{"a\n", "a\nb\n", "a\nb\na\n"}, want: "a\nb\na\n"},
		"the cloud fails for a moment": {polls: []string{"T1 a\n", "!", "T1 a\nT2 b\n"}, want: "a\nb\n"},
		"old lines are rotated away":   {polls: []string{"T1 a\nT2 b\n", "T2 b\nT3 c\n", "T4 d\n"}, want: "a\nb\nc\nd\n"},
	} {
		bubble(t, name, func(t *testing.T) {
			times := strings.NewReplacer("T1", "2026-01-01T00:00:01.5Z", "T2", "2026-01-01T00:00:02Z", "T3", "2026-01-01T00:00:03Z", "T4", "2026-01-01T00:00:04Z")
			n := 0
			f := &follower{
				clock: clock.RealClock{}, interval: time.Second, timestamps: test.stamp,
				read: func(_ context.Context, o providers.LogOptions) (io.ReadCloser, error) {
					text := test.polls[min(n, len(test.polls)-1)]
					n++
					if text == "!" {
						return nil, fault(providers.Unavailable, "")
					}
					lines := strings.SplitAfter(times.Replace(text), "\n")
					if lines[len(lines)-1] == "" {
						lines = lines[:len(lines)-1]
					}
					if o.Tail > 0 && len(lines) > o.Tail {
						lines = lines[len(lines)-o.Tail:]
					}
					return io.NopCloser(strings.NewReader(strings.Join(lines, ""))), nil
				},
				ended: func() bool { return n >= len(test.polls)-1 },
			}
			logs, err := f.start(t.Context(), providers.LogOptions{Tail: test.tail})
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(logs)
			if err != nil {
				t.Fatal(err)
			}
			if want := times.Replace(test.want); string(got) != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestFollowingEndsWithTheReader(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := &follower{
			clock: clock.RealClock{}, interval: time.Second, ended: func() bool { return false },
			read: func(context.Context, providers.LogOptions) (io.ReadCloser, error) {
				return io.NopCloser(strings.NewReader(threeLines)), nil
			},
		}
		logs, err := f.start(ctx, providers.LogOptions{})
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(logs).ReadString('\n')
		if err != nil || line != "one\n" {
			t.Errorf("first line %q, error %v", line, err)
		}
		cancel()
		_ = logs.Close()
		synctest.Wait() // a goroutine that stays fails the test
	})
}

func TestKubeletAPIAsksWhoCalls(t *testing.T) {
	// The reviews go past the typed client: an API server is played that knows
	// them and nothing else.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		var answer any
		switch {
		case strings.HasSuffix(req.URL.Path, "/tokenreviews"):
			var review authnv1.TokenReview
			if err := json.Unmarshal(body, &review); err != nil {
				t.Error(err)
			}
			if user, ok := map[string]string{"good": "admin", "reader": "auditor", "poor": "guest"}[review.Spec.Token]; ok {
				review.Status = authnv1.TokenReviewStatus{Authenticated: true, User: authnv1.UserInfo{Username: user}}
			}
			answer = review
		case strings.HasSuffix(req.URL.Path, "/subjectaccessreviews"):
			var review authzv1.SubjectAccessReview
			if err := json.Unmarshal(body, &review); err != nil {
				t.Error(err)
			}
			r := review.Spec.ResourceAttributes
			verbs := map[string]string{"admin": "get create", "auditor": "get"}[review.Spec.User]
			review.Status.Allowed = strings.Contains(verbs, r.Verb) && r.Resource == "nodes" && r.Name == testNode && r.Subresource == "proxy"
			answer = review
		default:
			http.NotFound(w, req)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	agent, err := New(newBedConfig(), client, newMemoryCloud(), clock.RealClock{}, slog.New(slog.DiscardHandler), NewMetrics(nil))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- agent.ServeAPI(ctx, listener, APISettings{}) }()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // signed by itself
	// The agent stands by: what comes through to it, but for its health, gets 503.
	for _, ask := range []struct {
		method, path, token string
		want                int
	}{
		{http.MethodGet, "/healthz", "", 401},
		{http.MethodGet, "/healthz", "wrong", 401},
		{http.MethodGet, "/healthz", "poor", 403},
		{http.MethodGet, "/healthz", "reader", 200},
		{http.MethodGet, "/healthz", "good", 200},
		{http.MethodPost, "/exec/default/web/app?command=ls&output=1", "", 401},
		{http.MethodPost, "/exec/default/web/app?command=ls&output=1", "wrong", 401},
		{http.MethodPost, "/exec/default/web/app?command=ls&output=1", "poor", 403},
		{http.MethodPost, "/exec/default/web/app?command=ls&output=1", "reader", 403},
		{http.MethodGet, "/exec/default/web/app?command=ls&output=1", "reader", 403},
		{http.MethodGet, "/attach/default/web/app?output=1", "reader", 403},
		{http.MethodGet, "/portForward/default/web", "reader", 403},
		{http.MethodPost, "/exec/default/web/app?command=ls&output=1", "good", 503},
		{http.MethodGet, "/exec/default/web/app?command=ls&output=1", "good", 503},
		{http.MethodPost, "/attach/default/web/app?output=1", "good", 503},
		{http.MethodPost, "/portForward/default/web", "good", 503},
	} {
		req, err := http.NewRequestWithContext(t.Context(), ask.method, fmt.Sprintf("https://%s%s", listener.Addr(), ask.path), nil)
		if err != nil {
			t.Fatal(err)
		}
		if ask.token != "" {
			req.Header.Set("Authorization", "Bearer "+ask.token)
		}
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != ask.want {
			t.Errorf("%s %s with token %q: %d, want %d", ask.method, ask.path, ask.token, resp.StatusCode, ask.want)
		}
		if names := resp.TLS.PeerCertificates[0].DNSNames; len(names) != 1 || names[0] != testNode {
			t.Errorf("the certificate is for %v", names)
		}
	}
	transport.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("ServeAPI returned %v", err)
	}
}

func TestOwnCertificateIsRenewed(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	r := &renewed{node: newBedConfig().Node, now: func() time.Time { return now }}
	serial := func() string {
		c, err := r.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
			t.Errorf("at %s the certificate is valid from %s to %s", now, leaf.NotBefore, leaf.NotAfter)
		}
		return leaf.SerialNumber.String()
	}
	first := serial()
	now = now.AddDate(0, 6, 0)
	if serial() != first {
		t.Error("a new certificate after half a year")
	}
	now = now.AddDate(0, 6, -10)
	if serial() == first {
		t.Error("no new certificate shortly before the end of the old")
	}
}

func TestStatusConditions(t *testing.T) {
	early := metav1.NewTime(time.Unix(1000, 0))
	pod := testPod("web", func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "busybox"}}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: early}, {Type: "example.com/other", Status: corev1.ConditionTrue}}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", RestartCount: 4}}
	})
	for name, test := range map[string]struct {
		group       providers.GroupStatus
		phase       corev1.PodPhase
		initialized bool
		ready       bool
		waiting     string
	}{
		"nothing known":    {providers.GroupStatus{Phase: providers.GroupPending}, corev1.PodPending, false, false, "PodInitializing"},
		"init containers":  {providers.GroupStatus{Phase: providers.GroupPending, InitContainers: running("init").Containers}, corev1.PodPending, false, false, "PodInitializing"},
		"running":          {providers.GroupStatus{Phase: providers.GroupRunning, InitContainers: exited(0, "init").Containers, Containers: running("app").Containers}, corev1.PodRunning, true, true, ""},
		"init has failed":  {providers.GroupStatus{Phase: providers.GroupFailed, InitContainers: exited(1, "init").Containers}, corev1.PodFailed, false, false, "PodInitializing"},
		"another's report": {providers.GroupStatus{Phase: providers.GroupRunning, Containers: running("stranger").Containers}, corev1.PodRunning, false, false, "PodInitializing"},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(2000, 0)
			st := runningStatus(pod, &test.group, place{hostIP: "192.0.2.1"}, now, now)
			if st.Phase != test.phase || conditionTrue(st, corev1.PodInitialized) != test.initialized || conditionTrue(st, corev1.PodReady) != test.ready {
				t.Errorf("phase %s, conditions %+v", st.Phase, st.Conditions)
			}
			if len(st.ContainerStatuses) != 1 || len(st.InitContainerStatuses) != 1 || !conditionTrue(st, "example.com/other") {
				t.Fatalf("status %+v", st)
			}
			c := st.ContainerStatuses[0]
			if c.RestartCount != 4 {
				t.Errorf("restart count %d fell", c.RestartCount)
			}
			if w := c.State.Waiting; (w == nil) != (test.waiting == "") || w != nil && w.Reason != test.waiting {
				t.Errorf("state %+v, want waiting for %q", c.State, test.waiting)
			}
			for _, condition := range st.Conditions {
				if condition.Type == corev1.PodReady && !test.ready && !condition.LastTransitionTime.Equal(&early) {
					t.Errorf("Ready did not change, but its transition time did: %v", condition.LastTransitionTime)
				}
			}
		})
	}
}

func TestEndedContainersStayEnded(t *testing.T) {
	s := exited(1, "app")
	for policy, want := range map[corev1.RestartPolicy]bool{corev1.RestartPolicyNever: true, corev1.RestartPolicyOnFailure: false, corev1.RestartPolicyAlways: false} {
		pod := testPod("job", func(p *corev1.Pod) {
			p.Spec.RestartPolicy = policy
			p.Status.ContainerStatuses = s.Containers
		})
		again := running("app")
		st := runningStatus(pod, &again, place{}, time.Now(), time.Now())
		if got := st.ContainerStatuses[0].State.Terminated != nil; got != want {
			t.Errorf("restartPolicy %s: still ended %t, want %t", policy, got, want)
		}
	}
}
