package stream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve is the other end: it plays once the connection is open.
func serve(t *testing.T, play func(ws *websocket.Conn, req *http.Request)) (address string, o Options) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ws, err := (&websocket.Upgrader{}).Upgrade(w, req, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		play(ws, req)
	}))
	t.Cleanup(server.Close)
	cas := x509.NewCertPool()
	cas.AddCert(server.Certificate())
	return "wss" + strings.TrimPrefix(server.URL, "https") + "/?s=very-secret", Options{TLS: &tls.Config{RootCAs: cas, MinVersion: tls.VersionTLS12}}
}

func hangUp(ws *websocket.Conn, code int) {
	_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, "said the cloud"), time.Now().Add(time.Second))
}

func TestStream(t *testing.T) {
	for name, test := range map[string]struct {
		play func(*websocket.Conn)
		want string
		err  string // empty: the stream ends in order
	}{
		"texts and bytes in pieces": {func(ws *websocket.Conn) {
			for kind, text := range map[int]string{websocket.TextMessage: "x", websocket.BinaryMessage: "x"} {
				_ = ws.WriteMessage(kind, []byte(text))
			}
			_ = ws.WriteMessage(websocket.BinaryMessage, nil)
			_ = ws.WriteMessage(websocket.BinaryMessage, []byte(strings.Repeat("y", 3)))
			hangUp(ws, websocket.CloseNormalClosure)
		}, "xxyyy", ""},
		"without a word of why": {func(ws *websocket.Conn) { hangUp(ws, websocket.CloseNoStatusReceived) }, "", ""},
		"with an error": {func(ws *websocket.Conn) {
			_ = ws.WriteMessage(websocket.BinaryMessage, []byte("part"))
			hangUp(ws, websocket.CloseInternalServerErr)
		}, "part", "code 1011: said the cloud"},
		"broken off": {func(ws *websocket.Conn) {
			_ = ws.WriteMessage(websocket.BinaryMessage, []byte("part"))
			_ = ws.NetConn().Close()
		}, "part", "broke off"},
	} {
		t.Run(name, func(t *testing.T) {
			address, o := serve(t, func(ws *websocket.Conn, _ *http.Request) { test.play(ws) })
			c, err := Dial(t.Context(), address, o)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			out, err := io.ReadAll(c)
			if string(out) != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("read %q, error %v, want %q and %q", out, err, test.want, test.err)
			}
		})
	}
}

func TestStreamSends(t *testing.T) {
	got := make(chan string, 3)
	address, o := serve(t, func(ws *websocket.Conn, req *http.Request) {
		got <- req.Header.Get("Authorization") + req.Header.Get("Sec-Websocket-Protocol")
		for range 2 {
			kind, message, err := ws.ReadMessage()
			if err != nil {
				t.Error(err)
			}
			got <- map[int]string{websocket.TextMessage: "text ", websocket.BinaryMessage: "bytes "}[kind] + string(message)
		}
	})
	o.Header, o.First = http.Header{"Authorization": {"password"}}, "first"
	c, err := Dial(t.Context(), address, o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "input"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"password", "text first", "bytes input"} {
		if s := <-got; s != want {
			t.Errorf("the cloud got %q, want %q", s, want)
		}
	}
}

// Close ends a Read that waits.
func TestStreamClose(t *testing.T) {
	address, o := serve(t, func(ws *websocket.Conn, _ *http.Request) { _, _, _ = ws.ReadMessage() })
	c, err := Dial(t.Context(), address, o)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		read <- err
	}()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-read; err == nil {
		t.Error("a closed stream was read")
	}
	if err := c.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

func TestAddressIsASecret(t *testing.T) {
	address, o := serve(t, func(*websocket.Conn, *http.Request) {})
	refusing := httptest.NewTLSServer(http.NotFoundHandler())
	defer refusing.Close()
	cas := x509.NewCertPool()
	cas.AddCert(refusing.Certificate())
	for name, test := range map[string]struct {
		address string
		o       Options
		want    string
	}{
		"an unknown authority": {address, Options{}, "certificate"},
		"no TLS":               {strings.Replace(address, "wss", "ws", 1), o, "over TLS"},
		"nothing at all":       {"", o, "over TLS"},
		"no address":           {"wss://\x7f/?s=very-secret", o, "over TLS"},
		"refused":              {"wss" + strings.TrimPrefix(refusing.URL, "https") + "/?s=very-secret", Options{TLS: &tls.Config{RootCAs: cas, MinVersion: tls.VersionTLS12}}, "HTTP 404"},
	} {
		_, err := Dial(t.Context(), test.address, test.o)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "very-secret") {
			t.Errorf("%s: error %v, want %q and no secret", name, err, test.want)
		}
		for inner := err; inner != nil; inner = errors.Unwrap(inner) {
			if strings.Contains(inner.Error(), "very-secret") {
				t.Errorf("%s: the secret is in %v", name, inner)
			}
		}
	}
}
