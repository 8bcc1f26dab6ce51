package faults

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/test/cloud/aci"
	"github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/playground"
)

// rotate makes the cloud accept that secret only, from now on.
func (b *bed) rotate(secret string) {
	b.Helper()
	switch c := b.cloud.(type) {
	case *eciCloud:
		c.SetAccessKeys(eci.AccessKey{ID: playground.ECIAccessKey, Secret: secret})
	case *aciCloud:
		c.PutApplication(aci.Application{TenantID: playground.ACITenant, ClientID: playground.ACIClient, Secrets: []aci.Secret{{Value: secret}}})
		c.RevokeTokens()
	}
}

// secret is the one of the playground's account.
func (b *bed) secret() string {
	if b.name() == "eci" {
		return playground.ECISecretKey
	}
	return playground.ACIClientPassword
}

// The credentials are rotated in the cloud before the agent's file has them. The
// node says what is the matter, pods are let alone, and the new file is taken up
// without a restart.
func TestC18CredentialsRotated(t *testing.T) {
	onBothClouds(t, cloudOptions{}, func(b *bed) {
		file := b.file("secret", b.secret()+"\n")
		env := map[string][]string{
			"eci": {"ECI_SECRET_KEY=", "ECI_SECRET_KEY_FILE=" + file},
			"aci": {"AZURE_CLIENT_SECRET=", "AZURE_CLIENT_SECRET_FILE=" + file},
		}[b.name()]
		agent := b.startEnv(b.Context(), env)
		b.waitReady()
		pods := b.pods(2, "pod", policy(corev1.RestartPolicyNever))
		b.waitRunning(pods...)
		b.sweeps(1)
		calls, version := b.calls(anything), b.get("pod-0").ResourceVersion

		const fresh = "rotated-secret-key-of-the-account"
		b.rotate(fresh)
		c := b.waitCondition(v1alpha1.CloudReachableCondition, corev1.ConditionFalse)
		if c.Reason != "CloudUnauthorized" {
			b.Errorf("CloudReachable is False for %s: %s, want CloudUnauthorized", c.Reason, c.Message)
		}
		late := b.pod("late")
		b.holds(3*time.Second, "with old credentials", func() error {
			if c := conditionOf(b.nodeObject(), corev1.NodeReady); c.Status != corev1.ConditionTrue {
				return fmt.Errorf("Ready is %s: %s", c.Status, c.Message)
			}
			if now := b.get("pod-0"); now.ResourceVersion != version {
				return fmt.Errorf("pod-0 was changed: %s", summary(now))
			}
			return nil
		})
		if n := b.accepted(create) + b.accepted(remove); n != 2 {
			b.Errorf("%d changes, want the 2 creates of before: %v", n, b.Record().Calls[calls:])
		}
		if err := os.WriteFile(file, []byte(fresh+"\n"), 0o600); err != nil {
			b.Fatal(err)
		}
		b.waitCondition(v1alpha1.CloudReachableCondition, corev1.ConditionTrue)
		b.waitRunning(late)
		b.untouched()
		if err := agent.Process.Err(); err != nil {
			b.Error(err)
		}
	})
}

// The cloud's and the network's errors quote what was sent: signatures, keys,
// passwords, variables from Secrets. Nothing of it is in a status, an event, the
// node, the log or a metric.
func TestC27ErrorsWithSecrets(t *testing.T) {
	onBothClouds(t, cloudOptions{}, func(b *bed) {
		b.start("--capacity-pause=8s") // so that creates are tried again soon
		secrets := map[string]string{
			"variable": "s3ntinel-variable-1234567", "password": "s3ntinel-password-1234567",
			"file": "s3ntinel-file-1234567", "key": b.secret(),
		}
		login := fmt.Sprintf(`{"auths":{"registry.example.com":{"username":"u","password":%q}}}`, secrets["password"])
		for _, s := range []*corev1.Secret{
			{ObjectMeta: metav1.ObjectMeta{Name: "app"}, StringData: map[string]string{"variable": secrets["variable"], "file": secrets["file"]}},
			{ObjectMeta: metav1.ObjectMeta{Name: "login"}, Type: corev1.SecretTypeDockerConfigJson, StringData: map[string]string{corev1.DockerConfigJsonKey: login}},
		} {
			if _, err := b.client.CoreV1().Secrets(b.ns).Create(b.Context(), s, metav1.CreateOptions{}); err != nil {
				b.Fatal(err)
			}
		}
		quoting := func(f fault) fault {
			f.op, f.code = create, "BadGateway"
			f.message = "upstream failed: " + strings.Join([]string{secrets["variable"], secrets["password"], secrets["file"], secrets["key"]}, " ")
			return f
		}
		b.inject(quoting(fault{status: 502}))
		b.inject(quoting(fault{status: 500, after: true}))
		b.inject(fault{op: create, status: 503, raw: "<html>" + secrets["variable"] + url.QueryEscape(secrets["password"]) + "</html>"})
		b.inject(fault{op: create, cut: true})
		// ECI answers a wrong signature with all that was signed.
		b.rotate("another-secret-of-the-account")
		// One for each fault, so that none backs off for long.
		pods := b.pods(4, "pod", func(p *corev1.Pod) {
			p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "login"}}
			p.Spec.Containers[0].Image = "registry.example.com/app:v1"
			p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "V", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "app"}, Key: "variable",
			}}}}
			p.Spec.Volumes = []corev1.Volume{{Name: "files", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "app"}}}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "files", MountPath: "/files"}}
		})
		for _, p := range pods {
			b.waitWaits(p.Name, v1alpha1.PodWaitingPrefix)
		}
		b.waitCondition(v1alpha1.CloudReachableCondition, corev1.ConditionFalse)
		texts := map[string]string{}
		collect := func() {
			b.Helper()
			add := func(name string, v any) {
				text, err := json.Marshal(v)
				if err != nil {
					b.Fatal(err)
				}
				texts[name] += string(text)
			}
			for _, version := range b.history.all() {
				add("a status", version.Status)
			}
			for _, p := range pods {
				add("an event", b.events(p))
			}
			add("the node", b.nodeObject())
			log, err := os.ReadFile(b.agent().Process.Log)
			if err != nil {
				b.Fatal(err)
			}
			texts["the log"] = string(log)
			response, err := http.Get("http://" + b.agent().Metrics + "/metrics")
			if err != nil {
				b.Fatal(err)
			}
			defer response.Body.Close()
			metrics, err := io.ReadAll(response.Body)
			if err != nil {
				b.Fatal(err)
			}
			texts["a metric"] += string(metrics)
		}
		collect()
		b.rotate(b.secret())
		b.waitRunning(pods...)
		collect()
		for where, text := range texts {
			for what, secret := range secrets {
				for _, form := range []string{secret, url.QueryEscape(secret), base64.StdEncoding.EncodeToString([]byte(secret))} {
					if i := strings.Index(text, form); i >= 0 {
						b.Errorf("%s holds the %s: …%s…", where, what, text[max(0, i-100):min(len(text), i+60)])
					}
				}
			}
		}
	})
}

// panicky panics in the creates of one pod, as a bug would.
type panicky struct {
	providers.Provider
	pod string
	on  *atomic.Bool
}

// Create panics for the one pod.
func (p panicky) Create(ctx context.Context, spec *providers.GroupSpec) (string, error) {
	if spec.Owner.PodName == p.pod && p.on.Load() {
		panic("a bug in the work on " + p.pod)
	}
	return p.Provider.Create(ctx, spec)
}

// The work on one pod panics each time. The pod says so, the others go on, and
// when the cause is gone the pod runs.
func TestC34PanicInOnePod(t *testing.T) {
	onBothClouds(t, cloudOptions{speed: 5}, func(b *bed) {
		var on atomic.Bool
		on.Store(true)
		agent := b.runInside(nil, func(p providers.Provider) providers.Provider { return panicky{p, "broken", &on} })
		broken := b.pod("broken", policy(corev1.RestartPolicyNever))
		b.waitEvent(broken, "InternalError")
		others := b.pods(5, "pod")
		b.waitRunning(others...)
		b.delete(others[0])
		b.waitGroups(4)
		if p := b.get("broken"); p.Status.Phase != corev1.PodPending {
			b.Errorf("the pod is %s, want Pending", summary(p))
		}
		if n := agent.metric(b.T, "autoburst_vnode_panics_total", ""); n == 0 {
			b.Error("the metric counts no panic")
		}
		on.Store(false)
		b.waitRunning(broken)
		b.untouched()
	})
}
