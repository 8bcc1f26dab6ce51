package aci

import "github.com/autoburst/autoburst/policy/burstable"

// Limits of one container group (service limits of Azure Container Instances).
const (
	maxContainers  = 60
	maxVolumes     = 20
	maxPorts       = 5
	maxEnvName     = 63
	maxNameservers = 3
	maxSearches    = 6
	maxSearchText  = 256
)

// portRange is an inclusive range of ports.
type portRange struct{ first, last int32 }

// reservedPorts are used by the service itself inside every group.
var reservedPorts = []portRange{
	{22, 22}, {1025, 1027}, {3389, 3399}, {9999, 9999}, {19000, 19000}, {19080, 19080},
	{19100, 19100}, {19390, 19390}, {20000, 30000}, {49152, 65534},
}

// maxListedRange is how long a range may be to be listed port by port in the
// capabilities, which stand in an annotation; the builder refuses the others.
const maxListedRange = 16

func isReserved(port int32) bool {
	for _, r := range reservedPorts {
		if port >= r.first && port <= r.last {
			return true
		}
	}
	return false
}

// Capabilities says what a container group can run. A resolver configuration is
// possible in a subnet only.
func (p *Provider) Capabilities() burstable.Capabilities {
	features := []burstable.Feature{
		burstable.RunAsUser, burstable.RunAsGroup, burstable.InitRunAsGroup,
		burstable.CapabilitiesAdd, burstable.CapabilitiesDrop,
		burstable.NoPrivilegeEscalation, burstable.SeccompProfile,
		burstable.ExecProbe, burstable.HTTPProbe, burstable.HTTPProbeHeaders, burstable.ProbeSuccessThreshold,
	}
	if p.config.SubnetID != "" {
		features = append(features, burstable.DNSConfig)
	}
	var ports []int32
	for _, r := range reservedPorts {
		if r.last-r.first >= maxListedRange {
			continue
		}
		for port := r.first; port <= r.last; port++ {
			ports = append(ports, port)
		}
	}
	return burstable.Capabilities{
		Provider: name,
		Features: features,
		Limits: burstable.Limits{
			Containers:     maxContainers,
			InitContainers: maxContainers - 1,
			Volumes:        maxVolumes,
			MilliCPU:       maxCPUSteps * milliCPUPerStep,
			MemoryBytes:    maxMemorySteps * bytesPerStep,
			EnvNameBytes:   maxEnvName,
			Ports:          maxPorts,
			ReservedPorts:  ports,
		},
	}
}
