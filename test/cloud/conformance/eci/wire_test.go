package eci

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const timeFormat = "2006-01-02T15:04:05Z"

// escape is the percent-encoding of RFC 3986.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-_.~", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// stringToSign is what a request's signature covers.
func stringToSign(method string, members url.Values) string {
	var pairs []string
	for _, name := range sortedNames(members) {
		if name != "Signature" {
			pairs = append(pairs, escape(name)+"="+escape(members.Get(name)))
		}
	}
	return method + "&" + escape("/") + "&" + escape(strings.Join(pairs, "&"))
}

func sortedNames(members url.Values) []string {
	var names []string
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func sign(method, secret string, members url.Values) string {
	mac := hmac.New(sha1.New, []byte(secret+"&"))
	_, _ = io.WriteString(mac, stringToSign(method, members))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// credentials are one key of the account.
type credentials struct{ id, secret, token string }

// message is a request before it is sent. The zero method is POST.
type message struct {
	method  string
	path    string     // "/" if empty
	members url.Values // signed
	inBody  []string   // names of members that go to the form body
	// unsigned changes the members after they are signed.
	unsigned func(url.Values)
	key      *credentials // another than the cloud's
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	raw    string
	err    error // of the transport

	RequestID string `json:"RequestId"`
	HostID    string `json:"HostId"`
	Code      string
	Message   string
	Recommend string

	ContainerGroupID string `json:"ContainerGroupId"`
	ContainerGroups  []group
	TotalCount       int
	NextToken        string
	ContainerName    string
	WebSocketURI     string `json:"WebSocketUri"`
	HTTPURL          string `json:"HttpUrl"`
	SyncResponse     string
	Content          string
	Data             []map[string]any
	Regions          []struct {
		RegionID string `json:"RegionId"`
		Zones    []string
	}
	Attributes   map[string]float64
	Records      []record
	MonitorDatas []struct {
		ContainerGroupID string `json:"ContainerGroupId"`
		Records          []record
	}
	ImageCacheID string `json:"ImageCacheId"`
	ImageCaches  []imageCache
	PriceInfo    struct {
		Price struct {
			Currency                  string
			OriginalPrice, TradePrice float64
			DetailInfos               struct {
				DetailInfo []struct {
					Resource                  string
					OriginalPrice, TradePrice float64
				}
			}
		}
		SpotPrices struct {
			SpotPrice []struct {
				ZoneID                 string `json:"ZoneId"`
				InstanceType           string
				SpotPrice, OriginPrice float64
			}
		}
	}
	AvailableZones struct {
		AvailableZone []struct {
			RegionID           string `json:"RegionId"`
			ZoneID             string `json:"ZoneId"`
			AvailableResources struct {
				AvailableResource []struct {
					Type               string
					SupportedResources struct {
						SupportedResource []struct{ Value, StatusCategory string }
					}
				}
			}
		}
	}
	TagResources []struct {
		ResourceType     string
		ResourceID       string `json:"ResourceId"`
		TagKey, TagValue string
	}
}

type group struct {
	ContainerGroupID   string `json:"ContainerGroupId"`
	ContainerGroupName string
	RegionID           string `json:"RegionId"`
	ZoneID             string `json:"ZoneId"`
	VSwitchID          string `json:"VSwitchId"`
	SecurityGroupID    string `json:"SecurityGroupId"`
	IntranetIP         string `json:"IntranetIp"`
	InstanceType       string
	Status             string
	RestartPolicy      string
	CPU                float64 `json:"Cpu"`
	Memory             float64
	SpotStrategy       string
	CreationTime       string
	SucceededTime      string
	FailedTime         string
	ExpiredTime        string
	Tags               []tag
	Events             []event
	Containers         []container
	InitContainers     []container
}

type tag struct{ Key, Value string }

type event struct {
	Type, Name, Reason, Message   string
	Count                         int
	FirstTimestamp, LastTimestamp string
}

type container struct {
	Name, Image     string
	Commands, Args  []string
	EnvironmentVars []struct {
		Key, Value string
	}
	Ready         bool
	RestartCount  int
	CurrentState  containerState
	PreviousState *containerState
}

type containerState struct {
	State, Reason, Message string
	ExitCode               *int
	StartTime, FinishTime  string
}

type record struct {
	Timestamp string
	CPU       struct{ Limit float64 }
}

type imageCache struct {
	ImageCacheID    string `json:"ImageCacheId"`
	ImageCacheName  string
	SnapshotID      string `json:"SnapshotId"`
	Status          string
	Progress        string
	Images          []string
	ExpireDateTime  string
	LastMatchedTime string
	Tags            []tag
}

// members are an action's members with the common ones; args are names and values,
// of which "-" leaves a member out and a later one counts.
func (c *cloud) members(action string, args ...string) url.Values {
	m := url.Values{
		"Action": {action}, "Version": {"2018-08-08"}, "Format": {"JSON"}, "AccessKeyId": {c.key.id},
		"SignatureMethod": {"HMAC-SHA1"}, "SignatureVersion": {"1.0"}, "SignatureType": {""},
		"SignatureNonce": {nonce()}, "Timestamp": {c.now().UTC().Format(timeFormat)}, "RegionId": {c.region},
	}
	if c.key.token != "" {
		m.Set("SecurityToken", c.key.token)
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

func nonce() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// do calls an action.
func (c *cloud) do(action string, args ...string) answer {
	c.t.Helper()
	return c.send(message{members: c.members(action, args...)})
}

// send signs and sends a message.
func (c *cloud) send(m message) answer {
	c.t.Helper()
	key := c.key
	if m.key != nil {
		key = *m.key
		m.members.Set("AccessKeyId", key.id)
		if key.token != "" {
			m.members.Set("SecurityToken", key.token)
		}
	}
	method := m.method
	if method == "" {
		method = http.MethodPost
	}
	m.members.Set("Signature", sign(method, key.secret, m.members))
	if m.unsigned != nil {
		m.unsigned(m.members)
	}
	query, body := url.Values{}, url.Values{}
	for name, values := range m.members {
		if slices.Contains(m.inBody, name) {
			body[name] = values
		} else {
			query[name] = values
		}
	}
	path := m.path
	if path == "" {
		path = "/"
	}
	req, err := http.NewRequest(method, c.url+path+"?"+query.Encode(), strings.NewReader(body.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return c.receive(req)
}

// receive sends a request and checks what every answer must have: a request id,
// and the members of an error in every error.
func (c *cloud) receive(req *http.Request) answer {
	c.t.Helper()
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{err: err}
	}
	a := answer{status: resp.StatusCode, header: resp.Header, raw: string(raw)}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		return a
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		c.t.Errorf("answer %s: %v", raw, err)
		return a
	}
	if !requestID.MatchString(a.RequestID) {
		c.t.Errorf("RequestId %q of %s is no upper-case UUID", a.RequestID, raw)
	}
	if a.status/100 != 2 && (a.Code == "" || a.Message == "" || a.HostID == "" || a.Recommend == "") {
		c.t.Errorf("error %d lacks a member of RequestId, HostId, Code, Message, Recommend: %s", a.status, raw)
	}
	return a
}

var requestID = regexp.MustCompile(`^[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}$`)

// ok calls an action that must succeed.
func (c *cloud) ok(action string, args ...string) answer {
	c.t.Helper()
	return c.mustSucceed(c.do(action, args...))
}

func (c *cloud) mustSucceed(a answer) answer {
	c.t.Helper()
	if a.err != nil || a.status != http.StatusOK {
		c.t.Fatalf("answer %d %s (%v), want 200", a.status, a.raw, a.err)
	}
	return a
}

// refused calls an action that must answer an error of a status and code.
func (c *cloud) refused(status int, code, action string, args ...string) answer {
	c.t.Helper()
	return c.wantRefusal(c.do(action, args...), status, code)
}

func (c *cloud) wantRefusal(a answer, status int, code string) answer {
	c.t.Helper()
	if a.status != status || a.Code != code {
		c.t.Errorf("answer %d %s (%v), want %d %s", a.status, a.raw, a.err, status, code)
	}
	return a
}

// names reports whether an error tells of a member.
func (a answer) names(member string) bool { return strings.Contains(a.Message, member) }

// idList is the JSON text of a list of ids.
func idList(ids ...string) string {
	if ids == nil {
		ids = []string{}
	}
	text, err := json.Marshal(ids)
	if err != nil {
		panic(err) // strings have a JSON form
	}
	return string(text)
}

// create makes a small group that is removed at the end, and returns its id.
func (c *cloud) create(args ...string) string {
	c.t.Helper()
	return c.createdBy(c.ok("CreateContainerGroup", c.small(args...)...))
}

// createdBy sees to the removal of a group at the end of the test.
func (c *cloud) createdBy(a answer) string {
	c.t.Helper()
	if a.ContainerGroupID == "" {
		c.t.Fatalf("answer %s has no ContainerGroupId", a.raw)
	}
	if c.lab == nil {
		c.t.Cleanup(func() { c.do("DeleteContainerGroup", "ContainerGroupId", a.ContainerGroupID, "Force", "true") })
	}
	return a.ContainerGroupID
}

// find returns a group with its events; not ok if it is absent.
func (c *cloud) find(id string) (group, bool) {
	c.t.Helper()
	a := c.ok("DescribeContainerGroups", "ContainerGroupIds", idList(id), "WithEvent", "true")
	if len(a.ContainerGroups) == 0 {
		return group{}, false
	}
	return a.ContainerGroups[0], true
}

// describe returns a group that must be there.
func (c *cloud) describe(id string) group {
	c.t.Helper()
	g, ok := c.find(id)
	if !ok {
		c.t.Fatalf("group %s is absent", id)
	}
	return g
}

// status is a group's status; Absent if it is not there.
func (c *cloud) status(id string) string {
	c.t.Helper()
	g, ok := c.find(id)
	if !ok {
		return "Absent"
	}
	return g.Status
}

// running makes a group and waits until it runs.
func (c *cloud) running(args ...string) string {
	c.t.Helper()
	id := c.create(args...)
	c.waitStatus(id, "Running")
	return id
}

// waitStatus waits until a group has a status, and returns how long that took.
func (c *cloud) waitStatus(id, want string) time.Duration {
	c.t.Helper()
	return c.until("group "+id+" is "+want, 10*time.Minute, func() bool { return c.status(id) == want })
}

// until waits until a condition holds, in the time of the cloud.
func (c *cloud) until(what string, within time.Duration, holds func() bool) time.Duration {
	c.t.Helper()
	for begin := c.now(); ; c.pass(time.Second) {
		took := c.now().Sub(begin)
		if holds() {
			return took
		}
		if took > within {
			c.t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// reasons are the reasons of a group's events.
func (g group) reasons() []string {
	var out []string
	for _, e := range g.Events {
		out = append(out, e.Reason)
	}
	return out
}

func hasAll(list []string, want ...string) bool {
	for _, w := range want {
		if !slices.Contains(list, w) {
			return false
		}
	}
	return true
}

// each runs a case as a sub-test with a cloud of its test.
func (c *cloud) each(name string, do func(c *cloud)) {
	c.t.Helper()
	c.t.Run(name, func(t *testing.T) {
		sub := *c
		sub.t = t
		do(&sub)
	})
}
