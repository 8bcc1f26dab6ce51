// Package stream is the websocket by which both clouds hand out what a command
// prints and take what it reads: bytes each way, cut into messages anyhow.
package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	dialTimeout = 15 * time.Second
	// writeTimeout bounds how long the cloud may take to accept one message.
	writeTimeout = 30 * time.Second
	// pingInterval keeps what lies between from taking a silent session for a dead
	// one: the idle time-outs of load balancers begin at a minute.
	pingInterval = 30 * time.Second
)

// Options of Dial.
type Options struct {
	// TLS is how the other end is verified; nil is the system's way.
	TLS *tls.Config
	// Header is sent with the request.
	Header http.Header
	// First, if not empty, is sent as the first message, a text.
	First string
}

// Conn is an open stream. Reads may go on beside writes. Close it.
type Conn struct {
	ws      *websocket.Conn
	message io.Reader // the rest of the present one

	mu     sync.Mutex // of writes
	closed sync.Once
	stop   chan struct{}
	pinged sync.WaitGroup
}

// Dial opens a stream at an address of the scheme wss. Its errors do not hold
// the address, which is a secret.
func Dial(ctx context.Context, address string, o Options) (*Conn, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "wss" || u.Host == "" {
		return nil, errors.New("the cloud gave no address of a websocket over TLS (wss://…)")
	}
	dialer := websocket.Dialer{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: o.TLS, HandshakeTimeout: dialTimeout,
		NetDialContext: (&net.Dialer{Timeout: dialTimeout, KeepAlive: pingInterval}).DialContext,
	}
	ws, resp, err := dialer.DialContext(ctx, address, o.Header)
	if err != nil {
		if resp != nil {
			_ = resp.Body.Close()
			return nil, fmt.Errorf("the websocket at %s was refused with HTTP %d", u.Host, resp.StatusCode)
		}
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return nil, fmt.Errorf("the websocket at %s could not be opened: %w", u.Host, err)
	}
	c := &Conn{ws: ws, stop: make(chan struct{})}
	if o.First != "" {
		if err := c.send(websocket.TextMessage, []byte(o.First)); err != nil {
			_ = ws.Close()
			return nil, fmt.Errorf("the websocket at %s broke off at once: %w", u.Host, err)
		}
	}
	c.pinged.Go(c.ping)
	return c, nil
}

// ping keeps the connection in use until Close. That it fails shows in Read.
func (c *Conn) ping() {
	ticker := time.NewTicker(pingInterval)
	defer ticker.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-ticker.C:
			if c.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTimeout)) != nil {
				return
			}
		}
	}
}

// Read returns what comes, whether as texts or as bytes, and io.EOF when the
// other end has ended the stream in order. A connection that breaks off is an
// error: what came may not be all.
func (c *Conn) Read(p []byte) (int, error) {
	for {
		if c.message == nil {
			_, message, err := c.ws.NextReader()
			if err != nil {
				return 0, endOf(err)
			}
			c.message = message
		}
		n, err := c.message.Read(p)
		if err != nil && !errors.Is(err, io.EOF) {
			return n, endOf(err)
		}
		if err != nil {
			c.message = nil
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
}

func endOf(err error) error {
	var end *websocket.CloseError
	if !errors.As(err, &end) {
		return fmt.Errorf("the connection broke off: %w", err)
	}
	switch end.Code {
	case websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived:
		return io.EOF
	case websocket.CloseAbnormalClosure:
		return errors.New("the connection broke off")
	}
	return fmt.Errorf("the cloud ended the connection with code %d: %s", end.Code, end.Text)
}

// Write sends p as one message of bytes.
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.send(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *Conn) send(kind int, p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.ws.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return c.ws.WriteMessage(kind, p)
}

// Close ends the stream, also for a Read that waits.
func (c *Conn) Close() error {
	var err error
	c.closed.Do(func() {
		close(c.stop)
		// It may be broken; then there is nobody to tell.
		_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
		err = c.ws.Close()
		c.pinged.Wait()
	})
	return err
}
