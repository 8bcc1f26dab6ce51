package eci

import (
	"encoding/json"
	"encoding/xml"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestE01PathAndMethods(t *testing.T) {
	c := newClient(t)
	c.create()
	for _, action := range []string{"DescribeContainerGroupStatus", "DescribeContainerGroupEvents"} {
		c.method = http.MethodPost
		c.ok(action)
		c.method = http.MethodGet
		c.refused(400, "UnsupportedHTTPMethod", action)
	}
	c.ok("DescribeContainerGroups")
	c.method = http.MethodPut
	c.refused(400, "UnsupportedHTTPMethod", "DescribeContainerGroups")
	c.method, c.url = http.MethodPost, c.url+"/v1"
	c.refused(404, "InvalidApi.NotFound", "DescribeContainerGroups")
}

func TestE02QueryAndFormTogether(t *testing.T) {
	c := newClient(t)
	c.body = true
	id := c.create("Container.1.Arg.1", "a b&c=d*~+/")
	if got := c.describe(id).Containers[0].Args[0]; got != "a b&c=d*~+/" {
		t.Errorf("argument %q", got)
	}
	twice := c.members("DescribeRegions")
	twice.Set("Signature", sign(c.method, c.key, twice))
	twice.Add("RegionId", "elsewhere")
	c.wantRefusal(c.sendSigned(twice), 400, "InvalidParameter")
}

func TestE03Signature(t *testing.T) {
	c := newClient(t)
	c.ok("DescribeRegions")
	c.method = http.MethodGet
	c.ok("DescribeRegions")

	postSigned := c.members("DescribeRegions")
	postSigned.Set("Signature", sign(http.MethodPost, c.key, postSigned))
	r := c.wantRefusal(c.sendSigned(postSigned), 400, "SignatureDoesNotMatch")
	if !strings.Contains(r.body.Message, "server string to sign is:GET&%2F&AccessKeyId%3DLTAI-test") {
		t.Errorf("message %q", r.body.Message)
	}
	for _, change := range []func(url.Values){
		func(m url.Values) { m.Set("RegionId", "cn-hangzhoV") },
		func(m url.Values) { m.Set("Extra", "") },
		func(m url.Values) { m.Del("SignatureType") },
		func(m url.Values) { m.Set("Signature", "x"+m.Get("Signature")[1:]) },
	} {
		c.afterSign = change
		c.refused(400, "SignatureDoesNotMatch", "DescribeRegions")
	}
	c.afterSign = nil
	c.key = "wrong"
	c.refused(400, "SignatureDoesNotMatch", "DescribeRegions")
}

func TestE04AccessKeys(t *testing.T) {
	c := newClient(t)
	c.keyID = "LTAI-unknown"
	c.refused(404, "InvalidAccessKeyId.NotFound", "DescribeRegions")
	c.keyID, c.key = "LTAI-off", "off"
	c.refused(400, "InvalidAccessKeyId.Inactive", "DescribeRegions")
	c.keyID, c.key = "STS-test", "temporary"
	c.ok("DescribeRegions", "SecurityToken", "token")
	c.refused(400, "InvalidSecurityToken.MismatchWithAccessKey", "DescribeRegions")
	c.server.SetAccessKeys(AccessKey{ID: "new", Secret: "n"})
	c.keyID, c.key = "LTAI-test", "s3cret"
	c.refused(404, "InvalidAccessKeyId.NotFound", "DescribeRegions")
}

func TestE05Timestamp(t *testing.T) {
	c := newClient(t)
	at := func(d time.Duration) string { return epoch.Add(d).Format("2006-01-02T15:04:05Z") }
	c.ok("DescribeRegions", "Timestamp", at(-30*time.Minute))
	c.refused(400, "InvalidTimeStamp.Expired", "DescribeRegions", "Timestamp", at(-32*time.Minute))
	c.refused(400, "InvalidTimeStamp.Expired", "DescribeRegions", "Timestamp", at(32*time.Minute))
	for _, bad := range []string{"2026-03-01 12:00:00", "2026-03-01T12:00:00+08:00", "2026-03-01T12:00Z"} {
		c.refused(400, "InvalidTimeStamp.Format", "DescribeRegions", "Timestamp", bad)
	}
	short := newClient(t, func(o *Options) { o.TimestampWindow = 15 * time.Minute })
	short.refused(400, "InvalidTimeStamp.Expired", "DescribeRegions", "Timestamp", at(-16*time.Minute))
}

func TestE06Nonce(t *testing.T) {
	c := newClient(t)
	c.ok("DescribeRegions", "SignatureNonce", "n")
	c.refused(400, "SignatureNonceUsed", "DescribeRegions", "SignatureNonce", "n")
	c.clock.Step(30 * time.Minute)
	c.refused(400, "SignatureNonceUsed", "DescribeRegions", "SignatureNonce", "n")
	c.clock.Step(2 * time.Minute)
	c.ok("DescribeRegions", "SignatureNonce", "n")
}

func TestE07UnknownActionAndVersion(t *testing.T) {
	c := newClient(t)
	c.refused(404, "InvalidApi.NotFound", "DescribeEverything")
	c.refused(404, "InvalidApi.NotFound", "DescribeRegions", "Version", "2017-01-01")
	c.refused(501, "EmulatorNotImplemented", "CreateDataCache")
}

func TestE08MissingMembers(t *testing.T) {
	c := newClient(t)
	tests := []struct{ code, name string }{
		{"MissingContainerGroupName", "ContainerGroupName"},
		{"MissingRegionId", "RegionId"},
		{"MissingParameter", "Container.1.Image"},
		{"MissingParameter", "Container.1.Name"},
	}
	for _, tt := range tests {
		r := c.refused(400, tt.code, "CreateContainerGroup", append(nginx(), tt.name, "-")...)
		if !strings.Contains(r.body.Message, tt.name) {
			t.Errorf("message %q does not name %s", r.body.Message, tt.name)
		}
	}
	c.refused(400, "MissingParameter", "CreateContainerGroup", "ContainerGroupName", "web")
	c.refused(400, "MissingContainerGroupId", "DeleteContainerGroup")
	c.refused(400, "MissingParameter", "CreateContainerGroup", nginx("InitContainer.1.Name", "i")...)
	for _, common := range []string{"Action", "Version", "AccessKeyId", "SignatureNonce", "Timestamp"} {
		c.refused(400, "Missing"+common, "DescribeRegions", common, "-")
	}
}

var (
	requestID = regexp.MustCompile(`^[0-9A-F]{8}-[0-9A-F]{4}-4[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}$`)
	utcTime   = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`)
)

func TestE09ErrorBody(t *testing.T) {
	c := newClient(t)
	for _, r := range []reply{
		c.do("Nothing"),
		c.do("CreateContainerGroup"),
		c.do("DescribeRegions", "AccessKeyId", "x"),
	} {
		var members map[string]string
		if err := json.Unmarshal(r.raw, &members); err != nil {
			t.Fatal(err)
		}
		if len(members) != 5 || members["HostId"] == "" || members["Code"] == "" || members["Message"] == "" || members["Recommend"] == "" || !requestID.MatchString(members["RequestId"]) {
			t.Errorf("error body %s", r.raw)
		}
	}
}

func TestE10RequestIDsAndTimes(t *testing.T) {
	c := newClient(t)
	id := c.create()
	c.clock.Step(time.Minute)
	seen := map[string]bool{}
	for range 3 {
		r := c.ok("DescribeContainerGroups")
		if !requestID.MatchString(r.body.RequestID) || seen[r.body.RequestID] {
			t.Errorf("RequestId %q", r.body.RequestID)
		}
		seen[r.body.RequestID] = true
	}
	g := c.describe(id)
	for _, at := range []string{g.CreationTime, g.Containers[0].CurrentState.StartTime, g.Events[0].FirstTimestamp} {
		if !utcTime.MatchString(at) {
			t.Errorf("time %q", at)
		}
	}
}

func TestE11UnknownMembersAndFormattedSlices(t *testing.T) {
	c := newClient(t)
	c.create("OwnerId", "1", "Container.1.Invented", "x")
	c.refused(400, "InvalidParameter", "CreateContainerGroup", nginx("Container.1.LivenessProbe.Exec.Command", "<[]string Value>")...)
	c.refused(400, "InvalidParameter", "CreateContainerGroup", nginx("Container.1.Unheard.Of", "<[]string Value>")...)
}

func TestE12RepeatedMembers(t *testing.T) {
	c := newClient(t)
	id := c.create("Container.1.EnvironmentVar.1.Key", "A", "Container.1.EnvironmentVar.1.Value", "1",
		"Container.1.EnvironmentVar.2.Key", "B", "Container.1.EnvironmentVar.2.Value", "2")
	if env := c.describe(id).Containers[0].EnvironmentVars; len(env) != 2 || env[1].Key != "B" || env[1].Value != "2" {
		t.Errorf("environment %v", env)
	}
	for _, more := range [][]string{
		{"Container.1.EnvironmentVar.2.Key", "B"},
		{"Container.3.Name", "x", "Container.3.Image", "x"},
		{"Container.0.Name", "x", "Container.0.Image", "x"},
		{"Container.1.Arg", "x"},
		{"Container.1.Name.1", "x"},
		{"Cpu", "two"},
		{"DryRun", "yes"},
		{"EphemeralStorage", "5001"},
	} {
		c.refused(400, "InvalidParameter", "CreateContainerGroup", nginx(more...)...)
	}
}

func TestE13EmptyEnvironmentValue(t *testing.T) {
	c := newClient(t)
	id := c.create("Container.1.EnvironmentVar.1.Key", "EMPTY")
	if env := c.describe(id).Containers[0].EnvironmentVars; len(env) != 1 || env[0].Key != "EMPTY" || env[0].Value != "" {
		t.Errorf("environment %v", env)
	}
}

func TestE23Throttling(t *testing.T) {
	c := newClient(t, func(o *Options) { o.Rates = LimitRates() })
	for range 100 {
		c.do("CreateContainerGroup")
	}
	r := c.refused(400, "Throttling.User", "CreateContainerGroup", nginx()...)
	if r.header.Get("Retry-After") != "" {
		t.Error("the service has no Retry-After")
	}
	c.clock.Step(time.Second)
	for range 20 {
		c.create()
	}
	c.refused(400, "Throttling.User", "CreateContainerGroup", nginx()...)

	c.server.SetRates(Rates{PerMinute: map[string]int{"DescribeRegions": 2}, Code: "Throttling"})
	c.ok("DescribeRegions")
	c.ok("DescribeRegions")
	c.refused(400, "Throttling", "DescribeRegions")
	c.clock.Step(time.Minute)
	c.ok("DescribeRegions")
	if got := QuotaRates().PerMinute["DescribeContainerGroupStatus"]; got != 10000 {
		t.Errorf("status calls per minute %d, want 10000", got)
	}
}

func TestE52FormatAbsent(t *testing.T) {
	c := newClient(t)
	r := c.do("DescribeRegions", "Format", "-")
	var body struct{ Code string }
	if err := xml.Unmarshal(r.raw, &body); err != nil || r.status != 400 || body.Code != "InvalidParameter.Format" {
		t.Errorf("%d %s, %v", r.status, r.raw, err)
	}
}
