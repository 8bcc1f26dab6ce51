package eci

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

// createRequest is the form of CreateContainerGroup for a pod that takes an offer.
// The same spec and offer always make the same members, as the service compares them
// under one ClientToken.
func (p *Provider) createRequest(spec *providers.GroupSpec, settings *burstable.ECISettings, o *offer) members {
	m := newMembers()
	m.set("ClientToken", clientToken(spec.Owner.PodUID))
	m.set("ContainerGroupName", groupName(spec.Owner.Namespace, spec.Owner.PodName))
	m.addPlace(&p.cfg, settings, o)
	m.set("RestartPolicy", string(spec.RestartPolicy))
	m.addOffer(settings, o)
	m.addSettings(settings)
	m.addStorage(spec, settings)

	if s := spec.TerminationGracePeriodSeconds; s != nil {
		m.integer("TerminationGracePeriodSeconds", *s)
	}
	if s := spec.ActiveDeadlineSeconds; s != nil {
		m.integer("ActiveDeadlineSeconds", *s)
	}
	m.set("HostName", spec.Hostname)
	for i, a := range slices.Concat(spec.HostAliases, settings.Hosts) {
		at := element("HostAliase", i) // the published spelling
		m.set(at+".Ip", a.IP)
		m.list(at+".Hostname", a.Hostnames)
	}
	addDNS(m, spec.DNS)
	if sc := spec.SecurityContext; sc != nil {
		for i, s := range sc.Sysctls {
			at := element("SecurityContext.Sysctl", i)
			m.set(at+".Name", s.Name)
			m.set(at+".Value", s.Value)
		}
	}
	if spec.ShareProcessNamespace {
		m.boolean("ShareProcessNamespace", true)
	}
	m.addTags(spec.Owner, settings, o)
	for i, c := range spec.RegistryCredentials {
		at := element("ImageRegistryCredential", i)
		m.set(at+".Server", registryHost(c.Server))
		m.secret(at+".UserName", c.Username)
		m.secret(at+".Password", c.Password)
	}
	for i := range spec.Volumes {
		m.addVolume(element("Volume", i), &spec.Volumes[i])
	}
	inits, containers := arranged(spec)
	for i := range inits {
		m.addContainer(element("InitContainer", i), &inits[i], spec.SecurityContext, true)
	}
	for i := range containers {
		m.addContainer(element("Container", i), &containers[i], spec.SecurityContext, false)
	}
	return m
}

// clientToken makes creation idempotent by pod: at most 64 ASCII characters.
func clientToken(podUID string) string {
	if len(podUID) <= 64 && !strings.ContainsFunc(podUID, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return podUID
	}
	sum := sha256.Sum256([]byte(podUID))
	return hex.EncodeToString(sum[:])
}

// groupName is what people see in the console: 2 to 128 lower case letters,
// digits and hyphens, none at the ends. It need not be unique.
func groupName(namespace, pod string) string {
	const most, digest = 128, 8
	name := namespace + "-" + strings.ReplaceAll(pod, ".", "-")
	if len(name) > most {
		sum := sha256.Sum256([]byte(namespace + "/" + pod))
		name = strings.TrimRight(name[:most-digest-1], "-") + "-" + hex.EncodeToString(sum[:digest/2])
	}
	return name
}

// registryHost leaves of a registry's address what ECI takes: the host.
func registryHost(server string) string {
	if _, rest, ok := strings.Cut(server, "://"); ok {
		server = rest
	}
	host, _, _ := strings.Cut(server, "/")
	return host
}

func addDNS(m members, dns *providers.DNS) {
	if dns == nil {
		m.set("DnsPolicy", "Default")
		return
	}
	m.set("DnsPolicy", "None")
	m.list("DnsConfig.NameServer", dns.Nameservers)
	m.list("DnsConfig.Search", dns.Searches)
	for i, o := range dns.Options {
		at := element("DnsConfig.Option", i)
		m.set(at+".Name", o.Name)
		if o.Value != nil {
			m.set(at+".Value", *o.Value)
		}
	}
}

func (m *members) addVolume(at string, v *providers.Volume) {
	m.set(at+".Name", v.Name)
	if v.Files == nil || len(v.Files.Items) == 0 {
		// A volume whose optional sources are all missing is an empty directory.
		m.set(at+".Type", "EmptyDirVolume")
		if v.EmptyDir != nil {
			m.set(at+".EmptyDirVolume.Medium", string(v.EmptyDir.Medium))
			if l := v.EmptyDir.SizeLimit; l != nil && !l.IsZero() {
				m.set(at+".EmptyDirVolume.SizeLimit", l.String())
			}
		}
		return
	}
	m.set(at+".Type", "ConfigFileVolume")
	for i, f := range v.Files.Items {
		file := element(at+".ConfigFileVolume.ConfigFileToPath", i)
		content := base64.StdEncoding.EncodeToString(f.Data)
		m.set(file+".Path", f.Path)
		m.values[file+".Content"] = content // also an empty one, which is an empty file
		if v.Files.Secret {
			m.hide(content)
			m.hide(string(f.Data))
		}
		// Four octal digits, as the published example has it (0644).
		m.set(file+".Mode", fmt.Sprintf("%04o", f.Mode))
	}
}

func (m *members) addContainer(at string, c *providers.Container, pod *corev1.PodSecurityContext, init bool) {
	m.set(at+".Name", c.Name)
	m.set(at+".Image", c.Image)
	m.set(at+".ImagePullPolicy", string(c.ImagePullPolicy))
	m.set(at+".WorkingDir", c.WorkingDir)
	m.list(at+".Command", c.Command)
	m.list(at+".Arg", c.Args)
	m.addEnv(at, c.Env, init)
	for i, p := range c.Ports {
		port := element(at+".Port", i)
		m.integer(port+".Port", int64(p.ContainerPort))
		m.set(port+".Protocol", string(p.Protocol))
	}
	for i, v := range c.Mounts {
		mount := element(at+".VolumeMount", i)
		m.set(mount+".Name", v.Name)
		m.set(mount+".MountPath", v.MountPath)
		m.set(mount+".SubPath", v.SubPath)
		if v.ReadOnly {
			m.boolean(mount+".ReadOnly", true)
		}
	}
	size := burstable.ContainerSize(&c.Resources)
	if size.MilliCPU > 0 {
		m.float(at+".Cpu", float64(size.MilliCPU)/1000)
	}
	if size.MemoryBytes > 0 {
		m.float(at+".Memory", float64(size.MemoryBytes)/(1<<30))
	}
	if n := burstable.GPUs(&c.Resources); n > 0 {
		m.integer(at+".Gpu", n)
	}
	m.set(at+".TerminationMessagePath", c.TerminationMessagePath)
	m.set(at+".TerminationMessagePolicy", string(c.TerminationMessagePolicy))
	m.addSecurity(at, c.SecurityContext, pod, init)
	if init {
		return // has neither probes nor hooks nor a terminal
	}
	m.addProbe(at+".LivenessProbe", c, c.LivenessProbe)
	m.addProbe(at+".ReadinessProbe", c, c.ReadinessProbe)
	if l := c.Lifecycle; l != nil {
		m.addHook(at+".LifecyclePostStartHandler", c, l.PostStart)
		m.addHook(at+".LifecyclePreStopHandler", c, l.PreStop)
	}
	for name, set := range map[string]bool{"Stdin": c.Stdin, "StdinOnce": c.StdinOnce, "Tty": c.TTY} {
		if set {
			m.boolean(at+"."+name, true)
		}
	}
}

func (m *members) addEnv(at string, env []providers.EnvVar, init bool) {
	secret := false
	for i, e := range env {
		v := element(at+".EnvironmentVar", i)
		m.set(v+".Key", e.Name)
		switch {
		case e.FieldPath != "":
			m.set(v+".FieldRef.FieldPath", e.FieldPath)
		default:
			m.set(v+".Value", e.Value)
		}
		// What is not marked may be a word that any message has.
		if e.Secret || len(e.Value) >= minReplaced {
			m.hide(e.Value)
		}
		secret = secret || e.Secret
	}
	if secret && !init { // init containers have no such member
		m.boolean(at+".EnvironmentVarHide", true)
	}
}

func (m *members) addSecurity(at string, s *corev1.SecurityContext, pod *corev1.PodSecurityContext, init bool) {
	var user, group *int64
	var nonRoot *bool
	if pod != nil {
		user, group, nonRoot = pod.RunAsUser, pod.RunAsGroup, pod.RunAsNonRoot
	}
	if s != nil {
		if s.RunAsUser != nil {
			user = s.RunAsUser
		}
		if s.RunAsGroup != nil {
			group = s.RunAsGroup
		}
		if s.RunAsNonRoot != nil {
			nonRoot = s.RunAsNonRoot
		}
		if s.ReadOnlyRootFilesystem != nil && *s.ReadOnlyRootFilesystem {
			m.boolean(at+".SecurityContext.ReadOnlyRootFilesystem", true)
		}
		if s.Capabilities != nil {
			for i, c := range s.Capabilities.Add {
				m.set(element(at+".SecurityContext.Capability.Add", i), string(c))
			}
		}
	}
	if user != nil {
		m.integer(at+".SecurityContext.RunAsUser", *user)
	}
	if init {
		return // has neither group nor non-root; burstable.Check refuses what needs them
	}
	if group != nil {
		m.integer(at+".SecurityContextRunAsGroup", *group)
	}
	if nonRoot != nil && *nonRoot {
		m.boolean(at+".SecurityContextRunAsNonRoot", true)
	}
}

func (m *members) addProbe(at string, c *providers.Container, p *corev1.Probe) {
	if p == nil {
		return
	}
	switch {
	case p.Exec != nil:
		m.list(at+".Exec.Command", p.Exec.Command)
	case p.HTTPGet != nil:
		m.set(at+".HttpGet.Path", p.HTTPGet.Path)
		m.integer(at+".HttpGet.Port", int64(portNumber(c, p.HTTPGet.Port)))
		m.set(at+".HttpGet.Scheme", string(p.HTTPGet.Scheme))
	case p.TCPSocket != nil:
		m.integer(at+".TcpSocket.Port", int64(portNumber(c, p.TCPSocket.Port)))
	}
	for name, v := range map[string]int32{
		"InitialDelaySeconds": p.InitialDelaySeconds, "PeriodSeconds": p.PeriodSeconds,
		"TimeoutSeconds": p.TimeoutSeconds, "SuccessThreshold": p.SuccessThreshold, "FailureThreshold": p.FailureThreshold,
	} {
		if v > 0 { // zero is the default, for Kubernetes and for ECI
			m.integer(at+"."+name, int64(v))
		}
	}
}

// addHook adds a postStart or preStop handler, whose members are not nested
// but joined to one name.
func (m *members) addHook(prefix string, c *providers.Container, h *corev1.LifecycleHandler) {
	switch {
	case h == nil:
	case h.Exec != nil:
		m.list(prefix+"Exec", h.Exec.Command)
	case h.HTTPGet != nil:
		m.set(prefix+"HttpGetHost", h.HTTPGet.Host)
		m.set(prefix+"HttpGetPath", h.HTTPGet.Path)
		m.set(prefix+"HttpGetScheme", string(h.HTTPGet.Scheme))
		m.integer(prefix+"HttpGetPort", int64(portNumber(c, h.HTTPGet.Port)))
		for i, header := range h.HTTPGet.HTTPHeaders {
			at := element(prefix+"HttpGetHttpHeader", i)
			m.set(at+".Name", header.Name)
			m.set(at+".Value", header.Value)
		}
	case h.TCPSocket != nil:
		m.set(prefix+"TcpSocketHost", h.TCPSocket.Host)
		m.integer(prefix+"TcpSocketPort", int64(portNumber(c, h.TCPSocket.Port)))
	}
}

// portNumber resolves a port's name; 0 if no port of the container bears it.
func portNumber(c *providers.Container, port intstr.IntOrString) int32 {
	if port.Type == intstr.Int {
		return port.IntVal
	}
	i := slices.IndexFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == port.StrVal })
	if i < 0 {
		return 0
	}
	return c.Ports[i].ContainerPort
}

// sizeOf adds up the containers as [burstable.SizeOf] does.
func sizeOf(spec *providers.GroupSpec) burstable.Size {
	var pod corev1.PodSpec
	for i := range spec.Containers {
		pod.Containers = append(pod.Containers, corev1.Container{Resources: spec.Containers[i].Resources})
	}
	for i := range spec.InitContainers {
		c := corev1.Container{Resources: spec.InitContainers[i].Resources}
		if spec.InitContainers[i].Sidecar {
			c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
		}
		pod.InitContainers = append(pod.InitContainers, c)
	}
	return burstable.SizeOf(&pod)
}
