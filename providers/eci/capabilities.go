package eci

import "github.com/autoburst/autoburst/policy/burstable"

// Limits of one group. Sources: the ECI limits page (containers, volumes, env,
// config files, args, reserved ports) and the members of CreateContainerGroup
// (Eci 2018-08-08) for the rest. Where the two differ, the page is narrower and
// is what counts.
const (
	maxContainers   = 20
	maxVolumes      = 20
	maxEnvNameBytes = 128
	maxEnvValue     = 256
	maxArgs         = 10
	maxCommand      = 100
	maxProbeCommand = 20
	maxEnv          = 240
	maxFiles        = 90
	maxDNS          = 20
	// A config file's content is at most 32 KiB as base64, so 24 KiB of data.
	maxFileBytes = 24 << 10
	// Every group has 30 GiB of disk without charge, and may buy up to 5000 more.
	freeDiskBytes  = 30 << 30
	maxDiskBytes   = freeDiskBytes + 5000<<30
	maxImageLength = 255
)

var reservedPorts = []burstable.PortRange{{First: 111, Last: 111}, {First: 10250, Last: 10250}, {First: 10255, Last: 10255}}

// addableCapabilities are the only ones that SecurityContext.Capability.Add
// takes.
var addableCapabilities = []string{"NET_ADMIN", "NET_RAW"}

// Capabilities says what ECI can run; it is the same for every account. The
// caller must not change its lists.
func Capabilities() burstable.Capabilities { return capabilities }

var capabilities = burstable.Capabilities{
	Provider: Name,
	Features: []burstable.Feature{
		burstable.ActiveDeadline, burstable.TerminationGracePeriod, burstable.DNSConfig,
		burstable.Hostname, burstable.HostAliases, burstable.Sysctls,
		burstable.RunAsUser, burstable.RunAsGroup, burstable.RunAsNonRoot,
		burstable.ReadOnlyRootFilesystem, burstable.CapabilitiesAdd,
		burstable.SharedPorts, burstable.ArgsWithoutCommand, burstable.WorkingDir,
		burstable.PodIPEnv, burstable.PodIPsEnv, burstable.HostIPEnv, burstable.Bandwidth,
		burstable.Stdin, burstable.TTY, burstable.Lifecycle, burstable.EphemeralStorage,
		burstable.ExecProbe, burstable.HTTPProbe, burstable.TCPProbe,
		burstable.EmptyDirMemory, burstable.EmptyDirSizeLimit,
		burstable.FileModes, burstable.NestedFilePaths, burstable.SubPath,
		burstable.ShareProcessNamespace, burstable.TerminationMessages, burstable.Sidecars,
		burstable.GPU, burstable.ECIAnnotations,
	},
	Limits: burstable.Limits{
		Containers:            maxContainers,
		InitContainers:        maxContainers,
		Volumes:               maxVolumes,
		MilliCPU:              maxMilliCPU,
		MemoryBytes:           maxMemoryBytes,
		EphemeralStorageBytes: maxDiskBytes,
		EnvNameBytes:          maxEnvNameBytes,
		EnvValueBytes:         maxEnvValue,
		Env:                   maxEnv,
		ImageBytes:            maxImageLength,
		FileBytes:             maxFileBytes,
		Command:               maxCommand,
		Args:                  maxArgs,
		ProbeCommand:          maxProbeCommand,
		ReservedPortRanges:    reservedPorts,
		Capabilities:          addableCapabilities,
	},
	Sizes:      &sizes,
	SpotOffers: &spotOffers,
}
