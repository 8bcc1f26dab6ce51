package burstable

// How says in which way a cloud, by its short name, carries a feature out, for its
// page of documentation.
func (f Feature) How(provider string) string {
	if text := ways[provider][f]; text != "" {
		return text
	}
	return "by the cloud's own setting"
}

// Remark is what a cloud does with a field that is carried out for every cloud, where
// that needs a word; "" where it does not.
func Remark(provider, field string) string { return remarks[provider][field] }

var ways = map[string]map[Feature]string{
	"eci": {
		ActiveDeadline:         "`ActiveDeadlineSeconds` of the group, and the agent's own timer",
		TerminationGracePeriod: "`TerminationGracePeriodSeconds` of the group",
		DNSConfig:              "`DnsPolicy: None` with `DnsConfig`; `ClusterFirst` is the cluster's resolver and search domains, written out",
		Hostname:               "`HostName`",
		HostAliases:            "`HostAliase`",
		Sysctls:                "`SecurityContext.Sysctl` of the group",
		RunAsUser:              "`SecurityContext.RunAsUser` of each container; the pod's is written to each",
		RunAsGroup:             "`SecurityContextRunAsGroup` of each container",
		RunAsNonRoot:           "`SecurityContextRunAsNonRoot` of each container",
		ReadOnlyRootFilesystem: "`SecurityContext.ReadOnlyRootFilesystem`",
		CapabilitiesAdd:        "`SecurityContext.Capability.Add`",
		SharedPorts:            "nothing opens a port twice: ports are a declaration only",
		ArgsWithoutCommand:     "`Arg`, beside the image's entry point",
		WorkingDir:             "`WorkingDir`",
		PodIPEnv:               "`FieldRef` of the variable",
		PodIPsEnv:              "`FieldRef` of `status.podIP`, the one address of a group without IPv6",
		HostIPEnv:              "the agent: the address of the virtual node",
		Stdin:                  "`Stdin`, `StdinOnce`",
		TTY:                    "`Tty`",
		Lifecycle:              "`LifecyclePostStartHandler…`, `LifecyclePreStopHandler…`",
		EphemeralStorage:       "every group has 30 GiB",
		ExecProbe:              "`Exec.Command`",
		HTTPProbe:              "`HttpGet`",
		TCPProbe:               "`TcpSocket`",
		EmptyDirMemory:         "`EmptyDirVolume.Medium`",
		EmptyDirSizeLimit:      "`EmptyDirVolume.SizeLimit`",
		FileModes:              "`Mode` of each config file",
		NestedFilePaths:        "`Path` of each config file",
		SubPath:                "`SubPath` of the mount; the agent expands `subPathExpr`",
		ShareProcessNamespace:  "`ShareProcessNamespace`",
		TerminationMessages:    "`TerminationMessagePath`, `TerminationMessagePolicy`",
		Bandwidth:              "`IngressBandwidth`, `EgressBandwidth` of the group",
		Sidecars:               "a container with the documented variables for its order of start and end",
		GPU:                    "`Gpu`, with an instance type",
	},
	"aci": {
		ActiveDeadline:        "the agent's timer deletes the group",
		DNSConfig:             "`dnsConfig`; `ClusterFirst` is the cluster's resolver and search domains, written out",
		HostIPEnv:             "the agent: the address of the virtual node",
		RunAsUser:             "`securityContext.runAsUser`; the pod's is written to each container",
		RunAsGroup:            "`securityContext.runAsGroup`; the pod's is written to each container",
		InitRunAsGroup:        "`securityContext.runAsGroup` of the init container",
		CapabilitiesAdd:       "`securityContext.capabilities.add`",
		CapabilitiesDrop:      "`securityContext.capabilities.drop`",
		NoPrivilegeEscalation: "`securityContext.allowPrivilegeEscalation`",
		SeccompProfile:        "the runtime's own profile, or one that allows everything",
		ExecProbe:             "`exec`",
		HTTPProbe:             "`httpGet`",
		HTTPProbeHeaders:      "`httpGet.httpHeaders`",
		ProbeSuccessThreshold: "`successThreshold`",
		AzureFile:             "an `azureFile` volume",
	},
}

var remarks = map[string]map[string]string{
	"eci": {
		"spec.containers.env.valueFrom.secretKeyRef.name": "the variables of a container that has one are hidden in what the API answers; init containers have no such member",
		"spec.volumes.secret.secretName":                  "config files of the group",
	},
	"aci": {
		"spec.restartPolicy":                              "`Never` is not strict: Azure may restart a group for maintenance. The pod has an event then, and what it did may be done twice",
		"spec.containers.command":                         "command and args are one list",
		"spec.containers.env.valueFrom.secretKeyRef.name": "`secureValue`",
		"spec.volumes.secret.secretName":                  "a `secret` volume, as for every volume of files",
		"spec.containers.ports.name":                      "and the port is opened on the group's address: to the internet, or in the subnet",
	},
}
