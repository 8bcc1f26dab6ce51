package sim

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Action is what a probe or a hook does: one of its members.
type Action struct {
	// Exec is a command in the container.
	Exec []string
	// HTTP is a request that succeeds with a status of 200 to 399.
	HTTP *HTTPAction
	// TCPPort is a port that accepts connections.
	TCPPort int
}

// HTTPAction is a GET to a port of the container.
type HTTPAction struct {
	Port int
	// Scheme is HTTP, the default, or HTTPS, whose certificate is not verified. Path
	// may have a query.
	Scheme, Path string
	Headers      http.Header
}

func (a *Action) clone() *Action {
	if a == nil {
		return nil
	}
	copied := *a
	copied.Exec = slices.Clone(a.Exec)
	if a.HTTP != nil {
		h := *a.HTTP
		h.Headers = h.Headers.Clone()
		copied.HTTP = &h
	}
	return &copied
}

// action is how to carry an action out on a container; nil if that cannot be. The
// group's lock is held.
func (g *Group) action(c *container, a Action) func(context.Context) error {
	box, contained := c.process.(*contained)
	switch {
	case c.process == nil:
		return nil
	case len(a.Exec) > 0:
		cmd, err := c.process.command(a.Exec)
		if err != nil {
			return nil // not one of the harmless programs
		}
		return func(ctx context.Context) error { return runToEnd(ctx, cmd) }
	case contained && a.HTTP != nil:
		return func(ctx context.Context) error { return box.get(ctx, *a.HTTP) }
	case contained && a.TCPPort > 0:
		return func(ctx context.Context) error {
			conn, err := box.run.Dial(ctx, a.TCPPort)
			if err != nil {
				return err
			}
			return conn.Close()
		}
	}
	return nil
}

// background carries something out in real time, until the timeout or the end of the
// fleet, and then has done called with the group's lock held. The lock is held.
func (g *Group) background(timeout time.Duration, do func(context.Context) error, done func(now time.Time, err error)) {
	g.fleet.wg.Add(1)
	go func() {
		defer g.fleet.wg.Done()
		ctx, cancel := g.fleet.context(timeout)
		err := do(ctx)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("timed out after %s", timeout)
		}
		cancel()
		g.lock()
		defer g.unlock()
		if !g.abandoned {
			done(g.fleet.clock.Now(), err)
		}
	}()
}

// context ends after the timeout, and with the fleet.
func (f *Fleet) context(timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		select {
		case <-f.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// runToEnd runs a command, and kills it when the context ends. An error tells what it
// has printed.
func runToEnd(ctx context.Context, c command) error {
	out, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	err = c.start(nil, theirs)
	theirs.Close()
	if err != nil {
		return err
	}
	printed := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(io.LimitReader(out, maxPrinted)) // what was printed until then
		_, _ = io.Copy(io.Discard, out)
		printed <- strings.TrimSpace(string(text))
	}()
	stop := context.AfterFunc(ctx, c.kill)
	err = c.wait()
	stop()
	// A process that left its group could hold the pipe open.
	_ = out.SetReadDeadline(time.Now().Add(time.Second))
	text := <-printed
	if err != nil {
		return fmt.Errorf("%w: %s", err, text)
	}
	return nil
}

// maxPrinted bounds what is kept of a command's output, as the kubelet does.
const maxPrinted = 10 << 10

// get is an HTTP probe of the kubelet.
func (p *contained) get(ctx context.Context, a HTTPAction) error {
	url := strings.ToLower(cmp.Or(a.Scheme, "http")) + "://" + net.JoinHostPort("localhost", strconv.Itoa(a.Port)) + "/" + strings.TrimPrefix(a.Path, "/")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if a.Headers != nil {
		req.Header = a.Headers.Clone()
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "kube-probe/1.36")
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	transport := &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return p.run.Dial(ctx, a.Port) },
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // as the kubelet
	}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 10<<10))
	if resp.StatusCode < http.StatusOK || resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("HTTP probe failed with statuscode: %d", resp.StatusCode)
	}
	return nil
}
