package containers

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
- {apiVersion: v1, kind: Pod, metadata: {name: ill}, spec: {PINNED, terminationGracePeriodSeconds: 5, containers: [{name: main, image: busybox, command: [sh, -c, "trap 'echo asked to end; exit 3' TERM; touch /tmp/well; echo run; (sleep 2; rm /tmp/well) & while :; do sleep 0.1; done"], livenessProbe: {exec: {command: [test, -f, /tmp/well]}, periodSeconds: 1, failureThreshold: 2}}]}}
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
    - {name: nginx, image: "nginx:1.27", ports: [{name: http, containerPort: 80}], readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 1, failureThreshold: 1}}
    - {name: neighbour, image: busybox, command: [sh, -c, "trap 'exit 0' TERM; until wget -q -O - http://localhost/ > /tmp/page; do sleep 0.2; done; cat /tmp/page; while :; do sleep 0.2; done"]}
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
      command: [sh, -c, "trap 'exit 0' TERM; echo $(MESSAGE); while :; do sleep 0.1; done"]
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
			t.Run("liveness", func(t *testing.T) { testLiveness(t, node, ns) })
			t.Run("readiness", func(t *testing.T) { testReadiness(t, node, ns) })
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

func testFiles(t *testing.T, node, ns string) {
	waitPod(t, ns, "shell", "runs", running)
	fmt.Println(kubectl(t, "", "--namespace="+ns, "logs", "shell"))
}
func testExec(t *testing.T, node, ns string)     {}
func testLiveness(t *testing.T, node, ns string) {}

func testReadiness(t *testing.T, node, ns string) {
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
	}
	_ = ready
}
