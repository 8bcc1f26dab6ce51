package burstable

import (
	"cmp"
	"maps"
	"slices"
)

// Row is what the table says of one use of a pod field.
type Row struct {
	// Field is the path as kubectl explain writes it, without indexes; one that ends
	// in ".*" stands for all below it.
	Field string
	// Need is the feature that carries it out, "" if none does.
	Need Feature
	// By says who carries it out for every cloud, "" where that takes a feature or
	// nobody does.
	By string
	// Why completes the sentence, begun with the cloud's name, that says why a cloud
	// without the feature refuses it.
	Why string
}

// Table is all that is known of pod fields, ordered by field: what [Check] asks
// about, and what is carried out without a question.
func Table() []Row {
	rows := slices.Concat(
		rowsOf("spec", podRules),
		rowsOf("spec.securityContext", podSecurityRules),
		rowsOf("spec.containers", containerRules),
		rowsOf("spec.initContainers", initRules),
		rowsOf("spec.containers.securityContext", securityRules),
		rowsOf("spec.containers.ports", portRules),
		rowsOf("spec.containers.volumeMounts", mountRules),
		rowsOf("spec.containers.readinessProbe", probeRules),
		rowsOf("spec.containers.lifecycle", lifecycleRules),
		rowsOf("spec.volumes", volumeRules),
		rowsOf("spec.volumes.projected.sources", projectionRules),
		rowsOf("spec.containers.env", envSourceRules),
		walked,
	)
	for field, by := range maps.All(carried) {
		rows = append(rows, Row{Field: field, By: by})
	}
	slices.SortStableFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Need, b.Need), cmp.Compare(a.Why, b.Why))
	})
	return rows
}

func rowsOf[T any](at string, rules []rule[T]) []Row {
	rows := make([]Row, len(rules))
	for i := range rules {
		rows[i] = Row{Field: at + "." + rules[i].field, Need: rules[i].need, Why: rules[i].why}
	}
	return rows
}

// walked are the uses that [Check] asks about in its walk, since they need more than
// the object that bears the field.
var walked = []Row{
	{Field: "spec.securityContext.runAsGroup", Need: InitRunAsGroup, Why: "does not choose the group of init containers"},
	{Field: "spec.initContainers.securityContext.runAsGroup", Need: InitRunAsGroup, Why: "does not choose the group of init containers"},
	{Field: "spec.containers.securityContext.runAsNonRoot", Need: RunAsNonRoot, Why: "cannot see who an image runs as; set runAsUser to a number other than 0"},
	{Field: "spec.initContainers.securityContext.runAsNonRoot", Need: InitRunAsNonRoot, Why: "cannot see who an image runs as; set runAsUser to a number other than 0"},
	{Field: "spec.containers.ports.containerPort", Need: SharedPorts, Why: "gives all containers of a pod one set of ports: two containers cannot have the same"},
	{Field: "spec.containers.command", By: byCloud},
	{Field: "spec.containers.env.name", By: "agent; " + onlyPlainNames},
	{Field: "spec.containers.env.value", By: "agent: $(NAME) becomes the value of a variable before it"},
	{Field: "spec.containers.envFrom.prefix", By: "agent; " + onlyPlainNames},
	{Field: "spec.containers.env.valueFrom.fieldRef.fieldPath", By: "agent: the pod's metadata, spec.nodeName and spec.serviceAccountName"},
	{Field: "spec.containers.env.valueFrom.fieldRef.fieldPath", Need: PodIPEnv, Why: "does not tell containers the pod's address"},
	{Field: "spec.containers.env.valueFrom.fieldRef.fieldPath", Need: PodIPsEnv, Why: "does not tell containers all addresses of the pod"},
	{Field: "spec.containers.env.valueFrom.fieldRef.fieldPath", Need: HostIPEnv, Why: "does not tell containers the node's address"},
	{Field: "spec.containers.env.valueFrom.fieldRef.fieldPath", Why: "does not tell this field to containers"},
	{Field: "spec.containers.volumeMounts.mountPath", Why: oneMount},
	{Field: "spec.containers.resources.limits", By: "cloud: cpu and memory, rounded up to the sizes that it sells"},
	{Field: "spec.containers.resources.requests", By: "cloud: cpu and memory, rounded up to the sizes that it sells"},
	{Field: "spec.containers.resources.requests.ephemeral-storage", Need: EphemeralStorage, Why: "does not sell disk space by request"},
	{Field: "spec.containers.resources.limits.nvidia.com/gpu", Need: GPU, Why: "sells no GPUs"},
	{Field: "spec.containers.resources.limits.*", Why: "does not sell resources of other names"},
	{Field: "spec.initContainers.restartPolicy", Need: Sidecars, Why: "runs no sidecars among the init containers"},
	{Field: "metadata.annotations[" + egressBandwidth + "]", Need: Bandwidth, Why: unboundTraffic},
	{Field: "metadata.annotations[" + ingressBandwidth + "]", Need: Bandwidth, Why: unboundTraffic},
	{Field: "spec.volumes.csi.fsType", Why: "mounts shares of Azure Files as they are"},
	{Field: "spec.volumes.csi.nodePublishSecretRef", Why: "takes the Secret of a share from its attributes"},
	{Field: "spec.volumes.csi.volumeAttributes", Need: AzureFile, Why: "does not mount shares of Azure Files"},
	{Field: "spec.containers.readinessProbe.httpGet.port", By: "cloud: a number, or the name of a port of the container"},
	{Field: "spec.containers.readinessProbe.tcpSocket.port", By: "cloud, with TCPProbe: a number, or the name of a port of the container"},
	{Field: "spec.containers.lifecycle.postStart.httpGet.port", By: "cloud, with Lifecycle: a number, or the name of a port of the container"},
	{Field: "spec.containers.lifecycle.postStart.tcpSocket.port", By: "cloud, with Lifecycle: a number, or the name of a port of the container"},
	{Field: "spec.volumes.configMap.defaultMode", Need: FileModes, Why: modesFixed},
	{Field: "spec.volumes.configMap.items.mode", Need: FileModes, Why: modesFixed},
	{Field: "spec.volumes.configMap.items.path", Need: NestedFilePaths, Why: noDirectories},
	{Field: "spec.volumes.secret.defaultMode", Need: FileModes, Why: modesFixed},
	{Field: "spec.volumes.secret.items.mode", Need: FileModes, Why: modesFixed},
	{Field: "spec.volumes.secret.items.path", Need: NestedFilePaths, Why: noDirectories},
	{Field: "spec.volumes.downwardAPI.defaultMode", Need: FileModes, Why: modesFixed},
	{Field: "spec.volumes.downwardAPI.items.mode", Need: FileModes, Why: modesFixed},
	{Field: "spec.volumes.downwardAPI.items.path", Need: NestedFilePaths, Why: noDirectories},
	{Field: "spec.volumes.downwardAPI.items.fieldRef.fieldPath", By: "agent: the pod's metadata"},
	{Field: "spec.volumes.projected.defaultMode", Need: FileModes, Why: modesFixed},
	{Field: "spec.volumes.projected.sources.configMap.items.mode", Need: FileModes, Why: modesFixed},
	{Field: "spec.volumes.projected.sources.configMap.items.path", Need: NestedFilePaths, Why: noDirectories},
	{Field: "spec.volumes.projected.sources.secret.items.mode", Need: FileModes, Why: modesFixed},
	{Field: "spec.volumes.projected.sources.secret.items.path", Need: NestedFilePaths, Why: noDirectories},
	{Field: "spec.volumes.projected.sources.downwardAPI.items.mode", Need: FileModes, Why: modesFixed},
	{Field: "spec.volumes.projected.sources.downwardAPI.items.path", Need: NestedFilePaths, Why: noDirectories},
	{Field: "spec.volumes.projected.sources.downwardAPI.items.fieldRef.fieldPath", By: "agent: the pod's metadata"},
	{Field: "spec.volumes.projected.sources.serviceAccountToken.path", Need: NestedFilePaths, Why: noDirectories},
}
