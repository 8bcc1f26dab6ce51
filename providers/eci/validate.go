package eci

import (
	"fmt"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/autoburst/autoburst/providers"
)

// validate looks at what is known only since the agent has resolved the pod:
// values from ConfigMaps and Secrets. It names the first thing in the way,
// never its value.
func validate(spec *providers.GroupSpec) error {
	refuse := func(field, format string, args ...any) error {
		return &providers.Error{
			Class: providers.InvalidPod, Operation: actionCreate, Code: "NotBurstable",
			Message: field + " " + fmt.Sprintf(format, args...),
		}
	}
	if spec.Owner.PodUID == "" || spec.Owner.Namespace == "" || spec.Owner.PodName == "" {
		return refuse("the pod", "has no namespace, name or UID yet")
	}
	if len(spec.Containers) == 0 {
		return refuse("spec.containers", "is empty")
	}
	if dns := spec.DNS; dns != nil {
		for what, n := range map[string]int{"nameservers": len(dns.Nameservers), "searches": len(dns.Searches), "options": len(dns.Options)} {
			if n > maxDNS {
				return refuse("spec.dnsConfig."+what, "has %d entries with those of the cluster; ECI allows at most %d", n, maxDNS)
			}
		}
	}
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		if v.Files == nil {
			continue
		}
		field := fmt.Sprintf("spec.volumes[%d] (%s)", i, v.Name)
		if n := len(v.Files.Items); n > maxFiles {
			return refuse(field, "has %d files; ECI allows at most %d in one volume", n, maxFiles)
		}
		for _, f := range v.Files.Items {
			if len(f.Data) > maxFileBytes {
				return refuse(field, "has the file %s of %d bytes; ECI allows at most %d", f.Path, len(f.Data), maxFileBytes)
			}
		}
	}
	for _, list := range []struct {
		name       string
		containers []providers.Container
	}{{"spec.initContainers", spec.InitContainers}, {"spec.containers", spec.Containers}} {
		for i := range list.containers {
			field := fmt.Sprintf("%s[%d]", list.name, i)
			if err := validateContainer(field, &list.containers[i], refuse); err != nil {
				return err
			}
		}
	}
	return nil
}

func validateContainer(field string, c *providers.Container, refuse func(field, format string, args ...any) error) error {
	if n := len(c.Image); n == 0 || n > maxImageLength {
		return refuse(field+".image", "has %d characters; ECI takes 1 to %d", n, maxImageLength)
	}
	n := len(c.Env)
	if c.Sidecar {
		n += sidecarEnv
	}
	if n > maxEnv {
		return refuse(field+".env", "has %d variables with those of envFrom and of Services; ECI allows at most %d (spec.enableServiceLinks: false leaves those of Services out)", n, maxEnv)
	}
	for _, e := range c.Env {
		switch {
		case !envName(e.Name):
			return refuse(field+".env", "has the name %q; ECI takes letters, digits and _ only, not beginning with a digit, at most %d", e.Name, maxEnvNameBytes)
		case utf8.RuneCountInString(e.Value) > maxEnvValue:
			return refuse(field+".env", "has a value of %d characters for %s; ECI allows at most %d", utf8.RuneCountInString(e.Value), e.Name, maxEnvValue)
		case e.FieldPath != "" && e.FieldPath != "status.podIP":
			return refuse(field+".env", "asks for the field %s in %s; ECI knows status.podIP only", e.FieldPath, e.Name)
		}
	}
	var ports []intstr.IntOrString
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe} {
		if p != nil {
			ports = append(ports, handlerPorts(p.HTTPGet, p.TCPSocket)...)
		}
	}
	if l := c.Lifecycle; l != nil {
		for _, h := range []*corev1.LifecycleHandler{l.PostStart, l.PreStop} {
			if h != nil {
				ports = append(ports, handlerPorts(h.HTTPGet, h.TCPSocket)...)
			}
		}
	}
	for _, p := range ports {
		if portNumber(c, p) == 0 {
			return refuse(field, "names the port %q in a probe or hook, which no port of the container bears", p.String())
		}
	}
	return nil
}

func handlerPorts(http *corev1.HTTPGetAction, tcp *corev1.TCPSocketAction) []intstr.IntOrString {
	var out []intstr.IntOrString
	if http != nil {
		out = append(out, http.Port)
	}
	if tcp != nil {
		out = append(out, tcp.Port)
	}
	return out
}

func envName(s string) bool {
	for i := range len(s) {
		b := s[i]
		if b == '_' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || i > 0 && '0' <= b && b <= '9' {
			continue
		}
		return false
	}
	return s != "" && len(s) <= maxEnvNameBytes
}
