package aci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

func TestA11Provisioning(t *testing.T) {
	t.Run("succeeds", func(t *testing.T) {
		s := openLab(t)
		path := s.name(t, "provisioned")
		s.call(t, http.MethodPut, path, s.definition()).want(t, "PUT", http.StatusCreated, "")
		var states []any
		s.until(t, "Succeeded", func() bool {
			if state := at(s.call(t, http.MethodGet, path, nil).body, "properties", "provisioningState"); !slices.Contains(states, state) {
				states = append(states, state)
			}
			return slices.Contains(states, any("Succeeded"))
		})
		if !equalJSON(states, list{"Pending", "Creating", "Succeeded"}) {
			t.Errorf("went through %v", states)
		}
	})
	t.Run("fails and keeps trying", func(t *testing.T) {
		s := openLab(t)
		path := s.name(t, "stuck")
		s.lab.Arrange(Conditions{LatePulls: true})
		s.call(t, http.MethodPut, path, s.definition()).want(t, "PUT", http.StatusCreated, "")
		s.lab.Advance(1799 * time.Second)
		wantAt(t, s.call(t, http.MethodGet, path, nil).body, "Creating", "properties", "provisioningState")
		s.lab.Advance(time.Second)
		failed := s.call(t, http.MethodGet, path, nil).body
		wantAt(t, failed, "Failed", "properties", "provisioningState")
		pulls, _ := at(event(view(failed, "events"), "Pulling"), "count").(float64)

		s.lab.Advance(20 * time.Minute)
		later := s.call(t, http.MethodGet, path, nil).body
		wantAt(t, later, "Failed", "properties", "provisioningState")
		if again, _ := at(event(view(later, "events"), "Pulling"), "count").(float64); again <= pulls {
			t.Errorf("%v pulls when it failed, %v later", pulls, again)
		}
		if bills := s.lab.Bills(); len(bills) != 1 || bills[0].To != nil {
			t.Errorf("a failed group that tries is billed %+v", bills)
		}
		s.lab.Arrange(Conditions{})
		s.lab.Advance(10 * time.Minute)
		s.login(t)
		wantAt(t, s.call(t, http.MethodGet, path, nil).body, "Succeeded", "properties", "provisioningState")
	})
}

func TestA12Images(t *testing.T) {
	t.Run("inaccessible", func(t *testing.T) {
		s := open(t)
		path := s.name(t, "no-image")
		got := s.call(t, http.MethodPut, path, s.definition(inContainer(s.missingImage, "image"))).
			want(t, "PUT", http.StatusBadRequest, "InaccessibleImage")
		if !strings.Contains(got.message(), s.missingImage) {
			t.Errorf("the message does not name the image: %s", got.message())
		}
		s.call(t, http.MethodGet, path, nil).want(t, "GET", http.StatusNotFound, "ResourceNotFound")
	})
	t.Run("registry trouble", func(t *testing.T) {
		s := openLab(t)
		s.lab.Arrange(Conditions{RegistryTrouble: true})
		s.call(t, http.MethodPut, s.name(t, "trouble"), s.definition()).want(t, "PUT", http.StatusConflict, "RegistryErrorResponse")
		s.lab.Arrange(Conditions{})
		s.call(t, http.MethodPut, s.name(t, "trouble"), s.definition()).want(t, "PUT", http.StatusCreated, "")
	})
	t.Run("later, only events", func(t *testing.T) {
		s := openLab(t)
		s.lab.Arrange(Conditions{LatePulls: true})
		path := s.name(t, "late")
		s.call(t, http.MethodPut, path, s.definition()).want(t, "PUT", http.StatusCreated, "")
		s.lab.Advance(5 * time.Minute)
		got := s.call(t, http.MethodGet, path, nil).want(t, "GET", http.StatusOK, "").body
		wantAt(t, view(got, "currentState"), "Waiting", "state")
		for _, name := range []string{"Pulling", "Failed", "BackOff"} {
			if event(view(got, "events"), name) == nil {
				t.Errorf("there is no event %s: %v", name, view(got, "events"))
			}
		}
		wantAt(t, event(view(got, "events"), "Failed"), "Warning", "type")
	})
}

func TestA13Capacity(t *testing.T) {
	s := openLab(t)
	s.lab.Arrange(Conditions{NoCapacityFrom: 4, Location: s.location})
	large := inContainer(4.0, "resources", "requests", "cpu")
	got := s.call(t, http.MethodPut, s.name(t, "large"), s.definition(large)).want(t, "a large group", http.StatusConflict, "ServiceUnavailable")
	for _, part := range []string{"4 CPU", "1 GB", s.location} {
		if !strings.Contains(got.message(), part) {
			t.Errorf("the message does not say %q: %s", part, got.message())
		}
	}
	s.call(t, http.MethodGet, s.name(t, "large"), nil).want(t, "the refused group", http.StatusNotFound, "ResourceNotFound")
	s.call(t, http.MethodPut, s.name(t, "small"), s.definition()).want(t, "a small group", http.StatusCreated, "")
	s.call(t, http.MethodPut, s.name(t, "elsewhere"), s.definition(large, set("westeurope", "location"))).want(t, "in another region", http.StatusCreated, "")
	s.lab.Arrange(Conditions{})
	s.call(t, http.MethodPut, s.name(t, "large"), s.definition(large)).want(t, "when there is room", http.StatusCreated, "")
}

func TestA14Quota(t *testing.T) {
	s := openLab(t)
	s.lab.Arrange(Conditions{Quota: map[string]int{"ContainerGroups": 4, "StandardCores": 4, "StandardSpotCores": 1, "ConfidentialCores": 1}})
	cpu := func(n float64) func(object) { return inContainer(n, "resources", "requests", "cpu") }
	spot, confidential := set("Spot", "properties", "priority"), set("Confidential", "properties", "sku")
	wantUsage := func(name string, current, limit int) {
		t.Helper()
		usages, _ := at(s.call(t, http.MethodGet, s.regional("usages"), nil).body, "value").(list)
		for _, u := range usages {
			if at(u, "name", "value") == name {
				wantAt(t, u, current, "currentValue")
				wantAt(t, u, limit, "limit")
				wantAt(t, u, "Count", "unit")
				return
			}
		}
		t.Errorf("usages know no %s", name)
	}
	refused := func(name, quota string, limit, usage, requested int, edits ...func(object)) {
		t.Helper()
		got := s.call(t, http.MethodPut, s.name(t, name), s.definition(edits...)).want(t, name, http.StatusBadRequest, "ContainerGroupQuotaReached")
		want := fmt.Sprintf("Resource type 'Microsoft.ContainerInstance/containerGroups' container group quota '%s' exceeded in region '%s'. Limit: '%d', Usage: '%d' Requested: '%d'.",
			quota, s.location, limit, usage, requested)
		if got.message() != want {
			t.Errorf("message %q, want %q", got.message(), want)
		}
	}
	accepted := func(name string, edits ...func(object)) {
		t.Helper()
		s.call(t, http.MethodPut, s.name(t, name), s.definition(edits...)).want(t, name, http.StatusCreated, "")
	}
	accepted("one", cpu(3))
	wantUsage("StandardCores", 3, 4)
	refused("two", "StandardCores", 4, 3, 2, cpu(2))
	accepted("two")
	accepted("spot", spot)
	refused("spot-2", "StandardSpotCores", 1, 1, 1, spot)
	accepted("secret", confidential)
	refused("secret-2", "ConfidentialCores", 1, 1, 1, confidential)
	wantUsage("ContainerGroups", 3, 4)
	wantUsage("StandardCores", 4, 4)
	wantUsage("StandardSpotCores", 1, 1)
	wantUsage("ConfidentialCores", 1, 1)

	// Other regions have quotas of their own, stopped groups hold no cores.
	accepted("elsewhere", cpu(4), set("westeurope", "location"))
	s.lab.Advance(time.Minute)
	s.call(t, http.MethodPost, s.name(t, "one")+"/stop", nil).want(t, "stop", http.StatusNoContent, "")
	wantUsage("StandardCores", 1, 4)
	accepted("three", cpu(3))
	refused("four", "ContainerGroups", 4, 4, 1)
	s.call(t, http.MethodPost, s.name(t, "one")+"/start", nil).want(t, "start without cores", http.StatusBadRequest, "ContainerGroupQuotaReached")
	s.call(t, http.MethodDelete, s.name(t, "one"), nil).want(t, "DELETE", http.StatusOK, "")
	wantUsage("ContainerGroups", 3, 4)
}

func TestA15Transitioning(t *testing.T) {
	s := openStill(t)
	path := s.name(t, "transit")
	s.call(t, http.MethodPut, path, s.definition()).want(t, "PUT", http.StatusCreated, "")
	name := path[strings.LastIndex(path, "/")+1:]
	for _, call := range []struct {
		method, suffix string
		body           any
	}{
		{http.MethodPut, "", s.definition()},
		{http.MethodDelete, "", nil},
		{http.MethodPost, "/start", nil},
		{http.MethodPost, "/stop", nil},
		{http.MethodPost, "/restart", nil},
		{http.MethodGet, "/containers/app/logs", nil},
		{http.MethodPost, "/containers/app/exec", object{"command": "/bin/sh", "terminalSize": object{"rows": 20, "cols": 80}}},
	} {
		got := s.call(t, call.method, path+call.suffix, call.body)
		if got.status != http.StatusConflict || got.code() != "ContainerGroupTransitioning" ||
			got.message() != "The container group '"+name+"' is still transitioning, please retry later." {
			t.Errorf("%s%s in transit: %d %s", call.method, call.suffix, got.status, got.raw)
		}
	}
	s.call(t, http.MethodGet, path, nil).want(t, "GET in transit", http.StatusOK, "")
	s.settle(t, path)
	s.call(t, http.MethodGet, path+"/containers/app/logs", nil).want(t, "logs when settled", http.StatusOK, "")
	s.call(t, http.MethodDelete, path, nil).want(t, "DELETE when settled", http.StatusOK, "")
}

func remaining(t *testing.T, got answer, name string) int {
	t.Helper()
	n, err := strconv.Atoi(got.header.Get("X-Ms-Ratelimit-Remaining-Subscription-" + name))
	if err != nil {
		t.Errorf("x-ms-ratelimit-remaining-subscription-%s: %v", name, err)
	}
	return n
}

func retryAfter(t *testing.T, got answer) time.Duration {
	t.Helper()
	seconds, err := strconv.Atoi(got.header.Get("Retry-After"))
	if err != nil || seconds < 1 {
		t.Fatalf("Retry-After is %q: %s", got.header.Get("Retry-After"), got.raw)
	}
	return time.Duration(seconds) * time.Second
}

func TestA16ProviderRates(t *testing.T) {
	s := openLab(t)
	s.lab.Arrange(Conditions{Quota: map[string]int{}})
	asked := 0
	create := func(edits ...func(object)) answer {
		asked++
		return s.call(t, http.MethodPut, s.groups()+"/group-"+strconv.Itoa(asked), s.definition(append(edits, inContainer(nil, "command"))...))
	}
	var made []string
	for round := range 3 {
		for n := range 100 {
			got := create().want(t, "PUT", http.StatusCreated, "")
			made = append(made, at(got.body, "id").(string))
			if left := remaining(t, got, "resource-requests-pt5m"); left != 99-n {
				t.Fatalf("%d creates are left of 5 minutes after %d, want %d", left, n+1, 99-n)
			}
			if left := remaining(t, got, "resource-requests-pt1h"); left != 299-100*round-n {
				t.Fatalf("%d creates are left of the hour after %d, want %d", left, len(made), 299-100*round-n)
			}
		}
		got := create()
		if got.status != http.StatusTooManyRequests || got.code() != "TooManyRequests" {
			t.Fatalf("create 101 of 5 minutes: %d %s", got.status, got.raw)
		}
		wait := retryAfter(t, got)
		if round < 2 {
			if wait > 5*time.Minute {
				t.Errorf("wait %s, more than 5 minutes", wait)
			}
			create(set("westeurope", "location")).want(t, "PUT in another region", http.StatusCreated, "")
			s.lab.Advance(wait)
			continue
		}
		if wait < 45*time.Minute {
			t.Errorf("wait %s after 300 creates of an hour", wait)
		}
		s.lab.Advance(5 * time.Minute)
		if got := create(); got.status != http.StatusTooManyRequests {
			t.Errorf("create 301 of an hour: %d", got.status)
		}
	}
	// Deletes have a count of their own.
	for n := range 100 {
		got := s.call(t, http.MethodDelete, made[n], nil).want(t, "DELETE", http.StatusOK, "")
		if left := remaining(t, got, "resource-requests-pt5m"); left != 99-n {
			t.Fatalf("%d deletes are left of 5 minutes after %d, want %d", left, n+1, 99-n)
		}
	}
	got := s.call(t, http.MethodDelete, made[100], nil).want(t, "delete 101 of 5 minutes", http.StatusTooManyRequests, "TooManyRequests")
	s.lab.Advance(retryAfter(t, got))
	s.call(t, http.MethodDelete, made[100], nil).want(t, "DELETE after the wait", http.StatusOK, "")
}

func TestA17ManagerBuckets(t *testing.T) {
	s := openLab(t)
	read := func() answer { return s.call(t, http.MethodGet, s.groups(), nil) }
	first := remaining(t, read(), "reads")
	if first != 249 {
		t.Errorf("%d reads are left after one, want 249", first)
	}
	for n := range 249 {
		got := read().want(t, "a read", http.StatusOK, "")
		if left := remaining(t, got, "reads"); left != 248-n {
			t.Fatalf("%d reads are left, want %d", left, 248-n)
		}
		if left := remaining(t, got, "global-reads"); left != 15*250-n-2 {
			t.Fatalf("%d reads are left of the global bucket, want %d", left, 15*250-n-2)
		}
	}
	got := read()
	if got.status != http.StatusTooManyRequests || got.code() != "SubscriptionRequestsThrottled" {
		t.Fatalf("read 251: %d %s", got.status, got.raw)
	}
	wait := retryAfter(t, got)

	// The other kinds, principals and spellings of the subscription.
	upper := strings.ToUpper(s.groups())
	if got := s.call(t, http.MethodGet, upper, nil); got.status != http.StatusTooManyRequests {
		t.Errorf("the same subscription in capitals: %d", got.status)
	}
	if left := remaining(t, s.call(t, http.MethodDelete, s.name(t, "none"), nil).want(t, "a delete", http.StatusNoContent, ""), "deletes"); left != 199 {
		t.Errorf("%d deletes are left, want 199", left)
	}
	if left := remaining(t, s.call(t, http.MethodPut, s.name(t, "one"), s.definition()).want(t, "a write", http.StatusCreated, ""), "writes"); left != 199 {
		t.Errorf("%d writes are left, want 199", left)
	}
	token := s.token
	own, ownSecret := s.client, s.secret
	s.client, s.secret = s.lab.Stranger()
	s.login(t)
	read().want(t, "a read of another principal", http.StatusOK, "")
	s.client, s.secret, s.token = own, ownSecret, token

	s.lab.Advance(wait)
	read().want(t, "a read after the wait", http.StatusOK, "")
	for read().status == http.StatusOK {
	}
	s.lab.Advance(2 * time.Second)
	for n := range 50 {
		read().want(t, fmt.Sprintf("read %d of 2 s, at 25 each", n), http.StatusOK, "")
	}
	if got := read(); got.status != http.StatusTooManyRequests {
		t.Errorf("read 51 of 2 s: %d", got.status)
	}
}

// A wait of more than a minute reaches the SDK's caller at once.
func TestA18LongWaitsReachTheCaller(t *testing.T) {
	s := openLab(t)
	s.lab.Fail(Failure{Operation: "ContainerGroups_Get", Status: http.StatusTooManyRequests, RetryAfter: 61 * time.Second})
	if got := s.call(t, http.MethodGet, s.groups()+"/none", nil); got.status != http.StatusTooManyRequests || retryAfter(t, got) != 61*time.Second {
		t.Errorf("got %d %s", got.status, got.raw)
	}
	s.lab.Fail(Failure{Operation: "ContainerGroups_Get", Status: http.StatusTooManyRequests, RetryAfter: 61 * time.Second})
	began := time.Now()
	_, err := s.sdk(t).Get(context.Background(), s.group, "none", nil)
	var refused *azcore.ResponseError
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusTooManyRequests || refused.RawResponse.Header.Get("Retry-After") != "61" {
		t.Errorf("the SDK returns %v", err)
	}
	if waited := time.Since(began); waited > 30*time.Second {
		t.Errorf("the SDK waited %s", waited)
	}
}

func TestA30Limits(t *testing.T) {
	s := openStill(t)
	path := s.name(t, "limits")
	containers := func(n int) func(object) {
		all := list{}
		for i := range n {
			c := s.container("c"+strconv.Itoa(i), "sleep", "3600")
			set(0.1, "properties", "resources", "requests", "cpu")(c)
			set(0.1, "properties", "resources", "requests", "memoryInGB")(c)
			all = append(all, c)
		}
		return set(all, "properties", "containers")
	}
	volumes := func(n int) func(object) {
		all := list{}
		for i := range n {
			all = append(all, object{"name": "volume-" + strconv.Itoa(i), "emptyDir": object{}})
		}
		return set(all, "properties", "volumes")
	}
	size := func(cpu, memory float64) func(object) {
		return inContainer(object{"cpu": cpu, "memoryInGB": memory}, "resources", "requests")
	}
	variable := func(name string) func(object) {
		return inContainer(list{object{"name": name, "value": "x"}}, "environmentVariables")
	}
	label := func(label string) func(object) {
		return func(body object) {
			public(8080)(body)
			set(label, "properties", "ipAddress", "dnsNameLabel")(body)
		}
	}
	confidential, spot := set("Confidential", "properties", "sku"), set("Spot", "properties", "priority")
	both := func(edits ...func(object)) func(object) {
		return func(body object) {
			for _, edit := range edits {
				edit(body)
			}
		}
	}
	long := strings.Repeat("a", 64)
	tests := map[string]struct {
		edit func(object)
		fits bool
	}{
		"60 containers":              {containers(60), true},
		"61 containers":              {containers(61), false},
		"no containers":              {containers(0), false},
		"20 volumes":                 {volumes(20), true},
		"21 volumes":                 {volumes(21), false},
		"5 ports":                    {public(80, 81, 82, 83, 84), true},
		"6 ports":                    {public(80, 81, 82, 83, 84, 85), false},
		"container name of 63":       {set(long[:63], "properties", "containers", 0, "name"), true},
		"container name of 64":       {set(long, "properties", "containers", 0, "name"), false},
		"container name in capitals": {set("App", "properties", "containers", 0, "name"), false},
		"container name, hyphen":     {set("app-", "properties", "containers", 0, "name"), false},
		"container names alike":      {set(list{s.container("app"), s.container("app")}, "properties", "containers"), false},
		"volume name of 4":           {set(list{object{"name": "data", "emptyDir": object{}}}, "properties", "volumes"), false},
		"volume name of 5":           {set(list{object{"name": "data1", "emptyDir": object{}}}, "properties", "volumes"), true},
		"volume name of 64":          {set(list{object{"name": long, "emptyDir": object{}}}, "properties", "volumes"), false},
		"DNS label of 4":             {label("abcd"), false},
		"DNS label of 5":             {label("abcde"), true},
		"DNS label of 64":            {label(long), false},
		"variable name of 63":        {variable(long[:63]), true},
		"variable name of 64":        {variable(long), false},
		"variable name with a dot":   {variable("A.B"), false},
		"under 1 vCPU":               {size(0.9, 1), false},
		"under 1 GB":                 {size(1, 0.9), false},
		"31 vCPU, 240 GB":            {size(31, 240), true},
		"over 31 vCPU":               {size(31.5, 240), false},
		"over 240 GB":                {size(31, 241), false},
		"confidential, 180 GB":       {both(confidential, size(31, 180)), true},
		"confidential, 181 GB":       {both(confidential, size(31, 181)), false},
		"spot, 4 vCPU, 16 GB":        {both(spot, size(4, 16)), true},
		"spot, over 4 vCPU":          {both(spot, size(4.5, 16)), false},
		"spot, over 16 GB":           {both(spot, size(4, 17)), false},
	}
	for _, port := range []int{22, 1025, 1027, 3389, 3399, 9999, 19000, 19080, 19100, 19390, 20000, 30000, 49152, 65534, 0, 65536} {
		tests[fmt.Sprintf("port %d", port)] = struct {
			edit func(object)
			fits bool
		}{public(port), false}
	}
	for _, port := range []int{1, 21, 23, 1024, 1028, 3388, 3400, 19999, 30001, 49151, 65535} {
		tests[fmt.Sprintf("port %d", port)] = struct {
			edit func(object)
			fits bool
		}{public(port), true}
	}
	for name, test := range tests {
		if s.lab != nil {
			s.lab.Arrange(Conditions{NoRates: true, Quota: map[string]int{}})
		}
		got := s.call(t, http.MethodPut, path, s.definition(test.edit))
		switch {
		case test.fits && got.status != http.StatusCreated:
			t.Errorf("%s is refused: %d %s", name, got.status, got.raw)
		case !test.fits && got.status != http.StatusBadRequest:
			t.Errorf("%s: %d, want 400: %s", name, got.status, got.raw)
		}
		if got.status == http.StatusCreated {
			s.settle(t, path)
			s.call(t, http.MethodDelete, path, nil).want(t, "DELETE", http.StatusOK, "")
		}
	}
	for name, fits := range map[string]bool{long[:63]: true, long: false, "Group": false, "-group": false, "group-": false, "gro.up": false} {
		path := s.groups() + "/" + name
		got := s.call(t, http.MethodPut, path, s.definition())
		if fits != (got.status == http.StatusCreated) || !fits && got.status != http.StatusBadRequest {
			t.Errorf("a group named %s: %d %s", name, got.status, got.raw)
		}
		if fits {
			s.settle(t, path)
			s.call(t, http.MethodDelete, path, nil).want(t, "DELETE", http.StatusOK, "")
		}
	}
}
