package aci

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

func TestA30Limits(t *testing.T) {
	containers := func(n int) func(map[string]any) {
		return func(body map[string]any) {
			var list []any
			for i := range n {
				list = append(list, map[string]any{"name": fmt.Sprintf("c-%d", i), "properties": map[string]any{
					"image": "nginx", "resources": map[string]any{"requests": map[string]any{"cpu": 0.1, "memoryInGB": 0.1}}}})
			}
			body["properties"].(map[string]any)["containers"] = list
		}
	}
	volumes := func(n int) func(map[string]any) {
		var list []any
		for i := range n {
			list = append(list, map[string]any{"name": fmt.Sprintf("volume-%d", i), "emptyDir": map[string]any{}})
		}
		return with(list, "properties", "volumes")
	}
	ports := func(numbers ...int) func(map[string]any) {
		var list []any
		for _, n := range numbers {
			list = append(list, map[string]any{"port": n})
		}
		return with(map[string]any{"type": "Public", "ports": list}, "properties", "ipAddress")
	}
	size := func(cpu, memory float64) func(map[string]any) {
		return with(map[string]any{"requests": map[string]any{"cpu": cpu, "memoryInGB": memory}}, "properties", "containers", 0, "properties", "resources")
	}
	both := func(edits ...func(map[string]any)) func(map[string]any) {
		return func(body map[string]any) {
			for _, edit := range edits {
				edit(body)
			}
		}
	}
	env := func(name string) func(map[string]any) {
		return with([]any{map[string]any{"name": name, "value": "v"}}, "properties", "containers", 0, "properties", "environmentVariables")
	}
	volume := func(name string) func(map[string]any) {
		return with([]any{map[string]any{"name": name, "emptyDir": map[string]any{}}}, "properties", "volumes")
	}
	spot := with("Spot", "properties", "priority")
	tests := map[string]struct {
		name string
		edit func(map[string]any)
		code string // empty is accepted
	}{
		"60 containers":              {"web", containers(60), ""},
		"61 containers":              {"web", containers(61), "InvalidRequestContent"},
		"no container":               {"web", containers(0), "InvalidRequestContent"},
		"20 volumes":                 {"web", volumes(20), ""},
		"21 volumes":                 {"web", volumes(21), "InvalidRequestContent"},
		"5 ports":                    {"web", ports(80, 81, 82, 83, 84), ""},
		"6 ports":                    {"web", ports(80, 81, 82, 83, 84, 85), "InvalidRequestContent"},
		"port 0":                     {"web", ports(0), "InvalidRequestContent"},
		"port 65536":                 {"web", ports(65536), "InvalidRequestContent"},
		"reserved port 22":           {"web", ports(22), "InvalidRequestContent"},
		"reserved port 1026":         {"web", ports(1026), "InvalidRequestContent"},
		"reserved port 25000":        {"web", ports(25000), "InvalidRequestContent"},
		"port 19999":                 {"web", ports(19999), ""},
		"group name upper case":      {"Web", both(), "InvalidRequestContent"},
		"group name hyphen":          {"web-", both(), "InvalidRequestContent"},
		"group name 63":              {strings.Repeat("a", 63), both(), ""},
		"group name 64":              {strings.Repeat("a", 64), both(), "InvalidRequestContent"},
		"container name":             {"web", with("App", "properties", "containers", 0, "name"), "InvalidRequestContent"},
		"volume name of 4":           {"web", volume("four"), "InvalidRequestContent"},
		"volume name of 5":           {"web", volume("five5"), ""},
		"volume without kind":        {"web", with([]any{map[string]any{"name": "nothing"}}, "properties", "volumes"), "InvalidRequestContent"},
		"secret not base64":          {"web", with([]any{map[string]any{"name": "secrets", "secret": map[string]any{"k": "%%%"}}}, "properties", "volumes"), "InvalidRequestContent"},
		"mount without volume":       {"web", with([]any{map[string]any{"name": "volume", "mountPath": "/a"}}, "properties", "containers", 0, "properties", "volumeMounts"), "InvalidRequestContent"},
		"env name":                   {"web", env("A_1"), ""},
		"env name with hyphen":       {"web", env("A-1"), "InvalidRequestContent"},
		"env name of 64":             {"web", env(strings.Repeat("A", 64)), "InvalidRequestContent"},
		"smallest size":              {"web", size(1, 1), ""},
		"half a CPU":                 {"web", size(0.5, 1), "InvalidRequestContent"},
		"half a GB":                  {"web", size(1, 0.5), "InvalidRequestContent"},
		"largest size":               {"web", size(31, 240), ""},
		"32 CPU":                     {"web", size(32, 1), "InvalidRequestContent"},
		"241 GB":                     {"web", size(1, 241), "InvalidRequestContent"},
		"confidential 181 GB":        {"web", both(size(1, 181), with("Confidential", "properties", "sku")), "InvalidRequestContent"},
		"spot 4 CPU":                 {"web", both(size(4, 16), spot), ""},
		"spot 5 CPU":                 {"web", both(size(5, 16), spot), "InvalidRequestContent"},
		"spot with address":          {"web", both(ports(80), spot), "SpotPriorityContainerGroupNotSupportedForInboundConnectivity"},
		"spot with confidential sku": {"web", both(spot, with("Confidential", "properties", "sku")), "SpotPriorityContainerGroupNotSupportedInSku"},
		"dns label of 4":             {"web", both(ports(80), with("four", "properties", "ipAddress", "dnsNameLabel")), "InvalidRequestContent"},
	}
	c := newTestCloud(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := c.arm(http.MethodPut, c.path(test.name), groupBody(test.edit))
			if test.code == "" {
				if got.status != http.StatusCreated {
					t.Fatalf("got %d %s", got.status, got.raw)
				}
				c.arm(http.MethodDelete, c.path(test.name), nil)
				return
			}
			if got.status != http.StatusBadRequest || got.code() != test.code {
				t.Errorf("got %d %s, want 400 %s: %s", got.status, got.code(), test.code, got.raw)
			}
		})
	}
}

func TestA12RegistryAnswers(t *testing.T) {
	c := newTestCloud(t, settings(Settings{InaccessibleImage: func(image string) bool { return image == "private" }}))
	image := func(name string) func(map[string]any) {
		return with(name, "properties", "containers", 0, "properties", "image")
	}
	got := c.put("web", http.StatusBadRequest, image("private"))
	if got.code() != "InaccessibleImage" || !strings.Contains(got.raw, "'private'") {
		t.Errorf("got %s", got.raw)
	}
	c.put("web", http.StatusCreated, image("public"))
	c.server.Change(func(s *Settings) { s.RegistryTrouble = true })
	if got := c.put("web2", http.StatusConflict, image("public")); got.code() != "RegistryErrorResponse" {
		t.Errorf("got %s", got.raw)
	}
}

func TestA13Capacity(t *testing.T) {
	c := newTestCloud(t, settings(Settings{Shortages: []Shortage{{Location: "East US", CPU: 4}, {Location: "westus", SpotOnly: true}}}))
	size := func(cpu float64) func(map[string]any) {
		return with(map[string]any{"requests": map[string]any{"cpu": cpu, "memoryInGB": 8.0}}, "properties", "containers", 0, "properties", "resources")
	}
	west, spot := with("westus", "location"), with("Spot", "properties", "priority")
	c.put("small", http.StatusCreated, size(2))
	if got := c.put("large", http.StatusConflict, size(4)); got.code() != "ServiceUnavailable" {
		t.Errorf("got %s", got.raw)
	}
	c.put("west", http.StatusCreated, size(4), west)
	c.put("west-spot", http.StatusConflict, size(1), west, spot)
	c.server.Change(func(s *Settings) { s.Shortages = nil })
	c.put("large", http.StatusCreated, size(4))
}

func TestA14Quota(t *testing.T) {
	c := newTestCloud(t, settings(Settings{Quota: map[string]int{"ContainerGroups": 3, "StandardCores": 4}}))
	size := func(cpu float64) func(map[string]any) {
		return with(map[string]any{"requests": map[string]any{"cpu": cpu, "memoryInGB": 1.0}}, "properties", "containers", 0, "properties", "resources")
	}
	c.put("a", http.StatusCreated, size(3))
	got := c.put("b", http.StatusBadRequest, size(2))
	if got.code() != "ContainerGroupQuotaReached" || !strings.Contains(got.raw, "'StandardCores' exceeded in region 'eastus'. Limit: '4', Usage: '3' Requested: '2'") {
		t.Errorf("got %s", got.raw)
	}
	c.put("b", http.StatusCreated, size(2), with("westus", "location")) // another region
	c.arm(http.MethodPost, c.path("a")+"/stop", nil)
	c.put("c", http.StatusCreated, size(4)) // a stopped group holds no cores
	if got := c.arm(http.MethodPost, c.path("a")+"/start", nil); got.status != http.StatusBadRequest || got.code() != "ContainerGroupQuotaReached" {
		t.Errorf("start over quota: %d %s", got.status, got.raw)
	}
	usages := c.arm(http.MethodGet, "/subscriptions/"+testSubscription+"/providers/Microsoft.ContainerInstance/locations/eastus/usages", nil)
	wantAt(t, usages.body, "ContainerGroups", "value", 0, "name", "value")
	wantAt(t, usages.body, 2.0, "value", 0, "currentValue")
	wantAt(t, usages.body, 3.0, "value", 0, "limit")
	wantAt(t, usages.body, "StandardCores", "value", 1, "name", "value")
	wantAt(t, usages.body, 4.0, "value", 1, "currentValue")
}

func TestA16ProviderLimits(t *testing.T) {
	c := newTestCloud(t, settings(Settings{Provider: ProviderLimits{PerFiveMinutes: 2, PerHour: 3}}))
	const five = "X-Ms-Ratelimit-Remaining-Subscription-Resource-Requests-pt5m"
	for i, want := range []string{"1", "0"} {
		if got := c.put(fmt.Sprint("g", i), http.StatusCreated).header.Get(five); got != want {
			t.Errorf("PUT %d: %s remain, want %s", i, got, want)
		}
		c.clock.Step(time.Minute)
	}
	got := c.put("g2", http.StatusTooManyRequests)
	if got.code() != "TooManyRequests" || got.header.Get("Retry-After") != "180" {
		t.Errorf("third PUT: %s, Retry-After %q, want 180", got.code(), got.header.Get("Retry-After"))
	}
	c.put("w", http.StatusCreated, with("westus", "location")) // another region
	if got := c.arm(http.MethodDelete, c.path("g0"), nil); got.status != http.StatusOK {
		t.Errorf("deletes have a rate of their own: %d", got.status)
	}
	c.clock.Step(3 * time.Minute)
	c.put("g2", http.StatusCreated)
	got = c.put("g3", http.StatusTooManyRequests)
	if got.header.Get("Retry-After") != "3300" {
		t.Errorf("Retry-After %q, want 3300", got.header.Get("Retry-After"))
	}
}

func TestA17ARMBuckets(t *testing.T) {
	c := newTestCloud(t, settings(Settings{ARM: ARMLimits{Reads: Bucket{Size: 3, RefillPerSecond: 0.5}}}))
	const remaining = "X-Ms-Ratelimit-Remaining-Subscription-Reads"
	for _, want := range []string{"2", "1", "0"} {
		got := c.arm(http.MethodGet, testGroups, nil)
		if got.status != http.StatusOK || got.header.Get(remaining) != want {
			t.Errorf("got %d, %s remain, want %s", got.status, got.header.Get(remaining), want)
		}
	}
	got := c.arm(http.MethodGet, testGroups, nil)
	if got.status != http.StatusTooManyRequests || got.code() != "SubscriptionRequestsThrottled" || got.header.Get("Retry-After") != "2" {
		t.Errorf("got %d %s, Retry-After %q", got.status, got.code(), got.header.Get("Retry-After"))
	}
	c.put("web", http.StatusCreated) // writes have a bucket of their own
	c.clock.Step(2 * time.Second)
	if got := c.arm(http.MethodGet, testGroups, nil); got.status != http.StatusOK {
		t.Errorf("after the refill: %d", got.status)
	}
}

func TestA41Faults(t *testing.T) {
	const put = "ContainerGroups_CreateOrUpdate"
	c := newTestCloud(t)

	c.server.Inject(Fault{Operation: put, Calls: 2, Status: 503, RetryAfter: 7 * time.Second})
	for range 2 {
		if got := c.put("a", 503); got.code() != "ServiceUnavailable" || got.header.Get("Retry-After") != "7" {
			t.Errorf("got %s, Retry-After %q", got.raw, got.header.Get("Retry-After"))
		}
	}
	if got := c.arm(http.MethodGet, c.path("a"), nil); got.status != http.StatusNotFound {
		t.Errorf("a fault before the effect had one: %d", got.status)
	}
	c.put("a", http.StatusCreated)

	c.server.Inject(Fault{Operation: put, Target: "B", Calls: 1, AfterEffect: true, Status: 500, Code: "InternalServerError"})
	c.put("not-b", http.StatusCreated)
	c.put("b", 500)
	wantAt(t, c.get("b"), "Succeeded", "properties", "provisioningState")

	for name, after := range map[string]bool{"cut-before": false, "cut-after": true} {
		c.server.Inject(Fault{Operation: put, Calls: 1, AfterEffect: after, Cut: true})
		if response, err := c.client.Do(c.armRequest(http.MethodPut, c.path(name), groupBody())); err == nil {
			response.Body.Close()
			t.Errorf("%s: answered %d", name, response.StatusCode)
		}
		_, exists := c.server.Fleet().Group(c.path(name))
		if exists != after {
			t.Errorf("%s: the group exists: %t", name, exists)
		}
	}

	c.server.Inject(Fault{Operation: OperationToken, Calls: -1, Status: 500})
	if got := c.tokenRequest(tokenForm()); got.status != 500 {
		t.Errorf("token: %d", got.status)
	}
	if got := c.tokenRequest(tokenForm()); got.status != 500 {
		t.Errorf("second token: %d", got.status)
	}
	c.server.ClearFaults()
	c.login()

	c.server.Inject(Fault{Status: 502, RawBody: "<html>bad gateway</html>"})
	response, err := c.client.Do(c.armRequest(http.MethodGet, testGroups, nil))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil || response.StatusCode != 502 || string(raw) != "<html>bad gateway</html>" {
		t.Errorf("raw body: %d %q %v", response.StatusCode, raw, err)
	}

	c.server.Inject(Fault{Operation: "ContainerGroups_Get", Calls: 1, Delay: time.Minute})
	done := make(chan answer, 1)
	go func() { done <- c.arm(http.MethodGet, c.path("a"), nil) }()
	waitFor(t, "the delayed call", c.clock.HasWaiters)
	c.clock.Step(time.Minute)
	if got := <-done; got.status != http.StatusOK {
		t.Errorf("delayed: %d", got.status)
	}
}

func TestAddresses(t *testing.T) {
	c := newTestCloud(t)
	address := func(kind string) func(map[string]any) {
		return with(map[string]any{"type": kind, "ports": []any{map[string]any{"port": 80}}, "dnsNameLabel": "label"}, "properties", "ipAddress")
	}
	c.put("public", http.StatusCreated, address("Public"))
	c.put("private", http.StatusCreated, address("Private"), with([]any{map[string]any{"id": "/subnet"}}, "properties", "subnetIds"))
	c.put("none", http.StatusCreated)
	public := c.get("public")
	if ip, _ := at(public, "properties", "ipAddress", "ip").(string); !strings.HasPrefix(ip, "198.18.") {
		t.Errorf("public address %q", ip)
	}
	wantAt(t, public, "label.eastus.azurecontainer.io", "properties", "ipAddress", "fqdn")
	wantAt(t, public, "TCP", "properties", "ipAddress", "ports", 0, "protocol")
	if ip, _ := at(c.get("private"), "properties", "ipAddress", "ip").(string); !strings.HasPrefix(ip, "10.") {
		t.Errorf("private address %q", ip)
	}
	wantAt(t, c.get("none"), nil, "properties", "ipAddress")
}

// Two thousand groups live at once, each with its own address, and go again.
func TestManyGroups(t *testing.T) {
	const count, workers = 2000, 16
	c := newTestCloud(t, func(o *Options) {
		o.Sim = sim.Config{Timing: sim.Timing{Schedule: time.Millisecond, Pull: time.Millisecond, Start: time.Millisecond}}
		o.Settings.TransitTime = -1
	})
	body, err := json.Marshal(groupBody(with(map[string]any{"type": "Public", "ports": []any{map[string]any{"port": 80}}}, "properties", "ipAddress")))
	if err != nil {
		t.Fatal(err)
	}
	each := func(method, content string, want int) {
		t.Helper()
		var content2 any
		if content != "" {
			content2 = content
		}
		next := make(chan int)
		failures := make(chan string, workers)
		for range workers {
			go func() {
				var failure string
				for i := range next {
					request := c.armRequest(method, c.path(fmt.Sprintf("g-%d", i)), content2)
					response, err := c.client.Do(request)
					if err != nil {
						failure = err.Error()
						continue
					}
					response.Body.Close()
					if response.StatusCode != want {
						failure = fmt.Sprintf("%s g-%d: %d", method, i, response.StatusCode)
					}
				}
				failures <- failure
			}()
		}
		for i := range count {
			next <- i
		}
		close(next)
		for range workers {
			if failure := <-failures; failure != "" {
				t.Error(failure)
			}
		}
	}
	each(http.MethodPut, string(body), http.StatusCreated)
	waitFor(t, "all groups to run", func() bool {
		for _, g := range c.server.Fleet().Groups() {
			if g.Phase() != sim.Running {
				return false
			}
		}
		return true
	})
	addresses := map[string]bool{}
	groups := 0
	for url := testGroups; url != ""; {
		got := c.arm(http.MethodGet, url, nil)
		for _, g := range objects(got.body, "value") {
			groups++
			if ip, ok := at(g, "properties", "ipAddress", "ip").(string); ok {
				addresses[ip] = true
			}
		}
		url, _ = got.body["nextLink"].(string)
	}
	if groups != count || len(addresses) != count {
		t.Errorf("%d groups, %d addresses, want %d", groups, len(addresses), count)
	}
	each(http.MethodDelete, "", http.StatusOK)
	if left, open := len(c.server.Fleet().Groups()), len(c.server.Record().Open()); left != 0 || open != 0 {
		t.Errorf("%d groups and %d open bills are left", left, open)
	}
}

// A hook sees the cloud before and after the effect of a call, also of one
// whose answer is lost.
func TestHooks(t *testing.T) {
	const put = "ContainerGroups_CreateOrUpdate"
	c := newTestCloud(t)
	var seen []string
	groups := func() int { return len(c.server.Fleet().Groups()) }
	remove := c.server.Hook(sim.Hook{
		Action: put,
		Before: func(p sim.Passage) { seen = append(seen, fmt.Sprint("before ", p.Target, groups())) },
		After:  func(p sim.Passage) { seen = append(seen, fmt.Sprint("after ", p.Target, p.Code, groups())) },
	})
	c.server.Inject(Fault{Operation: put, AfterEffect: true, Cut: true})
	if response, err := c.client.Do(c.armRequest(http.MethodPut, c.path("a"), groupBody())); err == nil {
		response.Body.Close()
		t.Errorf("answered %d, want a cut connection", response.StatusCode)
	}
	c.get("a")
	remove()
	c.put("b", http.StatusCreated)
	if want := []string{"before a0", "after aOK1"}; !slices.Equal(seen, want) {
		t.Errorf("hooks: %q, want %q", seen, want)
	}
}
