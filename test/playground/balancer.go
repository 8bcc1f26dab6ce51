package playground

import (
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
)

// balancer passes connections on to several backends in turn, as a Service does
// for the webhook's replicas. A backend that refuses is passed over.
type balancer struct {
	listener net.Listener

	mu       sync.Mutex
	backends []string
	next     int
	open     map[net.Conn]struct{}
	closed   bool
	running  sync.WaitGroup
}

func newBalancer() (*balancer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for the webhook: %w", err)
	}
	b := &balancer{listener: l, open: map[net.Conn]struct{}{}}
	b.running.Go(b.accept)
	return b, nil
}

// Address is where clients connect.
func (b *balancer) Address() string { return b.listener.Addr().String() }

// Add and Remove change the backends.
func (b *balancer) Add(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backends = append(b.backends, address)
}

// Remove takes a backend out; its connections are left to end by themselves.
func (b *balancer) Remove(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backends = slices.DeleteFunc(b.backends, func(s string) bool { return s == address })
}

// Close ends all connections and waits for them.
func (b *balancer) Close() {
	b.listener.Close()
	b.mu.Lock()
	b.closed = true
	for c := range b.open {
		c.Close()
	}
	b.mu.Unlock()
	b.running.Wait()
}

func (b *balancer) accept() {
	for {
		client, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.running.Go(func() { b.serve(client) })
	}
}

func (b *balancer) serve(client net.Conn) {
	defer client.Close()
	backend := b.dial()
	if backend == nil {
		return
	}
	defer backend.Close()
	if !b.track(client, backend) {
		return
	}
	defer b.untrack(client, backend)
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{client, backend}, {backend, client}} {
		b.running.Go(func() {
			_, _ = io.Copy(pair[0], pair[1]) // either side may end at any time
			done <- struct{}{}
		})
	}
	<-done
}

func (b *balancer) dial() net.Conn {
	b.mu.Lock()
	backends, first := slices.Clone(b.backends), b.next
	b.next++
	b.mu.Unlock()
	for i := range backends {
		if c, err := net.Dial("tcp", backends[(first+i)%len(backends)]); err == nil {
			return c
		}
	}
	return nil
}

func (b *balancer) track(conns ...net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	for _, c := range conns {
		b.open[c] = struct{}{}
	}
	return true
}

func (b *balancer) untrack(conns ...net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range conns {
		delete(b.open, c)
	}
}
