package aci

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// newShell makes a group whose container is a shell of this host that prints what
// is given and waits.
func newShell(t *testing.T, edits ...func(*Options)) *testCloud {
	t.Helper()
	c := newTestCloud(t, append(edits, func(o *Options) {
		o.Sim.HostCommands, o.Sim.TempDir, o.Settings.TransitTime = true, t.TempDir(), -1
	})...)
	c.put("web", http.StatusCreated, with([]any{"sh", "-c", "sleep 600"}, "properties", "containers", 0, "properties", "command"))
	if got := at(c.get("web"), "properties", "provisioningState"); got != "Succeeded" {
		t.Fatalf("provisioning state %v", got)
	}
	return c
}

// ask posts exec or attach and returns address and password.
func (c *testCloud) ask(what string, body any) (uri, password string) {
	c.t.Helper()
	got := c.arm(http.MethodPost, c.path("web")+"/containers/app/"+what, body)
	uri, _ = got.body["webSocketUri"].(string)
	password, _ = got.body["password"].(string)
	if got.status != http.StatusOK || uri == "" || password == "" {
		c.t.Fatalf("%s: %d %s", what, got.status, got.raw)
	}
	return uri, password
}

func (c *testCloud) open(uri string, header http.Header) (*websocket.Conn, *http.Response, error) {
	d := websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: c.client.Transport.(*http.Transport).TLSClientConfig.RootCAs}}
	return d.DialContext(c.t.Context(), uri, header)
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

func execBody(command string, rows, cols int) map[string]any {
	return map[string]any{"command": command, "terminalSize": map[string]any{"rows": rows, "cols": cols}}
}

func TestA34Exec(t *testing.T) {
	for name, test := range map[string]struct {
		body  map[string]any
		whole bool
		input string
		want  string
	}{
		"size of the terminal":      {execBody("stty size", 33, 77), false, "", "33 77\r\n"},
		"without a size":            {map[string]any{"command": "stty size"}, false, "", "24 80\r\n"},
		"input":                     {execBody("/bin/sh", 24, 80), false, "echo $((40 + 2))\nexit 3\n", "42\r\n"},
		"words of a line":           {execBody("echo a b", 24, 80), false, "", "a b\r\n"},
		"quotes are not understood": {execBody(`echo "a b"`, 24, 80), false, "", "\"a b\"\r\n"},
		"a line as a whole":         {execBody("echo a b", 24, 80), true, "", `exec: "echo a b": executable file not found in $PATH`},
		"no such program":           {execBody("vim", 24, 80), false, "", `exec: "vim": executable file not found in $PATH`},
	} {
		t.Run(name, func(t *testing.T) {
			c := newShell(t, func(o *Options) { o.Settings.ExecWholeCommand = test.whole })
			uri, password := c.ask("exec", test.body)
			ws, resp, err := c.open(uri, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer ws.Close()
			if resp.Header.Get("Sec-Websocket-Protocol") != "" {
				t.Error("the service chose a subprotocol")
			}
			if err := ws.WriteMessage(websocket.TextMessage, []byte(password)); err != nil {
				t.Fatal(err)
			}
			if test.input != "" {
				if err := ws.WriteMessage(websocket.BinaryMessage, []byte(test.input)); err != nil {
					t.Fatal(err)
				}
			}
			out, err := readAll(t, ws)
			if !strings.Contains(out, test.want) || !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				t.Errorf("output %q, end %v, want %q", out, err, test.want)
			}
			if _, resp, err := c.open(uri, nil); err == nil || resp == nil || resp.StatusCode != http.StatusNotFound {
				t.Errorf("the session opened a second time: %v", err)
			}
		})
	}
}

func TestA34PasswordComesFirst(t *testing.T) {
	c := newShell(t)
	for name, test := range map[string]struct {
		kind int
		text func(password string) string
	}{
		"another password":       {websocket.TextMessage, func(string) string { return "guess" }},
		"the password as binary": {websocket.BinaryMessage, func(p string) string { return p }},
		"input first":            {websocket.TextMessage, func(string) string { return "echo hello\n" }},
	} {
		uri, password := c.ask("exec", execBody("sh", 24, 80))
		ws, _, err := c.open(uri, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer ws.Close()
		if err := ws.WriteMessage(test.kind, []byte(test.text(password))); err != nil {
			t.Fatal(err)
		}
		if out, err := readAll(t, ws); out != "" || !websocket.IsCloseError(err, websocket.ClosePolicyViolation) {
			t.Errorf("%s: output %q, end %v, want the connection closed", name, out, err)
		}
	}
}

func TestA34ExecRefused(t *testing.T) {
	c := newShell(t)
	for name, test := range map[string]struct {
		path   string
		body   any
		status int
		code   string
	}{
		"no such container": {c.path("web") + "/containers/other/exec", execBody("sh", 1, 1), 404, "ContainerNotFound"},
		"no such group":     {c.path("none") + "/containers/app/exec", execBody("sh", 1, 1), 404, "ResourceNotFound"},
		"no command":        {c.path("web") + "/containers/app/exec", map[string]any{}, 400, "InvalidRequestContent"},
		"no body":           {c.path("web") + "/containers/app/exec", nil, 400, "InvalidRequestContent"},
		"a list":            {c.path("web") + "/containers/app/exec", map[string]any{"command": []any{"sh"}}, 400, "InvalidRequestContent"},
	} {
		if got := c.arm(http.MethodPost, test.path, test.body); got.status != test.status || got.code() != test.code {
			t.Errorf("%s: %d %s, want %d %s", name, got.status, got.raw, test.status, test.code)
		}
	}
}

// The exec of a container that has ended is not refused: its session has nothing to
// say.
func TestA34EndedContainer(t *testing.T) {
	c := newTestCloud(t, settings(Settings{TransitTime: -1}))
	c.put("web", http.StatusCreated, with("Never", "properties", "restartPolicy"))
	if err := c.run("web").Exit("app", 0); err != nil {
		t.Fatal(err)
	}
	uri, password := c.ask("exec", execBody("sh", 24, 80))
	ws, _, err := c.open(uri, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if err := ws.WriteMessage(websocket.TextMessage, []byte(password)); err != nil {
		t.Fatal(err)
	}
	if out, err := readAll(t, ws); out != "" || !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("output %q, end %v", out, err)
	}
}

// A session that nobody opens in time is gone.
func TestA34SessionExpires(t *testing.T) {
	c := newShell(t)
	uri, _ := c.ask("exec", execBody("true", 24, 80))
	c.clock.Step(time.Minute)
	if _, resp, err := c.open(uri, nil); err == nil || resp == nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("a session of a minute ago opened: %v", err)
	}
}

func TestA35Attach(t *testing.T) {
	c := newShell(t)
	uri, _ := c.ask("attach", nil)
	if _, resp, err := c.open(uri, http.Header{"Authorization": {"guess"}}); err == nil || resp == nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("attached with another password: %v", err)
	}
	uri, password := c.ask("attach", nil)
	ws, _, err := c.open(uri, http.Header{"Authorization": {password}})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if err := c.run("web").Print("app", "one line"); err != nil {
		t.Fatal(err)
	}
	if _, message, err := ws.ReadMessage(); err != nil || string(message) != "one line\n" {
		t.Errorf("first message %q, error %v", message, err)
	}
	if got := c.arm(http.MethodDelete, c.path("web"), nil); got.status != http.StatusOK {
		t.Errorf("delete: %d %s", got.status, got.raw)
	}
	if _, err := readAll(t, ws); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("end %v, want it closed with the container", err)
	}
}
