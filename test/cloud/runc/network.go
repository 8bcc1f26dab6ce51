package runc

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// network is a network namespace with a loopback device, which has the address of the
// machine too, and nothing else. It lives as long as its file is open or a process is
// in it; nothing is mounted.
type network struct {
	file    *os.File
	address netip.Addr
}

// localhost is the address of a machine that has none.
var localhost = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// newNetwork makes a network for an address, which may be empty.
func newNetwork(address string) (*network, error) {
	ip := localhost
	if address != "" {
		var err error
		if ip, err = netip.ParseAddr(address); err != nil || !ip.Is4() {
			return nil, fmt.Errorf("making a network: %q is no IPv4 address", address)
		}
	}
	type result struct {
		file *os.File
		err  error
	}
	made := make(chan result, 1)
	go func() {
		// The thread is in the new namespace and ends with the goroutine.
		runtime.LockOSThread()
		file, err := unshareNetwork(ip)
		made <- result{file, err}
	}()
	r := <-made
	if r.err != nil {
		return nil, fmt.Errorf("making a network: %w", r.err)
	}
	return &network{r.file, ip}, nil
}

// unshareNetwork gives the calling thread a network of its own.
func unshareNetwork(ip netip.Addr) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	up, err := unix.NewIfreq("lo")
	if err != nil {
		return nil, err
	}
	up.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, up); err != nil {
		return nil, fmt.Errorf("bringing up the loopback device: %w", err)
	}
	if !ip.IsLoopback() {
		alias, err := unix.NewIfreq("lo:1")
		if err != nil {
			return nil, err
		}
		if err := alias.SetInet4Addr(ip.AsSlice()); err != nil {
			return nil, err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, alias); err != nil {
			return nil, fmt.Errorf("giving the loopback device the address %s: %w", ip, err)
		}
	}
	return os.Open("/proc/thread-self/ns/net")
}

// path is how other processes find the namespace while the file is open.
func (n *network) path() string {
	return "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(int(n.file.Fd()))
}

// dial connects to a TCP port of the machine's address.
func (n *network) dial(ctx context.Context, port int) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// As above: a socket stays in the namespace in which it was made.
		runtime.LockOSThread()
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{err: fmt.Errorf("entering the network: %w", err)}
			return
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp4", net.JoinHostPort(n.address.String(), strconv.Itoa(port)))
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

func (n *network) close() error { return n.file.Close() }
