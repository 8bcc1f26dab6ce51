package cli

import (
	"strings"
	"testing"

	"github.com/autoburst/autoburst/test/playground"
)

// TestPre checks clusters that cannot take Autoburst, and, once it is uninstalled, one
// that can. It comes last.
func TestPre(t *testing.T) {
	const elsewhere = "--release-namespace=elsewhere"
	owned := "warning: |CustomResourceDefinition burstpolicies.autoburst.io is there, installed by release autoburst in namespace autoburst-system"
	expect(t, wants{"pre-release": "error: Autoburst is installed already, as release autoburst in namespace autoburst-system"}, "--pre")
	expect(t, wants{"pre-release": "error: ", "pre-custom-resources": owned}, "--pre", elsewhere)

	if err := system.CreateNamespace(t.Context(), "tight", nil); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "", "-n", "tight", "create", "quota", "none", "--hard=pods=0")
	expect(t, wants{
		"pre-release": "error: ", "pre-custom-resources": owned,
		"pre-pods": "error: a pod as the chart makes them, created as a dry run in namespace tight, is refused: |exceeded quota: none",
	}, "--pre", "--release-namespace=tight")
	kubectl(t, "", "label", "namespace", "tight", "pod-security.kubernetes.io/enforce=restricted")
	kubectl(t, "", "-n", "tight", "delete", "quota", "none")
	expect(t, wants{"pre-release": "error: ", "pre-custom-resources": owned}, "--pre", "--release-namespace=tight")

	e := plugin(t, "check", "--pre", "--as=nobody")
	for _, want := range []string{"rights to install the chart are missing", "you may not create clusterroles.rbac.authorization.k8s.io: the chart cannot be installed", "not checked: "} {
		if e.code != 1 || !strings.Contains(e.out, want) {
			t.Errorf("ended with %d, want %q in\n%s%s", e.code, want, e.out, e.errOut)
		}
	}
	e = plugin(t, "check", "--as=nobody")
	for _, want := range []string{"rights to look are missing, so that some checks say less", "× whether Autoburst is installed is not known: ", "1 of 6 checks failed, 3 with warnings"} {
		if e.code != 1 || !strings.Contains(e.out, want) {
			t.Errorf("ended with %d, want %q in\n%s%s", e.code, want, e.out, e.errOut)
		}
	}

	if _, err := system.Helm(t.Context(), "uninstall", playground.Release, "--namespace="+playground.Namespace); err != nil {
		t.Fatal(err)
	}
	expect(t, nil, "--pre")
	expect(t, wants{"controller-installed": "error: no installation of Autoburst is found: no namespace has its controller; install the chart"})
}
