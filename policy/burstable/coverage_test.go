package burstable

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// use is one way to use a field, and the refusal that it must cause.
type use struct {
	field string // the refused path, without indexes
	need  Feature
	set   func(*corev1.PodSpec)
}

func ptr[T any](v T) *T { return &v }

// first is the first container of the pod that a use changes.
func first(f func(*corev1.Container)) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) { f(&s.Containers[0]) }
}

func initContainer(f func(*corev1.Container)) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) {
		s.InitContainers = make([]corev1.Container, 1)
		f(&s.InitContainers[0])
	}
}

func security(f func(*corev1.SecurityContext)) func(*corev1.PodSpec) {
	return first(func(c *corev1.Container) {
		c.SecurityContext = &corev1.SecurityContext{}
		f(c.SecurityContext)
	})
}

func podSecurity(f func(*corev1.PodSecurityContext)) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) {
		s.SecurityContext = &corev1.PodSecurityContext{}
		f(s.SecurityContext)
	}
}

func volume(src corev1.VolumeSource) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) { s.Volumes = []corev1.Volume{{Name: "v", VolumeSource: src}} }
}

func projection(p corev1.VolumeProjection) func(*corev1.PodSpec) {
	return volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{p}}})
}

func probe(p corev1.Probe) func(*corev1.PodSpec) {
	return first(func(c *corev1.Container) { c.ReadinessProbe = &p })
}

func httpProbe(g corev1.HTTPGetAction) func(*corev1.PodSpec) {
	return probe(corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &g}})
}

func lifecycle(l corev1.Lifecycle) func(*corev1.PodSpec) {
	return first(func(c *corev1.Container) { c.Lifecycle = &l })
}

func port(p corev1.ContainerPort) func(*corev1.PodSpec) {
	return first(func(c *corev1.Container) { c.Ports = []corev1.ContainerPort{p} })
}

func env(vars ...corev1.EnvVar) func(*corev1.PodSpec) {
	return first(func(c *corev1.Container) { c.Env = vars })
}

func mount(m corev1.VolumeMount) func(*corev1.PodSpec) {
	return first(func(c *corev1.Container) { c.VolumeMounts = []corev1.VolumeMount{m} })
}

func status(field string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status." + field}}
}

var podIP = &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}

var uses = []use{
	{"spec.ephemeralContainers", "", func(s *corev1.PodSpec) { s.EphemeralContainers = make([]corev1.EphemeralContainer, 1) }},
	{"spec.terminationGracePeriodSeconds", TerminationGracePeriod, func(s *corev1.PodSpec) { s.TerminationGracePeriodSeconds = ptr(int64(0)) }},
	{"spec.activeDeadlineSeconds", ActiveDeadline, func(s *corev1.PodSpec) { s.ActiveDeadlineSeconds = ptr(int64(1)) }},
	{"spec.dnsPolicy", DNSConfig, func(s *corev1.PodSpec) { s.DNSPolicy = corev1.DNSNone }},
	{"spec.dnsConfig", DNSConfig, func(s *corev1.PodSpec) { s.DNSConfig = &corev1.PodDNSConfig{Searches: []string{"x"}} }},
	{"spec.hostNetwork", "", func(s *corev1.PodSpec) { s.HostNetwork = true }},
	{"spec.hostPID", "", func(s *corev1.PodSpec) { s.HostPID = true }},
	{"spec.hostIPC", "", func(s *corev1.PodSpec) { s.HostIPC = true }},
	{"spec.hostUsers", "", func(s *corev1.PodSpec) { s.HostUsers = ptr(false) }},
	{"spec.shareProcessNamespace", ShareProcessNamespace, func(s *corev1.PodSpec) { s.ShareProcessNamespace = ptr(true) }},
	{"spec.hostname", Hostname, func(s *corev1.PodSpec) { s.Hostname = "h" }},
	{"spec.subdomain", "", func(s *corev1.PodSpec) { s.Subdomain = "d" }},
	{"spec.setHostnameAsFQDN", "", func(s *corev1.PodSpec) { s.SetHostnameAsFQDN = ptr(true) }},
	{"spec.hostnameOverride", "", func(s *corev1.PodSpec) { s.HostnameOverride = ptr("h") }},
	{"spec.hostAliases", HostAliases, func(s *corev1.PodSpec) { s.HostAliases = make([]corev1.HostAlias, 1) }},
	{"spec.runtimeClassName", "", func(s *corev1.PodSpec) { s.RuntimeClassName = ptr("kata") }},
	{"spec.overhead", "", func(s *corev1.PodSpec) { s.Overhead = corev1.ResourceList{"cpu": resource.MustParse("1")} }},
	{"spec.os", "", func(s *corev1.PodSpec) { s.OS = &corev1.PodOS{Name: corev1.Windows} }},
	{"spec.resourceClaims", "", func(s *corev1.PodSpec) { s.ResourceClaims = make([]corev1.PodResourceClaim, 1) }},
	{"spec.resources", "", func(s *corev1.PodSpec) { s.Resources = &corev1.ResourceRequirements{} }},
	{"spec.initContainers", "", func(s *corev1.PodSpec) {
		s.InitContainers = make([]corev1.Container, testLimits.InitContainers+1)
	}},
	{"spec.containers", "", func(s *corev1.PodSpec) { s.Containers = make([]corev1.Container, testLimits.Containers+1) }},
	{"spec.containers", "", func(s *corev1.PodSpec) {
		s.InitContainers = make([]corev1.Container, testLimits.InitContainers)
		s.Containers = make([]corev1.Container, testLimits.AllContainers-testLimits.InitContainers+1)
	}},
	{"spec.volumes", "", func(s *corev1.PodSpec) { s.Volumes = make([]corev1.Volume, testLimits.Volumes+1) }},

	{"spec.securityContext.seLinuxOptions", "", podSecurity(func(s *corev1.PodSecurityContext) { s.SELinuxOptions = &corev1.SELinuxOptions{} })},
	{"spec.securityContext.windowsOptions", "", podSecurity(func(s *corev1.PodSecurityContext) { s.WindowsOptions = &corev1.WindowsSecurityContextOptions{} })},
	{"spec.securityContext.runAsUser", RunAsUser, podSecurity(func(s *corev1.PodSecurityContext) { s.RunAsUser = ptr(int64(1)) })},
	{"spec.securityContext.runAsGroup", RunAsGroup, podSecurity(func(s *corev1.PodSecurityContext) { s.RunAsGroup = ptr(int64(1)) })},
	{"spec.securityContext.supplementalGroups", "", podSecurity(func(s *corev1.PodSecurityContext) { s.SupplementalGroups = []int64{1} })},
	{"spec.securityContext.supplementalGroupsPolicy", "", podSecurity(func(s *corev1.PodSecurityContext) {
		s.SupplementalGroupsPolicy = ptr(corev1.SupplementalGroupsPolicyStrict)
	})},
	{"spec.securityContext.fsGroup", "", podSecurity(func(s *corev1.PodSecurityContext) { s.FSGroup = ptr(int64(1)) })},
	{"spec.securityContext.sysctls", Sysctls, podSecurity(func(s *corev1.PodSecurityContext) { s.Sysctls = make([]corev1.Sysctl, 1) })},
	{"spec.securityContext.seccompProfile", SeccompProfile, podSecurity(func(s *corev1.PodSecurityContext) {
		s.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	})},
	{"spec.securityContext.seccompProfile", "", podSecurity(func(s *corev1.PodSecurityContext) {
		s.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost}
	})},
	{"spec.securityContext.appArmorProfile", "", podSecurity(func(s *corev1.PodSecurityContext) { s.AppArmorProfile = &corev1.AppArmorProfile{} })},
	{"spec.containers.securityContext.runAsNonRoot", RunAsNonRoot, podSecurity(func(s *corev1.PodSecurityContext) { s.RunAsNonRoot = ptr(true) })},

	{"spec.containers.command", "", first(func(c *corev1.Container) { c.Command = make([]string, testLimits.Command+1) })},
	{"spec.containers.args", "", first(func(c *corev1.Container) { c.Args = make([]string, testLimits.Args+1); c.Command = []string{"x"} })},
	{"spec.containers.args", ArgsWithoutCommand, first(func(c *corev1.Container) { c.Args = []string{"x"} })},
	{"spec.containers.workingDir", WorkingDir, first(func(c *corev1.Container) { c.WorkingDir = "/" })},
	{"spec.containers.ports.hostPort", "", port(corev1.ContainerPort{HostPort: 1})},
	{"spec.containers.ports.hostIP", "", port(corev1.ContainerPort{HostIP: "1.2.3.4"})},
	{"spec.containers.ports.protocol", "", port(corev1.ContainerPort{Protocol: corev1.ProtocolSCTP})},
	{"spec.containers.ports.containerPort", "", port(corev1.ContainerPort{ContainerPort: testLimits.ReservedPortRanges[0].First})},
	{"spec.containers.ports.containerPort", "", port(corev1.ContainerPort{ContainerPort: testLimits.ReservedPortRanges[1].Last})},
	{"spec.containers.ports.containerPort", SharedPorts, func(s *corev1.PodSpec) {
		s.Containers = []corev1.Container{
			{Name: "a", Ports: []corev1.ContainerPort{{ContainerPort: 80}}},
			{Name: "b", Ports: []corev1.ContainerPort{{ContainerPort: 80, Protocol: corev1.ProtocolTCP}}},
		}
	}},
	{"spec.containers", "", first(func(c *corev1.Container) { c.Ports = make([]corev1.ContainerPort, testLimits.Ports+1) })},
	{"spec.containers.envFrom.prefix", "", first(func(c *corev1.Container) { c.EnvFrom = []corev1.EnvFromSource{{Prefix: "a."}} })},
	{"spec.containers.env.name", "", env(corev1.EnvVar{Name: "a.b"})},
	{"spec.containers.env.name", "", env(corev1.EnvVar{Name: strings.Repeat("a", testLimits.EnvNameBytes+1)})},
	{"spec.containers.env.value", "", env(corev1.EnvVar{Name: "a", Value: strings.Repeat("a", testLimits.EnvValueBytes+1)})},
	{"spec.containers.env.value", "", env(corev1.EnvVar{Name: "IP", ValueFrom: podIP}, corev1.EnvVar{Name: "URL", Value: "http://$(IP)"})},
	{"spec.containers.command", "", first(func(c *corev1.Container) {
		c.Env, c.Command = []corev1.EnvVar{{Name: "IP", ValueFrom: podIP}}, []string{"serve", "$(IP)"}
	})},
	{"spec.containers.args", "", first(func(c *corev1.Container) {
		c.Env, c.Command, c.Args = []corev1.EnvVar{{Name: "IP", ValueFrom: podIP}}, []string{"serve"}, []string{"$(IP)"}
	})},
	{"spec.containers.volumeMounts.subPathExpr", "", first(func(c *corev1.Container) {
		c.Env, c.VolumeMounts = []corev1.EnvVar{{Name: "IP", ValueFrom: podIP}}, []corev1.VolumeMount{{SubPathExpr: "of-$(IP)"}}
	})},
	{"spec.containers.env", "", first(func(c *corev1.Container) {
		for i := range testLimits.Env + 1 {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("A%d", i)})
		}
	})},
	{"spec.containers.image", "", first(func(c *corev1.Container) { c.Image = strings.Repeat("a", testLimits.ImageBytes+1) })},
	{"spec.initContainers.stdin", "", initContainer(func(c *corev1.Container) { c.Stdin = true })},
	{"spec.initContainers.stdinOnce", "", initContainer(func(c *corev1.Container) { c.StdinOnce = true })},
	{"spec.initContainers.tty", "", initContainer(func(c *corev1.Container) { c.TTY = true })},
	{"spec.containers.env.valueFrom.fieldRef.fieldPath", PodIPEnv, env(corev1.EnvVar{Name: "a", ValueFrom: podIP})},
	{"spec.containers.env.valueFrom.fieldRef.fieldPath", PodIPsEnv, env(corev1.EnvVar{Name: "a", ValueFrom: status("podIPs")})},
	{"spec.containers.env.valueFrom.fieldRef.fieldPath", HostIPEnv, env(corev1.EnvVar{Name: "a", ValueFrom: status("hostIP")})},
	{"spec.containers.env.valueFrom.fieldRef.fieldPath", HostIPEnv, env(corev1.EnvVar{Name: "a", ValueFrom: status("hostIPs")})},
	{"spec.containers.env.valueFrom.fieldRef.fieldPath", "", env(corev1.EnvVar{Name: "a", ValueFrom: status("phase")})},
	{"spec.containers.env.value", "", env(corev1.EnvVar{Name: "IPS", ValueFrom: status("podIPs")}, corev1.EnvVar{Name: "URL", Value: "http://$(IPS)"})},
	{"spec.containers.volumeMounts.mountPath", "", first(func(c *corev1.Container) {
		c.VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/data"}, {Name: "w", MountPath: "/data/"}}
	})},
	{"spec.containers.env.valueFrom.fileKeyRef", "", env(corev1.EnvVar{Name: "a", ValueFrom: &corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{}}})},
	{"spec.containers.resources.claims", "", first(func(c *corev1.Container) { c.Resources.Claims = make([]corev1.ResourceClaim, 1) })},
	{"spec.containers.resources.requests.ephemeral-storage", EphemeralStorage, first(func(c *corev1.Container) {
		c.Resources.Requests = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("1")}
	})},
	{"spec.containers.resources.limits.example.com/fpga", "", first(func(c *corev1.Container) {
		c.Resources.Limits = corev1.ResourceList{"example.com/fpga": resource.MustParse("1")}
	})},
	{"spec.containers.resources.limits.nvidia.com/gpu", GPU, first(func(c *corev1.Container) {
		c.Resources.Limits = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1")}
	})},
	{"spec.containers", "", first(func(c *corev1.Container) {
		c.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100")}
	})},
	{"spec.containers", "", first(func(c *corev1.Container) {
		c.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Ti")}
	})},
	{"spec.containers.restartPolicy", "", first(func(c *corev1.Container) { c.RestartPolicy = ptr(corev1.ContainerRestartPolicyAlways) })},
	{"spec.containers.restartPolicyRules", "", first(func(c *corev1.Container) { c.RestartPolicyRules = make([]corev1.ContainerRestartRule, 1) })},
	{"spec.containers.volumeDevices", "", first(func(c *corev1.Container) { c.VolumeDevices = make([]corev1.VolumeDevice, 1) })},
	{"spec.containers.startupProbe", "", first(func(c *corev1.Container) { c.StartupProbe = &corev1.Probe{} })},
	{"spec.containers.terminationMessagePath", TerminationMessages, first(func(c *corev1.Container) { c.TerminationMessagePath = "/x" })},
	{"spec.containers.terminationMessagePolicy", TerminationMessages, first(func(c *corev1.Container) {
		c.TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
	})},
	{"spec.containers.imagePullPolicy", "", first(func(c *corev1.Container) { c.ImagePullPolicy = corev1.PullNever })},
	{"spec.containers.stdin", Stdin, first(func(c *corev1.Container) { c.Stdin = true })},
	{"spec.containers.stdinOnce", Stdin, first(func(c *corev1.Container) { c.StdinOnce = true })},
	{"spec.containers.tty", TTY, first(func(c *corev1.Container) { c.TTY = true })},

	{"spec.containers.volumeMounts.recursiveReadOnly", "", mount(corev1.VolumeMount{RecursiveReadOnly: ptr(corev1.RecursiveReadOnlyEnabled)})},
	{"spec.containers.volumeMounts.subPath", SubPath, mount(corev1.VolumeMount{SubPath: "a"})},
	{"spec.containers.volumeMounts.subPathExpr", SubPath, mount(corev1.VolumeMount{SubPathExpr: "a"})},
	{"spec.containers.volumeMounts.mountPropagation", "", mount(corev1.VolumeMount{MountPropagation: ptr(corev1.MountPropagationHostToContainer)})},

	{"spec.containers.readinessProbe.exec", ExecProbe, probe(corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{}}})},
	{"spec.containers.readinessProbe.exec.command", "", probe(corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: make([]string, testLimits.ProbeCommand+1)}}})},
	{"spec.containers.readinessProbe.httpGet", HTTPProbe, httpProbe(corev1.HTTPGetAction{Port: intstr.FromInt32(1)})},
	{"spec.containers.readinessProbe.httpGet.host", "", httpProbe(corev1.HTTPGetAction{Host: "h"})},
	{"spec.containers.readinessProbe.httpGet.httpHeaders", HTTPProbeHeaders, httpProbe(corev1.HTTPGetAction{HTTPHeaders: make([]corev1.HTTPHeader, 1)})},
	{"spec.containers.readinessProbe.httpGet.port", "", httpProbe(corev1.HTTPGetAction{Port: intstr.FromString("web")})},
	{"spec.containers.readinessProbe.tcpSocket", TCPProbe, probe(corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{}}})},
	{"spec.containers.readinessProbe.tcpSocket.host", "", probe(corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Host: "h"}}})},
	{"spec.containers.readinessProbe.tcpSocket.port", "", probe(corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("web")}}})},
	{"spec.containers.readinessProbe.grpc", "", probe(corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{}}})},
	{"spec.containers.readinessProbe.successThreshold", ProbeSuccessThreshold, probe(corev1.Probe{SuccessThreshold: 2})},
	{"spec.containers.readinessProbe.terminationGracePeriodSeconds", "", probe(corev1.Probe{TerminationGracePeriodSeconds: ptr(int64(1))})},
	{"spec.containers.lifecycle.postStart", Lifecycle, lifecycle(corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{}})},
	{"spec.containers.lifecycle.postStart.sleep", "", lifecycle(corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{}}})},
	{"spec.containers.lifecycle.postStart.httpGet.port", "", lifecycle(corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromString("web")}}})},
	{"spec.containers.lifecycle.postStart.tcpSocket.port", "", lifecycle(corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("web")}}})},
	{"spec.containers.lifecycle.preStop", Lifecycle, lifecycle(corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{}})},
	{"spec.containers.lifecycle.preStop.sleep", "", lifecycle(corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{}}})},
	{"spec.containers.lifecycle.stopSignal", "", lifecycle(corev1.Lifecycle{StopSignal: ptr(corev1.SIGINT)})},

	{"spec.containers.securityContext.capabilities.add", CapabilitiesAdd, security(func(s *corev1.SecurityContext) {
		s.Capabilities = &corev1.Capabilities{Add: []corev1.Capability{corev1.Capability(testLimits.Capabilities[0])}}
	})},
	{"spec.containers.securityContext.capabilities.add", "", security(func(s *corev1.SecurityContext) {
		s.Capabilities = &corev1.Capabilities{Add: []corev1.Capability{"SYS_ADMIN"}}
	})},
	{"spec.containers.securityContext.capabilities.drop", CapabilitiesDrop, security(func(s *corev1.SecurityContext) {
		s.Capabilities = &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}
	})},
	{"spec.containers.securityContext.privileged", "", security(func(s *corev1.SecurityContext) { s.Privileged = ptr(true) })},
	{"spec.containers.securityContext.seLinuxOptions", "", security(func(s *corev1.SecurityContext) { s.SELinuxOptions = &corev1.SELinuxOptions{} })},
	{"spec.containers.securityContext.windowsOptions", "", security(func(s *corev1.SecurityContext) { s.WindowsOptions = &corev1.WindowsSecurityContextOptions{} })},
	{"spec.containers.securityContext.runAsUser", RunAsUser, security(func(s *corev1.SecurityContext) { s.RunAsUser = ptr(int64(1)) })},
	{"spec.containers.securityContext.runAsGroup", RunAsGroup, security(func(s *corev1.SecurityContext) { s.RunAsGroup = ptr(int64(1)) })},
	{"spec.containers.securityContext.runAsNonRoot", RunAsNonRoot, security(func(s *corev1.SecurityContext) { s.RunAsNonRoot = ptr(true) })},
	{"spec.containers.securityContext.readOnlyRootFilesystem", ReadOnlyRootFilesystem, security(func(s *corev1.SecurityContext) { s.ReadOnlyRootFilesystem = ptr(true) })},
	{"spec.containers.securityContext.allowPrivilegeEscalation", NoPrivilegeEscalation, security(func(s *corev1.SecurityContext) { s.AllowPrivilegeEscalation = ptr(false) })},
	{"spec.containers.securityContext.procMount", "", security(func(s *corev1.SecurityContext) { s.ProcMount = ptr(corev1.UnmaskedProcMount) })},
	{"spec.containers.securityContext.seccompProfile", SeccompProfile, security(func(s *corev1.SecurityContext) {
		s.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	})},
	{"spec.containers.securityContext.seccompProfile", "", security(func(s *corev1.SecurityContext) {
		s.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost}
	})},
	{"spec.containers.securityContext.appArmorProfile", "", security(func(s *corev1.SecurityContext) { s.AppArmorProfile = &corev1.AppArmorProfile{} })},

	{"spec.volumes.emptyDir.medium", EmptyDirMemory, volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}})},
	{"spec.volumes.emptyDir.medium", "", volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumHugePages}})},
	{"spec.volumes.emptyDir.sizeLimit", EmptyDirSizeLimit, volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: ptr(resource.MustParse("1Gi"))}})},
	{"spec.volumes.configMap.defaultMode", FileModes, volume(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{DefaultMode: ptr(int32(0o400))}})},
	{"spec.volumes.configMap.items.mode", FileModes, volume(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{Items: []corev1.KeyToPath{{Mode: ptr(int32(0o400))}}}})},
	{"spec.volumes.configMap.items.path", NestedFilePaths, volume(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{Items: []corev1.KeyToPath{{Path: "a/b"}}}})},
	{"spec.volumes.secret.defaultMode", FileModes, volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{DefaultMode: ptr(int32(0o400))}})},
	{"spec.volumes.secret.items.mode", FileModes, volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{Items: []corev1.KeyToPath{{Mode: ptr(int32(0o400))}}}})},
	{"spec.volumes.secret.items.path", NestedFilePaths, volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{Items: []corev1.KeyToPath{{Path: "a/b"}}}})},
	{"spec.volumes.downwardAPI.defaultMode", FileModes, volume(corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{DefaultMode: ptr(int32(0o400))}})},
	{"spec.volumes.downwardAPI.items.mode", FileModes, volume(corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{Mode: ptr(int32(0o400))}}}})},
	{"spec.volumes.downwardAPI.items.path", NestedFilePaths, volume(corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{Path: "a/b"}}}})},
	{"spec.volumes.downwardAPI.items.fieldRef.fieldPath", "", volume(corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{FieldRef: podIP.FieldRef}}}})},
	{"spec.volumes.projected.defaultMode", FileModes, volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{DefaultMode: ptr(int32(0o400))}})},
	{"spec.volumes.projected.sources.clusterTrustBundle", "", projection(corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{}})},
	{"spec.volumes.projected.sources.podCertificate", "", projection(corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{}})},
	{"spec.volumes.projected.sources.configMap.items.mode", FileModes, projection(corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{Items: []corev1.KeyToPath{{Mode: ptr(int32(0o400))}}}})},
	{"spec.volumes.projected.sources.configMap.items.path", NestedFilePaths, projection(corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{Items: []corev1.KeyToPath{{Path: "a/b"}}}})},
	{"spec.volumes.projected.sources.secret.items.mode", FileModes, projection(corev1.VolumeProjection{Secret: &corev1.SecretProjection{Items: []corev1.KeyToPath{{Mode: ptr(int32(0o400))}}}})},
	{"spec.volumes.projected.sources.secret.items.path", NestedFilePaths, projection(corev1.VolumeProjection{Secret: &corev1.SecretProjection{Items: []corev1.KeyToPath{{Path: "a/b"}}}})},
	{"spec.volumes.projected.sources.downwardAPI.items.mode", FileModes, projection(corev1.VolumeProjection{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Mode: ptr(int32(0o400))}}}})},
	{"spec.volumes.projected.sources.downwardAPI.items.path", NestedFilePaths, projection(corev1.VolumeProjection{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "a/b"}}}})},
	{"spec.volumes.projected.sources.downwardAPI.items.fieldRef.fieldPath", "", projection(corev1.VolumeProjection{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{FieldRef: podIP.FieldRef}}}})},
	{"spec.volumes.azureFile", AzureFile, volume(corev1.VolumeSource{AzureFile: &corev1.AzureFileVolumeSource{SecretName: "s", ShareName: "s"}})},
	{"spec.volumes.csi", AzureFile, shareByDriver(func(*corev1.CSIVolumeSource) {})},
	{"spec.volumes.csi", "", volume(corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "disk.csi.azure.com"}})},
	{"spec.volumes.csi.fsType", "", shareByDriver(func(v *corev1.CSIVolumeSource) { v.FSType = ptr("nfs") })},
	{"spec.volumes.csi.nodePublishSecretRef", "", shareByDriver(func(v *corev1.CSIVolumeSource) { v.NodePublishSecretRef = &corev1.LocalObjectReference{} })},
	{"spec.volumes.csi.volumeAttributes.mountOptions", "", shareByDriver(func(v *corev1.CSIVolumeSource) { v.VolumeAttributes["mountOptions"] = "nobrl" })},
	{"spec.volumes.csi.volumeAttributes.shareName", "", shareByDriver(func(v *corev1.CSIVolumeSource) { delete(v.VolumeAttributes, "shareName") })},
	{"spec.containers.securityContext.runAsUser", "", func(s *corev1.PodSpec) {
		volume(corev1.VolumeSource{AzureFile: &corev1.AzureFileVolumeSource{}})(s)
		mount(corev1.VolumeMount{Name: "v"})(s)
		podSecurity(func(s *corev1.PodSecurityContext) { s.RunAsUser = ptr(int64(1000)) })(s)
	}},
	{"spec.volumes.projected.sources.serviceAccountToken.path", NestedFilePaths, projection(corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "a/b"}})},
}

// shareByDriver is a share of Azure Files as an inline volume of its driver.
func shareByDriver(edit func(*corev1.CSIVolumeSource)) func(*corev1.PodSpec) {
	v := corev1.CSIVolumeSource{Driver: AzureFileDriver, VolumeAttributes: map[string]string{"secretName": "s", "shareName": "s"}}
	edit(&v)
	return volume(corev1.VolumeSource{CSI: &v})
}

// foreignVolumes are the sources that are refused whole, found by reflection
// so that a new one cannot be forgotten.
func foreignVolumes() []use {
	ours := []string{"EmptyDir", "ConfigMap", "Secret", "DownwardAPI", "Projected", "AzureFile", "CSI"}
	var out []use
	t := reflect.TypeFor[corev1.VolumeSource]()
	for i := range t.NumField() {
		f := t.Field(i)
		if slices.Contains(ours, f.Name) {
			continue
		}
		var src corev1.VolumeSource
		reflect.ValueOf(&src).Elem().Field(i).Set(reflect.New(f.Type.Elem()))
		out = append(out, use{field: "spec.volumes." + jsonName(f), set: volume(src)})
	}
	return out
}

func allUses() []use {
	return slices.Concat(uses, foreignVolumes())
}

var testLimits = Limits{
	Containers: 3, InitContainers: 2, AllContainers: 4, Volumes: 4, MilliCPU: 64000, MemoryBytes: 512 << 30,
	EphemeralStorageBytes: 30 << 30, EnvNameBytes: 128, EnvValueBytes: 256, FileBytes: 1 << 10,
	Env: 6, ImageBytes: 255,
	Command: 100, Args: 10, ProbeCommand: 20, Ports: 5, ReservedPortRanges: []PortRange{{111, 111}, {20000, 30000}},
	Capabilities: []string{"NET_ADMIN", "NET_RAW"},
}

func everything() Capabilities {
	return Capabilities{Provider: "test", Features: Features, Limits: testLimits}
}

func without(f Feature) Capabilities {
	c := everything()
	c.Features = slices.DeleteFunc(slices.Clone(c.Features), func(have Feature) bool { return have == f })
	return c
}

func smallPod() *corev1.Pod {
	return &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "nginx"}}}}
}

var index = regexp.MustCompile(`\[\d+\]`)

func fieldsOf(refusals []Refusal) []string {
	var out []string
	for _, r := range refusals {
		out = append(out, index.ReplaceAllString(r.Field, ""))
	}
	return out
}

func TestEveryUseIsRefusedOrCarried(t *testing.T) {
	for _, u := range allUses() {
		t.Run(u.field+"/"+string(u.need), func(t *testing.T) {
			pod := smallPod()
			u.set(&pod.Spec)
			if got := fieldsOf(Check(pod, without(u.need))); !slices.Contains(got, u.field) {
				t.Errorf("without %q: refused %q, want %s among them", u.need, got, u.field)
			}
			got := fieldsOf(Check(pod, everything()))
			if refused := slices.Contains(got, u.field); refused != (u.need == "") {
				t.Errorf("with every feature: refused %q, want %s among them: %v", got, u.field, u.need == "")
			}
		})
	}
}

func TestEveryFeatureIsUsed(t *testing.T) {
	seen := map[Feature]bool{
		InitRunAsGroup: true, InitRunAsNonRoot: true, // TestInitContainers
		Sidecars: true, ECIAnnotations: true, Bandwidth: true, // TestSidecars, TestECIAnnotations, TestWhoBoundsBandwidth
	}
	for _, u := range allUses() {
		seen[u.need] = true
	}
	for _, f := range Features {
		if !seen[f] {
			t.Errorf("feature %s carries out no field", f)
		}
		if f.Describe() == "" {
			t.Errorf("feature %s has no description", f)
		}
	}
	if n := len(slices.Compact(slices.Sorted(slices.Values(Features)))); n != len(Features) {
		t.Errorf("Features has %d entries, %d of them different", len(Features), n)
	}
}

// TestEveryFieldIsInAList walks the pod API as it is compiled in: a field that
// a new version of Kubernetes adds fails here until someone decides about it.
func TestEveryFieldIsInAList(t *testing.T) {
	refusedWhole, refused := map[string]bool{}, map[string]bool{}
	for _, u := range allUses() {
		refused[u.field] = true
	}
	for _, u := range foreignVolumes() {
		refusedWhole[u.field] = true
	}
	for _, f := range []string{
		"spec.ephemeralContainers", "spec.overhead", "spec.resourceClaims", "spec.resources",
		"spec.securityContext.seLinuxOptions", "spec.securityContext.windowsOptions", "spec.securityContext.appArmorProfile",
		"spec.containers.securityContext.seLinuxOptions", "spec.containers.securityContext.windowsOptions",
		"spec.containers.securityContext.appArmorProfile", "spec.containers.restartPolicyRules",
		"spec.containers.resources.claims", "spec.containers.volumeDevices", "spec.containers.startupProbe",
		"spec.containers.readinessProbe.grpc", "spec.containers.lifecycle.postStart.sleep", "spec.containers.env.valueFrom.fileKeyRef",
		"spec.volumes.projected.sources.clusterTrustBundle", "spec.volumes.projected.sources.podCertificate",
		"spec.volumes.csi.nodePublishSecretRef",
	} {
		refusedWhole[f] = true
		if !refused[f] {
			t.Errorf("%s should be refused whole, but no use of it is", f)
		}
	}

	sameTypes := map[string]string{}
	known, types := map[string]bool{}, map[string]reflect.Type{}
	var walk func(at string, typ reflect.Type)
	walk = func(at string, typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if types[at] == nil { // not what is embedded in it
			types[at] = typ
		}
		if by, ok := carried[at+".*"]; ok {
			known[at+".*"] = true
			if of, same := strings.CutPrefix(by, sameAs); same {
				sameTypes[at] = of
			} else if by != byScheduler && !strings.HasPrefix(by, noEffect) {
				t.Errorf("%s.* speaks for fields that a new Kubernetes may add below it; name them one by one", at)
			}
			return
		}
		if refusedWhole[at] {
			return
		}
		if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[resource.Quantity]() || typ == reflect.TypeFor[intstr.IntOrString]() {
			if typ.Kind() == reflect.Map && slices.ContainsFunc(slices.Collect(maps.Keys(refused)), func(f string) bool { return strings.HasPrefix(f, at+".") }) {
				return
			}
			if _, ok := carried[at]; ok {
				known[at] = true
			} else if !refused[at] {
				t.Errorf("%s (%s) is in no list: say in fields.go what it needs, or in carried who carries it out", at, typ)
			}
			return
		}
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Anonymous {
				walk(at, f.Type)
				continue
			}
			walk(at+"."+jsonName(f), f.Type)
		}
	}
	spec := reflect.TypeFor[corev1.PodSpec]()
	for i := range spec.NumField() {
		f := spec.Field(i)
		if f.Name == "InitContainers" { // of the type of Containers
			if f.Type != reflect.TypeFor[[]corev1.Container]() {
				t.Errorf("initContainers is of type %s now", f.Type)
			}
			continue
		}
		walk("spec."+jsonName(f), f.Type)
	}
	for at, of := range sameTypes {
		if types[of] == nil || types[at] != types[of] {
			t.Errorf("%s is of type %s and cannot be judged as %s, which is of %v", at, types[at], of, types[of])
		}
	}
	for f := range carried {
		if !known[f] {
			t.Errorf("carried has %s, which is no field (any more) or is spoken for elsewhere", f)
		}
	}
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// TestTableHasEveryUse fails when the pages made of the table would leave a refusal
// out, or name one that is none.
func TestTableHasEveryUse(t *testing.T) {
	type row struct {
		field string
		need  Feature
	}
	rows := map[row]bool{}
	for _, r := range Table() {
		rows[row{r.Field, r.Need}] = true
		if r.By == "" && r.Why == "" {
			t.Errorf("%s: nobody carries it out, and nothing says why", r.Field)
		}
	}
	for _, u := range allUses() {
		if !rows[row{u.field, u.need}] && u.need != "" {
			t.Errorf("%s with %q is not in the table", u.field, u.need)
		}
	}
	for _, v := range foreignVolumes() {
		if !rows[row{v.field, ""}] {
			t.Errorf("%s is not in the table", v.field)
		}
	}
}
