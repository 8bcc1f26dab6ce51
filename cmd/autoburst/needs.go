package main

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/autoburst/autoburst/cmd/startup"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// needs are what no replica can work without. What it can do some of its work
// without is not among them: the switch, the ledger, the CA bundle.
func (o *options) needs() startup.Needs {
	n := startup.Needs{
		Minimum: "1.30", For: "Autoburst",
		Groups: []schema.GroupVersion{v1alpha1.GroupVersion},
		Mend:   "install the chart's CustomResourceDefinitions (crds.enabled=true)",
	}
	if o.admission == admissionPolicy {
		n.Minimum, n.For = "1.36", "--admission="+admissionPolicy
	}
	for _, r := range []struct{ group, resource string }{
		{"", "pods"}, {"", "nodes"}, {"", "namespaces"}, {"apps", "replicasets"}, {"apps", "statefulsets"},
		{v1alpha1.GroupVersion.Group, "burstpolicies"}, {v1alpha1.GroupVersion.Group, "clusterburstpolicies"},
	} {
		for _, verb := range []string{"list", "watch"} {
			n.Rights = append(n.Rights, authorizationv1.ResourceAttributes{Verb: verb, Group: r.group, Resource: r.resource})
		}
	}
	n.Rights = append(n.Rights, authorizationv1.ResourceAttributes{Verb: "patch", Resource: "pods"})
	if o.leaderElect {
		leases := authorizationv1.ResourceAttributes{Verb: "create", Group: "coordination.k8s.io", Resource: "leases", Namespace: o.namespace}
		n.Rights = append(n.Rights, leases)
		leases.Verb, leases.Name = "update", leaseName
		n.Rights = append(n.Rights, leases)
	}
	return n
}
