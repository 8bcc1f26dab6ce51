package eci

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// newShell makes a group whose container is a shell of this host, and returns a
// client and the group's id once it runs.
func newShell(t *testing.T) (*client, string) {
	t.Helper()
	c := newClient(t, func(o *Options) {
		o.Sim.Timing, o.Sim.HostCommands, o.Sim.TempDir = sim.Timing{}, true, t.TempDir()
	})
	id := c.create("Container.1.Command.1", "sh", "Container.1.Command.2", "-c", "Container.1.Command.3", "sleep 600")
	if got := c.describe(id).Status; got != "Running" {
		t.Fatalf("status %s", got)
	}
	return c, id
}

func (c *client) exec(id, command string, more ...string) map[string]string {
	c.t.Helper()
	r := c.ok("ExecContainerCommand", append([]string{"ContainerGroupId", id, "ContainerName", "nginx", "Command", command}, more...)...)
	var answer map[string]string
	if err := json.Unmarshal(r.raw, &answer); err != nil {
		c.t.Fatal(err)
	}
	return answer
}

// open opens a WebSocketUri. The test's server has no TLS.
func (c *client) open(uri string) (*websocket.Conn, *http.Response, error) {
	return websocket.DefaultDialer.DialContext(c.t.Context(), strings.Replace(uri, "wss://", "ws://", 1), nil)
}

// readAll returns the output of a websocket and how it was closed.
func readAll(t *testing.T, ws *websocket.Conn) (string, error) {
	t.Helper()
	if err := ws.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for {
		_, message, err := ws.ReadMessage()
		if err != nil {
			return out.String(), err
		}
		out.Write(message)
	}
}

func TestE45Exec(t *testing.T) {
	c, id := newShell(t)
	for name, test := range map[string]struct {
		command, tty string
		input        string
		want         string
	}{
		"arguments":           {`["sh", "-c", "echo \"$1\"; echo oops >&2; exit 4", "sh", "a  b"]`, "false", "", "a  b\noops\n"},
		"input":               {`["head", "-n1"]`, "false", "line\n", "line\n"},
		"terminal":            {`["tty"]`, "true", "", "/dev/pts/"},
		"no terminal":         {`["tty"]`, "false", "", "not a tty\n"},
		"no such program":     {`["vim"]`, "false", "", `exec: "vim": executable file not found in $PATH`},
		"shell in a terminal": {`["sh"]`, "true", "stty size\nexit\n", "24 80\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			answer := c.exec(id, test.command, "TTY", test.tty)
			if !strings.HasPrefix(answer["HttpUrl"], "https://") || answer["RequestId"] == "" || answer["SyncResponse"] != "" {
				t.Errorf("answer %v", answer)
			}
			ws, resp, err := c.open(answer["WebSocketUri"])
			if err != nil {
				t.Fatal(err)
			}
			defer ws.Close()
			if resp.Header.Get("Sec-Websocket-Protocol") != "" {
				t.Error("the service chose a subprotocol")
			}
			if test.input != "" {
				if err := ws.WriteMessage(websocket.TextMessage, []byte(test.input)); err != nil {
					t.Fatal(err)
				}
			}
			out, err := readAll(t, ws)
			if !strings.Contains(out, test.want) || !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				t.Errorf("output %q, end %v, want %q", out, err, test.want)
			}
			if _, resp, err := c.open(answer["WebSocketUri"]); err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
				t.Errorf("the address opened a second time: %v", err)
			}
		})
	}
}

func TestE45ExecSync(t *testing.T) {
	c, id := newShell(t)
	answer := c.exec(id, `["sh", "-c", "echo out; echo err >&2; cat; exit 4"]`, "Sync", "true")
	if answer["SyncResponse"] != "out\nerr\n" || answer["WebSocketUri"] != "" {
		t.Errorf("answer %v", answer)
	}
	args := func(command string, more ...string) []string {
		return append([]string{"ContainerGroupId", id, "ContainerName", "nginx", "Sync", "true", "Command", command}, more...)
	}
	c.refused(400, "InvalidParameter", "ExecContainerCommand", args(`["ls"]`, "TTY", "true")...)
	c.refused(400, "InvalidParameter", "ExecContainerCommand", args(`["/bin/bash"]`)...)
}

func TestE45ExecRefused(t *testing.T) {
	c, id := newShell(t)
	long, many := strings.Repeat("x", 257), `"x"`+strings.Repeat(`,"x"`, 20)
	for name, test := range map[string]struct {
		id, container, command string
		code                   string
	}{
		"not JSON":              {id, "nginx", `ls -a`, "InvalidParameter"},
		"not a list":            {id, "nginx", `"ls"`, "InvalidParameter"},
		"not strings":           {id, "nginx", `[1]`, "InvalidParameter"},
		"empty":                 {id, "nginx", `[]`, "InvalidParameter"},
		"a long item":           {id, "nginx", `["` + long + `"]`, "InvalidParameter.ValueExceeded"},
		"many items":            {id, "nginx", `[` + many + `]`, "InvalidParameter.ValueExceeded"},
		"no such container":     {id, "other", `["ls"]`, "InvalidParameter"},
		"no such group":         {"eci-none", "nginx", `["ls"]`, "InvalidParameter"},
		"without a command":     {id, "nginx", "-", "MissingCommand"},
		"a group that waits":    {c.create("Container.1.Image", "x", "InitContainer.1.Name", "init", "InitContainer.1.Image", "x", "InitContainer.1.Command.1", "sleep", "InitContainer.1.Command.2", "600"), "nginx", `["ls"]`, "IncorrectStatus"},
		"20 items, 256 letters": {id, "nginx", `["` + long[1:] + `"` + strings.Repeat(`,"x"`, 19) + `]`, ""},
	} {
		r := c.do("ExecContainerCommand", "ContainerGroupId", test.id, "ContainerName", test.container, "Command", test.command)
		if r.body.Code != test.code || (test.code != "") != (r.status == 400) {
			t.Errorf("%s: %d %s, want the code %q", name, r.status, r.raw, test.code)
		}
	}
}

// An address that nobody opens in 30 s is of no use any more.
func TestE45AddressIsShortLived(t *testing.T) {
	c, id := newShell(t)
	for _, test := range []struct {
		after time.Duration
		opens bool
	}{{29 * time.Second, true}, {31 * time.Second, false}} {
		uri := c.exec(id, `["true"]`)["WebSocketUri"]
		c.clock.Step(test.after)
		ws, _, err := c.open(uri)
		if (err == nil) != test.opens {
			t.Errorf("after %s: %v", test.after, err)
		}
		if err == nil {
			_, _ = readAll(t, ws)
			ws.Close()
		}
	}
}

// A command ends with its container, and its websocket with the command.
func TestE45ExecEndsWithTheGroup(t *testing.T) {
	c := newClient(t, func(o *Options) {
		o.Sim = sim.Config{HostCommands: true, TempDir: t.TempDir(), Clock: clock.RealClock{}}
	})
	id := c.realTime().create("Container.1.Command.1", "sleep", "Container.1.Command.2", "600", "TerminationGracePeriodSeconds", "1")
	ws, _, err := c.open(c.exec(id, `["sh", "-c", "echo begun; sleep 600"]`)["WebSocketUri"])
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if _, message, err := ws.ReadMessage(); err != nil || string(message) != "begun\n" {
		t.Fatalf("first message %q, error %v", message, err)
	}
	c.ok("DeleteContainerGroup", "ContainerGroupId", id)
	if out, err := readAll(t, ws); out != "" || !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("output %q, end %v", out, err)
	}
}

// realTime signs by the wall's clock.
func (c *client) realTime() *client {
	c.clock.SetTime(time.Now())
	return c
}
