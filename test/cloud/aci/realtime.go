package aci

import (
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// The extension that serves what a group uses to its own network, and where
// (virtual-kubelet/azure-aci, pkg/client/extensions.go and
// pkg/metrics/real_time.go).
const (
	realtimeExtension        = "realtime-metrics"
	realtimeExtensionVersion = "1.0"
	realtimePort             = "18899"
	realtimePath             = "/v1/stats"
)

// extension is an addition of the service's own to a group.
type extension struct {
	Properties struct {
		Type    string `json:"extensionType"`
		Version string `json:"version"`
	} `json:"properties"`
}

func (d groupDefinition) realtime() bool {
	for _, e := range d.Properties.Extensions {
		if e.Properties.Type == realtimeExtension && e.Properties.Version == realtimeExtensionVersion {
			return true
		}
	}
	return false
}

// isNetwork reports whether a request is for an address in the virtual network
// of the groups, which a client reaches with this server as its proxy.
func isNetwork(r *http.Request) bool { return r.URL.Scheme == "http" && r.URL.Host != "" }

// serveNetwork is a proxy into the virtual network of the groups with private
// addresses. All that answers there is the extension for metrics: other ports
// belong to containers, which have no network here.
func (s *Server) serveNetwork(w http.ResponseWriter, r *http.Request) {
	host, port, err := net.SplitHostPort(r.URL.Host)
	address, parseErr := netip.ParseAddr(host)
	if err != nil || parseErr != nil || port != realtimePort {
		http.Error(w, "nothing listens at "+r.URL.Host, http.StatusBadGateway)
		return
	}
	g := s.realtimeAt(address)
	if g == nil {
		http.Error(w, "nothing listens at "+r.URL.Host, http.StatusBadGateway)
		return
	}
	if r.URL.Path != realtimePath || r.Method != http.MethodGet {
		http.NotFound(w, r)
		return
	}
	now := s.clock.Now()
	writeJSON(w, http.StatusOK, realtimeView(now, g.run.UsageAt(now)[0]))
}

// realtimeAt is the running group with the extension that has a private address.
func (s *Server) realtimeAt(address netip.Addr) *group {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, g := range s.groups {
		if g.address == address && g.pool == s.private && g.def.realtime() && g.run.Phase() == sim.Running {
			return g
		}
	}
	return nil
}

// realtimeView is what containers have used, each since its process started, and
// their sums. Networks are not simulated.
func realtimeView(now time.Time, usage []sim.Usage) map[string]any {
	containers := []any{}
	var total sim.Usage
	for _, u := range usage {
		total.CPU += u.CPU
		total.Memory += u.Memory
		one := amounts(u)
		one["name"] = u.Container
		containers = append(containers, one)
	}
	view := amounts(total)
	view["timestamp"] = now.UnixNano()
	view["containers"] = containers
	view["network"] = map[string]any{"interfaces": []any{
		map[string]any{"name": "eth0", "rxBytes": 0, "rxErrors": 0, "txBytes": 0, "txErrors": 0},
	}}
	return view
}

func amounts(u sim.Usage) map[string]any {
	return map[string]any{
		"cpu":    map[string]any{"usageCoreNanoSeconds": u.CPU.Nanoseconds()},
		"memory": map[string]any{"usageBytes": u.Memory, "workingSetBytes": u.Memory, "rssBytes": u.Memory},
	}
}
