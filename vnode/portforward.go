package vnode

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// forwardPatience bounds how long a pod may take to accept a connection.
const forwardPatience = 10 * time.Second

// forward serves one connection of kubectl port-forward, over the pod's address.
func (a *Agent) forward(ctx context.Context, t *target, port int32, client io.ReadWriteCloser) error {
	conn, err := a.dial(ctx, t, port)
	if err != nil {
		go drain(client)
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	go func() {
		_, err := io.Copy(conn, client)
		half, ok := conn.(*net.TCPConn)
		if err == nil && ok {
			_ = half.CloseWrite()
			return
		}
		_ = conn.Close()
		drain(client)
	}()
	_, err = io.Copy(client, conn)
	if ctx.Err() != nil {
		return causeOf(ctx)
	}
	return err
}

// drain reads what nobody wants, until the client closes its stream or the library
// the connection: what is not read would keep the library's goroutines.
func drain(client io.Reader) { _, _ = io.Copy(io.Discard, client) }

// dial connects to a port of the pod.
func (a *Agent) dial(ctx context.Context, t *target, port int32) (net.Conn, error) {
	name, ip := t.pod.Namespace+"/"+t.pod.Name, t.pod.Status.PodIP
	if pod := a.pods.byUID(t.pod.UID); pod != nil {
		ip = pod.Status.PodIP
	}
	if ip == "" {
		return nil, fmt.Errorf("pod %s has no address; on ACI, a pod gets one by declaring ports or by running in a subnet", name)
	}
	address := net.JoinHostPort(ip, strconv.Itoa(int(port)))
	dialer := net.Dialer{Timeout: forwardPatience}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("pod %s cannot be reached from the agent at %s: %w; something must listen there, "+
			"and the agent's pod needs a route to the network of the container groups", name, address, err)
	}
	return conn, nil
}
