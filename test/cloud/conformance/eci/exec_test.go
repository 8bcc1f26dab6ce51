package eci

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// dial opens the websocket of an exec call, without a subprotocol.
func (c *cloud) dial(uri string) (*websocket.Conn, error) {
	c.t.Helper()
	if _, err := url.Parse(uri); err != nil || !strings.HasPrefix(uri, "wss://") {
		c.t.Fatalf("WebSocketUri %q: %v", uri, err)
	}
	if strings.HasPrefix(c.url, "http://") { // a service under test without TLS
		uri = "ws://" + strings.TrimPrefix(uri, "wss://")
	}
	ws, resp, err := (&websocket.Dialer{HandshakeTimeout: 10 * time.Second}).Dial(uri, nil)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	c.t.Cleanup(func() { ws.Close() })
	return ws, ws.SetReadDeadline(time.Now().Add(30 * time.Second))
}

// readAll is everything that comes until the other end closes.
func readAll(ws *websocket.Conn) (string, error) {
	var out strings.Builder
	for {
		_, data, err := ws.ReadMessage()
		out.Write(data)
		var closed *websocket.CloseError
		if errors.As(err, &closed) || errors.Is(err, io.EOF) {
			return out.String(), nil
		}
		if err != nil {
			return out.String(), err
		}
	}
}

func TestE45Exec(t *testing.T) {
	c := row(t, settings{realProcesses: true})
	id := c.running()
	in := []string{"ContainerGroupId", id, "ContainerName", "main"}
	exec := func(command string, args ...string) answer {
		t.Helper()
		return c.do("ExecContainerCommand", append(append(in, "Command", command), args...)...)
	}
	for _, bad := range []string{"ls", `{"a":"b"}`, `[1]`, `[]`, `"ls"`} {
		c.wantRefusal(exec(bad), 400, "InvalidParameter")
	}
	items := func(n int) string { return `["echo"` + strings.Repeat(`,"x"`, n-1) + `]` }
	long := func(n int) string { return `["echo","` + strings.Repeat("x", n) + `"]` }
	c.wantRefusal(exec(items(21)), 400, "InvalidParameter.ValueExceeded")
	c.wantRefusal(exec(long(257)), 400, "InvalidParameter.ValueExceeded")
	c.wantRefusal(exec(`["ls"]`, "ContainerName", "none"), 400, "InvalidParameter")
	if a := exec(`["ls"]`, "ContainerGroupId", "eci-none"); a.status/100 != 4 {
		t.Errorf("a missing group: answer %d %s", a.status, a.raw)
	}

	sync := func(want, command string) {
		t.Helper()
		if a := c.mustSucceed(exec(command, "Sync", "true")); a.SyncResponse != want || strings.Contains(a.raw, "ExitCode") {
			t.Errorf("%s: %s, want %q", command, a.raw, want)
		}
	}
	sync("hello world\n", `["echo","hello world"]`)
	sync(strings.TrimSuffix(strings.Repeat("x ", 19), " ")+"\n", items(20))
	sync(strings.Repeat("x", 256)+"\n", long(256))
	sync("out\nerr\n", `["sh","-c","echo out; echo err >&2; exit 7"]`)
	sync("", `["true"]`)
	c.wantRefusal(exec(`["ls"]`, "Sync", "true", "TTY", "true"), 400, "InvalidParameter")
	c.wantRefusal(exec(`["/bin/bash"]`, "Sync", "true"), 400, "InvalidParameter")

	open := func(command string, args ...string) (uri string, ws *websocket.Conn) {
		t.Helper()
		a := c.mustSucceed(exec(command, args...))
		if !strings.HasPrefix(a.HTTPURL, "https://") {
			t.Errorf("HttpUrl %q", a.HTTPURL)
		}
		ws, err := c.dial(a.WebSocketURI)
		if err != nil {
			t.Fatal(err)
		}
		return a.WebSocketURI, ws
	}
	prints := func(want, command string, args ...string) {
		t.Helper()
		_, ws := open(command, args...)
		if got, err := readAll(ws); err != nil || got != want {
			t.Errorf("%s printed %q, %v; want %q", command, got, err, want)
		}
	}
	prints("done\n", `["echo","done"]`)
	prints("out\nerr\n", `["sh","-c","echo out; echo err >&2; exit 7"]`)
	prints("none\n", `["sh","-c","test -t 0 || echo none"]`)
	prints("terminal\r\n", `["sh","-c","test -t 0 && echo terminal"]`, "TTY", "true")

	c.each("both ways", func(c *cloud) {
		_, ws := open(`["cat"]`)
		for _, text := range []string{"hello\n", "again\n", "\x00\xff\n"} {
			if err := ws.WriteMessage(websocket.BinaryMessage, []byte(text)); err != nil {
				c.t.Fatal(err)
			}
			got := ""
			for len(got) < len(text) {
				_, data, err := ws.ReadMessage()
				if err != nil {
					c.t.Fatal(err)
				}
				got += string(data)
			}
			if got != text {
				c.t.Errorf("%q came back as %q", text, got)
			}
		}
	})
	c.each("once", func(c *cloud) {
		uri, ws := open(`["echo","once"]`)
		if got, err := readAll(ws); err != nil || got != "once\n" {
			c.t.Errorf("printed %q, %v", got, err)
		}
		if _, err := c.dial(uri); err == nil {
			c.t.Error("the address can be used again")
		}
		if _, err := c.dial(uri[:len(uri)-1]); err == nil {
			c.t.Error("a wrong address can be used")
		}
	})
	part(t, "30 seconds", "a clock", settings{realProcesses: true}, func(c *cloud) {
		id := c.running()
		for _, tt := range []struct {
			age  time.Duration
			good bool
		}{{29 * time.Second, true}, {30 * time.Second, false}, {time.Hour, false}} {
			a := c.ok("ExecContainerCommand", "ContainerGroupId", id, "ContainerName", "main", "Command", `["echo","x"]`)
			c.pass(tt.age)
			ws, err := c.dial(a.WebSocketURI)
			if (err == nil) != tt.good {
				t.Errorf("after %s: %v", tt.age, err)
			}
			if ws != nil {
				_, _ = readAll(ws)
			}
		}
	})
	if a := c.send(message{method: http.MethodGet, members: c.members("ExecContainerCommand", append(in, "Command", `["true"]`, "Sync", "true")...)}); a.status != 200 {
		t.Errorf("GET: answer %d %s", a.status, a.raw)
	}
}
