package burstable

// Capabilities says what a cloud can run. It is published as JSON in the
// annotation autoburst.io/capabilities of a virtual node. An unset feature
// means that pods which need it are refused.
type Capabilities struct {
	// Provider is the cloud's short name, "eci" or "aci".
	Provider string `json:"provider"`
	// Features lists the optional pod fields that the cloud carries out.
	Features []Feature `json:"features"`
	// Limits are the sizes that the cloud allows for one pod.
	Limits Limits `json:"limits"`
	// Sizes are those that the cloud sells; nil where they are not known.
	Sizes *Sizes `json:"sizes,omitempty"`
	// SpotOffers are the sizes that it sells as spot instances; nil where it sells none.
	SpotOffers *Offers `json:"spotOffers,omitempty"`
	// Annotations are settings of the cloud, by the annotation of a pod, that a pod has
	// here which does not bear the annotation itself.
	Annotations map[string]string `json:"annotations,omitempty"`
	// ForbiddenAnnotations are annotations for the cloud that no pod may bear here.
	ForbiddenAnnotations []string `json:"forbiddenAnnotations,omitempty"`
	// Waived are fields, as [WaiveAnnotation] names them, that any pod may run without
	// here: the node's owner has said so.
	Waived []string `json:"waived,omitempty"`
	// ACI is set by virtual nodes of Azure Container Instances.
	ACI *ACINode `json:"aci,omitempty"`
	// ECI is set by virtual nodes of Elastic Container Instance.
	ECI *ECINode `json:"eci,omitempty"`
}

// Has tells whether the cloud carries out f.
func (c Capabilities) Has(f Feature) bool {
	for _, have := range c.Features {
		if have == f {
			return true
		}
	}
	return false
}

// Feature names an optional part of the pod API.
type Feature string

// The features. What is in none of them is carried out for every cloud, or
// refused for every cloud; the tables in fields.go say which.
const (
	// ActiveDeadline ends the pod after spec.activeDeadlineSeconds. The agent
	// does so by its own timer; a cloud that can is told besides, and so ends the
	// pod even while the agent is away.
	ActiveDeadline Feature = "ActiveDeadline"
	// TerminationGracePeriod honours spec.terminationGracePeriodSeconds. A pod
	// with the value that the API server writes into every pod, 30, does not need
	// it: 30 is taken as "no wish", since no pod can be without it.
	TerminationGracePeriod Feature = "TerminationGracePeriod"
	// DNSConfig honours spec.dnsConfig and dnsPolicy None.
	DNSConfig Feature = "DNSConfig"
	// Hostname and HostAliases honour the fields of these names.
	Hostname    Feature = "Hostname"
	HostAliases Feature = "HostAliases"

	// Sysctls honours spec.securityContext.sysctls.
	Sysctls Feature = "Sysctls"
	// RunAsUser and RunAsGroup set the process's user and group.
	RunAsUser  Feature = "RunAsUser"
	RunAsGroup Feature = "RunAsGroup"
	// InitRunAsGroup sets it for init containers too.
	InitRunAsGroup Feature = "InitRunAsGroup"
	// RunAsNonRoot refuses to start an image whose user is root. A pod that also
	// sets a runAsUser other than 0 needs only RunAsUser.
	RunAsNonRoot Feature = "RunAsNonRoot"
	// InitRunAsNonRoot does so for init containers too.
	InitRunAsNonRoot Feature = "InitRunAsNonRoot"
	// ReadOnlyRootFilesystem mounts the image read-only.
	ReadOnlyRootFilesystem Feature = "ReadOnlyRootFilesystem"
	// CapabilitiesAdd gives the Linux capabilities of Limits.Capabilities,
	// CapabilitiesDrop takes any away.
	CapabilitiesAdd  Feature = "CapabilitiesAdd"
	CapabilitiesDrop Feature = "CapabilitiesDrop"
	// NoPrivilegeEscalation honours allowPrivilegeEscalation: false.
	NoPrivilegeEscalation Feature = "NoPrivilegeEscalation"
	// SeccompProfile honours seccompProfile of type RuntimeDefault or Unconfined.
	SeccompProfile Feature = "SeccompProfile"

	// SharedPorts lets two containers of a pod declare the same port and protocol.
	SharedPorts Feature = "SharedPorts"
	// ArgsWithoutCommand passes arguments to the image's own entry point.
	ArgsWithoutCommand Feature = "ArgsWithoutCommand"
	// WorkingDir honours workingDir.
	WorkingDir Feature = "WorkingDir"
	// PodIPEnv puts status.podIP into an environment variable, PodIPsEnv
	// status.podIPs.
	PodIPEnv  Feature = "PodIPEnv"
	PodIPsEnv Feature = "PodIPsEnv"
	// HostIPEnv does so with status.hostIP and status.hostIPs. The agent does, whose
	// node's address it is.
	HostIPEnv Feature = "HostIPEnv"
	// Stdin honours stdin and stdinOnce, TTY tty.
	Stdin Feature = "Stdin"
	TTY   Feature = "TTY"
	// Lifecycle runs postStart and preStop hooks (exec, httpGet, tcpSocket).
	Lifecycle Feature = "Lifecycle"
	// EphemeralStorage gives a pod a disk for its requests of ephemeral-storage,
	// up to Limits.EphemeralStorageBytes.
	EphemeralStorage Feature = "EphemeralStorage"

	// ExecProbe, HTTPProbe and TCPProbe are liveness and readiness probes.
	ExecProbe Feature = "ExecProbe"
	HTTPProbe Feature = "HTTPProbe"
	TCPProbe  Feature = "TCPProbe"
	// HTTPProbeHeaders sends the probe's httpHeaders.
	HTTPProbeHeaders Feature = "HTTPProbeHeaders"
	// ProbeSuccessThreshold honours a successThreshold above 1.
	ProbeSuccessThreshold Feature = "ProbeSuccessThreshold"

	// EmptyDirMemory keeps an emptyDir in memory, EmptyDirSizeLimit bounds it.
	EmptyDirMemory    Feature = "EmptyDirMemory"
	EmptyDirSizeLimit Feature = "EmptyDirSizeLimit"
	// FileModes honours modes other than 0644 in volumes made of files.
	FileModes Feature = "FileModes"
	// NestedFilePaths puts the files of a volume into directories.
	NestedFilePaths Feature = "NestedFilePaths"
	// SubPath mounts a part of a volume, named by subPath or subPathExpr.
	SubPath Feature = "SubPath"

	// ShareProcessNamespace lets the containers of a pod see each other's processes.
	ShareProcessNamespace Feature = "ShareProcessNamespace"
	// TerminationMessages honours terminationMessagePath and terminationMessagePolicy.
	TerminationMessages Feature = "TerminationMessages"
	// Sidecars runs init containers whose restartPolicy is Always beside the pod's
	// containers, where no other init container comes after them.
	Sidecars Feature = "Sidecars"
	// GPU gives a container the GPUs of the resource nvidia.com/gpu.
	GPU Feature = "GPU"
	// ECIAnnotations carries out the pod annotations that ACK documents for ECI.
	ECIAnnotations Feature = "ECIAnnotations"
	// Bandwidth bounds the traffic of a pod by the annotations that Kubernetes has for it.
	Bandwidth Feature = "Bandwidth"
	// AzureFile mounts shares of Azure Files, named by azureFile or by an inline
	// volume of the driver file.csi.azure.com.
	AzureFile Feature = "AzureFile"
)

// Features are all features, in the order of their declaration.
var Features = []Feature{
	ActiveDeadline, TerminationGracePeriod, DNSConfig, Hostname, HostAliases,
	Sysctls, RunAsUser, RunAsGroup, InitRunAsGroup, RunAsNonRoot, InitRunAsNonRoot,
	ReadOnlyRootFilesystem, CapabilitiesAdd, CapabilitiesDrop, NoPrivilegeEscalation, SeccompProfile,
	SharedPorts, ArgsWithoutCommand, WorkingDir, PodIPEnv, PodIPsEnv, HostIPEnv, Stdin, TTY, Lifecycle, EphemeralStorage,
	ExecProbe, HTTPProbe, TCPProbe, HTTPProbeHeaders, ProbeSuccessThreshold,
	EmptyDirMemory, EmptyDirSizeLimit, FileModes, NestedFilePaths, SubPath,
	ShareProcessNamespace, TerminationMessages, Sidecars, GPU, ECIAnnotations, Bandwidth, AzureFile,
}

// Limits are the bounds of one pod on a cloud. Zero means no bound is known.
type Limits struct {
	// Containers is how many containers, and InitContainers how many init
	// containers, a pod may have; AllContainers is how many of both together.
	Containers     int `json:"containers,omitempty"`
	InitContainers int `json:"initContainers,omitempty"`
	AllContainers  int `json:"allContainers,omitempty"`
	// Volumes is how many volumes a pod may have.
	Volumes int `json:"volumes,omitempty"`
	// MilliCPU is the largest sum of CPU in thousandths of a vCPU, MemoryBytes
	// the largest sum of memory.
	MilliCPU    int64 `json:"milliCPU,omitempty"`
	MemoryBytes int64 `json:"memoryBytes,omitempty"`
	// EphemeralStorageBytes is the largest sum of ephemeral storage.
	EphemeralStorageBytes int64 `json:"ephemeralStorageBytes,omitempty"`
	// EnvNameBytes and EnvValueBytes are the longest name and the longest value
	// of an environment variable.
	EnvNameBytes  int `json:"envNameBytes,omitempty"`
	EnvValueBytes int `json:"envValueBytes,omitempty"`
	// Env is how many variables of its own a container may have. Those of envFrom and
	// of Services count too where the cloud bounds them; the agent sees those.
	Env int `json:"env,omitempty"`
	// ImageBytes is the longest name of an image.
	ImageBytes int `json:"imageBytes,omitempty"`
	// FileBytes is the largest file of a volume made from a ConfigMap, Secret,
	// downward API or token. Check cannot see the files; the agent does.
	FileBytes int `json:"fileBytes,omitempty"`
	// Command and Args are how many items these fields of a container may have,
	// ProbeCommand how many the command of an exec probe.
	Command      int `json:"command,omitempty"`
	Args         int `json:"args,omitempty"`
	ProbeCommand int `json:"probeCommand,omitempty"`
	// Ports is how many ports the containers of a pod may declare together.
	Ports int `json:"ports,omitempty"`
	// ReservedPortRanges are the ports, of any protocol, that no container may
	// declare.
	ReservedPortRanges []PortRange `json:"reservedPortRanges,omitempty"`
	// Capabilities are the Linux capabilities that CapabilitiesAdd gives; empty
	// means any.
	Capabilities []string `json:"capabilities,omitempty"`
}
