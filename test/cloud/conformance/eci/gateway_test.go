package eci

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestE01PathAndMethods(t *testing.T) {
	c := row(t)
	for action, methods := range published(t).Published {
		if len(methods) > 1 {
			continue
		}
		c.wantRefusal(c.send(message{method: http.MethodGet, members: c.members(action)}), 400, "UnsupportedHTTPMethod")
		c.ok(action)
	}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		c.mustSucceed(c.send(message{method: method, members: c.members("DescribeRegions")}))
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete} {
		if a := c.send(message{method: method, members: c.members("DescribeRegions")}); a.status/100 != 4 {
			t.Errorf("%s: answer %d %s, want a refusal", method, a.status, a.raw)
		}
	}
	if a := c.send(message{path: "/v1", members: c.members("DescribeRegions")}); a.status/100 != 4 {
		t.Errorf("path /v1: answer %d %s, want a refusal", a.status, a.raw)
	}
}

func TestE02QueryAndFormTogether(t *testing.T) {
	c := row(t)
	all := []string{"Container.1.Name", "Container.1.Image", "Container.1.Arg.1", "ContainerGroupName", "RegionId", "Signature"}
	for _, inBody := range [][]string{all, all[:3], {"Action", "Version", "Timestamp"}} {
		id := c.createdBy(c.send(message{
			members: c.members("CreateContainerGroup", c.small("Container.1.Arg.1", "a b&c=d*~+/ü%")...), inBody: inBody,
		}))
		if got := c.describe(id).Containers[0].Args; len(got) != 1 || got[0] != "a b&c=d*~+/ü%" {
			t.Errorf("%v in the body: arguments %q", inBody, got)
		}
	}
	c.wantRefusal(c.send(message{
		members: c.members("DescribeContainerGroups", "Status", "Running"), inBody: []string{"Status"},
		unsigned: func(m url.Values) { m.Set("Status", "Failed") },
	}), 400, "SignatureDoesNotMatch")
	part(t, "a proxy with short URLs", "a setting", settings{maxURL: 2000}, func(c *cloud) {
		long := c.members("CreateContainerGroup", c.small("Container.1.Arg.1", strings.Repeat("x", 2000))...)
		if a := c.send(message{members: long}); a.status/100 != 4 {
			t.Errorf("a long URL: answer %d %s", a.status, a.raw)
		}
		long.Set("SignatureNonce", nonce())
		c.mustSucceed(c.send(message{members: long, inBody: []string{"Container.1.Arg.1"}}))
	})
}

func TestE03Signature(t *testing.T) {
	c := row(t)
	hard := []string{"ContainerGroupName", "a b~*&=+/ü%20", "Tag.1.Key", "", "Tag.2.Key", "k", "Tag.10.Key", "x"}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		c.mustSucceed(c.send(message{method: method, members: c.members("DescribeContainerGroups", hard[:2]...)}))
		// The signature is right, so only the members are wrong.
		if a := c.send(message{method: method, members: c.members("DescribeContainerGroups", hard...)}); a.Code == "SignatureDoesNotMatch" {
			t.Errorf("%s: names are not sorted as bytes: %s", method, a.raw)
		}
	}
	flip := func(name string, at int) func(url.Values) {
		return func(m url.Values) {
			text := []byte(m.Get(name))
			text[at] ^= 1
			m.Set(name, string(text))
		}
	}
	for name, change := range map[string]func(url.Values){
		"a member":      flip("RegionId", 3),
		"the signature": flip("Signature", 5),
		"the nonce":     flip("SignatureNonce", 0),
		"the time":      flip("Timestamp", len(timeFormat)-2),
		"one more":      func(m url.Values) { m.Set("Extra", "") },
		"one less":      func(m url.Values) { m.Del("SignatureType") },
	} {
		c.each(name, func(c *cloud) {
			m := c.members("DescribeRegions")
			a := c.wantRefusal(c.send(message{members: m, unsigned: change}), 400, "SignatureDoesNotMatch")
			if _, text, ok := strings.Cut(a.Message, "server string to sign is:"); !ok || text != stringToSign(http.MethodPost, m) {
				c.t.Errorf("message %q does not end in the string to sign", a.Message)
			}
		})
	}
	c.each("another method", func(c *cloud) {
		a := c.send(message{members: c.members("DescribeRegions"), unsigned: func(m url.Values) {
			m.Set("Signature", sign(http.MethodGet, c.key.secret, m))
		}})
		c.wantRefusal(a, 400, "SignatureDoesNotMatch")
	})
	c.each("another secret", func(c *cloud) {
		a := c.send(message{members: c.members("DescribeRegions"), key: &credentials{id: c.key.id, secret: "wrong", token: c.key.token}})
		c.wantRefusal(a, 400, "SignatureDoesNotMatch")
	})
	c.refused(400, "InvalidSignatureMethod", "DescribeRegions", "SignatureMethod", "MD5")
	part(t, "a temporary key", "keys", settings{}, func(c *cloud) {
		key := c.lab.Temporary()
		c.mustSucceed(c.send(message{members: c.members("DescribeRegions"), key: &key}))
		key.token = "another"
		if a := c.send(message{members: c.members("DescribeRegions"), key: &key}); a.status/100 != 4 {
			t.Errorf("a wrong SecurityToken: answer %d %s", a.status, a.raw)
		}
	})
}

func TestE04Keys(t *testing.T) {
	c := row(t)
	unknown := credentials{id: "LTAI-of-nobody", secret: "x"}
	c.wantRefusal(c.send(message{members: c.members("DescribeRegions"), key: &unknown}), 404, "InvalidAccessKeyId.NotFound")
	part(t, "inactive", "keys", settings{}, func(c *cloud) {
		key := c.lab.Inactive()
		c.wantRefusal(c.send(message{members: c.members("DescribeRegions"), key: &key}), 400, "InvalidAccessKeyId.Inactive")
	})
}

func TestE05Timestamp(t *testing.T) {
	c := row(t)
	at := func(d time.Duration) string { return c.now().Add(d).UTC().Format(timeFormat) }
	for _, age := range []time.Duration{14 * time.Minute, -14 * time.Minute} {
		c.ok("DescribeRegions", "Timestamp", at(-age))
	}
	for _, age := range []time.Duration{32 * time.Minute, -32 * time.Minute, 25 * time.Hour} {
		c.refused(400, "InvalidTimeStamp.Expired", "DescribeRegions", "Timestamp", at(-age))
	}
	now := c.now().UTC()
	for _, text := range []string{
		now.Format("2006-01-02 15:04:05"), now.Format("2006-01-02T15:04:05+08:00"), now.Format(time.RFC1123), "1772366400", "now",
		now.Format("2006-01-02T15:04Z"),
	} {
		c.refused(400, "InvalidTimeStamp.Format", "DescribeRegions", "Timestamp", text)
	}
	part(t, "31 minutes", "a clock that stands", settings{}, func(c *cloud) {
		c.ok("DescribeRegions", "Timestamp", c.now().Add(-31*time.Minute).Format(timeFormat))
		c.refused(400, "InvalidTimeStamp.Expired", "DescribeRegions", "Timestamp", c.now().Add(-31*time.Minute-time.Second).Format(timeFormat))
	})
	part(t, "15 minutes", "a setting", settings{timestampWindow: 15 * time.Minute}, func(c *cloud) {
		c.ok("DescribeRegions", "Timestamp", c.now().Add(-15*time.Minute).Format(timeFormat))
		c.refused(400, "InvalidTimeStamp.Expired", "DescribeRegions", "Timestamp", c.now().Add(-16*time.Minute).Format(timeFormat))
	})
}

func TestE06Nonce(t *testing.T) {
	c := row(t)
	n := nonce()
	c.ok("DescribeRegions", "SignatureNonce", n)
	c.refused(400, "SignatureNonceUsed", "DescribeRegions", "SignatureNonce", n)
	c.refused(400, "SignatureNonceUsed", "DescribeContainerGroups", "SignatureNonce", n)
	part(t, "31 minutes", "a clock", settings{}, func(c *cloud) {
		c.ok("DescribeRegions", "SignatureNonce", n)
		c.pass(31 * time.Minute)
		c.refused(400, "SignatureNonceUsed", "DescribeRegions", "SignatureNonce", n)
		c.pass(time.Second)
		c.ok("DescribeRegions", "SignatureNonce", n)
	})
}

func TestE07ActionAndVersion(t *testing.T) {
	c := row(t)
	c.refused(404, "InvalidApi.NotFound", "DescribeContainerGroup")
	c.refused(404, "InvalidApi.NotFound", "describeregions")
	c.refused(404, "InvalidApi.NotFound", "CreateInstance")
	if a := c.do("DescribeRegions", "Version", "2018-08-07"); a.status/100 != 4 {
		t.Errorf("another version: answer %d %s, want a refusal", a.status, a.raw)
	}
	for action := range published(t).Published {
		if a := c.do(action, "RegionId", "-"); a.Code == "InvalidApi.NotFound" {
			t.Errorf("%s is published: %s", action, a.raw)
		}
	}
}

func TestE09ErrorBody(t *testing.T) {
	c := row(t) // receive looks at the body of every error
	for _, a := range []answer{
		c.do("NoSuchAction"),
		c.do("DescribeRegions", "Timestamp", "x"),
		c.do("DescribeContainerGroups", "Limit", "x"),
		c.do("CreateContainerGroup"),
		c.do("CreateContainerGroup", c.small("Cpu", "1000", "Memory", "1")...),
		c.do("DeleteContainerGroup", "ContainerGroupId", "-"),
	} {
		if a.status/100 == 2 || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") || a.Code == "" {
			t.Errorf("answer %d %s", a.status, a.raw)
		}
	}
	part(t, "500", "faults", settings{}, func(c *cloud) {
		c.lab.Break(Fault{Action: "DescribeRegions", Status: 500, Code: "InternalError"})
		c.refused(500, "InternalError", "DescribeRegions")
	})
}

func TestE10RequestIDsAndTimes(t *testing.T) {
	c := row(t) // receive looks at the RequestId of every answer
	if a, b := c.ok("DescribeRegions"), c.ok("DescribeRegions"); a.RequestID == b.RequestID {
		t.Errorf("two answers have the RequestId %s", a.RequestID)
	}
	id := c.running(append([]string{"RestartPolicy", "Never"}, works.in("Container.1")...)...)
	read := func() {
		ids := idList(id)
		for _, a := range []answer{
			c.ok("DescribeContainerGroups", "ContainerGroupIds", ids, "WithEvent", "true"),
			c.ok("DescribeContainerGroupStatus", "ContainerGroupIds", ids),
			c.ok("DescribeContainerGroupEvents", "ContainerGroupIds", ids),
		} {
			if n := checkTimes(t, a.raw); n == 0 {
				t.Errorf("answer without a time: %s", a.raw)
			}
		}
	}
	read()
	c.waitStatus(id, "Succeeded")
	read()
}

func TestE11UnknownMembers(t *testing.T) {
	c := row(t)
	c.ok("DescribeRegions", "NoSuchMember", "x", "Another.1.Member", "y")
	c.create("NoSuchMember", "x", "Container.1.NoSuchMember", "y", "Container.1.LivenessProbe.NoSuch.Thing", "z")
	for _, name := range []string{"Container.1.LivenessProbe.Exec.Command", "Container.1.ReadinessProbe.Exec.Command", "NoSuchMember"} {
		a := c.refused(400, "InvalidParameter", "CreateContainerGroup", c.small(name, "<[]string Value>")...)
		if !a.names(name) {
			t.Errorf("message %q does not name %s", a.Message, name)
		}
	}
}

func TestE23Throttling(t *testing.T) {
	c := labRow(t, "a clock and bursts of calls")
	denied := func(a answer, code string) {
		t.Helper()
		c.wantRefusal(a, 400, code)
		if h := a.header.Get("Retry-After"); h != "" {
			t.Errorf("Retry-After %q, which is not published", h)
		}
	}
	read := func() answer { return c.do("DescribeContainerGroups", "ContainerGroupIds", idList()) }
	remove := func() answer { return c.do("DeleteContainerGroup", "ContainerGroupId", "eci-none") }

	// 500 logs in 60 s by the quota page, in a moving window.
	c.lab.Rates(quotaRates, "Throttling.User")
	log := func() answer {
		return c.do("DescribeContainerLog", "ContainerGroupId", "eci-none", "ContainerName", "x")
	}
	for i := range 500 {
		if a := log(); a.Code == "Throttling.User" {
			t.Fatalf("call %d of 500 is throttled: %s", i+1, a.raw)
		}
		if i == 249 {
			c.pass(30 * time.Second)
		}
	}
	denied(log(), "Throttling.User")
	c.mustSucceed(read()) // another action has a rate of its own
	c.pass(30 * time.Second)
	for range 250 {
		if a := log(); a.Code == "Throttling.User" {
			t.Fatalf("still throttled after 60 s: %s", a.raw)
		}
	}
	denied(log(), "Throttling.User")

	// A bucket of 100 with 20 more a second by the limits page.
	c.lab.Rates(bucketRates, "Throttling")
	for i := range 100 {
		if a := remove(); a.Code == "Throttling" {
			t.Fatalf("call %d of 100 is throttled: %s", i+1, a.raw)
		}
	}
	denied(remove(), "Throttling")
	c.pass(time.Second)
	for i := range 20 {
		if a := remove(); a.Code == "Throttling" {
			t.Fatalf("call %d of 20 is throttled: %s", i+1, a.raw)
		}
	}
	denied(remove(), "Throttling")
	denied(c.do("DeleteContainerGroup", "ContainerGroupId", "eci-other"), "Throttling")

	c.lab.Rates(noRates, "")
	for range 30 {
		remove()
	}
	if a := remove(); a.Code == "Throttling" {
		t.Errorf("throttled without a rate: %s", a.raw)
	}
}

func TestE51Faults(t *testing.T) {
	c := labRow(t, "faults")
	for _, status := range []int{500, 503} {
		code := map[int]string{500: "InternalError", 503: "ServiceUnavailable"}[status]
		c.lab.Break(Fault{Action: "CreateContainerGroup", Status: status, Code: code})
		c.refused(status, code, "CreateContainerGroup", c.small()...)
		c.lab.Break(Fault{Action: "CreateContainerGroup", Status: status, Code: code, AfterEffect: true})
		c.refused(status, code, "CreateContainerGroup", c.small()...)
	}
	if n := c.ok("DescribeContainerGroups").TotalCount; n != 2 {
		t.Errorf("%d groups after two faults before and two after the effect, want 2", n)
	}
	c.lab.Break(Fault{Action: "DescribeRegions", Cut: true})
	if a := c.do("DescribeRegions"); a.err == nil {
		t.Errorf("a cut connection gave %d %s", a.status, a.raw)
	}
	c.lab.Break(Fault{Action: "DescribeRegions", Status: 502, Body: "<html>Bad Gateway</html>"})
	if a := c.do("DescribeRegions"); a.status != 502 || a.raw != "<html>Bad Gateway</html>" {
		t.Errorf("answer %d %q", a.status, a.raw)
	}
	// Slower than the 10 s after which the vendor's clients give up.
	const delay = 11 * time.Second
	c.lab.Break(Fault{Action: "DescribeRegions", Delay: delay})
	begin, done := c.now(), make(chan answer, 1)
	go func() { done <- c.do("DescribeRegions") }()
	for waiting := true; waiting; {
		select {
		case a := <-done:
			c.mustSucceed(a)
			waiting = false
		case <-time.After(time.Millisecond):
			c.pass(time.Second)
		}
	}
	if took := c.now().Sub(begin); took < delay {
		t.Errorf("the answer took %s, want %s", took, delay)
	}
	c.ok("DescribeRegions")
}

func TestE52Format(t *testing.T) {
	c := row(t)
	for _, format := range []string{"-", "XML"} {
		a := c.do("DescribeRegions", "Format", format)
		if a.err != nil || strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
			t.Errorf("Format %s: %s", format, a.raw)
		}
		var document struct{ XMLName xml.Name }
		if err := xml.Unmarshal([]byte(a.raw), &document); err != nil {
			t.Errorf("Format %s: %v in %s", format, err, a.raw)
		}
	}
}
