package main

// What the table of fields cannot say, for both clouds: where environment and files
// differ from those of a kubelet.
const differences = `## Where it differs from a kubelet

- Files of ConfigMaps, Secrets, the downward API and tokens are written once, when the group is made. A change of the object
  does not reach a running pod.
- A token of a ServiceAccount is asked for a year, as it cannot be renewed in a running group; it ends with its pod. Where the
  API server grants less than the pod may run (` + "`activeDeadlineSeconds`" + ` or no bound), the pod has an event ` + "`TokenEndsEarly`" + ` with the
  time. Azure restarts the containers of a group that is updated. ECI can replace the files of a group, but does not say that its
  containers run on meanwhile, and warns that those which are not to be restarted may fail: so neither is done.
- A ` + "`resourceFieldRef`" + ` of a limit that is not set is the size of the pod's group, not of the virtual node.
- A key of ` + "`envFrom`" + ` that cannot be the name of a variable in the cloud is skipped with an event ` + "`InvalidEnvironmentVariableNames`" + `, as
  older kubelets did.
- A ConfigMap or Secret that does not exist keeps the pod Pending with ` + "`CreateContainerConfigError`" + ` or ` + "`ContainerCreating`" + `; the agent asks for
  it by name every three seconds (` + "`--missing-interval`" + `) and watches none. An optional one that is absent is told by an event
  ` + "`Optional…NotFound`" + `.
- What can only be seen once objects are read, such as a file that is too large, is refused by the agent before it asks the
  cloud: the pod fails with the field in its message. Pods that its owner makes anew and that come straight back are failed at a
  growing pause, up to five minutes.
`

const differencesECI = differences + `- Fields that ECI does not have may be waived by the owner of the pod or of the node: [waivers](../waivers.md). The settings of ECI that pods
  choose by annotations: [annotations](../eci-annotations.md).
`

const differencesACI = differences + `- The image is pulled whatever ` + "`imagePullPolicy`" + ` says; ` + "`Never`" + ` is refused.
- Outside a subnet a pod uses Azure's resolver, also with ` + "`dnsPolicy: ClusterFirst`" + `.
`
