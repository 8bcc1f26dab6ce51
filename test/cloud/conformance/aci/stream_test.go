package aci

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// dial opens a websocket without subprotocol, as the service's clients do.
func (s *service) dial(t *testing.T, address string, header http.Header) (*websocket.Conn, error) {
	t.Helper()
	var roots *tls.Config
	if transport, ok := s.http.Transport.(*http.Transport); ok && transport.TLSClientConfig != nil {
		roots = &tls.Config{RootCAs: transport.TLSClientConfig.RootCAs, MinVersion: tls.VersionTLS12}
	}
	dialer := websocket.Dialer{TLSClientConfig: roots, HandshakeTimeout: 30 * time.Second}
	connection, response, err := dialer.Dial(address, header)
	if response != nil {
		response.Body.Close()
	}
	if err == nil {
		t.Cleanup(func() { connection.Close() })
		if connection.Subprotocol() != "" {
			t.Errorf("the subprotocol is %q", connection.Subprotocol())
		}
		_ = connection.SetReadDeadline(time.Now().Add(s.patience))
	}
	return connection, err
}

// session asks for an exec or an attach and returns where and with what.
func (s *service) session(t *testing.T, path string, body any) (address, password string) {
	t.Helper()
	got := s.call(t, http.MethodPost, path, body).want(t, path, http.StatusOK, "")
	address, _ = at(got.body, "webSocketUri").(string)
	password, _ = at(got.body, "password").(string)
	if parsed, err := url.Parse(address); err != nil || parsed.Scheme != "wss" || password == "" {
		t.Fatalf("webSocketUri %q, password of %d bytes", address, len(password))
	}
	return address, password
}

// readAll reads a websocket to its end. Output is raw: what kind of messages
// carries it says nothing.
func readAll(t *testing.T, connection *websocket.Conn) string {
	t.Helper()
	var all strings.Builder
	for {
		_, data, err := connection.ReadMessage()
		all.Write(data)
		if err != nil {
			var closed *websocket.CloseError
			if !errors.As(err, &closed) {
				t.Errorf("the stream did not end by being closed: %v", err)
			}
			return all.String()
		}
	}
}

func TestA34Exec(t *testing.T) {
	s := open(t)
	path := s.name(t, "exec")
	s.create(t, path, s.definition())
	request := object{"command": "/bin/sh", "terminalSize": object{"rows": 20, "cols": 80}}
	exec := path + "/containers/app/exec"

	t.Run("raw stream", func(t *testing.T) {
		address, password := s.session(t, exec, request)
		if parsed, err := url.Parse(address); err != nil || !strings.HasPrefix(parsed.Path, "/execstream/sessionId/") ||
			parsed.Query().Get("rows") != "20" || parsed.Query().Get("cols") != "80" || *againstReal && parsed.Port() != "19390" {
			t.Errorf("webSocketUri is %q", address)
		}
		connection, err := s.dial(t, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range []string{password, "echo out$((1+1)); echo err$((2+2)) >&2; stty size\n", "exit 3\n"} {
			if err := connection.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
				t.Fatal(err)
			}
		}
		got := readAll(t, connection)
		out, failure := strings.Index(got, "out2"), strings.Index(got, "err4")
		if out < 0 || failure < out {
			t.Errorf("the output is %q, want out2 and then err4", got)
		}
		if !strings.Contains(got, "20 80") {
			t.Errorf("the terminal has not the size asked for: %q", got)
		}
		if strings.Contains(got, password) || strings.Contains(got, "exitCode") || strings.Contains(got, `"status"`) {
			t.Errorf("the output is more than the command's: %q", got)
		}
	})
	t.Run("without the password", func(t *testing.T) {
		for name, message := range map[string]string{"wrong": "not the password", "the command": "echo out$((1+1))\n"} {
			address, password := s.session(t, exec, request)
			connection, err := s.dial(t, address, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, sent := range []string{message, password, "echo out$((1+1))\n"} {
				// The service may have closed the stream by the second message.
				_ = connection.WriteMessage(websocket.TextMessage, []byte(sent))
			}
			_ = connection.SetReadDeadline(time.Now().Add(30 * time.Second))
			if got := readAll(t, connection); got != "" {
				t.Errorf("%s: the stream gives %q", name, got)
			}
		}
	})
	t.Run("an ended container", func(t *testing.T) {
		s.create(t, path+"-ended", s.definition(set("Never", "properties", "restartPolicy"), inContainer([]string{"true"}, "command")))
		s.awaitState(t, path+"-ended", "Succeeded")
		s.session(t, path+"-ended/containers/app/exec", request)
	})
	t.Run("refused", func(t *testing.T) {
		if got := s.call(t, http.MethodPost, path+"/containers/none/exec", request); got.status != http.StatusNotFound {
			t.Errorf("no such container: %d %s", got.status, got.raw)
		}
		s.call(t, http.MethodPost, s.groups()+"/none/containers/app/exec", request).want(t, "no such group", http.StatusNotFound, "ResourceNotFound")
		if got := s.call(t, http.MethodPost, exec, object{"command": list{"/bin/sh"}}); got.status != http.StatusBadRequest {
			t.Errorf("a command of several parts: %d %s", got.status, got.raw)
		}
	})
}

func TestA35Attach(t *testing.T) {
	s := open(t)
	path := s.name(t, "attach")
	s.create(t, path, s.definition(inContainer(shell("i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.1; done"), "command")))
	attach := path + "/containers/app/attach"

	address, password := s.session(t, attach, nil)
	connection, err := s.dial(t, address, http.Header{"Authorization": {password}})
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for strings.Count(got.String(), "tick") < 3 {
		_, data, err := connection.ReadMessage()
		if err != nil {
			t.Fatalf("after %q: %v", got.String(), err)
		}
		got.Write(data)
	}
	for name, header := range map[string]http.Header{"no password": nil, "a wrong password": {"Authorization": {"wrong"}}} {
		address, _ := s.session(t, attach, nil)
		if _, err := s.dial(t, address, header); err == nil {
			t.Errorf("%s opens the stream", name)
		}
	}
	if got := s.call(t, http.MethodPost, path+"/containers/none/attach", nil); got.status != http.StatusNotFound {
		t.Errorf("no such container: %d %s", got.status, got.raw)
	}
}
