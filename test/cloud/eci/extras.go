package eci

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"strconv"
	"strings"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// checkExtras applies what is published of the members for spot instances, compute
// categories, GPUs and public addresses.
func (s *Server) checkExtras(req *member, candidates []candidate) *apiError {
	spot := req.str("SpotStrategy") != "" && req.str("SpotStrategy") != "NoSpot"
	categories := req.strings("ComputeCategory")
	for _, c := range categories {
		if c != "economy" && c != "general" {
			return invalidParameter("ComputeCategory must be economy or general, not %q.", clip(c))
		}
	}
	if len(categories) > 0 && (spot || req.str("InstanceType") != "") {
		return invalidParameter("ComputeCategory goes neither with SpotStrategy nor with InstanceType.")
	}
	gpus, least := 0, size{}
	for _, c := range req.list("Container") {
		gpus += c.integer("Gpu")
		least.cpu, least.gib = least.cpu+c.number("Cpu"), least.gib+c.number("Memory")
	}
	for _, c := range candidates {
		if gpus > gpuTypes[c.instanceType].gpus {
			return invalidParameter("The containers ask for %d GPUs, which %q does not have.", gpus, c.instanceType)
		}
		if c.instanceType != "" && (tooSmall(c.size.cpu, least.cpu, 0) || tooSmall(c.size.gib, least.gib, 0)) {
			return publishedRefusal("CreateContainerGroup", "InvalidParameter.CPU.Memory")
		}
	}
	if id := req.str("EipInstanceId"); id != "" {
		if _, there := s.opts.EIPs[id]; !there {
			return invalidParameter("The EIP %q of EipInstanceId does not exist.", clip(id))
		}
	}
	return nil
}

// takeInternetAddress gives the group its public address, if it is to have one.
func (s *Server) takeInternetAddress(g *group) {
	if ip, there := s.opts.EIPs[g.req.str("EipInstanceId")]; there {
		g.internetIP = ip.String()
		return
	}
	if g.req.boolean("AutoCreateEip") {
		h := fnv.New32a()
		fmt.Fprint(h, g.id)
		n := h.Sum32()
		g.internetIP = netip.AddrFrom4([4]byte{203, 0, 113, byte(n)}).String() // TEST-NET-3
	}
}

// orderOf reads the reserved environment of a container: its place in the order of
// start and end, and whether it only serves the others.
func orderOf(c *member, out *sim.Container) {
	for _, e := range c.list("EnvironmentVar") {
		value := strings.TrimSpace(e.str("Value"))
		n, err := strconv.Atoi(value)
		priority := err == nil && -1000 <= n && n <= 1000
		switch key := e.str("Key"); {
		case key == "ECI_CONTAINER_LAUNCH_PRIORITY" && priority:
			out.LaunchPriority = n
		case key == "ECI_CONTAINER_EXIT_PRIORITY" && priority:
			out.ExitPriority = n
		case key == "ECI_CONTAINER_TYPE":
			out.Sidecar = value == "sidecar"
		case key == "ECI_CONTAINER_IGNORE_EXIT_CODE":
			out.IgnoreExitCode = value == "true"
		}
	}
}
