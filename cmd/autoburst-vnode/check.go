package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/autoburst/autoburst/cmd/startup"
	"github.com/autoburst/autoburst/vnode"
)

// checkNode wants what the API server takes for a Node.
func checkNode(node *vnode.NodeSettings) error {
	var errs []error
	for _, v := range []struct {
		flag, value, write string
		problems           []string
	}{
		{"--nodename (DEFAULT_NODE_NAME)", node.Name, "the name of a node", validation.IsDNS1123Subdomain(node.Name)},
		{"--taint-key (VKUBELET_TAINT_KEY)", node.Taint.Key, "the key of a taint, such as virtual-kubelet.io/provider", validation.IsQualifiedName(node.Taint.Key)},
		{"--taint-value (VKUBELET_TAINT_VALUE)", node.Taint.Value, "the value of a taint", validation.IsValidLabelValue(node.Taint.Value)},
	} {
		if len(v.problems) > 0 {
			errs = append(errs, fmt.Errorf("%s is %q: write %s; %s", v.flag, v.value, v.write, v.problems[0]))
		}
	}
	switch node.Taint.Effect {
	case corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute:
	default:
		errs = append(errs, fmt.Errorf("--taint-effect (VKUBELET_TAINT_EFFECT) is %q: choose NoSchedule, PreferNoSchedule or NoExecute", node.Taint.Effect))
	}
	return errors.Join(errs...)
}

// checkFiles reads the files of the kubelet API, which are read again when they
// change.
func checkFiles(s vnode.APISettings) error {
	var errs []error
	if s.CertFile != "" && s.KeyFile != "" {
		if _, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile); err != nil {
			errs = append(errs, fmt.Errorf("--tls-cert-file is %q and --tls-private-key-file is %q: %w; write a certificate and its key, both PEM", s.CertFile, s.KeyFile, err))
		}
	}
	if s.ClientCAFile != "" {
		text, err := os.ReadFile(s.ClientCAFile)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(text) {
			err = errors.New("it holds no PEM certificate")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--client-ca-file (CLIENT_CA_FILE) is %q: %w; name a file of certificates", s.ClientCAFile, err))
		}
	}
	return errors.Join(errs...)
}

// needs are what no agent can work without.
func (o *options) needs() startup.Needs {
	n := startup.Needs{Minimum: "1.30", For: "Autoburst"}
	may := func(resource, subresource, name string, verbs ...string) {
		for _, verb := range verbs {
			n.Rights = append(n.Rights, authorizationv1.ResourceAttributes{Verb: verb, Resource: resource, Subresource: subresource, Name: name})
		}
	}
	node := o.config.Node.Name
	may("nodes", "", "", "create")
	may("nodes", "", node, "get", "patch")
	may("nodes", "status", node, "patch")
	may("pods", "", "", "list", "watch", "delete")
	may("pods", "status", "", "patch")
	if o.config.ClusterUID == "" {
		n.Rights = append(n.Rights, authorizationv1.ResourceAttributes{Verb: "get", Resource: "namespaces", Namespace: metav1.NamespaceSystem, Name: metav1.NamespaceSystem})
	}
	leases := func(verb, namespace, name string) {
		n.Rights = append(n.Rights, authorizationv1.ResourceAttributes{Verb: verb, Group: "coordination.k8s.io", Resource: "leases", Namespace: namespace, Name: name})
	}
	leases("create", corev1.NamespaceNodeLease, "")
	leases("update", corev1.NamespaceNodeLease, node)
	if e := o.config.Election; e.Namespace != "" {
		leases("create", e.Namespace, "")
		leases("update", e.Namespace, e.Name)
	}
	return n
}
