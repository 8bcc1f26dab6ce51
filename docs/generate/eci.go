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
unchanged. They are read when the pod's group is made; on local nodes and on ACI they have no effect, except
Kubernetes' own for [traffic](#traffic). This page is generated from the code that reads them.

A wrong value, an annotation that ECI's API cannot carry out and one with an unknown name that begins with
` + "`k8s.aliyun.com/eci-`" + ` keep the pod on local nodes, with an event that names the annotation: nothing is dropped in
silence, also not by a slip of the pen.

An annotation that comes, changes or goes once the pod's group has been asked for has no effect on it, which the event
` + "`RunsWithout`" + ` says, also where a policy's ` + "`podMetadata`" + ` was written late.

A virtual node may have values for pods that bear no such annotation: ` + "`eci.podAnnotations`" + ` in the chart, for the agent
` + "`ECI_POD_ANNOTATIONS`" + `, a JSON object.

## What pods may choose

Whoever may create pods writes their annotations, and the groups are made by the agent, with the rights of its account. What an
annotation could take that its writer has no right to is therefore closed until the operator of the virtual node opens it:

| what | open from the start | value of the chart, below ` + "`eci`" + ` | variable of the agent |
|---|---|---|---|
| the RAM role, whose rights the containers get | ` + "`ramRole`" + ` | ` + "`allowedRamRoles`" + ` | ` + "`ECI_ALLOWED_RAM_ROLES`" + ` |
| the security group, which opens the network | ` + "`securityGroup`" + ` | ` + "`allowedSecurityGroups`" + ` | ` + "`ECI_ALLOWED_SECURITY_GROUPS`" + ` |
| the VSwitches, whose addresses others trust | those of ` + "`vSwitch`" + ` | ` + "`allowedVSwitches`" + ` | ` + "`ECI_ALLOWED_VSWITCHES`" + ` |
| other people's addresses, rights and bills: the annotations below | none | ` + "`forbiddenAnnotations`" + ` | ` + "`ECI_FORBIDDEN_ANNOTATIONS`" + ` |

`)
	for _, key := range burstable.ECIClosedByDefault {
		fmt.Fprintf(&b, "- `%s`\n", key)
	}
	b.WriteString(`
In the first three lists ` + "`*`" + ` is whatever the agent's account may use. ` + "`forbiddenAnnotations`" + ` replaces the last one: ` + "`[]`" + ` (for the
agent ` + "`none`" + `) forbids nothing, and any other list exactly what is in it. What ` + "`podAnnotations`" + ` says is the operator's word and is not asked
about. A pod that asks for what is closed stays local, and its event names the annotation and the variable that opens it.

Left open is what costs money but takes nothing of others: sizes, spot, a new public address (` + "`eci-with-eip`" + `), disk space, tags.
The [limits](limits.md) of policies count sizes; forbid ` + "`k8s.aliyun.com/eci-with-eip`" + ` where pods must not be reachable from the Internet.
The agent's own rights are the outer bound: give its account ` + "`ram:PassRole`" + ` for the roles that pods may have, and no other.

**From ACK**: there, pods may name any role, security group and VSwitch. List those in use before you move:

` + "```sh\nkubectl get pods -A -o custom-columns='NAMESPACE:.metadata.namespace,ROLE:.metadata.annotations.k8s\\.aliyun\\.com/eci-ram-role-name,GROUP:.metadata.annotations.k8s\\.aliyun\\.com/eci-security-group,VSWITCH:.metadata.annotations.k8s\\.aliyun\\.com/eci-vswitch' | sort | uniq -c\n```" + `

## Traffic

` + "`kubernetes.io/ingress-bandwidth`" + ` and ` + "`kubernetes.io/egress-bandwidth`" + ` bound what a pod receives and sends. With the network plugins of
Kubernetes ` + "`10M`" + ` is 10 Mbit in a second, and so it is here. For ECI, ACK reads 10 MByte, and its units are ` + "`B`" + ` to ` + "`TB`" + `:
say ` + "`bandwidthUnit: Bytes`" + ` (` + "`ECI_BANDWIDTH_UNIT`" + `) where the values of your pods are meant so. A value that is not of that form keeps the pod
local. ACI has no such bound, so there a pod with either annotation does not burst.

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

With several VSwitches, ECI goes on to the next zone where one is out of stock. Whether it does so where a VSwitch has no address
left is not published, so the agent asks for each VSwitch by itself then, and leaves a full one out for 3 minutes. Only when none
has an address is the pod refused with ` + "`OutOfStock`" + `, and the node says that ECI has no room.

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
