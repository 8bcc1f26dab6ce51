package burstable

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// PortRange is the ports from First to Last, both included. Its text, also in
// JSON, is "20000-30000", or "22" for a single port.
type PortRange struct{ First, Last int32 }

// Has tells whether port lies in the range.
func (r PortRange) Has(port int32) bool { return r.First <= port && port <= r.Last }

func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// MarshalText implements encoding.TextMarshaler.
func (r PortRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It takes ports from 1 to
// 65535, the first not above the last.
func (r *PortRange) UnmarshalText(text []byte) error {
	first, last, isRange := strings.Cut(string(text), "-")
	if !isRange {
		last = first
	}
	from, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return fmt.Errorf("reading the range of ports %q: %w", text, err)
	}
	to, err := strconv.ParseUint(last, 10, 16)
	if err != nil {
		return fmt.Errorf("reading the range of ports %q: %w", text, err)
	}
	if from == 0 || from > to {
		return fmt.Errorf("reading the range of ports %q: want a port from 1 on, and none after it that is lower", text)
	}
	r.First, r.Last = int32(from), int32(to)
	return nil
}

// ReservedPort returns the range of reserved ports that port lies in.
func (l *Limits) ReservedPort(port int32) (r PortRange, reserved bool) {
	for _, r := range l.ReservedPortRanges {
		if r.Has(port) {
			return r, true
		}
	}
	return PortRange{}, false
}

// ports asks about each port of one container.
func (c *checker) ports(at *path, ports []corev1.ContainerPort) {
	for i := range ports {
		p := path{parent: at, name: "ports", index: i}
		apply(c, &p, portRules, &ports[i])
		if r, reserved := c.caps.Limits.ReservedPort(ports[i].ContainerPort); reserved {
			c.lacks(&p, "containerPort", fmt.Sprintf("keeps the port %d for itself (reserved: %s); use another one", ports[i].ContainerPort, r))
		}
	}
}

// sharedPorts counts the ports of all containers, and refuses those that an
// earlier container has. Init containers run alone and open nothing to others.
func (c *checker) sharedPorts(root *path, containers []corev1.Container) {
	n := 0
	for i := range containers {
		n += len(containers[i].Ports)
	}
	c.bound(root, "containers", "ports in all containers", n, c.caps.Limits.Ports)
	if n < 2 || c.caps.Has(SharedPorts) {
		return
	}
	type endpoint struct {
		port     int32
		protocol corev1.Protocol
	}
	type holder struct{ container, port int }
	holders := map[endpoint]holder{} // of a few ports, so on the stack
	for i := range containers {
		for j := range containers[i].Ports {
			p := &containers[i].Ports[j]
			e := endpoint{p.ContainerPort, cmp.Or(p.Protocol, corev1.ProtocolTCP)}
			if h, held := holders[e]; held {
				ctr := path{parent: root, name: "containers", index: i}
				c.lacks(&path{parent: &ctr, name: "ports", index: j}, "containerPort", fmt.Sprintf(
					"gives all containers of a pod one set of ports, and %d/%s is that of spec.containers[%d].ports[%d] already; use another one",
					e.port, e.protocol, h.container, h.port))
				continue
			}
			holders[e] = holder{i, j}
		}
	}
}
