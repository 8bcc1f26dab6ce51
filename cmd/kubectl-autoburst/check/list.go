package check

// installed are the checks of an installation.
var installed = []category{
	{"kubernetes", []check{
		{id: "api-server", fatal: true, run: apiServer},
		{id: "kubernetes-version", run: kubernetesVersion},
		{id: "your-rights", run: yourRights},
	}},
	{"custom-resources", []check{
		{id: "crds-installed", fatal: true, run: crdsInstalled},
		{id: "crds-current", run: crdsCurrent},
	}},
	{"controller", []check{
		{id: "controller-installed", fatal: true, run: controllerInstalled},
		{id: "controller-replicas", run: controllerReplicas},
		{id: "controller-leader", run: controllerLeader},
		{id: "controller-placement", run: controllerPlacement},
		{id: "controller-rights", run: controllerRights},
		{id: "kill-switch", run: killSwitch},
	}},
	{"admission", []check{
		{id: "webhook-configuration", run: webhookConfiguration},
		{id: "webhook-service", run: webhookService},
		{id: "webhook-certificate", run: webhookCertificate},
		{id: "admission-policy", run: admissionPolicy},
		{id: "admission-answers", run: admissionAnswers},
	}},
	{"policies", []check{
		{id: "policies-ready", run: policiesReady},
		{id: "policy-targets", run: policyTargets},
		{id: "policy-limits", run: policyLimits},
		{id: "namespaces-served", run: namespacesServed},
	}},
	{"virtual-nodes", []check{
		{id: "virtual-nodes", run: virtualNodes},
		{id: "agent-replicas", run: agentReplicas},
		{id: "agent-leases", run: agentLeases},
		{id: "agent-rights", run: agentRights},
		{id: "virtual-nodes-ready", run: virtualNodesReady},
		{id: "virtual-node-taints", run: virtualNodeTaints},
		{id: "cloud-reachable", run: cloudReachable},
		{id: "cloud-credentials", run: cloudCredentials},
		{id: "cloud-quota", run: cloudQuota},
	}},
	{"versions", []check{
		{id: "version-skew", run: versionSkew},
	}},
}

// pre are the checks of a cluster that is to get Autoburst.
var pre = []category{
	{"kubernetes", []check{
		{id: "api-server", fatal: true, run: apiServer},
		{id: "kubernetes-version", run: kubernetesVersion},
	}},
	{"pre-install", []check{
		{id: "pre-release", run: preRelease},
		{id: "pre-custom-resources", run: preCustomResources},
		{id: "pre-rights", run: preRights},
		{id: "pre-pods", run: prePods},
	}},
}
