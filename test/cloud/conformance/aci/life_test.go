package aci

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

func TestA19Delete(t *testing.T) {
	s := open(t)
	path := s.name(t, "deleted")
	s.create(t, path, s.definition(set(object{"owner": "conformance"}, "tags")))
	got := s.call(t, http.MethodDelete, path, nil).want(t, "DELETE", http.StatusOK, "")
	if async := got.header.Get(asyncHeader); async != "" {
		t.Errorf("Azure-AsyncOperation is %.100q", async)
	}
	wantAt(t, got.body, "conformance", "tags", "owner")
	wantAt(t, got.body, s.image, "properties", "containers", 0, "properties", "image")
	s.call(t, http.MethodGet, path, nil).want(t, "GET right after", http.StatusNotFound, "ResourceNotFound")
	if got := s.call(t, http.MethodDelete, path, nil).want(t, "DELETE of nothing", http.StatusNoContent, ""); got.raw != "" {
		t.Errorf("the answer has a body: %s", got.raw)
	}
}

func TestA20StartStopRestart(t *testing.T) {
	t.Run("codes", func(t *testing.T) {
		s := open(t)
		path := s.name(t, "codes")
		s.create(t, path, s.definition())
		for _, step := range []struct {
			action string
			status int
			async  bool
			state  string // at the end
		}{
			{"start", http.StatusNoContent, false, "Running"},
			{"restart", http.StatusNoContent, true, "Running"},
			{"stop", http.StatusNoContent, false, "Stopped"},
			{"start", http.StatusAccepted, true, "Running"},
		} {
			got := s.call(t, http.MethodPost, path+"/"+step.action, nil).want(t, step.action, step.status, "")
			async := got.header.Get(asyncHeader)
			if got.raw != "" || (async != "") != step.async {
				t.Errorf("%s: body %q, Azure-AsyncOperation %.100q", step.action, got.raw, async)
			}
			if async != "" {
				wantAt(t, s.finish(t, async), "Succeeded", "status")
			}
			wantAt(t, s.call(t, http.MethodGet, path, nil).body, step.state, "properties", "instanceView", "state")
		}
		for _, action := range []string{"start", "restart", "stop"} {
			s.call(t, http.MethodPost, s.groups()+"/no-such-group/"+action, nil).want(t, action+" of nothing", http.StatusNotFound, "ResourceNotFound")
		}
	})
	t.Run("SDK", func(t *testing.T) {
		s := open(t)
		path := s.name(t, "sdk")
		s.create(t, path, s.definition())
		name := path[strings.LastIndex(path, "/")+1:]
		groups, ctx := s.sdk(t), context.Background()
		poll := &runtime.PollUntilDoneOptions{Frequency: time.Second}
		restart, err := groups.BeginRestart(ctx, s.group, name, nil)
		if err != nil {
			t.Fatalf("restart: %v", err)
		}
		if _, err := restart.PollUntilDone(ctx, poll); err != nil {
			t.Errorf("restart: %v", err)
		}
		if _, err := groups.Stop(ctx, s.group, name, nil); err != nil {
			t.Errorf("stop: %v", err)
		}
		start, err := groups.BeginStart(ctx, s.group, name, nil)
		if err != nil {
			t.Fatalf("start: %v", err)
		}
		if _, err := start.PollUntilDone(ctx, poll); err != nil {
			t.Errorf("start: %v", err)
		}
	})
	t.Run("other successes break the SDK", func(t *testing.T) {
		s := openLab(t)
		s.lab.Fail(Failure{Operation: "ContainerGroups_Stop", Status: http.StatusOK})
		_, err := s.sdk(t).Stop(context.Background(), s.group, "web", nil)
		var refused *azcore.ResponseError
		if !errors.As(err, &refused) || refused.StatusCode != http.StatusOK {
			t.Errorf("status 200 to a stop: %v", err)
		}
	})
}

func TestA21Stop(t *testing.T) {
	t.Run("what is left", func(t *testing.T) {
		s := open(t)
		path := s.name(t, "stopped")
		s.create(t, path, s.definition(public(8080)))
		if at(s.awaitState(t, path, "Running"), "properties", "ipAddress", "ip") == nil {
			t.Error("the running group has no address")
		}
		s.call(t, http.MethodPost, path+"/stop", nil).want(t, "stop", http.StatusNoContent, "")
		got := s.call(t, http.MethodGet, path, nil).body
		wantAt(t, got, "Stopped", "properties", "instanceView", "state")
		wantAt(t, got, nil, "properties", "ipAddress", "ip")
		wantAt(t, view(got), "Terminated", "currentState", "state")
		wantAt(t, view(got), "Running", "previousState", "state")
		if detail, _ := view(got, "currentState", "detailStatus").(string); !strings.Contains(detail, "client") {
			t.Errorf("detailStatus %q does not name the client's request", detail)
		}
		when(t, view(got, "currentState", "finishTime"))
		wantAt(t, got, list{"sleep", "3600"}, "properties", "containers", 0, "properties", "command")
	})
	t.Run("billing", func(t *testing.T) {
		s := openLab(t)
		path := s.name(t, "stopped")
		s.create(t, path, s.definition(inContainer(nil, "command")))
		s.lab.Advance(time.Hour - time.Minute)
		s.call(t, http.MethodPost, path+"/stop", nil).want(t, "stop", http.StatusNoContent, "")
		bills := s.lab.Bills()
		if len(bills) != 1 || bills[0].To == nil {
			t.Fatalf("billed %+v", bills)
		}
		s.lab.Advance(time.Hour)
		if later := s.lab.Bills(); len(later) != 1 || !later[0].To.Equal(*bills[0].To) {
			t.Errorf("an hour later billed %+v", later)
		}
	})
}

func TestA22Patch(t *testing.T) {
	s := open(t)
	path := s.name(t, "patched")
	s.create(t, path, s.definition(set(object{"old": "1"}, "tags")))
	before := s.awaitState(t, path, "Running")
	got := s.call(t, http.MethodPatch, path, object{
		"tags": object{"new": "2"}, "location": "westeurope", "properties": object{"osType": "Windows", "containers": list{}},
	}).want(t, "PATCH", http.StatusOK, "")
	for what, group := range map[string]any{"the answer": got.body, "the group": s.call(t, http.MethodGet, path, nil).body} {
		wantAt(t, group, object{"new": "2"}, "tags")
		for _, member := range []list{{"location"}, {"properties", "osType"}, {"properties", "containers", 0, "properties", "command"}} {
			if !equalJSON(at(group, member...), at(before, member...)) {
				t.Errorf("%s has another %v", what, member)
			}
		}
	}
	after := s.call(t, http.MethodGet, path, nil).body
	if !equalJSON(view(after, "currentState", "startTime"), view(before, "currentState", "startTime")) || event(view(after, "events"), "Killing") != nil {
		t.Error("the container was restarted")
	}
	s.call(t, http.MethodPatch, s.groups()+"/no-such-group", object{"tags": object{}}).want(t, "PATCH of nothing", http.StatusNotFound, "ResourceNotFound")
}

func TestA26States(t *testing.T) {
	s := open(t)
	exit := func(policy, script string) object {
		return s.definition(set(policy, "properties", "restartPolicy"), inContainer(shell(script), "command"))
	}
	for _, test := range []struct {
		name, policy, script, state, detail string
		code                                float64
	}{
		{"never-0", "Never", "exit 0", "Succeeded", "Completed", 0},
		{"never-2", "Never", "exit 2", "Failed", "Error", 2},
		{"on-failure-0", "OnFailure", "exit 0", "Succeeded", "Completed", 0},
	} {
		path := s.name(t, test.name)
		s.call(t, http.MethodPut, path, exit(test.policy, test.script)).want(t, test.name, http.StatusCreated, "")
		got := s.awaitState(t, path, test.state)
		wantAt(t, got, "Succeeded", "properties", "provisioningState")
		wantAt(t, got, test.policy, "properties", "restartPolicy")
		wantAt(t, view(got, "currentState"), "Terminated", "state")
		wantAt(t, view(got, "currentState"), test.code, "exitCode")
		wantAt(t, view(got, "currentState"), test.detail, "detailStatus")
		if !when(t, view(got, "currentState", "startTime")).Before(when(t, view(got, "currentState", "finishTime")).Add(time.Nanosecond)) {
			t.Errorf("%s ended before it began", test.name)
		}
	}
	for _, test := range []struct{ name, policy, script string }{{"always", "", "exit 0"}, {"on-failure-1", "OnFailure", "exit 1"}} {
		path := s.name(t, test.name)
		body := exit(test.policy, test.script)
		if test.policy == "" {
			body = s.definition(inContainer(shell(test.script), "command"))
		}
		s.call(t, http.MethodPut, path, body).want(t, test.name, http.StatusCreated, "")
		var got any
		s.until(t, test.name+" to restart", func() bool {
			got = s.call(t, http.MethodGet, path, nil).body
			count, _ := view(got, "restartCount").(float64)
			return count >= 1
		})
		wantAt(t, got, "Running", "properties", "instanceView", "state")
		if policy, given := at(got, "properties").(object)["restartPolicy"]; given != (test.policy != "") {
			t.Errorf("%s: restartPolicy is shown as %v", test.name, policy)
		}
	}
}

func TestA27CrashLoop(t *testing.T) {
	s := open(t)
	path := s.name(t, "crashes")
	s.call(t, http.MethodPut, path, s.definition(inContainer(shell("exit 3"), "command"))).want(t, "PUT", http.StatusCreated, "")
	var got any
	s.until(t, "three restarts", func() bool {
		got = s.call(t, http.MethodGet, path, nil).body
		count, _ := view(got, "restartCount").(float64)
		return count >= 3 && event(view(got, "events"), "BackOff") != nil && view(got, "previousState") != nil
	})
	wantAt(t, view(got, "previousState"), "Terminated", "state")
	wantAt(t, view(got, "previousState"), 3, "exitCode")
	wantAt(t, view(got, "previousState"), "Error", "detailStatus")
	for _, name := range []string{"Created", "Started"} {
		e := event(view(got, "events"), name)
		if count, _ := at(e, "count").(float64); count < 3 {
			t.Errorf("event %s was counted %v times", name, count)
		}
		if !when(t, at(e, "firstTimestamp")).Before(when(t, at(e, "lastTimestamp"))) {
			t.Errorf("event %s: %v to %v", name, at(e, "firstTimestamp"), at(e, "lastTimestamp"))
		}
		if text, _ := at(e, "message").(string); text == "" {
			t.Errorf("event %s has no message", name)
		}
		wantAt(t, e, "Normal", "type")
	}
}

func TestA28InitContainers(t *testing.T) {
	define := func(s *service, scripts ...string) object {
		all := list{}
		for i, script := range scripts {
			all = append(all, object{"name": "init-" + strconv.Itoa(i), "properties": object{"image": s.image, "command": shell(script)}})
		}
		return s.definition(set(all, "properties", "initContainers"))
	}
	state := func(group any, i int) any {
		return at(group, "properties", "initContainers", i, "properties", "instanceView", "currentState")
	}
	t.Run("in order", func(t *testing.T) {
		s := open(t)
		path := s.name(t, "init")
		s.call(t, http.MethodPut, path, define(s, "sleep 0.2", "sleep 0.1")).want(t, "PUT", http.StatusCreated, "")
		var got any
		s.until(t, "the container to run", func() bool {
			got = s.call(t, http.MethodGet, path, nil).body
			return view(got, "currentState", "state") == "Running"
		})
		var before time.Time
		for i := range 2 {
			wantAt(t, state(got, i), "Terminated", "state")
			wantAt(t, state(got, i), 0, "exitCode")
			if begin := when(t, at(state(got, i), "startTime")); begin.Before(before) {
				t.Errorf("init container %d began at %s, before the end of the one before it", i, begin)
			}
			before = when(t, at(state(got, i), "finishTime"))
		}
		if begin := when(t, view(got, "currentState", "startTime")); begin.Before(before) {
			t.Errorf("the container began at %s, before the end of the init containers", begin)
		}
	})
	t.Run("one that fails holds the rest up", func(t *testing.T) {
		s := open(t)
		path := s.name(t, "init")
		s.call(t, http.MethodPut, path, define(s, "exit 1", "exit 0")).want(t, "PUT", http.StatusCreated, "")
		var got any
		s.until(t, "the init container to be restarted", func() bool {
			got = s.call(t, http.MethodGet, path, nil).body
			count, _ := at(got, "properties", "initContainers", 0, "properties", "instanceView", "restartCount").(float64)
			return count >= 2
		})
		wantAt(t, state(got, 1), "Waiting", "state")
		wantAt(t, view(got, "currentState"), "Waiting", "state")
	})
}

func TestA29Probes(t *testing.T) {
	probe := func(command ...string) object {
		return object{"exec": object{"command": command}, "periodSeconds": 1, "failureThreshold": 1}
	}
	t.Run("liveness restarts", func(t *testing.T) {
		s := open(t)
		path := s.name(t, "dead")
		s.create(t, path, s.definition(inContainer(probe("cat", "no-such-file"), "livenessProbe")))
		var got any
		s.until(t, "a restart", func() bool {
			got = s.call(t, http.MethodGet, path, nil).body
			count, _ := view(got, "restartCount").(float64)
			return count >= 1
		})
		e := event(view(got, "events"), "Unhealthy")
		if text, _ := at(e, "message").(string); at(e, "type") != "Warning" || !strings.HasPrefix(text, "Liveness probe failed") {
			t.Errorf("the event is %v", e)
		}
		if event(view(got, "events"), "Killing") == nil {
			t.Errorf("no event says that the container was killed: %v", view(got, "events"))
		}
	})
	t.Run("readiness is told", func(t *testing.T) {
		s := open(t)
		path := s.name(t, "unready")
		s.create(t, path, s.definition(inContainer(probe("cat", "no-such-file"), "readinessProbe"),
			inContainer(object{"exec": object{"command": list{"true"}}, "periodSeconds": 1, "timeoutSeconds": 60}, "livenessProbe")))
		var got any
		s.until(t, "two failures", func() bool {
			got = s.call(t, http.MethodGet, path, nil).body
			count, _ := at(event(view(got, "events"), "Unhealthy"), "count").(float64)
			return count >= 2
		})
		if text, _ := at(event(view(got, "events"), "Unhealthy"), "message").(string); !strings.HasPrefix(text, "Readiness probe failed") {
			t.Errorf("the message is %q", text)
		}
		wantAt(t, view(got), 0, "restartCount")
		wantAt(t, view(got), "Running", "currentState", "state")
	})
	t.Run("thresholds and periods", func(t *testing.T) {
		s := openLab(t)
		path := s.name(t, "web")
		s.create(t, path, s.definition(inContainer(nil, "command"), inContainer(object{
			"httpGet": object{"port": 80, "path": "/healthy"}, "initialDelaySeconds": 20, "periodSeconds": 5, "failureThreshold": 3,
		}, "livenessProbe")))
		restarts := func() any { return view(s.call(t, http.MethodGet, path, nil).body, "restartCount") }
		s.lab.Advance(5 * time.Minute)
		if got := restarts(); !equalJSON(got, 0) {
			t.Errorf("a healthy container was restarted %v times", got)
		}
		if err := s.lab.Sicken(path, "app", false, true); err != nil {
			t.Fatal(err)
		}
		s.lab.Advance(9 * time.Second) // no more than two questions
		if got := restarts(); !equalJSON(got, 0) {
			t.Errorf("restarted %v times before the threshold", got)
		}
		s.lab.Advance(9 * time.Second)
		if got := restarts(); !equalJSON(got, 1) {
			t.Errorf("restarted %v times after the threshold", got)
		}
		s.lab.Advance(15 * time.Second) // the initial delay of the second run
		if got := restarts(); !equalJSON(got, 1) {
			t.Errorf("restarted %v times in the initial delay", got)
		}
	})
}

func TestA31Spot(t *testing.T) {
	spot := set("Spot", "properties", "priority")
	t.Run("refused", func(t *testing.T) {
		s := open(t)
		path := s.name(t, "refused")
		subnet := list{object{"id": "/subscriptions/" + s.subscription + "/resourceGroups/" + s.group + "/providers/Microsoft.Network/virtualNetworks/net/subnets/groups"}}
		for name, test := range map[string]struct {
			edit func(object)
			code string // empty where none is published
		}{
			"public address": {public(8080), "SpotPriorityContainerGroupNotSupportedForInboundConnectivity"},
			"subnet":         {set(subnet, "properties", "subnetIds"), "SpotPriorityContainerGroupNotSupportedForInboundConnectivity"},
			"confidential":   {set("Confidential", "properties", "sku"), "SpotPriorityContainerGroupNotSupportedInSku"},
			"zones":          {set(list{"1"}, "zones"), ""},
		} {
			got := s.call(t, http.MethodPut, path, s.definition(spot, test.edit))
			if got.status != http.StatusBadRequest || test.code != "" && got.code() != test.code {
				t.Errorf("%s: %d %s", name, got.status, got.raw)
			}
		}
		s.create(t, path, s.definition(spot))
		wantAt(t, s.call(t, http.MethodGet, path, nil).body, "Spot", "properties", "priority")
	})
	t.Run("eviction", func(t *testing.T) {
		s := openLab(t)
		path := s.name(t, "evicted")
		s.create(t, path, s.definition(spot, set("Never", "properties", "restartPolicy")))
		before := s.call(t, http.MethodGet, path, nil).body
		wantAt(t, before, "Running", "properties", "instanceView", "state")
		s.lab.Advance(time.Hour / 2)
		if err := s.lab.Evict(path); err != nil {
			t.Fatal(err)
		}
		evicted := s.call(t, http.MethodGet, path, nil).want(t, "GET", http.StatusOK, "").body
		wantAt(t, view(evicted), "Waiting", "currentState", "state")
		wantAt(t, view(evicted), "Terminated", "previousState", "state")
		if state := at(evicted, "properties", "instanceView", "state"); state == "Running" || state == "Failed" || state == "Succeeded" {
			t.Errorf("the evicted group is %v", state)
		}
		if bills := s.lab.Bills(); len(bills) != 1 || bills[0].To == nil {
			t.Errorf("the evicted group is billed %+v", bills)
		}
		s.lab.Advance(59 * time.Second)
		wantAt(t, view(s.call(t, http.MethodGet, path, nil).body), "Waiting", "currentState", "state")
		s.lab.Advance(time.Minute)
		after := s.call(t, http.MethodGet, path, nil).body
		wantAt(t, after, "Running", "properties", "instanceView", "state")
		wantAt(t, after, "Succeeded", "properties", "provisioningState")
		if !when(t, view(after, "currentState", "startTime")).After(when(t, view(before, "currentState", "startTime"))) {
			t.Error("the container was not restarted")
		}
		if bills := s.lab.Bills(); len(bills) != 2 || bills[1].To != nil {
			t.Errorf("the returned group is billed %+v", bills)
		}
	})
	t.Run("evicted groups can go", func(t *testing.T) {
		s := openLab(t)
		path := s.name(t, "evicted")
		s.create(t, path, s.definition(spot))
		if err := s.lab.Evict(path); err != nil {
			t.Fatal(err)
		}
		s.call(t, http.MethodDelete, path, nil).want(t, "DELETE", http.StatusOK, "")
		s.call(t, http.MethodGet, path, nil).want(t, "GET", http.StatusNotFound, "ResourceNotFound")
		s.lab.Advance(time.Hour / 2)
		if bills := s.lab.Bills(); len(bills) != 1 || bills[0].To == nil {
			t.Errorf("the deleted group is billed %+v", bills)
		}
	})
}

func TestA32PlatformRestarts(t *testing.T) {
	for name, code := range map[string]int{"7147": 7147, "7148": 7148} {
		t.Run(name, func(t *testing.T) {
			s := openLab(t)
			path := s.name(t, "moved")
			s.create(t, path, s.definition(public(8080), set("Never", "properties", "restartPolicy")))
			before := s.call(t, http.MethodGet, path, nil).body
			s.lab.Advance(time.Minute)
			if err := s.lab.Maintain(path, code); err != nil {
				t.Fatal(err)
			}
			moved := s.call(t, http.MethodGet, path, nil).body
			wantAt(t, view(moved), "Waiting", "currentState", "state")
			wantAt(t, view(moved), code, "previousState", "exitCode")
			s.lab.Advance(time.Minute)
			after := s.call(t, http.MethodGet, path, nil).body
			wantAt(t, after, "Running", "properties", "instanceView", "state")
			wantAt(t, after, "Succeeded", "properties", "provisioningState")
			wantAt(t, view(after), code, "previousState", "exitCode")
			wantAt(t, view(after), 1, "restartCount")
			ip := at(after, "properties", "ipAddress", "ip")
			if was := at(before, "properties", "ipAddress", "ip"); ip == nil || ip == was {
				t.Errorf("the address was %v and is %v; a client must be ready for another", was, ip)
			}
			if bills := s.lab.Bills(); len(bills) != 1 || bills[0].To != nil {
				t.Errorf("billed %+v", bills)
			}
		})
	}
}
