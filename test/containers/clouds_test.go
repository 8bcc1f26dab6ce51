package containers

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/playground"
)

const eciManifest = `
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: guarded}
  spec:
    PINNED
    hostname: guarded-0
    hostAliases: [{ip: 10.9.9.9, hostnames: [db, db.local]}]
    dnsPolicy: None
    dnsConfig: {nameservers: [10.0.0.10], searches: [shop.svc], options: [{name: ndots, value: "5"}]}
    volumes:
    - {name: config, configMap: {name: settings, defaultMode: 0440, items: [{key: app.conf, path: deep/er/app.conf}, {key: level, path: run.sh, mode: 0755}]}}
    - {name: scratch, emptyDir: {}}
    containers:
    - name: main
      image: busybox
      command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
      workingDir: /usr/share
      securityContext: {readOnlyRootFilesystem: true, runAsNonRoot: true, runAsUser: 12345, capabilities: {add: [NET_ADMIN]}}
      volumeMounts:
      - {name: config, mountPath: /config}
      - {name: config, mountPath: /etc/app.conf, subPath: deep/er/app.conf}
      - {name: scratch, mountPath: /scratch}
- {apiVersion: v1, kind: Pod, metadata: {name: root}, spec: {PINNED, containers: [{name: main, image: busybox, securityContext: {runAsNonRoot: true}}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: talkative}, spec: {PINNED, restartPolicy: Never, containers: [{name: main, image: busybox, command: [sh, -c, "printf 'no licence' > /tmp/why; exit 2"], terminationMessagePath: /tmp/why}]}}
- apiVersion: v1
  kind: Pod
  metadata: {name: helped}
  spec:
    PINNED
    restartPolicy: Never
    initContainers: [{name: helper, image: "nginx:1.27", restartPolicy: Always}]
    containers: [{name: main, image: busybox, command: [sh, -c, "until wget -q -O - http://localhost; do sleep 0.1; done"]}]
- apiVersion: v1
  kind: Pod
  metadata: {name: reachable, annotations: {k8s.aliyun.com/eci-vswitch: VSWITCH}}
  spec:
    PINNED
    containers: [{name: main, image: "nginx:1.27", ports: [{containerPort: 80}]}]
- apiVersion: v1
  kind: Pod
  metadata: {name: deaf}
  spec:
    PINNED
    terminationGracePeriodSeconds: 10
    containers:
    - name: main
      image: busybox
      command: [sh, -c, "trap 'echo deaf to SIGTERM' TERM; while :; do sleep 0.1; done"]
      lifecycle:
        postStart: {exec: {command: [sh, -c, "echo started > /proc/1/fd/1"]}}
        preStop: {exec: {command: [sh, -c, "echo stopping > /proc/1/fd/1"]}}
`

// simulated is what a container that only seems to run uses of memory, in bytes.
const simulated = 16 << 20

func testMoreOfECI(t *testing.T, ns string) {
	kubectl(t, strings.Replace(pin(eciManifest, eciNode), "VSWITCH", playground.ECILoopbackVSwitch, 1), "--namespace="+ns, "apply", "-f", "-")
	waitPod(t, ns, "guarded", "runs", running)
	for what, test := range map[string]struct {
		script, want string
	}{
		"modes":          {"stat -c '%a %n' /config/run.sh /config/deep/er/app.conf; cat /etc/app.conf", "755 /config/run.sh\n440 /config/deep/er/app.conf\nlevel = debug\n"},
		"user":           {"id -u; pwd", "12345\n/usr/share\n"},
		"read-only root": {"touch /tmp/x 2>/dev/null || echo refused; touch /scratch/x && echo written", "refused\nwritten\n"},
		"capabilities":   {"grep CapBnd /proc/self/status", "CapBnd:\t00000000a80435fb\n"},
		"name":           {"hostname; grep db /etc/hosts", "guarded-0\n10.9.9.9\tdb\tdb.local\n"},
		"resolver":       {"cat /etc/resolv.conf", "nameserver 10.0.0.10\nsearch shop.svc\noptions ndots:5\n"},
	} {
		if got := execute(t, ns, "guarded", "sh", "-c", test.script); got != test.want {
			t.Errorf("%s: %q, want %q", what, got, test.want)
		}
	}
	p := waitPod(t, ns, "talkative", "has ended", ended)
	if got := p.Status.ContainerStatuses[0].State.Terminated; got == nil || got.ExitCode != 2 || got.Message != "no licence" {
		t.Errorf("the message of the container: %+v", got)
	}
	waitPod(t, ns, "root", "is kept from running as root", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].State.Waiting != nil &&
			p.Status.ContainerStatuses[0].State.Waiting.Reason == "CreateContainerConfigError"
	})
	// A sidecar serves the other container, and does not keep the pod.
	p = waitPod(t, ns, "helped", "has ended", ended)
	if got := kubectl(t, "", "--namespace="+ns, "logs", "helped", "-c", "main"); !strings.Contains(got, "Welcome to nginx!") || p.Status.Phase != corev1.PodSucceeded {
		t.Errorf("the pod with a sidecar is %s and printed %q", p.Status.Phase, got)
	}
	testPortForward(t, ns)
	eventually(t, "the agent tells what a container uses", func(ctx context.Context) (bool, error) {
		text, _, err := system.KubeletAPI(ctx, system.Agent(eciNode), "/metrics/resource")
		if err != nil {
			return false, err
		}
		for line := range strings.Lines(text) {
			var value float64
			if strings.HasPrefix(line, "container_memory_working_set_bytes{") && strings.Contains(line, `pod="guarded"`) {
				if _, err := fmt.Sscan(strings.Fields(line)[1], &value); err != nil {
					return false, err
				}
				if value < 50<<10 || value == simulated {
					return false, fmt.Errorf("it uses %g bytes", value)
				}
				return true, nil
			}
		}
		return false, fmt.Errorf("it says nothing of the pod:\n%s", text)
	})
	testTermination(t, ns)
}

// What listens in a container answers through kubectl port-forward.
func testPortForward(t *testing.T, ns string) {
	waitPod(t, ns, "reachable", "runs", running)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	cmd := system.KubectlCommand(ctx, "--namespace="+ns, "port-forward", "pod/reachable", ":80")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // killed
	}()
	// Forwarding from 127.0.0.1:40123 -> 80
	line, err := bufio.NewReader(out).ReadString('\n')
	words := strings.Fields(line)
	if err != nil || len(words) < 3 {
		t.Fatalf("kubectl port-forward printed %q, %v", line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	eventually(t, "the web server answers", func(ctx context.Context) (bool, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+words[2]+"/", nil)
		if err != nil {
			return false, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		page, err := io.ReadAll(resp.Body)
		return strings.Contains(string(page), "Welcome to nginx!"), err
	})
}

// A process that does not end is killed when the grace period is over; its hook ran
// before.
func testTermination(t *testing.T, ns string) {
	p := waitPod(t, ns, "deaf", "runs", running)
	group := groupOfPod(t, eciNode, p)
	eventually(t, "the hook at the start has run", func(context.Context) (bool, error) {
		return slices.Contains(lines(t, group), "started"), nil
	})
	begun := time.Now()
	kubectl(t, "", "--namespace="+ns, "delete", "pod", "deaf", "--timeout=60s")
	if took := time.Since(begun); took < 10*time.Second {
		t.Errorf("a process that minds no SIGTERM was gone after %s, want its grace period of 10 s", took)
	}
	if got, want := lines(t, group), []string{"started", "stopping", "deaf to SIGTERM"}; !slices.Equal(got, want) {
		t.Errorf("the container printed %q, want %q", got, want)
	}
	if c, _ := group.Snapshot().Container("main"); c.Current.ExitCode != 137 {
		t.Errorf("the container ended with %+v, want 137", c.Current)
	}
}

func lines(t *testing.T, group *sim.Group) []string {
	t.Helper()
	list, err := group.Logs("main", sim.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range list {
		out = append(out, l.Text)
	}
	return out
}

const aciManifest = `
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: guarded}
  spec:
    PINNED
    restartPolicy: Never
    containers:
    - name: main
      image: busybox
      command: [sh, -c, "id -u; grep -e CapBnd -e NoNewPrivs /proc/self/status; cat /etc/resolv.conf"]
      securityContext: {allowPrivilegeEscalation: false, runAsUser: 65534, capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}
- {apiVersion: v1, kind: Pod, metadata: {name: locked}, spec: {PINNED, restartPolicy: Never, containers: [{name: main, image: busybox, securityContext: {readOnlyRootFilesystem: true}}]}}
`

func testMoreOfACI(t *testing.T, ns string) {
	kubectl(t, pin(aciManifest, aciNode), "--namespace="+ns, "apply", "-f", "-")
	waitPod(t, ns, "guarded", "has ended", ended)
	const want = "65534\nCapBnd:\t0000000000000400\nNoNewPrivs:\t1\nnameserver 168.63.129.16\n"
	if got := kubectl(t, "", "--namespace="+ns, "logs", "guarded"); got != want {
		t.Errorf("the container has %q, want %q", got, want)
	}
	p := waitPod(t, ns, "locked", "is refused", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if !strings.Contains(p.Status.Message, "spec.containers[0].securityContext.readOnlyRootFilesystem") {
		t.Errorf("the pod says %q, want it to name the field", p.Status.Message)
	}
}
