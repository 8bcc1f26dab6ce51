package burstable

import (
	pathpkg "path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// check walks the whole specification of a pod. It allocates only for what it
// refuses, since it runs for every pod that is admitted.
func check(pod *corev1.Pod, caps Capabilities) []Refusal {
	c := checker{caps: caps}
	spec := &pod.Spec
	root := path{name: "spec", index: -1}

	c.aci(pod)
	c.volumes(&root, spec)
	c.containers(&root, "initContainers", spec.InitContainers, spec, true)
	c.containers(&root, "containers", spec.Containers, spec, false)
	apply(&c, &root, podRules, spec)
	c.podSecurity(&root, spec)
	c.bound(&root, "containers", "containers and init containers together", len(spec.Containers)+len(spec.InitContainers), caps.Limits.AllContainers)
	c.sharedPorts(&root, spec.Containers)
	c.sizes(&root, spec)
	c.bandwidth(pod)
	c.eci(pod)
	return c.refusals
}

func (c *checker) volumes(root *path, spec *corev1.PodSpec) {
	c.bound(root, "volumes", "volumes", len(spec.Volumes), c.caps.Limits.Volumes)
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		at := path{parent: root, name: "volumes", index: i}
		if c.isShareClaim(v) {
			continue
		}
		apply(c, &at, volumeRules, v)
		switch {
		case v.ConfigMap != nil:
			src := path{parent: &at, name: "configMap", index: -1}
			c.mode(&src, "defaultMode", v.ConfigMap.DefaultMode)
			c.keys(&src, v.ConfigMap.Items)
		case v.Secret != nil:
			src := path{parent: &at, name: "secret", index: -1}
			c.mode(&src, "defaultMode", v.Secret.DefaultMode)
			c.keys(&src, v.Secret.Items)
		case v.DownwardAPI != nil:
			src := path{parent: &at, name: "downwardAPI", index: -1}
			c.mode(&src, "defaultMode", v.DownwardAPI.DefaultMode)
			c.downward(&src, v.DownwardAPI.Items)
		case v.Projected != nil:
			src := path{parent: &at, name: "projected", index: -1}
			c.mode(&src, "defaultMode", v.Projected.DefaultMode)
			c.projected(&src, v.Projected.Sources)
		case v.CSI != nil:
			c.csi(&at, v.CSI)
		}
	}
}

func (c *checker) projected(at *path, sources []corev1.VolumeProjection) {
	for i := range sources {
		p := &sources[i]
		src := path{parent: at, name: "sources", index: i}
		apply(c, &src, projectionRules, p)
		if p.ConfigMap != nil {
			c.keys(&path{parent: &src, name: "configMap", index: -1}, p.ConfigMap.Items)
		}
		if p.Secret != nil {
			c.keys(&path{parent: &src, name: "secret", index: -1}, p.Secret.Items)
		}
		if p.DownwardAPI != nil {
			c.downward(&path{parent: &src, name: "downwardAPI", index: -1}, p.DownwardAPI.Items)
		}
		if p.ServiceAccountToken != nil {
			c.filePath(&src, "serviceAccountToken.path", p.ServiceAccountToken.Path)
		}
	}
}

func (c *checker) keys(at *path, items []corev1.KeyToPath) {
	for i := range items {
		item := path{parent: at, name: "items", index: i}
		c.mode(&item, "mode", items[i].Mode)
		c.filePath(&item, "path", items[i].Path)
	}
}

func (c *checker) downward(at *path, items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		item := path{parent: at, name: "items", index: i}
		c.mode(&item, "mode", items[i].Mode)
		c.filePath(&item, "path", items[i].Path)
		if f := items[i].FieldRef; f != nil && !agentField(f.FieldPath) {
			c.never(&item, "fieldRef.fieldPath", "has files of the pod's metadata only, as the rest is not known when they are written")
		}
	}
}

const (
	modesFixed    = "gives every file of a volume the mode 0644; leave the mode out"
	noDirectories = "has no directories in volumes of files"
)

func (c *checker) mode(at *path, field string, mode *int32) {
	if mode != nil && *mode != defaultFileMode && !c.caps.Has(FileModes) {
		c.lacks(at, field, modesFixed)
	}
}

func (c *checker) filePath(at *path, field, file string) {
	if strings.Contains(file, "/") && !c.caps.Has(NestedFilePaths) {
		c.lacks(at, field, noDirectories)
	}
}

// agentField tells whether the agent knows the field before the pod runs.
func agentField(fieldPath string) bool {
	switch fieldPath {
	case "metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations",
		"spec.nodeName", "spec.serviceAccountName":
		return true
	}
	return strings.HasPrefix(fieldPath, "metadata.labels['") || strings.HasPrefix(fieldPath, "metadata.annotations['")
}

func (c *checker) containers(root *path, field string, list []corev1.Container, spec *corev1.PodSpec, init bool) {
	limits := &c.caps.Limits
	most := limits.Containers
	if init {
		most = limits.InitContainers
	}
	have := len(list)
	if n := sidecars(spec); n > 0 { // they run among the containers
		if have -= n; !init {
			have += 2 * n
		}
	}
	c.bound(root, field, "containers in this list", have, most)
	for i := range list {
		ctr := &list[i]
		at := path{parent: root, name: field, index: i}
		apply(c, &at, containerRules, ctr)
		c.restartPolicy(&at, list, i, init)
		c.bound(&at, "command", "items", len(ctr.Command), limits.Command)
		c.bound(&at, "args", "items", len(ctr.Args), limits.Args)
		c.bound(&at, "image", "bytes in the name of an image", len(ctr.Image), limits.ImageBytes)
		c.bound(&at, "env", "variables in one container", len(ctr.Env), limits.Env)
		if init {
			apply(c, &at, initRules, ctr)
		}
		c.ports(&at, ctr.Ports)
		c.env(&at, ctr)
		for j := range ctr.VolumeMounts {
			apply(c, &path{parent: &at, name: "volumeMounts", index: j}, mountRules, &ctr.VolumeMounts[j])
			c.mountPath(&at, ctr.VolumeMounts, j)
		}
		c.sharesAsRoot(&at, ctr, spec)
		c.probe(&at, "livenessProbe", ctr, ctr.LivenessProbe)
		c.probe(&at, "readinessProbe", ctr, ctr.ReadinessProbe)
		c.lifecycle(&at, ctr)
		c.security(&at, ctr.SecurityContext, spec.SecurityContext, init && !IsSidecar(ctr))
		c.resourceNames(&at, "resources.requests", ctr.Resources.Requests)
		c.resourceNames(&at, "resources.limits", ctr.Resources.Limits)
	}
}

const oneMount = "mounts one volume at a path, and another mount of the container is there too"

// mountPath refuses a second mount at one path. The API server refuses those that are
// spelt alike; of others, a kubelet shows one of the two, and what a cloud does is not
// published.
func (c *checker) mountPath(at *path, mounts []corev1.VolumeMount, i int) {
	for j := range i {
		if pathpkg.Clean(mounts[j].MountPath) == pathpkg.Clean(mounts[i].MountPath) {
			c.never(&path{parent: at, name: "volumeMounts", index: i}, "mountPath", oneMount)
			return
		}
	}
}

func (c *checker) env(at *path, ctr *corev1.Container) {
	for i := range ctr.EnvFrom {
		if p := ctr.EnvFrom[i].Prefix; p != "" && !PlainName(p) {
			c.never(&path{parent: at, name: "envFrom", index: i}, "prefix", onlyPlainNames)
		}
	}
	podIP := false
	for i := range ctr.Env {
		e := &ctr.Env[i]
		v := path{parent: at, name: "env", index: i}
		if !PlainName(e.Name) {
			c.never(&v, "name", onlyPlainNames)
		}
		c.bound(&v, "name", "bytes in the name of a variable", len(e.Name), c.caps.Limits.EnvNameBytes)
		// What $(NAME) becomes is known to the agent only, which looks again.
		if !strings.Contains(e.Value, "$(") {
			c.bound(&v, "value", "bytes in the value of a variable", len(e.Value), c.caps.Limits.EnvValueBytes)
		}
		if e.ValueFrom == nil {
			continue
		}
		apply(c, &v, envSourceRules, e.ValueFrom)
		if f := e.ValueFrom.FieldRef; f != nil && !agentField(f.FieldPath) {
			const field = "valueFrom.fieldRef.fieldPath"
			switch f.FieldPath {
			case "status.podIP":
				if !c.caps.Has(PodIPEnv) {
					c.lacks(&v, field, "does not tell containers the pod's address")
					continue
				}
				podIP = true
			case "status.podIPs":
				if !c.caps.Has(PodIPsEnv) {
					c.lacks(&v, field, "does not tell containers all addresses of the pod")
					continue
				}
				podIP = true
				if c.podIPs == "" {
					c.podIPs = v.child(field)
				}
			case "status.hostIP", "status.hostIPs":
				if !c.caps.Has(HostIPEnv) {
					c.lacks(&v, field, "does not tell containers the node's address")
				}
			default:
				c.never(&v, field, "does not tell this field to containers")
			}
		}
	}
	if podIP {
		c.podIPReferences(at, ctr)
	}
}

// podIPReferences refuses $(NAME) where NAME is the pod's address: the agent
// expands references, but only the cloud knows the address.
func (c *checker) podIPReferences(at *path, ctr *corev1.Container) {
	const why = "cannot put the pod's address into other text; let the container read the variable"
	for i := range ctr.Env {
		if s := ctr.Env[i].ValueFrom; s == nil || s.FieldRef == nil || s.FieldRef.FieldPath != "status.podIP" && s.FieldRef.FieldPath != "status.podIPs" {
			continue
		}
		ref := "$(" + ctr.Env[i].Name + ")"
		for j := i + 1; j < len(ctr.Env); j++ {
			if strings.Contains(ctr.Env[j].Value, ref) {
				c.never(&path{parent: at, name: "env", index: j}, "value", why)
			}
		}
		for j, s := range ctr.Command {
			if strings.Contains(s, ref) {
				c.never(&path{parent: at, name: "command", index: j}, "", why)
			}
		}
		for j, s := range ctr.Args {
			if strings.Contains(s, ref) {
				c.never(&path{parent: at, name: "args", index: j}, "", why)
			}
		}
		for j := range ctr.VolumeMounts {
			if strings.Contains(ctr.VolumeMounts[j].SubPathExpr, ref) {
				c.never(&path{parent: at, name: "volumeMounts", index: j}, "subPathExpr", why)
			}
		}
	}
}

const onlyPlainNames = "takes names of letters, digits and _ only, not beginning with a digit"

// PlainName tells whether the clouds take s as the name of an environment variable:
// letters, digits and _, not beginning with a digit. Their bounds of its length differ,
// see [Limits].
func PlainName(s string) bool {
	for i := range len(s) {
		b := s[i]
		if b == '_' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || i > 0 && '0' <= b && b <= '9' {
			continue
		}
		return false
	}
	return s != ""
}

func (c *checker) probe(at *path, field string, ctr *corev1.Container, p *corev1.Probe) {
	if p == nil {
		return
	}
	pp := path{parent: at, name: field, index: -1}
	apply(c, &pp, probeRules, p)
	if p.Exec != nil {
		c.bound(&pp, "exec.command", "items", len(p.Exec.Command), c.caps.Limits.ProbeCommand)
	}
	if p.HTTPGet != nil {
		c.namedPort(&pp, "httpGet.port", ctr, p.HTTPGet.Port.StrVal)
	}
	if p.TCPSocket != nil {
		c.namedPort(&pp, "tcpSocket.port", ctr, p.TCPSocket.Port.StrVal)
	}
}

// namedPort refuses a name that no port of the container bears: a kubelet
// would fail at each probe, a cloud cannot even be asked.
func (c *checker) namedPort(at *path, field string, ctr *corev1.Container, name string) {
	if name == "" {
		return
	}
	for i := range ctr.Ports {
		if ctr.Ports[i].Name == name {
			return
		}
	}
	c.never(at, field, "needs a number, or the name of a port of this container")
}

func (c *checker) lifecycle(at *path, ctr *corev1.Container) {
	l := ctr.Lifecycle
	if l == nil {
		return
	}
	lp := path{parent: at, name: "lifecycle", index: -1}
	apply(c, &lp, lifecycleRules, l)
	c.hook(&path{parent: &lp, name: "postStart", index: -1}, ctr, l.PostStart)
	c.hook(&path{parent: &lp, name: "preStop", index: -1}, ctr, l.PreStop)
}

func (c *checker) hook(at *path, ctr *corev1.Container, h *corev1.LifecycleHandler) {
	if h == nil {
		return
	}
	if h.HTTPGet != nil {
		c.namedPort(at, "httpGet.port", ctr, h.HTTPGet.Port.StrVal)
	}
	if h.TCPSocket != nil {
		c.namedPort(at, "tcpSocket.port", ctr, h.TCPSocket.Port.StrVal)
	}
}

func (c *checker) podSecurity(root *path, spec *corev1.PodSpec) {
	s := spec.SecurityContext
	if s == nil {
		return
	}
	at := path{parent: root, name: "securityContext", index: -1}
	apply(c, &at, podSecurityRules, s)
	if s.RunAsGroup != nil && len(spec.InitContainers) > sidecars(spec) && c.caps.Has(RunAsGroup) && !c.caps.Has(InitRunAsGroup) {
		c.lacks(&at, "runAsGroup", "does not choose the group of init containers")
	}
}

func (c *checker) security(at *path, s *corev1.SecurityContext, pod *corev1.PodSecurityContext, init bool) {
	sp := path{parent: at, name: "securityContext", index: -1}
	if s != nil {
		apply(c, &sp, securityRules, s)
		if s.RunAsGroup != nil && init && c.caps.Has(RunAsGroup) && !c.caps.Has(InitRunAsGroup) {
			c.lacks(&sp, "runAsGroup", "does not choose the group of init containers")
		}
		if s.Capabilities != nil && c.caps.Has(CapabilitiesAdd) {
			c.addedCapabilities(&sp, s.Capabilities.Add)
		}
	}

	nonRoot, user := s != nil && isTrue(s.RunAsNonRoot), (*int64)(nil)
	if s != nil {
		user = s.RunAsUser
	}
	if pod != nil {
		if s == nil || s.RunAsNonRoot == nil {
			nonRoot = isTrue(pod.RunAsNonRoot)
		}
		if user == nil {
			user = pod.RunAsUser
		}
	}
	need := RunAsNonRoot
	if init {
		need = InitRunAsNonRoot
	}
	if nonRoot && (user == nil || *user == 0) && !c.caps.Has(need) {
		c.lacks(&sp, "runAsNonRoot", "cannot see who an image runs as; set runAsUser to a number other than 0")
	}
}

func (c *checker) addedCapabilities(at *path, add []corev1.Capability) {
	if len(c.caps.Limits.Capabilities) == 0 {
		return
	}
	for i, name := range add {
		if !slices.Contains(c.caps.Limits.Capabilities, string(name)) {
			caps := path{parent: at, name: "capabilities", index: -1}
			c.lacks(&path{parent: &caps, name: "add", index: i}, "",
				"adds only the capabilities "+strings.Join(c.caps.Limits.Capabilities, ", "))
		}
	}
}
