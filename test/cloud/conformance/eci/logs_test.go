package eci

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// logLines are the lines of a container's log.
func (c *cloud) logLines(id string, args ...string) []string {
	c.t.Helper()
	a := c.ok("DescribeContainerLog", append([]string{"ContainerGroupId", id, "ContainerName", "main"}, args...)...)
	if a.ContainerName != "main" {
		c.t.Errorf("log of %q", a.ContainerName)
	}
	if a.Content == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(a.Content, "\n"), "\n")
}

func TestE43Logs(t *testing.T) {
	c := row(t)
	id := c.running(counts.in("Container.1")...)
	lastIs := func(c *cloud, id, want string) {
		c.t.Helper()
		c.until("the last line is there", time.Minute, func() bool { return slices.Equal(c.logLines(id, "Tail", "1"), []string{want}) })
	}
	lastIs(c, id, "2500")
	tail := func(want int, args ...string) {
		t.Helper()
		lines := c.logLines(id, args...)
		if len(lines) != want || lines[0] != strconv.Itoa(2500-want+1) || lines[want-1] != "2500" {
			t.Errorf("%v: %d lines, want the newest %d", args, len(lines), want)
		}
	}
	tail(500)
	tail(3, "Tail", "3")
	tail(2000, "Tail", "2000")
	tail(500, "SinceSeconds", "3600")
	tail(500, "StartTime", "2018-08-02T15:00:00Z", "LastTime", "false")
	if lines := c.logLines(id, "StartTime", c.now().Add(time.Hour).UTC().Format(timeFormat)); len(lines) != 0 {
		t.Errorf("%d lines of the future", len(lines))
	}
	for i, line := range c.logLines(id, "Tail", "2", "Timestamps", "true") {
		stamp, rest, _ := strings.Cut(line, " ")
		if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil || rest != strconv.Itoa(2499+i) {
			t.Errorf("line %q with a time: %v", line, err)
		}
	}
	if a := c.ok("DescribeContainerLog", "ContainerGroupId", id, "ContainerName", "main", "LimitBytes", "100"); len(a.Content) != 100 {
		t.Errorf("LimitBytes 100 gave %d bytes", len(a.Content))
	}
	c.ok("DescribeContainerLog", "ContainerGroupId", id, "ContainerName", "main", "LimitBytes", "1048576")
	for _, bad := range [][]string{
		{"Tail", "0"}, {"Tail", "2001"}, {"Tail", "-1"}, {"LimitBytes", "0"}, {"LimitBytes", "1048577"}, {"SinceSeconds", "0"},
		{"StartTime", "yesterday"}, {"StartTime", "2018-08-02T15:00:00+08:00"}, {"ContainerName", "none"},
	} {
		c.refused(400, "InvalidParameter", "DescribeContainerLog", append([]string{"ContainerGroupId", id, "ContainerName", "main"}, bad...)...)
	}
	if a := c.do("DescribeContainerLog", "ContainerGroupId", "eci-none", "ContainerName", "main"); a.status/100 != 4 {
		t.Errorf("a missing group: answer %d %s", a.status, a.raw)
	}
	c.each("previous container", func(c *cloud) {
		id := c.running(speaks.in("Container.1")...)
		c.until("a restart", 5*time.Minute, func() bool { return c.describe(id).Containers[0].RestartCount > 0 })
		if lines := c.logLines(id, "LastTime", "true"); !slices.Equal(lines, []string{"first"}) {
			c.t.Errorf("lines %q", lines)
		}
	})
	c.each("1 MB", func(c *cloud) {
		id := c.running(shouts.in("Container.1")...)
		lastIs(c, id, "2000"+filler)
		a := c.ok("DescribeContainerLog", "ContainerGroupId", id, "ContainerName", "main", "Tail", "2000")
		if n := len(a.Content); n > 1<<20 || n < 1<<20-1000 || !strings.HasSuffix(a.Content, "2000"+filler+"\n") {
			c.t.Errorf("%d bytes, want the newest 1 MB", n)
		}
	})
	part(t, "times", "a clock", settings{}, func(c *cloud) {
		id := c.running(works.in("Container.1")...)
		c.lab.Print(id, "main", "old")
		c.pass(10 * time.Second)
		at := c.now()
		c.lab.Print(id, "main", "new")
		c.pass(5 * time.Second)
		for _, tt := range []struct {
			args []string
			want string
		}{
			{[]string{"SinceSeconds", "5"}, "[new]"},
			{[]string{"SinceSeconds", "4"}, "[]"},
			{[]string{"StartTime", at.Format(timeFormat)}, "[new]"},
			{[]string{"StartTime", at.Add(time.Second).Format(timeFormat)}, "[]"},
			{[]string{"StartTime", at.Add(-time.Minute).Format(timeFormat), "SinceSeconds", "5"}, "[new]"},
		} {
			if got := fmt.Sprint(c.logLines(id, tt.args...)); got != tt.want {
				t.Errorf("%v: %s, want %s", tt.args, got, tt.want)
			}
		}
	})
}

func TestE44LogsOfWhatDoesNotRun(t *testing.T) {
	c := row(t)
	ended := func(c *cloud) answer {
		c.t.Helper()
		id := c.create(append([]string{"RestartPolicy", "Never"}, ends.in("Container.1")...)...)
		c.waitStatus(id, "Succeeded")
		return c.do("DescribeContainerLog", "ContainerGroupId", id, "ContainerName", "main")
	}
	waiting := func(c *cloud) answer {
		c.t.Helper()
		id := c.create("Container.1.Image", "registry.invalid/none:1")
		c.waitStatus(id, "Pending")
		return c.do("DescribeContainerLog", "ContainerGroupId", id, "ContainerName", "main")
	}
	c.each("exec", func(c *cloud) {
		once := c.create(append([]string{"RestartPolicy", "Never"}, ends.in("Container.1")...)...)
		c.waitStatus(once, "Succeeded")
		pending := c.create("Container.1.Image", "registry.invalid/none:1")
		c.waitStatus(pending, "Pending")
		for _, id := range []string{once, pending} {
			for _, sync := range []string{"true", "false"} {
				c.refused(400, "IncorrectStatus", "ExecContainerCommand", "ContainerGroupId", id, "ContainerName", "main", "Command", `["ls"]`, "Sync", sync)
			}
		}
	})
	for name, a := range map[string]answer{"ended": ended(c), "waiting": waiting(c)} {
		if a.status != 200 && (a.status != 400 || a.Code != "IncorrectStatus") {
			t.Errorf("%s: answer %d %s", name, a.status, a.raw)
		}
	}
	part(t, "text", "a setting", settings{}, func(c *cloud) {
		c.mustSucceed(ended(c))
		if a := c.mustSucceed(waiting(c)); a.Content != "" {
			t.Errorf("a container that waits has the log %q", a.Content)
		}
	})
	part(t, "refusal", "a setting", settings{logNeedsRunning: true}, func(c *cloud) {
		c.wantRefusal(ended(c), 400, "IncorrectStatus")
		c.wantRefusal(waiting(c), 400, "IncorrectStatus")
		id := c.running()
		c.mustSucceed(c.do("DescribeContainerLog", "ContainerGroupId", id, "ContainerName", "main"))
	})
}
