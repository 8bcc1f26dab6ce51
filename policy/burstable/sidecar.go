package burstable

import corev1 "k8s.io/api/core/v1"

// IsSidecar tells whether an init container is one that runs on beside the pod's
// containers.
func IsSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// sidecars counts them.
func sidecars(spec *corev1.PodSpec) int {
	n := 0
	for i := range spec.InitContainers {
		if IsSidecar(&spec.InitContainers[i]) {
			n++
		}
	}
	return n
}

// restartPolicy refuses a restart policy of a container's own, but that of a sidecar
// where the cloud has them. There they are started after the last init container,
// so none may wait for them.
func (c *checker) restartPolicy(at *path, list []corev1.Container, i int, init bool) {
	switch ctr := &list[i]; {
	case ctr.RestartPolicy == nil:
	case !init || !IsSidecar(ctr):
		c.never(at, "restartPolicy", "restarts the containers of a pod alike")
	case !c.caps.Has(Sidecars):
		c.lacks(at, "restartPolicy", "runs no sidecars among the init containers")
	default:
		for j := i + 1; j < len(list); j++ {
			if !IsSidecar(&list[j]) {
				c.lacks(at, "restartPolicy", "starts sidecars after the last init container, and "+list[j].Name+" comes after this one; put it before")
				return
			}
		}
	}
}
