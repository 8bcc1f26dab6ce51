package runc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
)

// publisher passes connections to an address of this machine on to the containers
// that have the same address in their own network.
type publisher struct {
	listeners []net.Listener
	dial      func(ctx context.Context, port int) (net.Conn, error)
	running   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]bool
}

// publish listens at the ports of an address. A port that another process of this
// machine has taken is an error.
func publish(address string, ports []int, dial func(context.Context, int) (net.Conn, error)) (*publisher, error) {
	p := &publisher{dial: dial, open: map[net.Conn]bool{}}
	for _, port := range ports {
		l, err := net.Listen("tcp4", net.JoinHostPort(address, strconv.Itoa(port)))
		if err != nil {
			_ = p.close()
			return nil, fmt.Errorf("publishing port %d: %w", port, err)
		}
		p.listeners = append(p.listeners, l)
		p.running.Go(func() {
			for {
				client, err := l.Accept()
				if err != nil {
					return
				}
				p.running.Go(func() { p.pass(client, port) })
			}
		})
	}
	return p, nil
}

func (p *publisher) pass(client net.Conn, port int) {
	defer client.Close()
	server, err := p.dial(context.Background(), port)
	if err != nil {
		// As near as can be to a refusal: what is sent is answered with a reset.
		_ = client.(*net.TCPConn).SetLinger(0)
		return
	}
	defer server.Close()
	if !p.keep(client, server) {
		return
	}
	defer p.forget(client, server)
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
		both.Go(func() {
			_, _ = io.Copy(pair[0], pair[1]) // either side may end at any time
			_ = pair[0].(*net.TCPConn).CloseWrite()
		})
	}
	both.Wait()
}

func (p *publisher) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.open[c] = true
	}
	return !p.closed
}

func (p *publisher) forget(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.open, c)
	}
}

// close ends all connections and waits for them.
func (p *publisher) close() error {
	var errs []error
	for _, l := range p.listeners {
		errs = append(errs, l.Close())
	}
	p.mu.Lock()
	p.closed = true
	for c := range p.open {
		c.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
	return errors.Join(errs...)
}
