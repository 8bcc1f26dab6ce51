package aci

import "github.com/autoburst/autoburst/policy/burstable"

// Limits of one container group (service limits of Azure Container Instances).
const (
	maxContainers  = 60 // init containers count too
	maxVolumes     = 20
	maxPorts       = 5
	maxEnvName     = 63
	maxNameservers = 3
	maxSearches    = 6
	maxSearchText  = 256
)

// limits are what the service allows one group. The reserved ports are those
// that it uses itself inside every group.
var limits = burstable.Limits{
	AllContainers: maxContainers,
	Volumes:       maxVolumes,
	MilliCPU:      maxCPUSteps * milliCPUPerStep,
	MemoryBytes:   maxMemorySteps * bytesPerStep,
	EnvNameBytes:  maxEnvName,
	Ports:         maxPorts,
	ReservedPortRanges: []burstable.PortRange{
		{First: 22, Last: 22}, {First: 1025, Last: 1027}, {First: 3389, Last: 3399}, {First: 9999, Last: 9999},
		{First: 19000, Last: 19000}, {First: 19080, Last: 19080}, {First: 19100, Last: 19100}, {First: 19390, Last: 19390},
		{First: 20000, Last: 30000}, {First: 49152, Last: 65534},
	},
}

// Capabilities says what ACI can run; it is the same for every account. A
// resolver configuration is possible only for groups in a subnet. The caller
// must not change the lists.
func Capabilities(inSubnet bool) burstable.Capabilities {
	features := []burstable.Feature{
		burstable.ActiveDeadline, // the service has none; the agent's timer suffices
		burstable.RunAsUser, burstable.RunAsGroup, burstable.InitRunAsGroup,
		burstable.CapabilitiesAdd, burstable.CapabilitiesDrop,
		burstable.NoPrivilegeEscalation, burstable.SeccompProfile,
		burstable.HostIPEnv, // the agent's to tell
		burstable.ExecProbe, burstable.HTTPProbe, burstable.HTTPProbeHeaders, burstable.ProbeSuccessThreshold,
		burstable.AzureFile,
	}
	if inSubnet {
		features = append(features, burstable.DNSConfig)
	}
	return burstable.Capabilities{Provider: name, Features: features, Limits: limits, Sizes: &sizes, ACI: &burstable.ACINode{}}
}

// Capabilities says what the groups of this node can run, and what the node gives
// them and lets them choose.
func (p *Provider) Capabilities() burstable.Capabilities {
	c := Capabilities(p.config.SubnetID != "")
	*c.ACI = p.config.node()
	largest := burstable.ACI{Spot: p.config.Spot, Confidential: p.config.Confidential}.Largest()
	c.Limits.MilliCPU, c.Limits.MemoryBytes = largest.MilliCPU, largest.MemoryBytes
	c.Waived = p.config.Waived
	return c
}
