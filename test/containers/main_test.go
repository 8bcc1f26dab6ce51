// Package containers tests pods whose containers really run: by runc, in the emulated
// clouds, scheduled by the real control plane and run by the agents. What a pod asks
// for is looked for inside of its containers.
package containers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/cloud/runc"
	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

const (
	eciNode = playground.ECINode
	aciNode = playground.ACINode
)

// system is shared by the tests; nil where there are no containers.
var system *playground.Playground

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // the tests say what is not tested
	}
	if err := start(); err != nil {
		fmt.Fprintln(os.Stderr, "containers:", err)
		return 1
	}
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "containers:", err)
		code = 1
	}
	return code
}

// runtime runs the containers of both clouds.
var runtime *runc.Runtime

func start() error {
	ctx := context.Background()
	root, err := cluster.RepositoryRoot()
	if err != nil {
		return err
	}
	programs, err := runc.Programs(ctx, filepath.Join(root, ".cache", "debian"))
	if err != nil {
		return err
	}
	if runtime, err = runc.New(programs); err != nil {
		return err
	}
	timing := sim.DefaultTiming().Scaled(0.05)
	system, err = playground.Start(ctx, playground.Options{
		Progress: os.Stderr, Controllers: -1, Race: raceEnabled,
		// Where pods have addresses of this machine, at which they can be reached.
		Set:   []string{"virtualNodes[0].eci.allowedVSwitches={" + playground.ECILoopbackVSwitch + "}"},
		Cloud: sim.Config{Timing: timing, Containers: runtime},
	})
	if err != nil {
		return errors.Join(err, runtime.Close())
	}
	return nil
}

// stop fails for what remains of the containers.
func stop() error {
	if err := errors.Join(system.Stop(), runtime.Close()); err != nil {
		return err
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	if strings.Contains(string(table), "autoburst-containers") {
		return fmt.Errorf("mounts of containers remain:\n%s", table)
	}
	return nil
}

// pin writes for PINNED, in a manifest, what only one virtual node takes: between other
// members of a flow, or in lines of its own.
func pin(manifest, node string) string {
	selector, tolerations := "nodeSelector: {kubernetes.io/hostname: "+node+"}", "tolerations: [{operator: Exists}]"
	manifest = strings.ReplaceAll(manifest, "    PINNED\n", "    "+selector+"\n    "+tolerations+"\n")
	return strings.ReplaceAll(manifest, "PINNED", selector+", "+tolerations)
}

// kubectl must succeed, and returns what it prints.
func kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, err := system.Kubectl(t.Context(), stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// use runs kubectl to its end and returns both outputs and the exit code.
func use(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := system.KubectlCommand(ctx, args...)
	var out, problems bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &problems
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), problems.String(), cmd.ProcessState.ExitCode()
}

// waitPod waits until a pod fulfils a condition and returns it.
func waitPod(t *testing.T, namespace, name, what string, condition func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	var last *corev1.Pod
	eventually(t, fmt.Sprintf("pod %s/%s %s", namespace, name, what), func(ctx context.Context) (bool, error) {
		p, err := system.Client().CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		last = p
		if !condition(p) {
			return false, fmt.Errorf("it is on %q, %s %s %s %+v", p.Spec.NodeName, p.Status.Phase, p.Status.Reason, p.Status.Message, p.Status.ContainerStatuses)
		}
		return true, nil
	})
	return last
}

func eventually(t *testing.T, what string, condition func(context.Context) (bool, error)) {
	t.Helper()
	if err := playground.Poll(context.Background(), 90*time.Second, what, condition); err != nil {
		t.Fatalf("%v\n%s", err, system.Logs(10))
	}
}

func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func running(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning }

// groupOfPod is the container group of a pod, by its tags.
func groupOfPod(t *testing.T, node string, p *corev1.Pod) *sim.Group {
	t.Helper()
	for _, g := range system.Groups(node) {
		for _, value := range g.Tags() {
			if value == string(p.UID) {
				return g
			}
		}
	}
	t.Fatalf("pod %s/%s has no group", p.Namespace, p.Name)
	return nil
}
