package burstable

// Describe names the fields of a pod that f stands for, for a table of what
// each cloud can run. It is "" for a feature that this version does not know.
func (f Feature) Describe() string { return descriptions[f] }

var descriptions = map[Feature]string{
	ActiveDeadline:         "`activeDeadlineSeconds`",
	TerminationGracePeriod: "`terminationGracePeriodSeconds` other than 30",
	DNSConfig:              "`dnsConfig`, `dnsPolicy: None`",
	Hostname:               "`hostname`",
	HostAliases:            "`hostAliases`",
	Sysctls:                "`securityContext.sysctls`",
	RunAsUser:              "`runAsUser`",
	RunAsGroup:             "`runAsGroup`",
	InitRunAsGroup:         "`runAsGroup` of init containers",
	RunAsNonRoot:           "`runAsNonRoot` without a `runAsUser` other than 0",
	InitRunAsNonRoot:       "`runAsNonRoot` without a `runAsUser` other than 0, for init containers",
	ReadOnlyRootFilesystem: "`readOnlyRootFilesystem`",
	CapabilitiesAdd:        "`capabilities.add`",
	CapabilitiesDrop:       "`capabilities.drop`",
	NoPrivilegeEscalation:  "`allowPrivilegeEscalation: false`",
	SeccompProfile:         "`seccompProfile` of type RuntimeDefault or Unconfined",
	SharedPorts:            "the same port and protocol in two containers",
	ArgsWithoutCommand:     "`args` without `command`",
	WorkingDir:             "`workingDir`",
	PodIPEnv:               "environment variables from `status.podIP`",
	Stdin:                  "`stdin`, `stdinOnce`",
	TTY:                    "`tty`",
	Lifecycle:              "`lifecycle.postStart`, `lifecycle.preStop`",
	EphemeralStorage:       "requests and limits of `ephemeral-storage`",
	ExecProbe:              "liveness and readiness probes by `exec`",
	HTTPProbe:              "liveness and readiness probes by `httpGet`",
	TCPProbe:               "liveness and readiness probes by `tcpSocket`",
	HTTPProbeHeaders:       "`httpHeaders` of probes",
	ProbeSuccessThreshold:  "`successThreshold` above 1",
	EmptyDirMemory:         "`emptyDir.medium: Memory`",
	EmptyDirSizeLimit:      "`emptyDir.sizeLimit`",
	FileModes:              "file modes other than 0644 in volumes made of files",
	NestedFilePaths:        "directories in volumes made of files",
	SubPath:                "`volumeMounts[].subPath`",
	AzureFile:              "volumes of `azureFile`, and of `csi` with the driver `file.csi.azure.com`",
}
