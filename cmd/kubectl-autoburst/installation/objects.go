package installation

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const (
	// VirtualNodes selects virtual nodes, of any maker.
	VirtualNodes = v1alpha1.VirtualNodeLabel + "=" + v1alpha1.VirtualNodeValue
	// ServedNamespaces selects the namespaces for which the API server asks the
	// webhook.
	ServedNamespaces = v1alpha1.ServedLabel + "=" + v1alpha1.ServedValue
)

// BurstPolicies lists those of a namespace, or of all where that is empty.
func (c *Clients) BurstPolicies(ctx context.Context, namespace string) ([]v1alpha1.BurstPolicy, error) {
	what := "BurstPolicies"
	if namespace != "" {
		what += " of namespace " + namespace
	}
	var list v1alpha1.BurstPolicyList
	err := c.Policies.Get().NamespaceIfScoped(namespace, namespace != "").Resource("burstpolicies").Do(ctx).Into(&list)
	return list.Items, policiesError(what, err)
}

// ClusterBurstPolicies lists all.
func (c *Clients) ClusterBurstPolicies(ctx context.Context) ([]v1alpha1.ClusterBurstPolicy, error) {
	var list v1alpha1.ClusterBurstPolicyList
	err := c.Policies.Get().Resource("clusterburstpolicies").Do(ctx).Into(&list)
	return list.Items, policiesError("ClusterBurstPolicies", err)
}

func policiesError(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err):
		return fmt.Errorf("listing %s: the cluster does not know the kind: install Autoburst's CustomResourceDefinitions, or check the kubeconfig's context", what)
	}
	return fmt.Errorf("listing %s: %w", what, err)
}

// Virtual lists the virtual nodes.
func (c *Clients) Virtual(ctx context.Context) ([]corev1.Node, error) {
	list, err := c.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: VirtualNodes})
	if err != nil {
		return nil, fmt.Errorf("listing virtual nodes: %w", err)
	}
	return list.Items, nil
}

// Served lists the namespaces with the label for which the webhook is asked.
func (c *Clients) Served(ctx context.Context) ([]corev1.Namespace, error) {
	list, err := c.Kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: ServedNamespaces})
	if err != nil {
		return nil, fmt.Errorf("listing the namespaces with label %s: %w", ServedNamespaces, err)
	}
	return list.Items, nil
}

// Condition is one of a node's conditions by its type, nil where it has none.
func Condition(n *corev1.Node, kind corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range n.Status.Conditions {
		if n.Status.Conditions[i].Type == kind {
			return &n.Status.Conditions[i]
		}
	}
	return nil
}
