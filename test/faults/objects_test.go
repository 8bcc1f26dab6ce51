package faults

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/cluster"
)

// A pod refers to a ConfigMap, another one to a Secret, that are missing. They
// wait, with an event, and start soon after the objects appear. What is optional
// is not waited for.
func TestC26ObjectAppearsLater(t *testing.T) {
	onBothClouds(t, cloudOptions{}, func(b *bed) {
		b.start()
		fromMap := func(optional bool) edit {
			return func(p *corev1.Pod) {
				p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{
					LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}, Optional: &optional,
				}}}
			}
		}
		fromSecret := func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "keys-volume", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "keys"}}}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "keys-volume", MountPath: "/keys"}}
		}
		optional := b.pod("optional", fromMap(true))
		waiting := []*corev1.Pod{b.pod("map", fromMap(false)), b.pod("secret", fromSecret, policy(corev1.RestartPolicyNever))}
		b.waitRunning(optional)
		b.waitEvent(waiting[0], `"settings"`)
		b.waitEvent(waiting[1], `"keys"`)
		// As with the kubelet: a volume that cannot be made keeps the container from
		// being created, a variable is found missing later.
		reasons := map[string]string{"map": "CreateContainerConfigError", "secret": "ContainerCreating"}
		for _, p := range waiting {
			now := b.wait(p.Name, "waits", func(p *corev1.Pod) bool { return len(p.Status.ContainerStatuses) > 0 })
			if w := now.Status.ContainerStatuses[0].State.Waiting; now.Status.Phase != corev1.PodPending || w == nil || w.Reason != reasons[p.Name] {
				b.Errorf("pod %s is %s, want it Pending for %s", p.Name, summary(now), reasons[p.Name])
			}
		}
		b.sweeps(2)
		if n := b.calls(create); n != 1 {
			b.Errorf("%d creates while objects are missing, want 1", n)
		}
		begun := time.Now()
		if _, err := b.client.CoreV1().ConfigMaps(b.ns).Create(b.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings"}, Data: map[string]string{"A": "b"}}, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
		if _, err := b.client.CoreV1().Secrets(b.ns).Create(b.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "keys"}, StringData: map[string]string{"k": "v"}}, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
		b.waitRunning(waiting...)
		if took := time.Since(begun); took > 8*time.Second {
			b.Errorf("the pods ran %s after their objects appeared", took)
		}
	})
}

// A cluster has many Secrets. The agent reads the one that its pod refers to, by
// name, and never lists or watches any; its memory does not know how many there
// are.
func TestC31ManySecrets(t *testing.T) {
	const many, size = 5_000, 16 << 10
	onBothClouds(t, cloudOptions{}, func(b *bed) {
		b.start()
		b.sweeps(2)
		before := b.residentMemory()
		secrets := b.client.CoreV1().Secrets(b.ns)
		data := map[string]string{"k": strings.Repeat("x", size)}
		var wg sync.WaitGroup
		const writers = 16
		for w := range writers {
			wg.Go(func() {
				for i := w; i < many/2; i += writers { // as many again on the other cloud
					s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("secret-%d", i)}, StringData: data}
					if _, err := secrets.Create(b.Context(), s, metav1.CreateOptions{}); err != nil {
						b.Errorf("making Secret %d: %v", i, err)
						return
					}
				}
			})
		}
		wg.Wait()
		p := b.pod("pod", func(p *corev1.Pod) {
			p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "K", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "short"}, Key: "k", Optional: ptr.To(false),
			}}}}
		})
		if _, err := secrets.Create(b.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "short"}, StringData: map[string]string{"k": "v"}}, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
		b.waitRunning(p)
		b.sweeps(2)
		for _, r := range b.tap.Requests() {
			if (r.Resource == "secrets" || r.Resource == "configmaps") && (r.Verb != "get" || r.Name != "short") {
				b.Errorf("the agent asked for %s", r)
			}
		}
		if n := b.tap.Count(func(r cluster.Request) bool { return r.Resource == "secrets" }); n == 0 {
			b.Error("the agent never read the pod's Secret")
		}
		// Whoever held the Secrets would have grown by more than what they say.
		if grown := b.residentMemory() - before; grown > many/2*size*3/4 {
			b.Errorf("the agent grew by %d MB", grown>>20)
		}
		if _, ok := b.Fleet().Group(b.group(p).ID()); !ok || b.group(p).Phase() != sim.Running {
			b.Error("the pod's group does not run")
		}
	})
}
