package eci

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// testOptions is an account with two keys, two regions and three vSwitches.
func testOptions() Options {
	return Options{
		AccessKeys: []AccessKey{
			{ID: "LTAI-test", Secret: "s3cret"},
			{ID: "LTAI-off", Secret: "off", Inactive: true},
			{ID: "STS-test", Secret: "temporary", SecurityToken: "token"},
		},
		Regions: []Region{
			{
				ID: "cn-hangzhou", Zones: []string{"cn-hangzhou-h", "cn-hangzhou-i", "cn-hangzhou-j"},
				VSwitches: []VSwitch{
					{"vsw-h", "cn-hangzhou-h", "vpc-1", netip.MustParsePrefix("10.0.0.0/20"), 0},
					{"vsw-i", "cn-hangzhou-i", "vpc-1", netip.MustParsePrefix("10.0.16.0/20"), 0},
					{"vsw-tiny", "cn-hangzhou-j", "vpc-1", netip.MustParsePrefix("10.0.32.0/29"), 0},
					{"vsw-other", "cn-hangzhou-h", "vpc-2", netip.MustParsePrefix("10.9.0.0/20"), 0},
				},
				SecurityGroups: []SecurityGroup{{"sg-1", "vpc-1"}, {"sg-2", "vpc-2"}},
			},
			{
				ID: "ap-southeast-1", Zones: []string{"ap-southeast-1a"},
				VSwitches: []VSwitch{{"vsw-sg", "ap-southeast-1a", "vpc-3", netip.MustParsePrefix("10.1.0.0/20"), 0}},
			},
		},
		Sim: sim.Config{Timing: sim.DefaultTiming()},
	}
}

// client speaks raw HTTP to a server and signs by the published rules, sharing
// nothing with the server.
type client struct {
	t           *testing.T
	server      *Server
	url         string
	clock       *clocktesting.FakeClock
	keyID, key  string
	method      string // POST unless set
	body        bool   // send members in the form body
	sequence    int
	afterSign   func(url.Values)
	withoutSign bool
}

func newClient(t *testing.T, change ...func(*Options)) *client {
	t.Helper()
	o := testOptions()
	clk := clocktesting.NewFakeClock(epoch)
	o.Sim.Clock = clk
	for _, c := range change {
		c(&o)
	}
	s := NewServer(o)
	web := httptest.NewServer(s)
	t.Cleanup(func() {
		web.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return &client{t: t, server: s, url: web.URL, clock: clk, keyID: "LTAI-test", key: "s3cret", method: http.MethodPost}
}

// escape is RFC 3986: letters, digits, - _ . ~ stay.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func sign(method, key string, members url.Values) string {
	var names, pairs []string
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names) // by name: Arg.1 comes before Arg.10
	for _, name := range names {
		pairs = append(pairs, escape(name)+"="+escape(members.Get(name)))
	}
	mac := hmac.New(sha1.New, []byte(key+"&"))
	_, _ = io.WriteString(mac, method+"&"+escape("/")+"&"+escape(strings.Join(pairs, "&")))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// members are an action's members with the common ones; args are name, value.
func (c *client) members(action string, args ...string) url.Values {
	c.sequence++
	m := url.Values{
		"Action": {action}, "Version": {"2018-08-08"}, "Format": {"JSON"}, "AccessKeyId": {c.keyID},
		"SignatureMethod": {"HMAC-SHA1"}, "SignatureVersion": {"1.0"}, "SignatureType": {""},
		"SignatureNonce": {fmt.Sprintf("%s-%d", c.t.Name(), c.sequence)},
		"Timestamp":      {c.clock.Now().UTC().Format("2006-01-02T15:04:05Z")}, "RegionId": {"cn-hangzhou"},
	}
	for i := 0; i+1 < len(args); i += 2 {
		if args[i+1] == "-" {
			m.Del(args[i])
		} else {
			m.Set(args[i], args[i+1])
		}
	}
	return m
}

// reply is one answer.
type reply struct {
	status int
	header http.Header
	raw    []byte
	err    error // of the transport
	body   struct {
		RequestID        string `json:"RequestId"`
		HostID           string `json:"HostId"`
		Code, Message    string
		Recommend        string
		ContainerGroupID string `json:"ContainerGroupId"`
		ContainerGroups  []groupView
		TotalCount       int
		NextToken        string
		Content          string
		Data             []map[string]any
		Regions          []map[string]any
		Attributes       map[string]float64
	}
}

// send signs and sends members.
func (c *client) send(m url.Values) reply {
	c.t.Helper()
	if !c.withoutSign {
		m.Set("Signature", sign(c.method, c.key, m))
	}
	if c.afterSign != nil {
		c.afterSign(m)
	}
	return c.sendSigned(m)
}

func (c *client) sendSigned(m url.Values) reply {
	c.t.Helper()
	target, body := c.url+"/?"+m.Encode(), ""
	if c.body {
		common := url.Values{"Action": m["Action"], "Version": m["Version"]}
		rest := url.Values{}
		for name, v := range m {
			if name != "Action" && name != "Version" {
				rest[name] = v
			}
		}
		target, body = c.url+"/?"+common.Encode(), rest.Encode()
	}
	req, err := http.NewRequest(c.method, target, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	r := reply{status: resp.StatusCode, header: resp.Header}
	if r.raw, err = io.ReadAll(resp.Body); err != nil {
		c.t.Fatal(err)
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(r.raw, &r.body); err != nil {
			c.t.Fatalf("%v in %s", err, r.raw)
		}
	}
	return r
}

// do calls an action.
func (c *client) do(action string, args ...string) reply {
	c.t.Helper()
	return c.send(c.members(action, args...))
}

// ok calls an action that must succeed.
func (c *client) ok(action string, args ...string) reply {
	c.t.Helper()
	r := c.do(action, args...)
	if r.err != nil || r.status != http.StatusOK {
		c.t.Fatalf("%s: %d %v %s", action, r.status, r.err, r.raw)
	}
	return r
}

// refused calls an action that must answer a status and code.
func (c *client) refused(status int, code, action string, args ...string) reply {
	c.t.Helper()
	return c.wantRefusal(c.do(action, args...), status, code)
}

func (c *client) wantRefusal(r reply, status int, code string) reply {
	c.t.Helper()
	if r.status != status || r.body.Code != code {
		c.t.Errorf("answer %d %s (%v), want %d %s", r.status, r.raw, r.err, status, code)
	}
	return r
}

// nginx are the members of a small group.
func nginx(more ...string) []string {
	return append([]string{"ContainerGroupName", "web", "Container.1.Name", "nginx", "Container.1.Image", "nginx:1"}, more...)
}

// create makes a group and returns its id.
func (c *client) create(more ...string) string {
	c.t.Helper()
	return c.ok("CreateContainerGroup", nginx(more...)...).body.ContainerGroupID
}

// describe returns one group; it must be there.
func (c *client) describe(id string) groupView {
	c.t.Helper()
	r := c.ok("DescribeContainerGroups", "ContainerGroupIds", `["`+id+`"]`, "WithEvent", "true")
	if len(r.body.ContainerGroups) != 1 {
		c.t.Fatalf("group %s: %s", id, r.raw)
	}
	return r.body.ContainerGroups[0]
}

func (c *client) absent(id string) {
	c.t.Helper()
	if r := c.ok("DescribeContainerGroups", "ContainerGroupIds", `["`+id+`"]`); len(r.body.ContainerGroups) != 0 {
		c.t.Errorf("group %s is still there: %s", id, r.raw)
	}
}

func (c *client) live(id string) *sim.Group {
	c.t.Helper()
	g, ok := c.server.Fleet().Group(id)
	if !ok {
		c.t.Fatalf("no group %s", id)
	}
	return g
}
