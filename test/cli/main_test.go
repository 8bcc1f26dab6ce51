// Package cli tests kubectl autoburst as users have it, a program with a kubeconfig,
// on a real system whose parts are broken one after another. It has a system of its
// own, as others would not outlive that.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/playground"
)

// system is shared by the tests of this package, which run one after another.
var system *playground.Playground

func TestMain(m *testing.M) {
	os.Exit(playground.Suite{Name: "cli", Options: playground.Options{
		Local: playground.LocalNodes{Count: 1, CPU: "4", Memory: "16Gi", Pods: 60},
		Cloud: sim.Config{Timing: sim.DefaultTiming().Scaled(0.05)},
	}}.Run(m, &system))
}

func kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, err := system.Kubectl(t.Context(), stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// afterwards undoes something when the test ends, in its own time.
func afterwards(t *testing.T, stdin string, args ...string) {
	t.Helper()
	t.Cleanup(func() {
		if _, err := system.Kubectl(context.Background(), stdin, args...); err != nil {
			t.Error(err)
		}
	})
}

// ended is how the program has ended.
type ended struct {
	out, errOut string
	code        int
}

// plugin runs kubectl autoburst with the administrator's kubeconfig.
func plugin(t *testing.T, args ...string) ended {
	t.Helper()
	return pluginAs(t, system.Kubeconfig, args...)
}

func pluginAs(t *testing.T, kubeconfig string, args ...string) ended {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), system.Plugin(), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return ended{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// answer runs kubectl autoburst, which must end well, and reads its JSON.
func answer[T any](t *testing.T, args ...string) T {
	t.Helper()
	e := plugin(t, args...)
	if e.code != 0 {
		t.Fatalf("%s ended with %d: %s", strings.Join(args, " "), e.code, e.errOut)
	}
	var v T
	if err := json.Unmarshal([]byte(e.out), &v); err != nil {
		t.Fatalf("%v in %s", err, e.out)
	}
	return v
}

func mustEventually(t *testing.T, timeout time.Duration, what string, condition func(context.Context) (bool, error)) {
	t.Helper()
	if err := playground.Poll(t.Context(), timeout, what, condition); err != nil {
		t.Fatal(err)
	}
}

// namespace makes a namespace that goes with the test, and waits until it is served if
// its annotation asks for it.
func namespace(t *testing.T, name, mode string) {
	t.Helper()
	var annotations map[string]string
	if mode != "" {
		annotations = map[string]string{"autoburst.io/mode": mode}
	}
	if err := system.CreateNamespace(t.Context(), name, annotations); err != nil {
		t.Fatal(err)
	}
	afterwards(t, "", "delete", "namespace", name, "--wait=false")
	if mode != "" {
		waitServed(t, name, "true")
	}
}

func waitServed(t *testing.T, name, want string) {
	t.Helper()
	mustEventually(t, 30*time.Second, "the label of namespace "+name+" is "+want, func(ctx context.Context) (bool, error) {
		out, err := system.Kubectl(ctx, "", "get", "namespace", name, "-o", `jsonpath={.metadata.labels.autoburst\.io/served}`)
		return err == nil && out == want, err
	})
}

// runPlugin runs kubectl autoburst, which must end well, and returns what it says.
func runPlugin(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, system.Plugin(), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+system.Kubeconfig)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
