package eci

import (
	"slices"
	"strconv"

	"github.com/autoburst/autoburst/providers"
)

// The environment by which ECI knows the order of containers and which of them only
// serve the others (ECI, "Configure container startup and exit order" and "Forcibly
// terminate sidecar containers", 2026-06). Priorities are -1000 to 1000, 0 for a
// container that names none; the higher starts first, and the next when it is ready;
// the higher ends first.
const (
	envLaunch     = "ECI_CONTAINER_LAUNCH_PRIORITY"
	envExit       = "ECI_CONTAINER_EXIT_PRIORITY"
	envType       = "ECI_CONTAINER_TYPE"
	envIgnoreExit = "ECI_CONTAINER_IGNORE_EXIT_CODE"

	typeSidecar     = "sidecar"
	highestPriority = 1000
	// sidecarEnv is how many of these a sidecar has.
	sidecarEnv = 4
)

// arranged are the init containers and containers as ECI runs them: sidecars are
// containers, which start in their order before all others, end in the opposite
// order after them, and do not keep a group alive. burstable.Check has seen that no
// other init container comes after a sidecar.
func arranged(spec *providers.GroupSpec) (inits, containers []providers.Container) {
	var sidecars []providers.Container
	for i := range spec.InitContainers {
		if c := spec.InitContainers[i]; c.Sidecar {
			sidecars = append(sidecars, c)
		} else {
			inits = append(inits, c)
		}
	}
	for i := range sidecars {
		c := &sidecars[i]
		own := []providers.EnvVar{
			{Name: envLaunch, Value: strconv.Itoa(highestPriority - i)},
			{Name: envExit, Value: strconv.Itoa(i - len(sidecars))},
			{Name: envType, Value: typeSidecar},
			{Name: envIgnoreExit, Value: "true"},
		}
		// Whoever knows these variables may have set them.
		own = slices.DeleteFunc(own, func(v providers.EnvVar) bool {
			return slices.ContainsFunc(c.Env, func(o providers.EnvVar) bool { return o.Name == v.Name })
		})
		c.Env = slices.Concat(c.Env, own)
	}
	return inits, append(sidecars, spec.Containers...)
}
