package main

import (
	"fmt"
	"strings"

	"github.com/autoburst/autoburst/policy/burstable"
)

// eciAnnotations is the page of the pod annotations for ECI.
func eciAnnotations() string {
	carried, refused, ignored := burstable.ECIAnnotationTable()
	var b strings.Builder
	b.WriteString(`# Annotations for ECI

The pod annotations that ACK documents for ECI work on a virtual node of ECI as well, so that pods can move from ACK
unchanged. They are read when the pod's group is made; on local nodes and on ACI they have no effect. This page is
generated from the code that reads them.

A wrong value, an annotation that ECI's API cannot carry out and one with an unknown name that begins with
` + "`k8s.aliyun.com/eci-`" + ` keep the pod on local nodes, with an event that names the annotation: nothing is dropped in
silence, also not by a slip of the pen.

A virtual node may have values for pods that bear no such annotation, and annotations that pods may not bear. In the chart
they are ` + "`eci.podAnnotations` and `eci.forbiddenAnnotations`" + `, for the agent ` + "`ECI_POD_ANNOTATIONS`" + ` (a JSON object) and
` + "`ECI_FORBIDDEN_ANNOTATIONS`" + ` (keys, separated by commas). Whoever may create pods can otherwise choose the RAM role, the
security group and the VSwitch of a pod, as far as the account of the agent may use them; forbid
` + "`k8s.aliyun.com/eci-ram-role-name`" + ` where that is too much.

## Spot instances, sizes and zones

` + "`eci-use-specs`" + ` and the spot annotations make a list of offers, which are tried in order: all sizes and types as spot
instances, then, with ` + "`eci-spot-fallback`" + `, the same on demand. The next offer is asked for only when ECI has refused the one
before for want of stock, which proves that nothing was made; all go under one ClientToken, so a pod never gets two groups.
A pod that runs on demand although it asks for spot says so in the event ` + "`SpotFallback`" + `. A spot instance that was out of
stock is not asked for again for 3 minutes by pods with a fallback.

Limits count a pod with the most of each resource that any of its offers has. That a spot instance, an instance type or a
VSwitch is out of stock which only one pod asks for does not make the node say that ECI has no room: the pod waits with the
reason ` + "`CloudNoSuchStock`" + ` and is tried again, and others go on. If ECI accepts such a group and finds no machine later, the
pod fails with the reason ` + "`NoSuchStock`" + `, and its owner replaces it.

Some minutes before ECI takes a spot instance away, the pod gets the event ` + "`SpotToBeReleased`" + ` and the condition
` + "`DisruptionTarget`" + `; then it fails with the reason ` + "`SpotToBeReleased`" + `, and its owner replaces it.

Without ` + "`eci-use-specs`" + ` a spot instance has at least 2 vCPU, since ECI sells none that is smaller.

## GPUs

A container with a limit of ` + "`nvidia.com/gpu`" + ` needs an instance type with GPUs in ` + "`eci-use-specs`" + `. The virtual node must offer
GPUs to the scheduler: ` + "`capacity.gpus`" + ` in the chart, ` + "`--gpus`" + ` for the agent.

## Sidecars

Init containers with ` + "`restartPolicy: Always`" + ` run as containers, with the environment by which ECI knows their order: they
start before the others, each when the one before is ready by its readiness probe, end after them, and do not keep a Job
alive. Two things differ from a kubelet: no other init container may come after them, and in a pod whose own
` + "`restartPolicy`" + ` is Never or OnFailure a sidecar that ends by itself is not started again, which the event ` + "`RunsWithout`" + ` says.

## Carried out

| annotation | example | effect |
|---|---|---|
`)
	for _, a := range carried {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", a.Key, a.Example, a.Effect)
	}
	b.WriteString(`
## Refused

Any value but ` + "`false`" + ` keeps the pod on local nodes.

| annotation | why |
|---|---|
`)
	for _, a := range refused {
		fmt.Fprintf(&b, "| `%s` | %s |\n", a.Key, a.Effect)
	}
	b.WriteString(`
## Without effect

The pod bursts, and says in the event ` + "`RunsWithout`" + ` that the annotation has no effect.

| annotation | what holds in its place |
|---|---|
`)
	for _, a := range ignored {
		fmt.Fprintf(&b, "| `%s` | %s |\n", a.Key, a.Effect)
	}
	return b.String()
}

// waivers is the page of the fields that can be waived.
func waivers() string {
	var b strings.Builder
	b.WriteString(`# Fields that a pod may run without

No field of a pod is dropped in silence: what a cloud cannot carry out keeps the pod on local nodes. For pods of a StatefulSet
on either cloud, and for pods of the restricted Pod Security standard on ECI, that would be always. The fields below can be
waived: without them the containers do the same, less guarded or less known by name.

- The owner of a pod waives them with the annotation ` + "`" + burstable.WaiveAnnotation + "`" + `, separated by commas.
- The owner of a virtual node waives them for all of its pods: ` + "`waive`" + ` in the chart, ` + "`--waive`" + ` or ` + "`WAIVE`" + ` for the agent.

The agent publishes what it waives with the node's capabilities, so that webhook, controller and command line decide alike. A
pod that runs without a field that it asks for says so in the event ` + "`RunsWithout`" + `. A field that the cloud does carry out is
never left out, waived or not, and a name that is not in this table keeps the pod local.

| field | without it |
|---|---|
`)
	for _, f := range burstable.Waivable() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", f, burstable.Without(f))
	}
	return b.String()
}
