package foreign

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Proxy is an HTTP proxy on loopback that leads public hosts to servers of this
// machine and refuses all others. It knows CONNECT only and does not look into
// the connections.
type Proxy struct {
	routes   map[string]string
	listener net.Listener
	server   *http.Server
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // nil when closed
}

// NewProxy starts a proxy. Routes are addresses, host:port, by the address that
// a client asks for. Close it.
func NewProxy(routes map[string]string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the proxy: %w", err)
	}
	p := &Proxy{routes: routes, listener: l, conns: map[net.Conn]bool{}}
	p.server = &http.Server{Handler: http.HandlerFunc(p.serve), ReadHeaderTimeout: 10 * time.Second}
	p.wg.Go(func() {
		// Always ends with ErrServerClosed, by Close.
		_ = p.server.Serve(l)
	})
	return p, nil
}

// URL is what a client's HTTPS_PROXY is set to.
func (p *Proxy) URL() string { return "http://" + p.listener.Addr().String() }

// Close ends the proxy and all connections through it.
func (p *Proxy) Close() error {
	err := p.server.Close()
	p.mu.Lock()
	for c := range p.conns {
		_ = c.Close() // the other side learns it, which is what is wanted
	}
	p.conns = nil
	p.mu.Unlock()
	p.wg.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("closing the proxy: %w", err)
	}
	return nil
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	target, ok := p.routes[r.Host]
	if r.Method != http.MethodConnect || !ok {
		http.Error(w, "this proxy leads nowhere but to the emulated cloud", http.StatusForbidden)
		return
	}
	to, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", target)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	from, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = to.Close()
		return
	}
	if !p.keep(from, to) {
		return
	}
	defer p.drop(from, to)
	if _, err := io.WriteString(from, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	// Whichever side ends first ends the other.
	var sent sync.WaitGroup
	sent.Go(func() {
		_, _ = io.Copy(to, buffered)
		_ = to.Close()
	})
	_, _ = io.Copy(from, to)
	_ = from.Close()
	sent.Wait()
}

// keep remembers connections so that Close ends them; where it came before, they
// end at once.
func (p *Proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.conns == nil {
			_ = c.Close()
			continue
		}
		p.conns[c] = true
	}
	if p.conns == nil {
		return false
	}
	p.wg.Add(1)
	return true
}

func (p *Proxy) drop(conns ...net.Conn) {
	defer p.wg.Done()
	for _, c := range conns {
		_ = c.Close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.conns, c)
	}
}
