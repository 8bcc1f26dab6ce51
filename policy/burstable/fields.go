package burstable

import (
	corev1 "k8s.io/api/core/v1"
)

// This file is the list of what can be in the way, field by field. A field of
// the pod API is in one of these tables, in the walk of check.go, ports.go and
// size.go, or in the list of coverage_test.go.

const (
	// defaultGraceSeconds and defaultFileMode are what the API server writes into
	// every pod that does not say otherwise (k8s.io/api/core/v1:
	// DefaultTerminationGracePeriodSeconds, ConfigMapVolumeSourceDefaultMode).
	defaultGraceSeconds = corev1.DefaultTerminationGracePeriodSeconds
	defaultFileMode     = corev1.ConfigMapVolumeSourceDefaultMode
)

func isTrue(b *bool) bool  { return b != nil && *b }
func isFalse(b *bool) bool { return b != nil && !*b }

var podRules = []rule[corev1.PodSpec]{
	{"ephemeralContainers", func(s *corev1.PodSpec) bool { return len(s.EphemeralContainers) > 0 }, anyCloud, "cannot add containers to a running pod"},
	{"terminationGracePeriodSeconds", func(s *corev1.PodSpec) bool {
		g := s.TerminationGracePeriodSeconds
		return g != nil && *g != defaultGraceSeconds
	}, TerminationGracePeriod, "does not honour a grace period of the pod's own; leave the field out, or keep the pod on local nodes"},
	{"activeDeadlineSeconds", func(s *corev1.PodSpec) bool { return s.ActiveDeadlineSeconds != nil }, ActiveDeadline, "does not end pods at a deadline"},
	{"dnsPolicy", func(s *corev1.PodSpec) bool { return s.DNSPolicy == corev1.DNSNone }, DNSConfig, "does not take a resolver configuration"},
	{"dnsConfig", func(s *corev1.PodSpec) bool {
		d := s.DNSConfig
		return d != nil && (len(d.Nameservers) > 0 || len(d.Searches) > 0 || len(d.Options) > 0)
	}, DNSConfig, "does not take a resolver configuration"},
	{"hostNetwork", func(s *corev1.PodSpec) bool { return s.HostNetwork }, anyCloud, "has no host network"},
	{"hostPID", func(s *corev1.PodSpec) bool { return s.HostPID }, anyCloud, "has no host processes to share"},
	{"hostIPC", func(s *corev1.PodSpec) bool { return s.HostIPC }, anyCloud, "has no host IPC to share"},
	{"hostUsers", func(s *corev1.PodSpec) bool { return isFalse(s.HostUsers) }, anyCloud, "does not map users into a namespace of their own"},
	{"shareProcessNamespace", func(s *corev1.PodSpec) bool { return isTrue(s.ShareProcessNamespace) }, ShareProcessNamespace, "does not share processes between containers"},
	{"hostname", func(s *corev1.PodSpec) bool { return s.Hostname != "" }, Hostname, "does not set the host name"},
	{"subdomain", func(s *corev1.PodSpec) bool { return s.Subdomain != "" }, anyCloud, "does not give pods a name below a headless Service"},
	{"setHostnameAsFQDN", func(s *corev1.PodSpec) bool { return isTrue(s.SetHostnameAsFQDN) }, anyCloud, "does not set a fully qualified host name"},
	{"hostnameOverride", func(s *corev1.PodSpec) bool { return s.HostnameOverride != nil }, anyCloud, "does not override the host name"},
	{"hostAliases", func(s *corev1.PodSpec) bool { return len(s.HostAliases) > 0 }, HostAliases, "does not add lines to the hosts file"},
	{"runtimeClassName", func(s *corev1.PodSpec) bool { return s.RuntimeClassName != nil && *s.RuntimeClassName != "" }, anyCloud, "has no choice of container runtimes"},
	{"overhead", func(s *corev1.PodSpec) bool { return len(s.Overhead) > 0 }, anyCloud, "has no choice of container runtimes, and so no overhead"},
	{"os", func(s *corev1.PodSpec) bool { return s.OS != nil && s.OS.Name != corev1.Linux }, anyCloud, "runs Linux containers only"},
	{"resourceClaims", func(s *corev1.PodSpec) bool { return len(s.ResourceClaims) > 0 }, anyCloud, "has no devices to claim"},
	{"resources", func(s *corev1.PodSpec) bool { return s.Resources != nil }, anyCloud, "takes resources from the containers, not from the pod"},
}

var podSecurityRules = []rule[corev1.PodSecurityContext]{
	{"seLinuxOptions", func(s *corev1.PodSecurityContext) bool { return s.SELinuxOptions != nil }, anyCloud, "has no SELinux labels"},
	{"windowsOptions", func(s *corev1.PodSecurityContext) bool { return s.WindowsOptions != nil }, anyCloud, "runs Linux containers only"},
	{"runAsUser", func(s *corev1.PodSecurityContext) bool { return s.RunAsUser != nil }, RunAsUser, "does not choose the user"},
	{"runAsGroup", func(s *corev1.PodSecurityContext) bool { return s.RunAsGroup != nil }, RunAsGroup, "does not choose the group"},
	{"supplementalGroups", func(s *corev1.PodSecurityContext) bool { return len(s.SupplementalGroups) > 0 }, anyCloud, "does not add groups to the process"},
	{"supplementalGroupsPolicy", func(s *corev1.PodSecurityContext) bool {
		return s.SupplementalGroupsPolicy != nil && *s.SupplementalGroupsPolicy != corev1.SupplementalGroupsPolicyMerge
	}, anyCloud, "does not restrict the image's groups"},
	{"fsGroup", func(s *corev1.PodSecurityContext) bool { return s.FSGroup != nil }, anyCloud, "does not change the group of volumes"},
	{"sysctls", func(s *corev1.PodSecurityContext) bool { return len(s.Sysctls) > 0 }, Sysctls, "does not set kernel parameters"},
	{"seccompProfile", func(s *corev1.PodSecurityContext) bool { return namesLocalSeccomp(s.SeccompProfile) }, anyCloud, "has no seccomp profiles of its own"},
	{"seccompProfile", func(s *corev1.PodSecurityContext) bool { return namesSeccomp(s.SeccompProfile) }, SeccompProfile, "does not apply seccomp profiles"},
	{"appArmorProfile", func(s *corev1.PodSecurityContext) bool { return s.AppArmorProfile != nil }, anyCloud, "does not apply AppArmor profiles"},
}

func namesLocalSeccomp(p *corev1.SeccompProfile) bool {
	return p != nil && p.Type == corev1.SeccompProfileTypeLocalhost
}

func namesSeccomp(p *corev1.SeccompProfile) bool {
	return p != nil && p.Type != corev1.SeccompProfileTypeLocalhost
}

var containerRules = []rule[corev1.Container]{
	{"args", func(c *corev1.Container) bool { return len(c.Args) > 0 && len(c.Command) == 0 }, ArgsWithoutCommand, "takes args only together with command; write the image's entry point as command"},
	{"workingDir", func(c *corev1.Container) bool { return c.WorkingDir != "" }, WorkingDir, "does not set the working directory"},
	{"resources.claims", func(c *corev1.Container) bool { return len(c.Resources.Claims) > 0 }, anyCloud, "has no devices to claim"},
	{"restartPolicyRules", func(c *corev1.Container) bool { return len(c.RestartPolicyRules) > 0 }, anyCloud, "restarts the containers of a pod alike"},
	{"volumeDevices", func(c *corev1.Container) bool { return len(c.VolumeDevices) > 0 }, anyCloud, "has no block devices"},
	{"startupProbe", func(c *corev1.Container) bool { return c.StartupProbe != nil }, anyCloud, "does not run startup probes; use initialDelaySeconds of the liveness probe"},
	{"terminationMessagePath", func(c *corev1.Container) bool {
		return c.TerminationMessagePath != "" && c.TerminationMessagePath != corev1.TerminationMessagePathDefault
	}, TerminationMessages, "reads termination messages from the default path only"},
	{"terminationMessagePolicy", func(c *corev1.Container) bool {
		return c.TerminationMessagePolicy != "" && c.TerminationMessagePolicy != corev1.TerminationMessageReadFile
	}, TerminationMessages, "does not take termination messages from the logs"},
	{"imagePullPolicy", func(c *corev1.Container) bool { return c.ImagePullPolicy == corev1.PullNever }, anyCloud, "has no images before it pulls them"},
	{"stdin", func(c *corev1.Container) bool { return c.Stdin }, Stdin, "does not keep standard input open"},
	{"stdinOnce", func(c *corev1.Container) bool { return c.StdinOnce }, Stdin, "does not keep standard input open"},
	{"tty", func(c *corev1.Container) bool { return c.TTY }, TTY, "does not allocate a terminal"},
}

// initRules are asked about init containers besides.
var initRules = []rule[corev1.Container]{
	{"stdin", func(c *corev1.Container) bool { return c.Stdin }, anyCloud, "gives init containers no standard input"},
	{"stdinOnce", func(c *corev1.Container) bool { return c.StdinOnce }, anyCloud, "gives init containers no standard input"},
	{"tty", func(c *corev1.Container) bool { return c.TTY }, anyCloud, "gives init containers no terminal"},
}

var securityRules = []rule[corev1.SecurityContext]{
	{"capabilities.add", func(s *corev1.SecurityContext) bool {
		return s.Capabilities != nil && len(s.Capabilities.Add) > 0
	}, CapabilitiesAdd, "does not add Linux capabilities"},
	{"capabilities.drop", func(s *corev1.SecurityContext) bool {
		return s.Capabilities != nil && len(s.Capabilities.Drop) > 0
	}, CapabilitiesDrop, "does not drop Linux capabilities"},
	{"privileged", func(s *corev1.SecurityContext) bool { return isTrue(s.Privileged) }, anyCloud, "runs no privileged containers"},
	{"seLinuxOptions", func(s *corev1.SecurityContext) bool { return s.SELinuxOptions != nil }, anyCloud, "has no SELinux labels"},
	{"windowsOptions", func(s *corev1.SecurityContext) bool { return s.WindowsOptions != nil }, anyCloud, "runs Linux containers only"},
	{"runAsUser", func(s *corev1.SecurityContext) bool { return s.RunAsUser != nil }, RunAsUser, "does not choose the user"},
	{"runAsGroup", func(s *corev1.SecurityContext) bool { return s.RunAsGroup != nil }, RunAsGroup, "does not choose the group"},
	{"readOnlyRootFilesystem", func(s *corev1.SecurityContext) bool { return isTrue(s.ReadOnlyRootFilesystem) }, ReadOnlyRootFilesystem, "does not mount images read-only"},
	{"allowPrivilegeEscalation", func(s *corev1.SecurityContext) bool { return isFalse(s.AllowPrivilegeEscalation) }, NoPrivilegeEscalation, "cannot forbid privilege escalation"},
	{"procMount", func(s *corev1.SecurityContext) bool {
		return s.ProcMount != nil && *s.ProcMount != corev1.DefaultProcMount
	}, anyCloud, "does not unmask /proc"},
	{"seccompProfile", func(s *corev1.SecurityContext) bool { return namesLocalSeccomp(s.SeccompProfile) }, anyCloud, "has no seccomp profiles of its own"},
	{"seccompProfile", func(s *corev1.SecurityContext) bool { return namesSeccomp(s.SeccompProfile) }, SeccompProfile, "does not apply seccomp profiles"},
	{"appArmorProfile", func(s *corev1.SecurityContext) bool { return s.AppArmorProfile != nil }, anyCloud, "does not apply AppArmor profiles"},
}

var portRules = []rule[corev1.ContainerPort]{
	{"hostPort", func(p *corev1.ContainerPort) bool { return p.HostPort != 0 }, anyCloud, "has no host ports; use a Service"},
	{"hostIP", func(p *corev1.ContainerPort) bool { return p.HostIP != "" }, anyCloud, "has no host addresses"},
	{"protocol", func(p *corev1.ContainerPort) bool { return p.Protocol == corev1.ProtocolSCTP }, anyCloud, "speaks TCP and UDP only"},
}

var mountRules = []rule[corev1.VolumeMount]{
	{"recursiveReadOnly", func(m *corev1.VolumeMount) bool {
		return m.RecursiveReadOnly != nil && *m.RecursiveReadOnly == corev1.RecursiveReadOnlyEnabled
	}, anyCloud, "does not mount recursively read-only"},
	{"subPath", func(m *corev1.VolumeMount) bool { return m.SubPath != "" }, SubPath, "mounts whole volumes only"},
	{"mountPropagation", func(m *corev1.VolumeMount) bool {
		return m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone
	}, anyCloud, "propagates no mounts, as there is no host to share them with; leave the field out"},
	{"subPathExpr", func(m *corev1.VolumeMount) bool { return m.SubPathExpr != "" }, SubPath, "mounts whole volumes only"},
}

var probeRules = []rule[corev1.Probe]{
	{"exec", func(p *corev1.Probe) bool { return p.Exec != nil }, ExecProbe, "does not run exec probes"},
	{"httpGet", func(p *corev1.Probe) bool { return p.HTTPGet != nil }, HTTPProbe, "does not run HTTP probes"},
	{"httpGet.host", func(p *corev1.Probe) bool { return p.HTTPGet != nil && p.HTTPGet.Host != "" }, anyCloud, "probes the pod itself, not other hosts; leave host out"},
	{"httpGet.httpHeaders", func(p *corev1.Probe) bool { return p.HTTPGet != nil && len(p.HTTPGet.HTTPHeaders) > 0 }, HTTPProbeHeaders, "sends no headers with HTTP probes"},
	{"tcpSocket", func(p *corev1.Probe) bool { return p.TCPSocket != nil }, TCPProbe, "does not run TCP probes"},
	{"tcpSocket.host", func(p *corev1.Probe) bool { return p.TCPSocket != nil && p.TCPSocket.Host != "" }, anyCloud, "probes the pod itself, not other hosts; leave host out"},
	{"grpc", func(p *corev1.Probe) bool { return p.GRPC != nil }, anyCloud, "does not run gRPC probes"},
	{"successThreshold", func(p *corev1.Probe) bool { return p.SuccessThreshold > 1 }, ProbeSuccessThreshold, "takes a container as ready at the first success"},
	{"terminationGracePeriodSeconds", func(p *corev1.Probe) bool { return p.TerminationGracePeriodSeconds != nil }, anyCloud, "has one grace period for the whole pod"},
}

var lifecycleRules = []rule[corev1.Lifecycle]{
	{"postStart", func(l *corev1.Lifecycle) bool { return l.PostStart != nil }, Lifecycle, "does not run hooks"},
	{"preStop", func(l *corev1.Lifecycle) bool { return l.PreStop != nil }, Lifecycle, "does not run hooks"},
	{"postStart.sleep", func(l *corev1.Lifecycle) bool { return l.PostStart != nil && l.PostStart.Sleep != nil }, anyCloud, "has no sleep hook; use exec with a sleep command"},
	{"preStop.sleep", func(l *corev1.Lifecycle) bool { return l.PreStop != nil && l.PreStop.Sleep != nil }, anyCloud, "has no sleep hook; use exec with a sleep command"},
	{"stopSignal", func(l *corev1.Lifecycle) bool { return l.StopSignal != nil }, anyCloud, "ends containers with SIGTERM only"},
}

// noVolume is the end of the sentence for sources that need a node or a driver.
const noVolume = "has volumes of type emptyDir, configMap, secret, downwardAPI and projected only"

var volumeRules = []rule[corev1.Volume]{
	{"hostPath", func(v *corev1.Volume) bool { return v.HostPath != nil }, anyCloud, "has no files of a node; use emptyDir, configMap, secret, downwardAPI or projected"},
	{"emptyDir.medium", func(v *corev1.Volume) bool {
		return v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory
	}, EmptyDirMemory, "does not keep emptyDir in memory"},
	{"emptyDir.medium", func(v *corev1.Volume) bool {
		return v.EmptyDir != nil && v.EmptyDir.Medium != "" && v.EmptyDir.Medium != corev1.StorageMediumMemory
	}, anyCloud, "has no huge pages"},
	{"emptyDir.sizeLimit", func(v *corev1.Volume) bool {
		return v.EmptyDir != nil && v.EmptyDir.SizeLimit != nil && !v.EmptyDir.SizeLimit.IsZero()
	}, EmptyDirSizeLimit, "does not bound the size of emptyDir"},
	{"gcePersistentDisk", func(v *corev1.Volume) bool { return v.GCEPersistentDisk != nil }, anyCloud, noVolume},
	{"awsElasticBlockStore", func(v *corev1.Volume) bool { return v.AWSElasticBlockStore != nil }, anyCloud, noVolume},
	{"gitRepo", func(v *corev1.Volume) bool { return v.GitRepo != nil }, anyCloud, "clones no Git repository; do that in an init container, into an emptyDir"},
	{"nfs", func(v *corev1.Volume) bool { return v.NFS != nil }, anyCloud, noVolume},
	{"iscsi", func(v *corev1.Volume) bool { return v.ISCSI != nil }, anyCloud, noVolume},
	{"glusterfs", func(v *corev1.Volume) bool { return v.Glusterfs != nil }, anyCloud, noVolume},
	{"persistentVolumeClaim", func(v *corev1.Volume) bool { return v.PersistentVolumeClaim != nil }, anyCloud, "mounts no claims, but on ACI those that are shares of Azure Files and that the annotation " + aciShareClaims + " names"},
	{"rbd", func(v *corev1.Volume) bool { return v.RBD != nil }, anyCloud, noVolume},
	{"flexVolume", func(v *corev1.Volume) bool { return v.FlexVolume != nil }, anyCloud, noVolume},
	{"cinder", func(v *corev1.Volume) bool { return v.Cinder != nil }, anyCloud, noVolume},
	{"cephfs", func(v *corev1.Volume) bool { return v.CephFS != nil }, anyCloud, noVolume},
	{"flocker", func(v *corev1.Volume) bool { return v.Flocker != nil }, anyCloud, noVolume},
	{"fc", func(v *corev1.Volume) bool { return v.FC != nil }, anyCloud, noVolume},
	{"azureFile", func(v *corev1.Volume) bool { return v.AzureFile != nil }, AzureFile, "does not mount shares of Azure Files"},
	{"vsphereVolume", func(v *corev1.Volume) bool { return v.VsphereVolume != nil }, anyCloud, noVolume},
	{"quobyte", func(v *corev1.Volume) bool { return v.Quobyte != nil }, anyCloud, noVolume},
	{"azureDisk", func(v *corev1.Volume) bool { return v.AzureDisk != nil }, anyCloud, noVolume},
	{"photonPersistentDisk", func(v *corev1.Volume) bool { return v.PhotonPersistentDisk != nil }, anyCloud, noVolume},
	{"portworxVolume", func(v *corev1.Volume) bool { return v.PortworxVolume != nil }, anyCloud, noVolume},
	{"scaleIO", func(v *corev1.Volume) bool { return v.ScaleIO != nil }, anyCloud, noVolume},
	{"storageos", func(v *corev1.Volume) bool { return v.StorageOS != nil }, anyCloud, noVolume},
	{"csi", func(v *corev1.Volume) bool { return v.CSI != nil && v.CSI.Driver != AzureFileDriver }, anyCloud, noVolume},
	{"csi", func(v *corev1.Volume) bool { return v.CSI != nil && v.CSI.Driver == AzureFileDriver }, AzureFile, "does not mount shares of Azure Files"},
	{"ephemeral", func(v *corev1.Volume) bool { return v.Ephemeral != nil }, anyCloud, noVolume},
	{"image", func(v *corev1.Volume) bool { return v.Image != nil }, anyCloud, noVolume},
}

var projectionRules = []rule[corev1.VolumeProjection]{
	{"clusterTrustBundle", func(p *corev1.VolumeProjection) bool { return p.ClusterTrustBundle != nil }, anyCloud, "does not project trust bundles"},
	{"podCertificate", func(p *corev1.VolumeProjection) bool { return p.PodCertificate != nil }, anyCloud, "does not issue certificates for pods"},
}

var envSourceRules = []rule[corev1.EnvVarSource]{
	{"valueFrom.fileKeyRef", func(s *corev1.EnvVarSource) bool { return s.FileKeyRef != nil }, anyCloud, "does not read environment variables from files"},
}
