package webhook

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// warnings are for a person who creates a pod by hand. A controller's pods get
// none: its log would fill up with them, and the events on the pod say the same.
func warnings(pod *corev1.Pod, namespaceMode v1alpha1.Mode, d policy.Decision) []string {
	if metav1.GetControllerOfNoCopy(pod) != nil {
		return nil
	}
	switch {
	case d.Reason == policy.InvalidPodMode:
		return []string{invalidModeWarning(pod.Annotations[v1alpha1.ModeAnnotation], "the pod stays")}
	case d.Reason == policy.InvalidNamespaceMode:
		return []string{invalidModeWarning(string(namespaceMode), "pods of the namespace stay")}
	case len(d.Refusals) > 0:
		return []string{clip(fmt.Sprintf("autoburst: the pod stays on local nodes, because of %s", d.Refusals[0]))}
	}
	return nil
}

// invalidModeWarning is what someone who misspelt a mode reads.
func invalidModeWarning(mode, who string) string {
	return clip(fmt.Sprintf("autoburst: %q is no mode, so %s local; use Overflow, Always, Auto or Never",
		clipTo(mode, 20), who))
}

func knownMode(mode string) bool {
	switch v1alpha1.Mode(mode) {
	case v1alpha1.ModeOverflow, v1alpha1.ModeAlways, v1alpha1.ModeAuto, v1alpha1.ModeNever:
		return true
	}
	return false
}

// audit is what the audit log of the API server gets to know.
func audit(d policy.Decision) map[string]string {
	a := map[string]string{auditReason: string(d.Reason)}
	if d.By.Kind != "" {
		a[auditPolicy] = d.By.String()
	}
	return a
}

// maxWarning is the length in bytes up to which the Kubernetes documentation
// promises that warnings are shown whole.
const maxWarning = 120

// clip shortens a warning to maxWarning bytes.
func clip(s string) string { return clipTo(s, maxWarning) }

// clipTo shortens s to n bytes, on the border of a rune.
func clipTo(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const ellipsis = "…"
	end := n - len(ellipsis)
	for end > 0 && s[end]&0xC0 == 0x80 {
		end--
	}
	return s[:end] + ellipsis
}
