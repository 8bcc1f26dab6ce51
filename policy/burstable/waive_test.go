package burstable

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// restricted is a pod of the restricted Pod Security standard.
func restricted() *corev1.Pod {
	pod := smallPod()
	pod.Spec.Subdomain = "web"
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
	pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr(false),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		Privileged:               ptr(true),
	}
	pod.Spec.Containers = append(pod.Spec.Containers, *pod.Spec.Containers[0].DeepCopy())
	pod.Spec.Containers[1].Name, pod.Spec.Containers[1].SecurityContext.Privileged = "b", nil
	return pod
}

func TestWaive(t *testing.T) {
	const (
		escalation = "spec.containers.securityContext.allowPrivilegeEscalation"
		drop       = "spec.containers.securityContext.capabilities.drop"
		privileged = "spec.containers.securityContext.privileged"
		seccomp    = "spec.securityContext.seccompProfile"
		subdomain  = "spec.subdomain"
	)
	tests := map[string]struct {
		annotation    string
		node          []string
		want, remarks []string
	}{
		"nothing": {want: []string{drop, privileged, escalation, drop, escalation, subdomain, seccomp}},
		"by the pod": {
			annotation: "securityContext.allowPrivilegeEscalation, securityContext.capabilities.drop,securityContext.seccompProfile",
			want:       []string{privileged, subdomain}, remarks: []string{drop, escalation, seccomp},
		},
		"by the node": {node: []string{"subdomain"}, want: []string{drop, privileged, escalation, drop, escalation, seccomp}, remarks: []string{subdomain}},
		"by both": {
			annotation: "subdomain", node: []string{"securityContext.seccompProfile"},
			want: []string{drop, privileged, escalation, drop, escalation}, remarks: []string{subdomain, seccomp},
		},
		"what cannot be": {
			annotation: "securityContext.privileged,subdomain",
			want:       []string{drop, privileged, escalation, drop, escalation, seccomp, "metadata.annotations"}, remarks: []string{subdomain},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod := restricted()
			if tt.annotation != "" {
				pod.Annotations = map[string]string{WaiveAnnotation: tt.annotation}
			}
			caps := Capabilities{Provider: "test", Features: []Feature{ArgsWithoutCommand}, Waived: tt.node}
			if diff := cmp.Diff(tt.want, fieldsOnly(Check(pod, caps))); diff != "" {
				t.Errorf("refused (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.remarks, fieldsOnly(Remarks(pod, caps))); diff != "" {
				t.Errorf("remarks (-want +got):\n%s", diff)
			}
		})
	}
}

// fieldsOnly leaves the indexes and the keys of annotations out.
func fieldsOnly(refusals []Refusal) []string {
	var out []string
	for _, f := range fieldsOf(refusals) {
		f, _, _ = strings.Cut(f, "[")
		out = append(out, f)
	}
	return out
}

// Whatever can be waived is a field that some cloud refuses.
func TestWaivableFieldsAreRefused(t *testing.T) {
	known := map[string]bool{}
	for _, u := range allUses() {
		known[waivedName(u.field)] = true
	}
	for _, f := range Waivable() {
		if !known[f] {
			t.Errorf("%s can be waived but is refused by no rule", f)
		}
		if Without(f) == "" {
			t.Errorf("%s has no text that says what a pod runs without", f)
		}
	}
}

func TestSidecars(t *testing.T) {
	sidecar := corev1.Container{Name: "proxy", RestartPolicy: ptr(corev1.ContainerRestartPolicyAlways)}
	plain := corev1.Container{Name: "init"}
	never := corev1.Container{Name: "never", RestartPolicy: ptr(corev1.ContainerRestartPolicyNever)}
	one := sidecar
	one.SecurityContext = &corev1.SecurityContext{RunAsGroup: ptr(int64(1))}
	tests := map[string]struct {
		inits []corev1.Container
		caps  Capabilities
		want  []string
	}{
		"after the others":     {[]corev1.Container{plain, sidecar, sidecar}, everything(), nil},
		"before another":       {[]corev1.Container{sidecar, plain}, everything(), []string{"spec.initContainers.restartPolicy"}},
		"where there are none": {[]corev1.Container{sidecar}, without(Sidecars), []string{"spec.initContainers.restartPolicy"}},
		"another policy":       {[]corev1.Container{never}, everything(), []string{"spec.initContainers.restartPolicy"}},
		"as a container":       {[]corev1.Container{one}, without(InitRunAsGroup), nil},
		"count as containers":  {[]corev1.Container{sidecar, sidecar, sidecar}, everything(), []string{"spec.containers"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod := smallPod()
			pod.Spec.InitContainers = tt.inits
			caps := tt.caps
			caps.Limits.AllContainers = 0
			if diff := cmp.Diff(tt.want, fieldsOf(Check(pod, caps))); diff != "" {
				t.Errorf("refused (-want +got):\n%s", diff)
			}
		})
	}
}
