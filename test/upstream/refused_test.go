package upstream

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/vnode"
)

// on says which clouds a case is for.
type on int

const (
	onECI on = 1 << iota
	onACI
	onBoth = onECI | onACI
)

// bad is a pod that the API server admits and a cloud cannot run.
type bad struct {
	on    on
	field string // that must be named
	edit  func(*corev1.Pod)
}

func spec(f func(*corev1.PodSpec)) func(*corev1.Pod) { return func(p *corev1.Pod) { f(&p.Spec) } }

func first(f func(*corev1.Container)) func(*corev1.Pod) {
	return func(p *corev1.Pod) { f(&p.Spec.Containers[0]) }
}

func initial(f func(*corev1.Container)) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: "first", Image: "busybox"})
		f(&p.Spec.InitContainers[len(p.Spec.InitContainers)-1])
	}
}

func annotated(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations = map[string]string{key: value} }
}

func podSecurity(s corev1.PodSecurityContext) func(*corev1.Pod) {
	return spec(func(p *corev1.PodSpec) { p.SecurityContext = &s })
}

func security(s corev1.SecurityContext) func(*corev1.Pod) {
	return first(func(c *corev1.Container) { c.SecurityContext = &s })
}

func volumeOf(src corev1.VolumeSource) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "v", VolumeSource: src})
		p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "v", MountPath: "/v"})
	}
}

func mounted(m corev1.VolumeMount) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		volumeOf(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})(p)
		m.Name, m.MountPath = "v", "/v"
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{m}
	}
}

func probe(p corev1.Probe) func(*corev1.Pod) {
	return first(func(c *corev1.Container) { c.ReadinessProbe = &p })
}

func httpProbe(g corev1.HTTPGetAction) func(*corev1.Pod) {
	return probe(corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &g}})
}

func hooks(l corev1.Lifecycle) func(*corev1.Pod) {
	return first(func(c *corev1.Container) { c.Lifecycle = &l })
}

func ports(list ...corev1.ContainerPort) func(*corev1.Pod) {
	return first(func(c *corev1.Container) { c.Ports = list })
}

func env(vars ...corev1.EnvVar) func(*corev1.Pod) {
	return first(func(c *corev1.Container) { c.Env = vars })
}

func envFrom(name string) func(*corev1.Pod) {
	return first(func(c *corev1.Container) {
		c.EnvFrom = append(c.EnvFrom, corev1.EnvFromSource{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local(name)}})
	})
}

func fieldRef(path string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}
}

func limits(name corev1.ResourceName, amount string) func(*corev1.Pod) {
	return first(func(c *corev1.Container) {
		c.Resources.Limits = merged(c.Resources.Limits, corev1.ResourceList{name: resource.MustParse(amount)})
	})
}

func requests(name corev1.ResourceName, amount string) func(*corev1.Pod) {
	return first(func(c *corev1.Container) {
		c.Resources.Requests = merged(c.Resources.Requests, corev1.ResourceList{name: resource.MustParse(amount)})
	})
}

func local(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }

func configMap(name string, items ...corev1.KeyToPath) corev1.VolumeSource {
	return corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local(name), Items: items}}
}

func containers(n int) func(*corev1.Pod) {
	return spec(func(p *corev1.PodSpec) {
		for i := 1; i < n; i++ {
			p.Containers = append(p.Containers, corev1.Container{Name: fmt.Sprintf("c%d", i), Image: "nginx"})
		}
	})
}

func volumes(n int) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for i := range n {
			name := fmt.Sprintf("volume-%d", i)
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
			p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: name, MountPath: "/" + name})
		}
	}
}

func all(edits ...func(*corev1.Pod)) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for _, e := range edits {
			e(p)
		}
	}
}

func repeat(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

// early are refused by what stands in the pod alone: before it bursts.
var early = map[string]bad{
	"the host's network":        {onBoth, "spec.hostNetwork", spec(func(s *corev1.PodSpec) { s.HostNetwork = true })},
	"the host's processes":      {onBoth, "spec.hostPID", spec(func(s *corev1.PodSpec) { s.HostPID = true })},
	"the host's IPC":            {onBoth, "spec.hostIPC", spec(func(s *corev1.PodSpec) { s.HostIPC = true })},
	"users of its own":          {onBoth, "spec.hostUsers", spec(func(s *corev1.PodSpec) { s.HostUsers = ptr.To(false) })},
	"a runtime class":           {onBoth, "spec.runtimeClassName", spec(func(s *corev1.PodSpec) { s.RuntimeClassName = ptr.To("kata") })},
	"a fully qualified name":    {onBoth, "spec.setHostnameAsFQDN", spec(func(s *corev1.PodSpec) { s.SetHostnameAsFQDN = ptr.To(true) })},
	"a name below a Service":    {onACI, "spec.subdomain", spec(func(s *corev1.PodSpec) { s.Subdomain = "db" })},
	"processes that are shared": {onACI, "spec.shareProcessNamespace", spec(func(s *corev1.PodSpec) { s.ShareProcessNamespace = ptr.To(true) })},
	"Windows":                   {onBoth, "spec.os", spec(func(s *corev1.PodSpec) { s.OS = &corev1.PodOS{Name: corev1.Windows} })},
	"a claimed device": {onBoth, "spec.resourceClaims", spec(func(s *corev1.PodSpec) {
		s.ResourceClaims = []corev1.PodResourceClaim{{Name: "d", ResourceClaimName: ptr.To("d")}}
	})},
	"resources of the pod": {onBoth, "spec.resources", spec(func(s *corev1.PodSpec) {
		s.Resources = &corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("1")}}
	})},
	"a grace period":              {onACI, "spec.terminationGracePeriodSeconds", spec(func(s *corev1.PodSpec) { s.TerminationGracePeriodSeconds = ptr.To[int64](120) })},
	"a resolver outside a subnet": {onACI, "spec.dnsConfig", spec(func(s *corev1.PodSpec) { s.DNSConfig = &corev1.PodDNSConfig{Searches: []string{"example.com"}} })},
	"no resolver of the cluster": {onACI, "spec.dnsPolicy", spec(func(s *corev1.PodSpec) {
		s.DNSPolicy, s.DNSConfig = corev1.DNSNone, &corev1.PodDNSConfig{Nameservers: []string{"1.1.1.1"}}
	})},
	"a host name": {onACI, "spec.hostname", spec(func(s *corev1.PodSpec) { s.Hostname = "db-0" })},
	"lines of the hosts file": {onACI, "spec.hostAliases", spec(func(s *corev1.PodSpec) {
		s.HostAliases = []corev1.HostAlias{{IP: "10.0.0.1", Hostnames: []string{"db"}}}
	})},
	"kernel parameters":             {onACI, "spec.securityContext.sysctls", podSecurity(corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "net.core.somaxconn", Value: "1024"}}})},
	"a group of volumes":            {onBoth, "spec.securityContext.fsGroup", podSecurity(corev1.PodSecurityContext{FSGroup: ptr.To[int64](2000)})},
	"further groups":                {onBoth, "spec.securityContext.supplementalGroups", podSecurity(corev1.PodSecurityContext{SupplementalGroups: []int64{1}})},
	"no groups of the image":        {onBoth, "spec.securityContext.supplementalGroupsPolicy", podSecurity(corev1.PodSecurityContext{SupplementalGroupsPolicy: ptr.To(corev1.SupplementalGroupsPolicyStrict)})},
	"SELinux":                       {onBoth, "spec.securityContext.seLinuxOptions", podSecurity(corev1.PodSecurityContext{SELinuxOptions: &corev1.SELinuxOptions{Level: "s0"}})},
	"a seccomp profile of the node": {onBoth, "spec.securityContext.seccompProfile", podSecurity(corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: ptr.To("p.json")}})},
	"AppArmor":                      {onBoth, "spec.securityContext.appArmorProfile", podSecurity(corev1.PodSecurityContext{AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}})},
	"the runtime's seccomp profile": {onECI, "spec.containers[0].securityContext.seccompProfile", security(corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}})},
	"no privilege escalation":       {onECI, "spec.containers[0].securityContext.allowPrivilegeEscalation", security(corev1.SecurityContext{AllowPrivilegeEscalation: ptr.To(false)})},
	"no capabilities":               {onECI, "spec.containers[0].securityContext.capabilities.drop", security(corev1.SecurityContext{Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}})},
	"a capability too many":         {onECI, "spec.containers[0].securityContext.capabilities.add[0]", security(corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"SYS_ADMIN"}}})},
	"privileges":                    {onBoth, "spec.containers[0].securityContext.privileged", security(corev1.SecurityContext{Privileged: ptr.To(true)})},
	"an unmasked /proc":             {onBoth, "spec.containers[0].securityContext.procMount", all(security(corev1.SecurityContext{ProcMount: ptr.To(corev1.UnmaskedProcMount)}), spec(func(s *corev1.PodSpec) { s.HostUsers = ptr.To(false) }))},
	"a read-only image":             {onACI, "spec.containers[0].securityContext.readOnlyRootFilesystem", security(corev1.SecurityContext{ReadOnlyRootFilesystem: ptr.To(true)})},
	"nobody's user":                 {onACI, "spec.containers[0].securityContext.runAsNonRoot", security(corev1.SecurityContext{RunAsNonRoot: ptr.To(true)})},
	"nobody's user at first":        {onBoth, "spec.initContainers[0].securityContext.runAsNonRoot", initial(func(c *corev1.Container) { c.SecurityContext = &corev1.SecurityContext{RunAsNonRoot: ptr.To(true)} })},
	"a group at first":              {onECI, "spec.initContainers[0].securityContext.runAsGroup", initial(func(c *corev1.Container) { c.SecurityContext = &corev1.SecurityContext{RunAsGroup: ptr.To[int64](1)} })},
	"a port of the host":            {onBoth, "spec.containers[0].ports[0].hostPort", ports(corev1.ContainerPort{ContainerPort: 80, HostPort: 8080})},
	"an address of the host":        {onBoth, "spec.containers[0].ports[0].hostIP", ports(corev1.ContainerPort{ContainerPort: 80, HostPort: 8080, HostIP: "10.0.0.1"})},
	"SCTP":                          {onBoth, "spec.containers[0].ports[0].protocol", ports(corev1.ContainerPort{ContainerPort: 80, Protocol: corev1.ProtocolSCTP})},
	"port 111":                      {onECI, "spec.containers[0].ports[0].containerPort", ports(corev1.ContainerPort{ContainerPort: 111})},
	"the kubelet's port":            {onECI, "spec.containers[0].ports[0].containerPort", ports(corev1.ContainerPort{ContainerPort: 10250})},
	"the kubelet's old port":        {onECI, "spec.containers[0].ports[1].containerPort", ports(corev1.ContainerPort{ContainerPort: 80}, corev1.ContainerPort{ContainerPort: 10255})},
	"the port of SSH":               {onACI, "spec.containers[0].ports[0].containerPort", ports(corev1.ContainerPort{ContainerPort: 22})},
	"a port of the fabric":          {onACI, "spec.containers[0].ports[0].containerPort", ports(corev1.ContainerPort{ContainerPort: 25000})},
	"a port that is drawn":          {onACI, "spec.containers[0].ports[0].containerPort", ports(corev1.ContainerPort{ContainerPort: 49152})},
	"six ports":                     {onACI, "spec.containers", ports(corev1.ContainerPort{ContainerPort: 1}, corev1.ContainerPort{ContainerPort: 2}, corev1.ContainerPort{ContainerPort: 3}, corev1.ContainerPort{ContainerPort: 4}, corev1.ContainerPort{ContainerPort: 5}, corev1.ContainerPort{ContainerPort: 6})},
	"one port in two containers": {onACI, "spec.containers[1].ports[0].containerPort", spec(func(s *corev1.PodSpec) {
		s.Containers = []corev1.Container{{Name: "a", Image: "x", Ports: []corev1.ContainerPort{{ContainerPort: 80}}}, {Name: "b", Image: "x", Ports: []corev1.ContainerPort{{ContainerPort: 80}}}}
	})},
	"21 containers": {onECI, "spec.containers", containers(21)},
	"61 containers": {onACI, "spec.containers", containers(61)},
	"21 init containers": {onECI, "spec.initContainers", spec(func(s *corev1.PodSpec) {
		for i := range 21 {
			s.InitContainers = append(s.InitContainers, corev1.Container{Name: fmt.Sprintf("i%d", i), Image: "x"})
		}
	})},
	"21 volumes": {onBoth, "spec.volumes", volumes(21)},
	"65 vCPU":    {onECI, "spec.containers", limits("cpu", "65")},
	"31.1 vCPU":  {onACI, "spec.containers", limits("cpu", "31.1")},
	"513 GiB":    {onECI, "spec.containers", requests("memory", "513Gi")},
	"241 GB":     {onACI, "spec.containers", requests("memory", "241G")},
	"many small ones that are too large": {onACI, "spec.containers", all(containers(40), func(p *corev1.Pod) {
		for i := range p.Spec.Containers {
			p.Spec.Containers[i].Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("800m")}
		}
	})},
	"an init container that is too large": {onBoth, "spec.containers", initial(func(c *corev1.Container) { c.Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("100")} })},
	"a GPU":                               {onACI, "spec.containers[0].resources.limits.nvidia.com/gpu", limits("nvidia.com/gpu", "1")},
	"disk space":                          {onACI, "spec.containers[0].resources.requests.ephemeral-storage", requests("ephemeral-storage", "1Gi")},
	"huge pages":                          {onBoth, "spec.containers[0].resources.limits.hugepages-2Mi", all(limits("hugepages-2Mi", "4Mi"), limits("cpu", "1"), limits("memory", "1Gi"))},
	"a path of the host":                  {onBoth, "spec.volumes[0].hostPath", volumeOf(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}})},
	"a claimed volume":                    {onBoth, "spec.volumes[0].persistentVolumeClaim", volumeOf(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}})},
	"a volume of a driver":                {onBoth, "spec.volumes[0].csi", volumeOf(corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "d.example.com"}})},
	"NFS":                                 {onBoth, "spec.volumes[0].nfs", volumeOf(corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "s", Path: "/"}})},
	"iSCSI":                               {onBoth, "spec.volumes[0].iscsi", volumeOf(corev1.VolumeSource{ISCSI: &corev1.ISCSIVolumeSource{TargetPortal: "10.0.0.1", IQN: "iqn.2015-02.example.com:test"}})},
	"a claim of its own":                  {onBoth, "spec.volumes[0].ephemeral", volumeOf(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{Spec: corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("1Gi")}}}}}})},
	"an image as a volume":                {onBoth, "spec.volumes[0].image", volumeOf(corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "x"}})},
	"files in memory":                     {onACI, "spec.volumes[0].emptyDir.medium", volumeOf(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}})},
	"files in huge pages":                 {onBoth, "spec.volumes[0].emptyDir.medium", all(volumeOf(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumHugePages}}), limits("hugepages-2Mi", "4Mi"), limits("cpu", "1"))},
	"a bound of a volume":                 {onACI, "spec.volumes[0].emptyDir.sizeLimit", volumeOf(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: ptr.To(resource.MustParse("1Gi"))}})},
	"a mode of files":                     {onACI, "spec.volumes[0].configMap.defaultMode", volumeOf(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local("settings"), DefaultMode: ptr.To[int32](0o400)}})},
	"a mode of one file":                  {onACI, "spec.volumes[0].configMap.items[0].mode", volumeOf(configMap("settings", corev1.KeyToPath{Key: "A", Path: "a", Mode: ptr.To[int32](0o755)}))},
	"a directory in a volume":             {onACI, "spec.volumes[0].configMap.items[0].path", volumeOf(configMap("settings", corev1.KeyToPath{Key: "A", Path: "d/a"}))},
	"the pod's address":                   {onACI, "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath", env(corev1.EnvVar{Name: "IP", ValueFrom: fieldRef("status.podIP")})},
	"all the pod's addresses":             {onACI, "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath", env(corev1.EnvVar{Name: "IPS", ValueFrom: fieldRef("status.podIPs")})},
	"all of them, with IPv6":              {onECI, "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath", all(env(corev1.EnvVar{Name: "IPS", ValueFrom: fieldRef("status.podIPs")}), annotated("k8s.aliyun.com/eci-enable-ipv6", "true"))},
	"all the addresses in a text":         {onECI, "spec.containers[0].env[1].value", env(corev1.EnvVar{Name: "IPS", ValueFrom: fieldRef("status.podIPs")}, corev1.EnvVar{Name: "LIST", Value: "[$(IPS)]"})},
	"the pod's address in a text":         {onECI, "spec.containers[0].env[1].value", env(corev1.EnvVar{Name: "IP", ValueFrom: fieldRef("status.podIP")}, corev1.EnvVar{Name: "URL", Value: "http://$(IP)"})},
	"the pod's address as an argument":    {onECI, "spec.containers[0].args[0]", all(env(corev1.EnvVar{Name: "IP", ValueFrom: fieldRef("status.podIP")}), first(func(c *corev1.Container) { c.Args = []string{"--ip=$(IP)"} }))},
	"a name with a dot":                   {onBoth, "spec.containers[0].env[0].name", env(corev1.EnvVar{Name: "a.b", Value: "x"})},
	"a name that begins with a digit":     {onBoth, "spec.containers[0].env[0].name", env(corev1.EnvVar{Name: "1x", Value: "x"})},
	"a prefix with a hyphen": {onBoth, "spec.containers[0].envFrom[0].prefix", first(func(c *corev1.Container) {
		c.EnvFrom = []corev1.EnvFromSource{{Prefix: "a-", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local("settings")}}}
	})},
	"a name of 129 characters":  {onECI, "spec.containers[0].env[0].name", env(corev1.EnvVar{Name: strings.Repeat("N", 129)})},
	"a name of 64 characters":   {onACI, "spec.containers[0].env[0].name", env(corev1.EnvVar{Name: strings.Repeat("N", 64)})},
	"a value of 257 characters": {onECI, "spec.containers[0].env[0].value", env(corev1.EnvVar{Name: "A", Value: strings.Repeat("v", 257)})},
	"241 variables": {onECI, "spec.containers[0].env", first(func(c *corev1.Container) {
		for i := range 241 {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("A%d", i)})
		}
	})},
	"arguments of the image's program": {onACI, "spec.containers[0].args", first(func(c *corev1.Container) { c.Args = []string{"-v"} })},
	"11 arguments":                     {onECI, "spec.containers[0].args", first(func(c *corev1.Container) { c.Args = repeat("x", 11) })},
	"a command of 101 words":           {onECI, "spec.containers[0].command", first(func(c *corev1.Container) { c.Command = repeat("x", 101) })},
	"an image of 256 characters":       {onECI, "spec.containers[0].image", first(func(c *corev1.Container) { c.Image = strings.Repeat("i", 256) })},
	"a working directory":              {onACI, "spec.containers[0].workingDir", first(func(c *corev1.Container) { c.WorkingDir = "/srv" })},
	"standard input":                   {onACI, "spec.containers[0].stdin", first(func(c *corev1.Container) { c.Stdin = true })},
	"a terminal":                       {onACI, "spec.containers[0].tty", first(func(c *corev1.Container) { c.TTY = true })},
	"a terminal at first":              {onBoth, "spec.initContainers[0].tty", initial(func(c *corev1.Container) { c.TTY = true })},
	"a hook before the end":            {onACI, "spec.containers[0].lifecycle.preStop", hooks(corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"sync"}}}})},
	"a hook after the start":           {onACI, "spec.containers[0].lifecycle.postStart", hooks(corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"sync"}}}})},
	"a hook that sleeps":               {onBoth, "spec.containers[0].lifecycle.preStop.sleep", hooks(corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 1}}})},
	"a startup probe": {onBoth, "spec.containers[0].startupProbe", first(func(c *corev1.Container) {
		c.StartupProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}}
	})},
	"a gRPC probe":                {onBoth, "spec.containers[0].readinessProbe.grpc", probe(corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 80}}})},
	"a TCP probe":                 {onACI, "spec.containers[0].readinessProbe.tcpSocket", probe(corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(80)}}})},
	"a probe of another host":     {onBoth, "spec.containers[0].readinessProbe.httpGet.host", httpProbe(corev1.HTTPGetAction{Host: "example.com", Port: intstr.FromInt32(80)})},
	"a probe with headers":        {onECI, "spec.containers[0].readinessProbe.httpGet.httpHeaders", httpProbe(corev1.HTTPGetAction{Port: intstr.FromInt32(80), HTTPHeaders: []corev1.HTTPHeader{{Name: "X-A", Value: "b"}}})},
	"a probe that succeeds twice": {onECI, "spec.containers[0].readinessProbe.successThreshold", probe(corev1.Probe{SuccessThreshold: 2, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(80)}}})},
	"a probe with a grace period": {onBoth, "spec.containers[0].livenessProbe.terminationGracePeriodSeconds", first(func(c *corev1.Container) {
		c.LivenessProbe = &corev1.Probe{TerminationGracePeriodSeconds: ptr.To[int64](5), ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}}
	})},
	"a probe of a port without a name": {onBoth, "spec.containers[0].readinessProbe.httpGet.port", httpProbe(corev1.HTTPGetAction{Port: intstr.FromString("web")})},
	"a probe of 21 words":              {onECI, "spec.containers[0].readinessProbe.exec.command", probe(corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: repeat("x", 21)}}})},
	"a mount that is read-only below":  {onBoth, "spec.containers[0].volumeMounts[0].recursiveReadOnly", mounted(corev1.VolumeMount{ReadOnly: true, RecursiveReadOnly: ptr.To(corev1.RecursiveReadOnlyEnabled)})},
	"mounts that spread":               {onBoth, "spec.containers[0].volumeMounts[0].mountPropagation", mounted(corev1.VolumeMount{MountPropagation: ptr.To(corev1.MountPropagationHostToContainer)})},
	"a part of a volume":               {onACI, "spec.containers[0].volumeMounts[0].subPath", mounted(corev1.VolumeMount{SubPath: "d"})},
	"a part by a variable":             {onACI, "spec.containers[0].volumeMounts[0].subPathExpr", all(mounted(corev1.VolumeMount{SubPathExpr: "$(A)"}), env(corev1.EnvVar{Name: "A", Value: "d"}))},
	"two mounts at one path": {onBoth, "spec.containers[0].volumeMounts[1].mountPath", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v"}, {Name: "w"}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/data"}, {Name: "w", MountPath: "/data/./"}}
	}},
	"bounded traffic, in":         {onACI, "metadata.annotations[kubernetes.io/ingress-bandwidth]", annotated("kubernetes.io/ingress-bandwidth", "10M")},
	"bounded traffic, out":        {onACI, "metadata.annotations[kubernetes.io/egress-bandwidth]", annotated("kubernetes.io/egress-bandwidth", "10M")},
	"traffic that is no quantity": {onBoth, "metadata.annotations[kubernetes.io/egress-bandwidth]", annotated("kubernetes.io/egress-bandwidth", "10 Mbit/s")},
	"traffic of nothing":          {onBoth, "metadata.annotations[kubernetes.io/ingress-bandwidth]", annotated("kubernetes.io/ingress-bandwidth", "0")},
	"a role that is closed":       {onECI, "metadata.annotations[k8s.aliyun.com/eci-ram-role-name]", annotated("k8s.aliyun.com/eci-ram-role-name", "Admin")},
	"a security group, closed":    {onECI, "metadata.annotations[k8s.aliyun.com/eci-security-group]", annotated("k8s.aliyun.com/eci-security-group", "sg-2")},
	"two security groups":         {onECI, "metadata.annotations[k8s.aliyun.com/eci-security-group]", annotated("k8s.aliyun.com/eci-security-group", "sg-1,sg-2")},
	"a VSwitch that is closed":    {onECI, "metadata.annotations[k8s.aliyun.com/eci-vswitch]", annotated("k8s.aliyun.com/eci-vswitch", "vsw-h,vsw-i")},
	"an address that is kept":     {onECI, "metadata.annotations[k8s.aliyun.com/eci-fixed-ip]", annotated("k8s.aliyun.com/eci-fixed-ip", "true")},
	"a block device": {onBoth, "spec.containers[0].volumeDevices", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
		p.Spec.Containers[0].VolumeDevices = []corev1.VolumeDevice{{Name: "v", DevicePath: "/dev/x"}}
	}},
	"an image that is not pulled": {onBoth, "spec.containers[0].imagePullPolicy", first(func(c *corev1.Container) { c.ImagePullPolicy = corev1.PullNever })},
	"a sidecar":                   {onACI, "spec.initContainers[0].restartPolicy", initial(func(c *corev1.Container) { c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways) })},
	"a message elsewhere":         {onACI, "spec.containers[0].terminationMessagePath", first(func(c *corev1.Container) { c.TerminationMessagePath = "/tmp/message" })},
	"a message from the log":      {onACI, "spec.containers[0].terminationMessagePolicy", first(func(c *corev1.Container) { c.TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError })},
}

// late are refused when the agent has read what the pod refers to: still before any
// call to the cloud.
var late = map[string]bad{
	"a file of 33 KB":               {onECI, "spec.volumes[0]", volumeOf(configMap("large"))},
	"91 files":                      {onECI, "spec.volumes[0]", volumeOf(configMap("many"))},
	"a value of 257 characters":     {onECI, "spec.containers[0].env", envFrom("long")},
	"a value that becomes too long": {onECI, "spec.containers[0].env", env(corev1.EnvVar{Name: "A", Value: strings.Repeat("v", 200)}, corev1.EnvVar{Name: "B", Value: "$(A)$(A)"})},
	"a secret that is too long":     {onECI, "spec.containers[0].env", env(corev1.EnvVar{Name: "A", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: local("long"), Key: "A"}}})},
	"260 variables of an object":    {onECI, "spec.containers[0].env", envFrom("many")},
	"a name of 64 characters":       {onACI, "spec.containers[0].env", envFrom("names")},
	"a part outside the volume":     {onECI, "spec.containers[0].volumeMounts[0].subPathExpr", all(mounted(corev1.VolumeMount{SubPathExpr: "$(A)/x"}), env(corev1.EnvVar{Name: "A", Value: ".."}))},
	"a part at the root":            {onECI, "spec.containers[0].volumeMounts[0].subPathExpr", all(mounted(corev1.VolumeMount{SubPathExpr: "$(A)"}), env(corev1.EnvVar{Name: "A", Value: "/etc"}))},
}

// theObjects are what the pods of both tables refer to.
func theObjects() []runtime.Object {
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name, Namespace: namespace} }
	many := map[string]string{}
	for i := range 260 {
		many[fmt.Sprintf("KEY_%d", i)] = "v"
	}
	return []runtime.Object{
		&corev1.ConfigMap{ObjectMeta: meta("settings"), Data: map[string]string{"A": "one", "B": "two"}, BinaryData: map[string][]byte{"raw": {0, 1, 255}}},
		&corev1.ConfigMap{ObjectMeta: meta("large"), Data: map[string]string{"file": strings.Repeat("x", 33<<10)}},
		&corev1.ConfigMap{ObjectMeta: meta("fits"), Data: map[string]string{"file": strings.Repeat("x", 24<<10)}},
		&corev1.ConfigMap{ObjectMeta: meta("many"), Data: many},
		&corev1.ConfigMap{ObjectMeta: meta("long"), Data: map[string]string{"A": strings.Repeat("v", 257)}},
		&corev1.ConfigMap{ObjectMeta: meta("names"), Data: map[string]string{strings.Repeat("N", 64): "v"}},
		&corev1.ConfigMap{ObjectMeta: meta("odd"), Data: map[string]string{"good": "1", "app.properties": "2", "1st": "3", "a-b": "4"}},
		&corev1.ConfigMap{ObjectMeta: meta("empty")},
		&corev1.ConfigMap{ObjectMeta: meta("dots"), Data: map[string]string{"._-": "x", "...": "y"}},
		&corev1.Secret{ObjectMeta: meta("login"), Data: map[string][]byte{"password": []byte("hunter2")}},
		&corev1.Secret{ObjectMeta: meta("long"), Data: map[string][]byte{"A": []byte(strings.Repeat("s3cret", 50))}},
		&corev1.Secret{ObjectMeta: meta("registry"), Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{".dockerconfigjson": []byte(`{"auths":{"registry.example.com:5000":{"username":"robot","password":"pw"}}}`)}},
		&corev1.ConfigMap{ObjectMeta: meta("kube-root-ca.crt"), Data: map[string]string{"ca.crt": "PEM"}},
		&corev1.ServiceAccount{ObjectMeta: meta("default")},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes", Namespace: metav1.NamespaceDefault}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Name: "https", Port: 443, Protocol: corev1.ProtocolTCP}}}},
		&corev1.Service{ObjectMeta: meta("db"), Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.7", Ports: []corev1.ServicePort{{Port: 5432}}}},
	}
}

// clouds are the beds of both clouds.
var clouds = map[on]struct {
	name string
	make func(*testing.T) account
}{onECI: {"eci", newECI}, onACI: {"aci", newACI}}

// Each pod is refused with the right field: by the webhook, where its fields alone
// tell, and by the agent in any case, which makes no call to the cloud and does not
// try again.
func TestRefused(t *testing.T) {
	if n := len(early) + len(late); n < 60 {
		t.Errorf("%d pods are in the tables", n)
	}
	for cloud, of := range clouds {
		t.Run(of.name, func(t *testing.T) {
			b := newBed(t, of.make(t), theObjects()...)
			want := map[string]string{} // the field by the name of the pod
			add := func(table map[string]bad, seen bool) {
				for what, test := range table {
					if test.on&cloud == 0 {
						continue
					}
					name := fmt.Sprintf("p%d", len(want))
					pod, err := admit(onePod(name, test.edit))
					if err != nil {
						t.Errorf("%s: the API server does not admit it: %v", what, err)
						continue
					}
					d := b.decide(pod)
					refused := slices.ContainsFunc(d.Refusals, func(r burstable.Refusal) bool { return r.Field == test.field })
					switch {
					case seen && (d.Action != policy.StayLocal || d.Reason != policy.NotBurstable || !refused):
						t.Errorf("%s: the webhook decides %s %s and refuses %v, want the field %s", what, d.Action, d.Reason, d.Refusals, test.field)
					case !seen && d.Action != policy.Grant:
						t.Errorf("%s: the webhook decides %s %s %v, though it cannot see what is wrong", what, d.Action, d.Reason, d.Refusals)
					}
					want[name] = test.field
					b.bind(pod)
				}
			}
			add(early, true)
			add(late, false)
			for name, field := range want {
				b.eventually("pod "+name+" is refused", func() error {
					if s := b.pod(name).Status; s.Phase != corev1.PodFailed {
						return fmt.Errorf("it is %s %s: %s, want it refused for %s", s.Phase, s.Reason, s.Message, field)
					}
					return nil
				})
				s := b.pod(name).Status
				if s.Reason != vnode.ReasonUnsupported && s.Reason != v1alpha1.PodRefused {
					t.Errorf("pod %s has the reason %s: %s", name, s.Reason, s.Message)
				}
				if !strings.Contains(s.Message, field) {
					t.Errorf("pod %s: message %q does not name %s", name, s.Message, field)
				}
				if strings.Contains(s.Message, "s3cret") {
					t.Errorf("pod %s: message %q has a secret", name, s.Message)
				}
			}
			if n := b.accepted.count(); n != 0 {
				t.Errorf("the cloud was asked %d times to make a group", n)
			}
			if calls := b.record().Calls; len(calls) != 0 {
				t.Errorf("the cloud had %d calls that change something: %v", len(calls), calls)
			}
		})
	}
}
