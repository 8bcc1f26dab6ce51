package aci

import (
	"encoding/base64"
	"fmt"
	"math"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	sdk "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerinstance/armcontainerinstance/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/autoburst/autoburst/providers"
)

func (b *builder) container(i int, cpu, memory share) *sdk.Container {
	c := &b.spec.Containers[i]
	field := fmt.Sprintf("spec.containers[%d]", i)
	b.checkContainer(field, c)
	var ports []*sdk.ContainerPort
	for _, p := range c.Ports {
		if !b.addressed() {
			break // a port that is open to nobody
		}
		protocol := sdk.ContainerNetworkProtocolTCP
		if p.Protocol == corev1.ProtocolUDP {
			protocol = sdk.ContainerNetworkProtocolUDP
		}
		ports = append(ports, &sdk.ContainerPort{Port: to.Ptr(p.ContainerPort), Protocol: to.Ptr(protocol)})
	}
	return &sdk.Container{Name: to.Ptr(c.Name), Properties: &sdk.ContainerProperties{
		Image:                to.Ptr(c.Image),
		Command:              b.command(field, c),
		EnvironmentVariables: b.environment(field, c.Env),
		Ports:                ports,
		VolumeMounts:         b.mounts(field, c.Mounts),
		LivenessProbe:        b.probe(field+".livenessProbe", c, c.LivenessProbe),
		ReadinessProbe:       b.probe(field+".readinessProbe", c, c.ReadinessProbe),
		SecurityContext:      b.securityContext(field, c),
		Resources: &sdk.ResourceRequirements{
			Requests: &sdk.ResourceRequests{CPU: to.Ptr(steps(cpu.request, 100)), MemoryInGB: to.Ptr(steps(memory.request, 10))},
			// Without limits of its own a container could use no more than its
			// request.
			Limits: &sdk.ResourceLimits{CPU: to.Ptr(steps(cpu.limit, 100)), MemoryInGB: to.Ptr(steps(memory.limit, 10))},
		},
	}}
}

// initContainer: the service gives init containers no resources or ports.
// Ports would open nothing that is there before the containers run.
func (b *builder) initContainer(i int) *sdk.InitContainerDefinition {
	c := &b.spec.InitContainers[i]
	field := fmt.Sprintf("spec.initContainers[%d]", i)
	b.checkContainer(field, c)
	if c.LivenessProbe != nil || c.ReadinessProbe != nil {
		b.refuse(field, "init containers have no probes")
	}
	return &sdk.InitContainerDefinition{Name: to.Ptr(c.Name), Properties: &sdk.InitContainerPropertiesDefinition{
		Image:                to.Ptr(c.Image),
		Command:              b.command(field, c),
		EnvironmentVariables: b.environment(field, c.Env),
		VolumeMounts:         b.mounts(field, c.Mounts),
		SecurityContext:      b.securityContext(field, c),
	}}
}

func (b *builder) checkContainer(field string, c *providers.Container) {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"workingDir", c.WorkingDir != ""},
		{"lifecycle", c.Lifecycle != nil && (c.Lifecycle.PostStart != nil || c.Lifecycle.PreStop != nil || c.Lifecycle.StopSignal != nil)},
		{"stdin", c.Stdin || c.StdinOnce},
		{"tty", c.TTY},
	} {
		if f.set {
			b.refuse(field+"."+f.name, "cannot be set")
		}
	}
	if c.ImagePullPolicy == corev1.PullNever {
		b.refuse(field+".imagePullPolicy", "the service has no images before it pulls them")
	}
	for _, list := range []corev1.ResourceList{c.Resources.Requests, c.Resources.Limits} {
		for name := range list {
			if name != corev1.ResourceCPU && name != corev1.ResourceMemory {
				b.refuse(field+".resources", "%s cannot be bought", name)
			}
		}
	}
}

// command: the service has one list, which replaces the image's entry point.
func (b *builder) command(field string, c *providers.Container) []*string {
	if len(c.Command) == 0 && len(c.Args) > 0 {
		b.refuse(field+".args", "are taken together with command only; write the image's entry point as command")
		return nil
	}
	return pointers(append(append([]string(nil), c.Command...), c.Args...))
}

var envNameRule = regexp.MustCompile(`^[A-Za-z0-9_]{1,63}$`)

func (b *builder) environment(field string, env []providers.EnvVar) []*sdk.EnvironmentVariable {
	last := make(map[string]int, len(env))
	for i, e := range env {
		last[e.Name] = i
	}
	var result []*sdk.EnvironmentVariable
	for i, e := range env {
		if last[e.Name] != i {
			continue // as in Kubernetes, the last of a name counts
		}
		at := fmt.Sprintf("%s.env[%s]", field, e.Name)
		if !envNameRule.MatchString(e.Name) {
			b.refuse(at, "the name must be 1 to %d letters, digits and _", maxEnvName)
		}
		if e.FieldPath != "" {
			b.refuse(at, "the service does not tell %s to containers", e.FieldPath)
		}
		variable := &sdk.EnvironmentVariable{Name: to.Ptr(e.Name)}
		if e.Secret && e.Value != "" {
			variable.SecureValue = to.Ptr(e.Value)
		} else {
			variable.Value = to.Ptr(e.Value) // also if empty: it is set
		}
		result = append(result, variable)
	}
	return result
}

func (b *builder) mounts(field string, mounts []corev1.VolumeMount) []*sdk.VolumeMount {
	var result []*sdk.VolumeMount
	for i, m := range mounts {
		at := fmt.Sprintf("%s.volumeMounts[%d]", field, i)
		volume, found := b.volumes[m.Name]
		switch {
		case !found:
			b.refuse(at+".name", "there is no volume %q", m.Name)
		case m.SubPath != "" || m.SubPathExpr != "":
			b.refuse(at+".subPath", "only whole volumes can be mounted")
		case m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone:
			b.refuse(at+".mountPropagation", "cannot be set")
		case m.RecursiveReadOnly != nil && *m.RecursiveReadOnly == corev1.RecursiveReadOnlyEnabled:
			b.refuse(at+".recursiveReadOnly", "cannot be set")
		case strings.Contains(m.MountPath, ":"):
			b.refuse(at+".mountPath", "must not contain a colon")
		}
		result = append(result, &sdk.VolumeMount{Name: to.Ptr(volume), MountPath: to.Ptr(m.MountPath), ReadOnly: to.Ptr(m.ReadOnly)})
	}
	return result
}

func (b *builder) probe(field string, c *providers.Container, p *corev1.Probe) *sdk.ContainerProbe {
	if p == nil {
		return nil
	}
	result := &sdk.ContainerProbe{
		InitialDelaySeconds: positive(p.InitialDelaySeconds),
		PeriodSeconds:       positive(p.PeriodSeconds),
		TimeoutSeconds:      positive(p.TimeoutSeconds),
		SuccessThreshold:    positive(p.SuccessThreshold),
		FailureThreshold:    positive(p.FailureThreshold),
	}
	if p.TerminationGracePeriodSeconds != nil {
		b.refuse(field+".terminationGracePeriodSeconds", "cannot be set")
	}
	switch {
	case p.Exec != nil:
		result.Exec = &sdk.ContainerExec{Command: pointers(p.Exec.Command)}
	case p.HTTPGet != nil:
		result.HTTPGet = b.httpGet(field+".httpGet", c, p.HTTPGet)
	default:
		b.refuse(field, "only exec and httpGet are supported")
	}
	return result
}

func (b *builder) httpGet(field string, c *providers.Container, get *corev1.HTTPGetAction) *sdk.ContainerHTTPGet {
	if get.Host != "" {
		b.refuse(field+".host", "cannot be set")
	}
	port := int32(get.Port.IntValue())
	if get.Port.Type == intstr.String {
		for _, p := range c.Ports {
			if p.Name == get.Port.StrVal {
				port = p.ContainerPort
			}
		}
	}
	if port < 1 || port > math.MaxUint16 {
		b.refuse(field+".port", "%q is neither a port nor the name of one of the container's ports", get.Port.String())
	}
	result := &sdk.ContainerHTTPGet{Port: to.Ptr(port), Scheme: to.Ptr(sdk.SchemeHTTP)}
	if get.Path != "" {
		result.Path = to.Ptr(get.Path)
	}
	if get.Scheme == corev1.URISchemeHTTPS {
		result.Scheme = to.Ptr(sdk.SchemeHTTPS)
	}
	for _, h := range get.HTTPHeaders {
		result.HTTPHeaders = append(result.HTTPHeaders, &sdk.HTTPHeader{Name: to.Ptr(h.Name), Value: to.Ptr(h.Value)})
	}
	return result
}

// positive leaves zero to the service's default, which is Kubernetes' default.
func positive(n int32) *int32 {
	if n <= 0 {
		return nil
	}
	return to.Ptr(n)
}

// unconfined allows every system call; the absence of a profile is the
// runtime's default.
var unconfined = base64.StdEncoding.EncodeToString([]byte(`{"defaultAction":"SCMP_ACT_ALLOW"}`))

// securityContext merges the pod's and the container's, as a kubelet does.
func (b *builder) securityContext(field string, c *providers.Container) *sdk.SecurityContextDefinition {
	field += ".securityContext"
	pod, own := b.spec.SecurityContext, c.SecurityContext
	if pod == nil {
		pod = &corev1.PodSecurityContext{}
	}
	if own == nil {
		own = &corev1.SecurityContext{}
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"privileged", isTrue(own.Privileged)},
		{"windowsOptions", own.WindowsOptions != nil},
		{"procMount", own.ProcMount != nil && *own.ProcMount != corev1.DefaultProcMount},
	} {
		if f.set {
			b.refuse(field+"."+f.name, "cannot be set")
		}
	}
	user := first(own.RunAsUser, pod.RunAsUser)
	result := sdk.SecurityContextDefinition{
		AllowPrivilegeEscalation: own.AllowPrivilegeEscalation,
		RunAsUser:                b.id(field+".runAsUser", user),
		RunAsGroup:               b.id(field+".runAsGroup", first(own.RunAsGroup, pod.RunAsGroup)),
	}
	if own.Capabilities != nil && len(own.Capabilities.Add)+len(own.Capabilities.Drop) > 0 {
		result.Capabilities = &sdk.SecurityContextCapabilitiesDefinition{
			Add: linuxCapabilities(own.Capabilities.Add), Drop: linuxCapabilities(own.Capabilities.Drop),
		}
	}
	if profile := first(own.SeccompProfile, pod.SeccompProfile); profile != nil {
		switch profile.Type {
		case corev1.SeccompProfileTypeRuntimeDefault:
		case corev1.SeccompProfileTypeUnconfined:
			result.SeccompProfile = to.Ptr(unconfined)
		default:
			b.refuse(field+".seccompProfile", "type %s is not supported", profile.Type)
		}
	}
	if result == (sdk.SecurityContextDefinition{}) {
		return nil
	}
	return &result
}

func (b *builder) id(field string, n *int64) *int32 {
	if n == nil {
		return nil
	}
	if *n < 0 || *n > math.MaxInt32 {
		b.refuse(field, "%d is not between 0 and %d", *n, math.MaxInt32)
		return nil
	}
	return to.Ptr(int32(*n))
}

// linuxCapabilities: Kubernetes leaves the prefix out, the service wants it
// (examples of its API description).
func linuxCapabilities(names []corev1.Capability) []*string {
	var result []*string
	for _, c := range names {
		s := strings.ToUpper(string(c))
		if s != "ALL" && !strings.HasPrefix(s, "CAP_") {
			s = "CAP_" + s
		}
		result = append(result, to.Ptr(s))
	}
	return result
}

func first[T any](own, inherited *T) *T {
	if own != nil {
		return own
	}
	return inherited
}

func isTrue(b *bool) bool { return b != nil && *b }
