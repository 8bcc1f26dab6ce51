package vnode

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

// ResolverSettings say how a pod's references are resolved.
type ResolverSettings struct {
	// ClusterDNS are the addresses of the cluster's resolver, and ClusterDomain
	// its domain, cluster.local by default. Without an address a pod uses the
	// cloud's resolver.
	ClusterDNS    []string
	ClusterDomain string
	// TokenSeconds is the lifetime asked for a ServiceAccount token, a year by
	// default: a file in a group cannot be renewed. The API server may grant
	// less. The token ends with its pod in any case.
	TokenSeconds int64
}

func (s ResolverSettings) withDefaults() ResolverSettings {
	if s.ClusterDomain == "" {
		s.ClusterDomain = "cluster.local"
	}
	if s.TokenSeconds == 0 {
		s.TokenSeconds = int64((365 * 24 * time.Hour).Seconds())
	}
	return s
}

// missingError says that something that the pod refers to does not exist (yet).
type missingError struct {
	reason string // of the event
	what   string
}

func (e *missingError) Error() string {
	return e.what + "; the pod starts when this is put right"
}

func (e *missingError) containerReason() string {
	if e.reason == "FailedMount" {
		return reasonCreating
	}
	return reasonConfigError
}

// warner tells of something that is worth an event but no reason to wait.
type warner = func(reason, message string)

// unsupportedError names a field that cannot be resolved for a cloud.
type unsupportedError struct{ field, message string }

func (e *unsupportedError) Error() string { return e.field + ": " + e.message }

// resolver makes a pod into what a cloud needs to run it.
type resolver struct {
	settings   ResolverSettings
	node       NodeSettings
	clusterUID string
	caps       burstable.Capabilities
	client     kubernetes.Interface
	fetch      *fetcher
	clock      clock.PassiveClock
}

func newResolver(client kubernetes.Interface, cfg Config, caps burstable.Capabilities, clk clock.PassiveClock) *resolver {
	return &resolver{
		settings: cfg.Resolver, node: cfg.Node, clusterUID: cfg.ClusterUID, caps: caps,
		client: client, fetch: newFetcher(client, clk), clock: clk,
	}
}

// GroupSpec is what the agent of a virtual node asks a cloud with these
// capabilities to run for a pod that is bound to it. What is worth an event but no
// reason to wait is given to warn. It fails where the pod refers to what does not
// exist or cannot be resolved for a cloud.
func GroupSpec(ctx context.Context, client kubernetes.Interface, cfg Config, caps burstable.Capabilities, clk clock.PassiveClock,
	pod *corev1.Pod, warn func(reason, message string),
) (*providers.GroupSpec, error) {
	return newResolver(client, cfg.withDefaults(), caps, clk).resolve(ctx, pod, warn)
}

// resolve returns the group of a pod. What is worth an event but no reason to
// wait is given to warn. Its errors are a *missingError, an *unsupportedError,
// or one of the API server.
func (r *resolver) resolve(ctx context.Context, pod *corev1.Pod, warn warner) (*providers.GroupSpec, error) {
	spec := &providers.GroupSpec{
		Owner: providers.Owner{
			ClusterUID: r.clusterUID, NodeName: r.node.Name,
			Namespace: pod.Namespace, PodName: pod.Name, PodUID: string(pod.UID),
		},
		RestartPolicy:                 pod.Spec.RestartPolicy,
		DNS:                           r.dns(pod, warn),
		Hostname:                      pod.Spec.Hostname,
		HostAliases:                   pod.Spec.HostAliases,
		SecurityContext:               pod.Spec.SecurityContext,
		ShareProcessNamespace:         pod.Spec.ShareProcessNamespace != nil && *pod.Spec.ShareProcessNamespace,
		TerminationGracePeriodSeconds: pod.Spec.TerminationGracePeriodSeconds,
		ActiveDeadlineSeconds:         pod.Spec.ActiveDeadlineSeconds,
		Annotations:                   maps.Clone(pod.Annotations),
	}
	links, err := r.serviceEnv(ctx, pod)
	if err != nil {
		return nil, err
	}
	for i := range pod.Spec.InitContainers {
		c, err := r.container(ctx, pod, fmt.Sprintf("spec.initContainers[%d]", i), &pod.Spec.InitContainers[i], links, warn)
		if err != nil {
			return nil, err
		}
		spec.InitContainers = append(spec.InitContainers, c)
	}
	for i := range pod.Spec.Containers {
		c, err := r.container(ctx, pod, fmt.Sprintf("spec.containers[%d]", i), &pod.Spec.Containers[i], links, warn)
		if err != nil {
			return nil, err
		}
		spec.Containers = append(spec.Containers, c)
	}
	used := map[string]bool{}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range list {
			for _, m := range c.VolumeMounts {
				used[m.Name] = true
			}
		}
	}
	for i := range pod.Spec.Volumes {
		// The kubelet waits for the objects of every volume, mounted or not.
		v, err := r.volume(ctx, pod, fmt.Sprintf("spec.volumes[%d]", i), &pod.Spec.Volumes[i], warn)
		if err != nil {
			return nil, err
		}
		if used[v.Name] {
			spec.Volumes = append(spec.Volumes, v)
		}
	}
	spec.RegistryCredentials, err = r.registryCredentials(ctx, pod, warn)
	if err != nil {
		return nil, err
	}
	return spec, nil
}

func (r *resolver) container(ctx context.Context, pod *corev1.Pod, field string, c *corev1.Container, links map[string]string, warn warner) (providers.Container, error) {
	env, err := r.environment(ctx, pod, field, c, links, warn)
	if err != nil {
		return providers.Container{}, err
	}
	out := providers.Container{
		Name: c.Name, Image: c.Image, ImagePullPolicy: c.ImagePullPolicy, WorkingDir: c.WorkingDir,
		Env: env.list(), Ports: c.Ports, Resources: c.Resources,
		LivenessProbe: c.LivenessProbe, ReadinessProbe: c.ReadinessProbe, Lifecycle: c.Lifecycle,
		SecurityContext: c.SecurityContext, Stdin: c.Stdin, StdinOnce: c.StdinOnce, TTY: c.TTY,
		Sidecar: burstable.IsSidecar(c),
	}
	if c.TerminationMessagePath != corev1.TerminationMessagePathDefault {
		out.TerminationMessagePath = c.TerminationMessagePath
	}
	if c.TerminationMessagePolicy != corev1.TerminationMessageReadFile {
		out.TerminationMessagePolicy = c.TerminationMessagePolicy
	}
	for i, s := range c.Command {
		value, err := env.expand(s, fmt.Sprintf("%s.command[%d]", field, i))
		if err != nil {
			return providers.Container{}, err
		}
		out.Command = append(out.Command, value.text)
	}
	for i, s := range c.Args {
		value, err := env.expand(s, fmt.Sprintf("%s.args[%d]", field, i))
		if err != nil {
			return providers.Container{}, err
		}
		out.Args = append(out.Args, value.text)
	}
	for i, m := range c.VolumeMounts {
		if m.SubPathExpr != "" {
			at := fmt.Sprintf("%s.volumeMounts[%d].subPathExpr", field, i)
			m.SubPath, err = env.path(m.SubPathExpr, at)
			if err != nil {
				return providers.Container{}, err
			}
			m.SubPathExpr = ""
		}
		out.Mounts = append(out.Mounts, m)
	}
	return out, nil
}

// dns is the pod's resolver configuration; nil means the cloud's own.
func (r *resolver) dns(pod *corev1.Pod, warn warner) *providers.DNS {
	var d providers.DNS
	switch policy := pod.Spec.DNSPolicy; {
	case policy == corev1.DNSNone, policy == corev1.DNSDefault:
	case len(r.settings.ClusterDNS) == 0:
		warn("MissingClusterDNS", fmt.Sprintf(
			"Virtual node %s does not know the cluster's DNS server, so the pod uses the cloud's resolver and cannot find services by name. Set the agent's --cluster-dns.", r.node.Name))
	default: // ClusterFirst and, as host networking is refused, ClusterFirstWithHostNet
		domain := r.settings.ClusterDomain
		d.Nameservers = slices.Clone(r.settings.ClusterDNS)
		d.Searches = []string{pod.Namespace + ".svc." + domain, "svc." + domain, domain}
		d.Options = []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr.To("5")}}
		d.Default = true
	}
	if c := pod.Spec.DNSConfig; c != nil {
		d.Default = d.Default && len(c.Nameservers)+len(c.Searches)+len(c.Options) == 0
		d.Nameservers = appendNew(d.Nameservers, c.Nameservers)
		d.Searches = appendNew(d.Searches, c.Searches)
		for _, o := range c.Options {
			d.Options = slices.DeleteFunc(d.Options, func(old corev1.PodDNSConfigOption) bool { return old.Name == o.Name })
			d.Options = append(d.Options, o)
		}
	}
	if len(d.Nameservers)+len(d.Searches)+len(d.Options) == 0 {
		return nil
	}
	return &d
}

func appendNew(list, more []string) []string {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// serviceEnv are the variables that announce services. The API server's own is
// always there, unless the pod's namespace has a service of its name.
func (r *resolver) serviceEnv(ctx context.Context, pod *corev1.Pod) (map[string]string, error) {
	const apiServer = "kubernetes"
	announced := map[string]*corev1.Service{}
	master, err := r.fetch.service(ctx, corev1.NamespaceDefault, apiServer)
	switch {
	case err == nil:
		announced[apiServer] = master
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("reading service default/kubernetes: %w", err)
	}
	if pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks {
		list, err := r.fetch.services(ctx, pod.Namespace)
		if err != nil {
			return nil, fmt.Errorf("listing the services of namespace %s: %w", pod.Namespace, err)
		}
		for i := range list.Items {
			if s := &list.Items[i]; hasClusterIP(s) {
				announced[s.Name] = s
			}
		}
	}
	env := map[string]string{}
	for _, name := range sorted(announced) {
		addServiceEnv(env, announced[name])
	}
	return env, nil
}

func hasClusterIP(s *corev1.Service) bool {
	return s.Spec.ClusterIP != "" && s.Spec.ClusterIP != corev1.ClusterIPNone && len(s.Spec.Ports) > 0
}

// addServiceEnv adds a service's variables in the kubelet's names: those of
// Kubernetes and those that Docker links once made.
func addServiceEnv(env map[string]string, s *corev1.Service) {
	if !hasClusterIP(s) {
		return
	}
	host := s.Spec.ClusterIP
	name := variable(s.Name)
	env[name+"_SERVICE_HOST"] = host
	env[name+"_SERVICE_PORT"] = fmt.Sprint(s.Spec.Ports[0].Port)
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	for i, p := range s.Spec.Ports {
		if p.Name != "" {
			env[name+"_SERVICE_PORT_"+variable(p.Name)] = fmt.Sprint(p.Port)
		}
		protocol := "TCP"
		if p.Protocol != "" {
			protocol = string(p.Protocol)
		}
		url := fmt.Sprintf("%s://%s:%d", strings.ToLower(protocol), host, p.Port)
		if i == 0 {
			env[name+"_PORT"] = url
		}
		prefix := fmt.Sprintf("%s_PORT_%d_%s", name, p.Port, strings.ToUpper(protocol))
		env[prefix] = url
		env[prefix+"_PROTO"] = strings.ToLower(protocol)
		env[prefix+"_PORT"] = fmt.Sprint(p.Port)
		env[prefix+"_ADDR"] = s.Spec.ClusterIP
	}
}

func variable(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }
