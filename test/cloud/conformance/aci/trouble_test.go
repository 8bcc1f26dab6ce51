package aci

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

func TestA39Registration(t *testing.T) {
	provider := func(s *service) string {
		return "/subscriptions/" + s.subscription + "/providers/Microsoft.ContainerInstance"
	}
	t.Run("by hand", func(t *testing.T) {
		s := openLab(t)
		wantAt(t, s.call(t, http.MethodGet, provider(s)+"?api-version=2019-05-01", nil).body, "Registered", "registrationState")
		s.lab.Arrange(Conditions{Unregistered: true})
		s.call(t, http.MethodPut, s.name(t, "web"), s.definition()).want(t, "PUT", http.StatusConflict, "MissingSubscriptionRegistration")
		s.call(t, http.MethodPut, s.name(t, "web"), s.definition()).want(t, "PUT again", http.StatusConflict, "MissingSubscriptionRegistration")
		wantAt(t, s.call(t, http.MethodGet, provider(s)+"?api-version=2019-05-01", nil).body, "NotRegistered", "registrationState")
		got := s.call(t, http.MethodPost, provider(s)+"/register?api-version=2019-05-01", nil).want(t, "register", http.StatusOK, "")
		wantAt(t, got.body, "Microsoft.ContainerInstance", "namespace")
		wantAt(t, s.call(t, http.MethodGet, provider(s)+"?api-version=2019-05-01", nil).body, "Registered", "registrationState")
		s.call(t, http.MethodPut, s.name(t, "web"), s.definition()).want(t, "PUT when registered", http.StatusCreated, "")
	})
	t.Run("SDK recovers", func(t *testing.T) {
		s := openLab(t)
		s.lab.Arrange(Conditions{Unregistered: true})
		if _, err := s.sdk(t).BeginCreateOrUpdate(context.Background(), s.group, "web", s.sdkDefinition(), nil); err != nil {
			t.Fatalf("the SDK did not register: %v", err)
		}
		s.call(t, http.MethodGet, s.groups()+"/web", nil).want(t, "GET", http.StatusOK, "")
	})
}

func TestA40RequestIDs(t *testing.T) {
	s := open(t)
	path := s.name(t, "ids")
	s.create(t, path, s.definition())
	token := s.token
	seen := map[string]string{}
	// Every call checks the form of both ids.
	for name, ask := range map[string]func() answer{
		"read":           func() answer { return s.call(t, http.MethodGet, path, nil) },
		"list":           func() answer { return s.call(t, http.MethodGet, s.groups(), nil) },
		"missing":        func() answer { return s.call(t, http.MethodGet, s.groups()+"/none", nil) },
		"bad version":    func() answer { return s.call(t, http.MethodGet, path+"?api-version=1", nil) },
		"bad body":       func() answer { return s.call(t, http.MethodPut, path, "{") },
		"no such method": func() answer { return s.call(t, http.MethodPost, path, nil) },
		"no such type":   func() answer { return s.call(t, http.MethodGet, s.groups()+"/a/b/c", nil) },
		"unauthenticated": func() answer {
			s.token = "x"
			defer func() { s.token = token }()
			return s.call(t, http.MethodGet, path, nil)
		},
		"restart": func() answer { return s.call(t, http.MethodPost, path+"/restart", nil) },
	} {
		id := ask().header.Get("X-Ms-Request-Id")
		if other, ok := seen[id]; ok {
			t.Errorf("%s has the id of %s", name, other)
		}
		seen[id] = name
	}
	request := s.request(t, http.MethodGet, path, nil)
	request.Header.Set("X-Ms-Correlation-Request-Id", "77777777-7777-7777-7777-777777777777")
	got, err := s.send(t, request)
	if err != nil || got.header.Get("X-Ms-Correlation-Request-Id") != "77777777-7777-7777-7777-777777777777" {
		t.Errorf("%v, the correlation id of the request is answered as %q", err, got.header.Get("X-Ms-Correlation-Request-Id"))
	}
}

func TestA41Failures(t *testing.T) {
	const put = "ContainerGroups_CreateOrUpdate"
	t.Run("before and after the effect", func(t *testing.T) {
		s := openLab(t)
		for name, test := range map[string]struct {
			failure Failure
			status  int // zero is no answer
			effect  bool
		}{
			"500-before": {Failure{Status: 500}, 500, false},
			"500-after":  {Failure{Status: 500, After: true}, 500, true},
			"503-before": {Failure{Status: 503}, 503, false},
			"503-after":  {Failure{Status: 503, After: true}, 503, true},
			"cut-before": {Failure{Cut: true}, 0, false},
			"cut-after":  {Failure{Cut: true, After: true}, 0, true},
		} {
			path := s.groups() + "/" + name
			test.failure.Operation = put
			s.lab.Fail(test.failure)
			got, err := s.send(t, s.request(t, http.MethodPut, path, s.definition()))
			if (err == nil) != (test.status != 0) || got.status != test.status {
				t.Errorf("%s: %v, status %d", name, err, got.status)
			}
			want := http.StatusNotFound
			if test.effect {
				want = http.StatusOK
			}
			if got := s.call(t, http.MethodGet, path, nil); got.status != want {
				t.Errorf("%s: GET answers %d, want %d", name, got.status, want)
			}
		}
	})
	t.Run("slow", func(t *testing.T) {
		for name, after := range map[string]bool{"before": false, "after": true} {
			t.Run(name, func(t *testing.T) {
				s := openLab(t)
				path := s.groups() + "/slow"
				s.lab.Fail(Failure{Operation: put, Delay: 15 * time.Second, After: after})
				began, done := s.lab.Now(), make(chan answer, 1)
				request := s.request(t, http.MethodPut, path, s.definition())
				go func() {
					got, err := s.send(t, request)
					if err != nil {
						t.Errorf("PUT: %v", err)
					}
					done <- got
				}()
				if after {
					s.until(t, "the effect", func() bool { return s.call(t, http.MethodGet, path, nil).status == http.StatusOK })
				}
				var got answer
				s.until(t, "the answer", func() bool {
					select {
					case got = <-done:
						return true
					default:
						return false
					}
				})
				if passed := s.lab.Now().Sub(began); got.status != http.StatusCreated || passed < 15*time.Second {
					t.Errorf("answered %d after %s", got.status, passed)
				}
			})
		}
	})
	t.Run("the SDK tries three times more", func(t *testing.T) {
		s := openLab(t)
		groups, ctx := s.sdk(t), context.Background()
		for name, failure := range map[string]Failure{"status": {Status: 500}, "status-after": {Status: 503, After: true}, "cut": {Cut: true}} {
			failure.Operation, failure.Calls = put, 3
			s.lab.Fail(failure)
			if _, err := groups.BeginCreateOrUpdate(ctx, s.group, name, s.sdkDefinition(), nil); err != nil && !strings.Contains(err.Error(), "ContainerGroupTransitioning") {
				t.Errorf("%s, three times: %v", name, err)
			}
		}
		s.lab.Fail(Failure{Operation: put, Calls: 4, Status: 500})
		_, err := groups.BeginCreateOrUpdate(ctx, s.group, "four", s.sdkDefinition(), nil)
		var refused *azcore.ResponseError
		if !errors.As(err, &refused) || refused.StatusCode != http.StatusInternalServerError {
			t.Errorf("four times: %v", err)
		}
	})
}

func TestA43Billing(t *testing.T) {
	s := openLab(t)
	bill := func(path string) Bill {
		t.Helper()
		var found []Bill
		for _, b := range s.lab.Bills() {
			if strings.EqualFold(b.Group, path) {
				found = append(found, b)
			}
		}
		if len(found) == 0 {
			return Bill{}
		}
		return found[len(found)-1]
	}
	pulled := func(path string) time.Time {
		t.Helper()
		return when(t, at(event(view(s.call(t, http.MethodGet, path, nil).body, "events"), "Pulling"), "firstTimestamp"))
	}
	seconds := func(b Bill) float64 {
		if b.To == nil {
			return -1
		}
		return b.To.Sub(b.From).Seconds()
	}
	size := inContainer(object{"cpu": 2.0, "memoryInGB": 3.5}, "resources", "requests")
	simple := inContainer(nil, "command")

	deleted := s.name(t, "deleted")
	s.call(t, http.MethodPut, deleted, s.definition(size, simple)).want(t, "PUT", http.StatusCreated, "")
	if b := bill(deleted); !b.From.IsZero() {
		t.Errorf("billed before the first pull: %+v", b)
	}
	s.settle(t, deleted)
	if b := bill(deleted); !b.From.Equal(pulled(deleted)) || b.To != nil || b.CPU != 2 || b.MemoryGB != 3.5 || b.Spot {
		t.Errorf("the first pull was at %s; billed %+v", pulled(deleted), b)
	}
	from := bill(deleted).From
	s.lab.Advance(1000 * time.Second)
	s.call(t, http.MethodPost, deleted+"/restart", nil).want(t, "restart", http.StatusNoContent, "")
	s.settle(t, deleted)
	s.lab.Advance(from.Add(2000 * time.Second).Sub(s.lab.Now()))
	s.call(t, http.MethodDelete, deleted, nil).want(t, "DELETE", http.StatusOK, "")
	if b := bill(deleted); !b.From.Equal(from) || seconds(b) != 2000 {
		t.Errorf("deleted 2000 s after the first pull at %s; billed %+v", from, b)
	}

	stopped := s.name(t, "stopped")
	s.create(t, stopped, s.definition(simple))
	first := bill(stopped).From
	s.lab.Advance(first.Add(600 * time.Second).Sub(s.lab.Now()))
	s.call(t, http.MethodPost, stopped+"/stop", nil).want(t, "stop", http.StatusNoContent, "")
	if got := seconds(bill(stopped)); got != 600 {
		t.Errorf("stopped 600 s after the first pull; billed %v s", got)
	}
	s.lab.Advance(time.Minute)
	s.call(t, http.MethodPost, stopped+"/start", nil).want(t, "start", http.StatusAccepted, "")
	s.settle(t, stopped)
	if b := bill(stopped); !b.From.After(first.Add(660*time.Second)) || b.To != nil {
		t.Errorf("started again, billed %+v", b)
	}

	ended := s.name(t, "ended")
	s.create(t, ended, s.definition(simple, set("Never", "properties", "restartPolicy")))
	s.lab.Advance(bill(ended).From.Add(77 * time.Second).Sub(s.lab.Now()))
	if err := s.lab.End(ended, "app", 0); err != nil {
		t.Fatal(err)
	}
	s.lab.Advance(time.Minute)
	if got := seconds(bill(ended)); got != 77 {
		t.Errorf("ended 77 s after the first pull; billed %v s", got)
	}

	spot := s.name(t, "spot")
	s.create(t, spot, s.definition(simple, set("Spot", "properties", "priority")))
	b, regular := bill(spot), bill(ended)
	if !b.Spot || math.Abs(b.CPUSecond/regular.CPUSecond-0.3) > 1e-9 || math.Abs(b.GBSecond/regular.GBSecond-0.3) > 1e-9 {
		t.Errorf("a spot group is billed %+v, another %+v", b, regular)
	}
	if math.Abs(regular.CPUSecond-0.00001125) > 1e-10 || math.Abs(regular.GBSecond-0.00000123611) > 1e-10 {
		t.Errorf("the price is %g per vCPU and %g per GB and second", regular.CPUSecond, regular.GBSecond)
	}
}
