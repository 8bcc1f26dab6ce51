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
	name, ip := t.pod.Namespace+"/"+t.pod.Name, t.pod.Status.PodIP
	if pod := a.pods.byUID(t.pod.UID); pod != nil {
		ip = pod.Status.PodIP
	}
	if ip == "" {
		return fmt.Errorf("pod %s has no address; on ACI, a pod gets one by declaring ports or by running in a subnet", name)
	}
	address := net.JoinHostPort(ip, strconv.Itoa(int(port)))
	dialer := net.Dialer{Timeout: forwardPatience}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("pod %s cannot be reached from the agent at %s: %w; something must listen there, "+
			"and the agent's pod needs a route to the network of the container groups", name, address, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	// It ends when the client closes its stream or the library the connection.
	go func() {
		if _, err := io.Copy(conn, client); err != nil {
			_ = conn.Close()
			return
		}
		if half, ok := conn.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
	}()
	_, err = io.Copy(client, conn)
	if cause := causeOf(ctx); cause != nil {
		return cause
	}
	return err
}
