package containers

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// manifest is the pods of all scenarios on one virtual node.
const manifest = `
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {app.conf: "level = debug\n", level: debug}, binaryData: {raw: AAEC/w==}}
- {apiVersion: v1, kind: Secret, metadata: {name: keys}, stringData: {password: "pa$$word"}}
- {apiVersion: v1, kind: Pod, metadata: {name: exit-0}, spec: {PINNED, restartPolicy: Never, containers: [{name: main, image: busybox, command: [sh, -c, "echo done"]}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: exit-7}, spec: {PINNED, restartPolicy: Never, containers: [{name: main, image: busybox, command: [sh, -c, "exit 7"]}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: exit-137}, spec: {PINNED, restartPolicy: Never, containers: [{name: main, image: busybox, command: [sh, -c, "sleep 600 & kill -KILL $!; wait $!"]}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: exit-143}, spec: {PINNED, restartPolicy: Never, containers: [{name: main, image: busybox, command: [sh, -c, "sleep 600 & kill -TERM $!; wait $!"]}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: hungry}, spec: {PINNED, restartPolicy: Never, containers: [{name: main, image: busybox, command: [tail, /dev/zero], resources: {requests: {memory: 100M}, limits: {memory: 100M}}}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: no-program}, spec: {PINNED, restartPolicy: Never, containers: [{name: main, image: busybox, command: [python3]}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: ill}, spec: {PINNED, containers: [{name: main, image: busybox, command: [sh, -c, "trap 'echo asked to end; exit 3' TERM; echo run; touch /tmp/well /tmp/trap; (sleep 2; rm /tmp/well) & while :; do sleep 0.1; done"], livenessProbe: {exec: {command: [test, "!", -f, /tmp/trap, -o, -f, /tmp/well]}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 2}}]}}
- apiVersion: v1
  kind: Pod
  metadata: {name: order}
  spec:
    PINNED
    restartPolicy: Never
    volumes: [{name: shared, emptyDir: {}}]
    initContainers:
    - {name: first, image: busybox, command: [sh, -c, "sleep 1; echo first >> /shared/order"], volumeMounts: [{name: shared, mountPath: /shared}]}
    - {name: second, image: busybox, command: [sh, -c, "echo second >> /shared/order"], volumeMounts: [{name: shared, mountPath: /shared}]}
    containers:
    - {name: main, image: busybox, command: [cat, /shared/order], volumeMounts: [{name: shared, mountPath: /shared}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: web, labels: {app: web}}
  spec:
    PINNED
    containers:
    - {name: main, image: "nginx:1.27", ports: [{name: http, containerPort: 80}], readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1}}
    - {name: neighbour, image: busybox, command: [sh, -c, "trap 'exit 0' TERM; until wget -q -O - http://localhost/ > /tmp/page; do sleep 0.2; done; cat /tmp/page; while :; do sleep 0.2; done"]}
- {apiVersion: v1, kind: Pod, metadata: {name: ticking}, spec: {PINNED, restartPolicy: Never, containers: [{name: main, image: busybox, command: [sh, -c, "for i in 1 2 3 4 5 6; do echo tick $i; sleep 1; done"]}]}}
- {apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80}]}}
- apiVersion: v1
  kind: Pod
  metadata: {name: shell, annotations: {note: a "quoted" note}}
  spec:
    PINNED
    securityContext: {runAsUser: 1000, runAsGroup: 3000}
    volumes:
    - {name: config, configMap: {name: settings}}
    - {name: secret, secret: {secretName: keys}}
    - {name: about, downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}, {path: annotations, fieldRef: {fieldPath: metadata.annotations}}]}}
    containers:
    - name: main
      image: busybox
      command: [sh, -c, "trap 'exit 0' TERM; echo '$(MESSAGE)'; while :; do sleep 0.1; done"]
      env:
      - {name: LEVEL, valueFrom: {configMapKeyRef: {name: settings, key: level}}}
      - {name: PASSWORD, valueFrom: {secretKeyRef: {name: keys, key: password}}}
      - {name: MESSAGE, value: "level $(LEVEL), $$(LEVEL), $(ABSENT)"}
      - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
      volumeMounts:
      - {name: config, mountPath: /config, readOnly: true}
      - {name: secret, mountPath: /secret}
      - {name: about, mountPath: /about}
`

// What a pod asks for is what its containers get.
func TestContainers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: pods whose containers really run, in both emulated clouds; runc needs root")
	}
	for _, node := range []string{eciNode, aciNode} {
		t.Run(node, func(t *testing.T) {
			t.Parallel()
			ns := "containers-" + strings.TrimPrefix(node, "virtual-")
			if err := system.CreateNamespace(t.Context(), ns, nil); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the ServiceAccount is there", func(ctx context.Context) (bool, error) {
				_, err := system.Client().CoreV1().ServiceAccounts(ns).Get(ctx, "default", metav1.GetOptions{})
				return err == nil, err
			})
			kubectl(t, pin(manifest, node), "--namespace="+ns, "apply", "-f", "-")

			t.Run("exit codes", func(t *testing.T) { testExitCodes(t, node, ns) })
			t.Run("order", func(t *testing.T) { testOrder(t, ns) })
			t.Run("files", func(t *testing.T) { testFiles(t, node, ns) })
			t.Run("exec", func(t *testing.T) { testExec(t, node, ns) })
			t.Run("copy", func(t *testing.T) { testCopy(t, node, ns) })
			t.Run("logs", func(t *testing.T) { testLogs(t, node, ns) })
			t.Run("liveness", func(t *testing.T) { testLiveness(t, node, ns) })
			t.Run("readiness", func(t *testing.T) { testReadiness(t, node, ns) })
			if node == eciNode {
				t.Run("more of ECI", func(t *testing.T) { testMoreOfECI(t, ns) })
			} else {
				t.Run("more of ACI", func(t *testing.T) { testMoreOfACI(t, ns) })
			}
		})
	}
}

func testExitCodes(t *testing.T, node, ns string) {
	for name, want := range map[string]corev1.ContainerStateTerminated{
		"exit-0":     {ExitCode: 0, Reason: "Completed"},
		"exit-7":     {ExitCode: 7, Reason: "Error"},
		"exit-137":   {ExitCode: 137, Reason: "Error"},
		"exit-143":   {ExitCode: 143, Reason: "Error"},
		"hungry":     {ExitCode: 137, Reason: "OOMKilled"},
		"no-program": {ExitCode: 128, Reason: "StartError"},
	} {
		p := waitPod(t, ns, name, "has ended", ended)
		got := p.Status.ContainerStatuses[0].State.Terminated
		if got == nil || got.ExitCode != want.ExitCode || got.Reason != want.Reason {
			t.Errorf("pod %s: %+v, want exit code %d, reason %s", name, got, want.ExitCode, want.Reason)
		}
		if succeeded := p.Status.Phase == corev1.PodSucceeded; succeeded != (want.ExitCode == 0) {
			t.Errorf("pod %s is %s", name, p.Status.Phase)
		}
	}
}

func testOrder(t *testing.T, ns string) {
	p := waitPod(t, ns, "order", "has ended", ended)
	if got := kubectl(t, "", "--namespace="+ns, "logs", "order"); got != "first\nsecond\n" || p.Status.Phase != corev1.PodSucceeded {
		t.Errorf("the init containers wrote %q, and the pod is %s", got, p.Status.Phase)
	}
}

// execute is what a command in a container prints.
func execute(t *testing.T, ns, pod string, words ...string) string {
	t.Helper()
	out, problems, code := use(t, "", append([]string{"--namespace=" + ns, "exec", pod, "-c", "main", "--"}, words...)...)
	if code != 0 {
		t.Errorf("kubectl exec %s: code %d, %s", strings.Join(words, " "), code, problems)
	}
	return out
}

const tokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/token"

// What comes from other objects is in the environment and the files.
func testFiles(t *testing.T, node, ns string) {
	waitPod(t, ns, "shell", "runs", running)
	eventually(t, "the message is in the log", func(context.Context) (bool, error) {
		out, problems, _ := use(t, "", "--namespace="+ns, "logs", "shell")
		if out != "level debug, $(LEVEL), $(ABSENT)\n" {
			return false, fmt.Errorf("the log is %q, %s", out, problems)
		}
		return true, nil
	})
	environment := "\n" + execute(t, ns, "shell", "env")
	for _, want := range []string{"LEVEL=debug", "PASSWORD=pa$$word", "NODE=" + node, "KUBERNETES_SERVICE_PORT=443"} {
		if !strings.Contains(environment, "\n"+want+"\n") {
			t.Errorf("the environment lacks %s:%s", want, environment)
		}
	}
	for file, want := range map[string]string{
		"/config/app.conf": "level = debug\n", "/config/level": "debug", "/secret/password": "pa$$word",
		"/about/name": "shell", "/about/annotations": `note="a \"quoted\" note"`,
	} {
		if got := execute(t, ns, "shell", "cat", file); !strings.Contains(got, want) {
			t.Errorf("%s has %q, want %q", file, got, want)
		}
	}
	if got := strings.Fields(execute(t, ns, "shell", "od", "-An", "-tx1", "/config/raw")); !slices.Equal(got, []string{"00", "01", "02", "ff"}) {
		t.Errorf("/config/raw has %q", got)
	}
	if got := execute(t, ns, "shell", "ls", "-ln", "/secret/password"); !strings.HasPrefix(got, "-rw-r--r--") {
		t.Errorf("the secret's file: %s", got)
	}
	for flag, want := range map[string]string{"-u": "1000", "-g": "3000"} {
		if got := strings.TrimSpace(execute(t, ns, "shell", "id", flag)); got != want {
			t.Errorf("id %s is %q, want %s", flag, got, want)
		}
	}
	review, err := system.Client().AuthenticationV1().TokenReviews().Create(t.Context(), &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: strings.TrimSpace(execute(t, ns, "shell", "cat", tokenFile))},
	}, metav1.CreateOptions{})
	if want := "system:serviceaccount:" + ns + ":default"; err != nil || review.Status.User.Username != want {
		t.Errorf("the token is that of %q, want %q, error %v", review.Status.User.Username, want, err)
	}
}

func testExec(t *testing.T, node, ns string) {
	waitPod(t, ns, "shell", "runs", running)
	in := "--namespace=" + ns
	if out, problems, _ := use(t, "", in, "exec", "shell", "--", "vim"); !strings.Contains(out, `exec: "vim": executable file not found in $PATH`) {
		t.Errorf("a program that is not there: %q, %s", out, problems)
	}
	if node == eciNode {
		const script = `echo "$1|$LEVEL|"'$LEVEL'; exit 3`
		if out, problems, code := use(t, "", in, "exec", "shell", "--", "sh", "-c", script, "sh", "two  words"); out != "two  words|debug|$LEVEL\n" || code != 0 {
			t.Errorf("arguments with spaces and quotes: %q, code %d, %s", out, code, problems)
		}
		if out, problems, code := use(t, "a line\n", in, "exec", "-i", "shell", "--", "head", "-n1"); out != "a line\n" || code != 0 {
			t.Errorf("input: %q, code %d, %s", out, code, problems)
		}
	} else if _, problems, code := use(t, "", in, "exec", "shell", "--", "echo", "two  words"); code == 0 || !strings.Contains(problems, "knows no quotes") {
		t.Errorf("a word with spaces: code %d, %s", code, problems)
	}
	screen := terminal(t, "tty; stty size; id -u; exit\r", in, "exec", "-it", "shell", "--", "sh")
	size := map[string]string{eciNode: "24 80", aciNode: "33 101"}[node]
	for _, want := range []string{"/dev/pts/0", size, "1000"} {
		if !strings.Contains(screen, want) {
			t.Errorf("the screen says %q, want %q in it", screen, want)
		}
	}
}

// terminal is what a user of kubectl sees who types a line.
func terminal(t *testing.T, line string, args ...string) string {
	t.Helper()
	ours, theirs, err := sim.OpenTerminal(sim.TerminalSize{Rows: 33, Columns: 101})
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := system.KubectlCommand(ctx, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	if _, err := io.WriteString(ours, line); err != nil {
		t.Fatal(err)
	}
	screen, _ := io.ReadAll(ours) // ends as terminals do, with an error
	if err := cmd.Wait(); err != nil {
		t.Errorf("kubectl: %v", err)
	}
	return string(screen)
}

// Files are copied out of a container byte by byte. What goes into one on ECI arrives,
// but waits for an end of the input that is not told; on ACI it is refused.
func testCopy(t *testing.T, node, ns string) {
	waitPod(t, ns, "shell", "runs", running)
	execute(t, ns, "shell", "dd", "if=/dev/urandom", "of=/tmp/blob", "bs=1000", "count=300")
	sum, _, _ := strings.Cut(execute(t, ns, "shell", "sha256sum", "/tmp/blob"), " ")
	file := filepath.Join(t.TempDir(), "blob")
	// Of an absolute path tar would say on standard error, which comes with the
	// archive, that it makes it a relative one.
	_, problems, code := use(t, "", "cp", ns+"/shell:tmp/blob", file)
	blob, err := os.ReadFile(file)
	if got := fmt.Sprintf("%x", sha256.Sum256(blob)); code != 0 || got != sum {
		t.Errorf("kubectl cp from the pod: code %d, %d bytes with the sum %s, want %s, error %v, %s", code, len(blob), got, sum, err, problems)
	}
	if err := os.WriteFile(file, []byte("into the pod\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := system.KubectlCommand(ctx, "cp", file, ns+"/shell:/tmp")
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		eciNode: "autoburst: the input has ended, which ECI cannot pass on; a command that waits for that goes on waiting",
		aciNode: "passes input through a terminal, which takes lines of text only, and the input has the byte 0x00",
	}[node]
	line, err := bufio.NewReader(said).ReadString('\n')
	if !strings.Contains(line, want) {
		t.Errorf("kubectl cp into the pod said %q, %v, want %q", line, err, want)
	}
	if node == eciNode {
		cancel()
		_ = cmd.Wait() // killed
		if got := execute(t, ns, "shell", "cat", "/tmp/blob"); got != "into the pod\n" {
			t.Errorf("it has copied %q", got)
		}
	} else if err := cmd.Wait(); err == nil {
		t.Error("kubectl cp into the pod succeeded")
	}
}

func testLogs(t *testing.T, node, ns string) {
	waitPod(t, ns, "ticking", "runs", func(p *corev1.Pod) bool { return p.Status.Phase != corev1.PodPending })
	want := "tick 1\ntick 2\ntick 3\ntick 4\ntick 5\ntick 6\n"
	if out, problems, code := use(t, "", "--namespace="+ns, "logs", "-f", "ticking"); out != want || code != 0 {
		t.Errorf("logs -f: %q, code %d, %s", out, code, problems)
	}
	if got := kubectl(t, "", "--namespace="+ns, "logs", "order"); got != "first\nsecond\n" {
		t.Errorf("the log of a container that has ended: %q", got)
	}
}

// A container that is ill is ended, told so, and started again.
func testLiveness(t *testing.T, node, ns string) {
	p := waitPod(t, ns, "ill", "was restarted", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].RestartCount > 0 && p.Status.ContainerStatuses[0].LastTerminationState.Terminated != nil
	})
	if last := p.Status.ContainerStatuses[0].LastTerminationState.Terminated; last.ExitCode != 3 {
		t.Errorf("the container ended with %+v, want exit code 3", last)
	}
	out, problems, code := use(t, "", "--namespace="+ns, "logs", "--previous", "ill")
	if node == eciNode && out != "run\nasked to end\n" {
		t.Errorf("logs --previous: %q, code %d, %s", out, code, problems)
	}
	if node == aciNode && (code == 0 || !strings.Contains(problems, "keeps no log of a container's previous run")) {
		t.Errorf("logs --previous: code %d, %s", code, problems)
	}
	eventually(t, "an event tells of the probe", func(ctx context.Context) (bool, error) {
		events, err := system.Client().CoreV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=ill"})
		if err != nil {
			return false, err
		}
		var said []string
		for _, e := range events.Items {
			if strings.Contains(e.Message, "Liveness probe failed") {
				return true, nil
			}
			said = append(said, e.Reason+": "+e.Message)
		}
		return false, fmt.Errorf("the events are %q", said)
	})
}

// A Service has a pod while its readiness probe succeeds.
func testReadiness(t *testing.T, node, ns string) {
	waitPod(t, ns, "web", "runs", running)
	ready := func(want bool) {
		t.Helper()
		eventually(t, fmt.Sprintf("the Service has the pod ready: %t", want), func(ctx context.Context) (bool, error) {
			list, err := system.Client().DiscoveryV1().EndpointSlices(ns).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=web"})
			if err != nil {
				return false, err
			}
			n := 0
			for _, slice := range list.Items {
				for _, e := range slice.Endpoints {
					if e.Conditions.Ready != nil && *e.Conditions.Ready {
						n++
					}
				}
			}
			return (n == 1) == want, nil
		})
		waitPod(t, ns, "web", fmt.Sprintf("is ready: %t", want), func(p *corev1.Pod) bool {
			return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodReady && (c.Status == corev1.ConditionTrue) == want
			})
		})
	}
	const file = "/usr/share/nginx/html/ready"
	if node == eciNode {
		// Azure tells of readiness only what fails, so that the Service could have the
		// pod for a moment.
		ready(false)
	}
	execute(t, ns, "web", "touch", file)
	ready(true)
	execute(t, ns, "web", "rm", file)
	ready(false)
	eventually(t, "the neighbour has read the page", func(context.Context) (bool, error) {
		out, problems, _ := use(t, "", "--namespace="+ns, "logs", "web", "-c", "neighbour")
		if !strings.Contains(out, "Welcome to nginx!") {
			return false, fmt.Errorf("it printed %q, %s", out, problems)
		}
		return true, nil
	})
}
