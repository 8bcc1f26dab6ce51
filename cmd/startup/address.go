package startup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// Address is one that a program listens on. Flag is what sets it, and Value is
// HOST:PORT or :PORT; one without a value is not used.
type Address struct{ Flag, Value string }

// CheckAddresses wants addresses that can be listened on, no two of them with the
// same port. It does not look whether they are free.
func CheckAddresses(addresses ...Address) error {
	var errs []error
	ports := map[string]string{}
	for _, a := range addresses {
		if a.Value == "" {
			continue
		}
		host, port, err := net.SplitHostPort(a.Value)
		number, bad := strconv.ParseUint(port, 10, 16)
		if err != nil || bad != nil || number == 0 || host != "" && host != "localhost" && net.ParseIP(host) == nil {
			errs = append(errs, fmt.Errorf("%s is %q: write IP:PORT or :PORT, with a port from 1 to 65535", a.Flag, a.Value))
			continue
		}
		if other := ports[port]; other != "" {
			errs = append(errs, fmt.Errorf("%s is %q: %s has the same port; give each a port of its own", a.Flag, a.Value, other))
			continue
		}
		ports[port] = a.Flag
	}
	return errors.Join(errs...)
}

// Listen listens on an address.
func Listen(ctx context.Context, a Address) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.Value)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is %q: another program listens there already; end it, or choose another port", a.Flag, a.Value)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%s is %q: this machine has no such address; leave the host out to listen on all", a.Flag, a.Value)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s is %q: this user may not listen there; choose a port from 1024 on", a.Flag, a.Value)
	case err != nil:
		return nil, fmt.Errorf("%s is %q: %w", a.Flag, a.Value, err)
	}
	return listener, nil
}

// CheckFree wants addresses that nothing listens on yet.
func CheckFree(ctx context.Context, addresses ...Address) error {
	var errs []error
	for _, a := range addresses {
		if a.Value == "" {
			continue
		}
		listener, err := Listen(ctx, a)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		_ = listener.Close()
	}
	return errors.Join(errs...)
}
