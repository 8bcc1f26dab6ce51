// Package providertest is the suite that every provider must pass against an
// account of its cloud, real or emulated. The suite knows no cloud: a [Harness]
// carries the provider and the hooks into the cloud behind it.
//
// Containers of the suite run the image busybox with commands of sh, so that
// their output and exit codes are real.
package providertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/providers"
)

// Harness is one fresh account of a cloud and a provider for it. The function
// that makes it registers the clean-up with t.
type Harness struct {
	// Provider serves the node NodeName of the cluster ClusterUID.
	Provider             providers.Provider
	ClusterUID, NodeName string

	// Sibling returns a provider of the same account for another node.
	Sibling func(t testing.TB, clusterUID, nodeName string) providers.Provider
	// Inject makes calls of the provider go wrong until Heal.
	Inject func(Fault)
	Heal   func()
	// Revoke makes the cloud refuse the provider's credentials, Restore accept
	// them again.
	Revoke, Restore func()
	// Made tells, from the cloud's own records, the IDs of all groups that were
	// ever made for a pod.
	Made func(podUID string) []string
	// MissingID is the well-formed ID of a group that does not exist.
	MissingID string
	// Secrets are what no error may hold, such as keys and tokens.
	Secrets []string

	// NoPreviousLogs is set where the cloud keeps no logs of earlier runs; Logs
	// must then fail for them rather than show others.
	NoPreviousLogs bool
	// DeleteConflicts is set where the cloud refuses every change of a group
	// that is being changed; a second Delete may then be a Conflict for a while.
	DeleteConflicts bool
	// NoPodIP is set where groups have no address without more settings.
	NoPodIP bool
}

// Operation is a call of the cloud's API, in terms of the provider's methods.
type Operation string

// The operations. Any is every call.
const (
	Any     Operation = ""
	Create  Operation = "Create"
	Delete  Operation = "Delete"
	List    Operation = "List"
	Changes Operation = "Changes"
	Get     Operation = "Get"
	Logs    Operation = "Logs"
)

// Fault makes calls go wrong.
type Fault struct {
	Operation Operation
	Kind      FaultKind
	// Skip is how many calls pass before, Calls how many go wrong; zero Calls
	// are all until Heal.
	Skip, Calls int
}

// FaultKind is how a call goes wrong.
type FaultKind string

// The kinds of faults.
const (
	// Throttle refuses with the cloud's code for too many requests.
	Throttle FaultKind = "Throttle"
	// Unavailable refuses with HTTP 503.
	Unavailable FaultKind = "Unavailable"
	// Cut drops the connection without carrying the call out, LoseAnswer after
	// carrying it out.
	Cut        FaultKind = "Cut"
	LoseAnswer FaultKind = "LoseAnswer"
	// Garbage answers HTTP 502 and a page of HTML, as a proxy does.
	Garbage FaultKind = "Garbage"
	// Hang does not answer for a minute.
	Hang FaultKind = "Hang"
)

// Run runs the suite. newHarness is called for each part of it.
func Run(t *testing.T, newHarness func(t *testing.T) *Harness) {
	parts := []struct {
		name string
		run  func(t *testing.T, h *Harness)
	}{
		{"Identity", testIdentity},
		{"Lifecycle", testLifecycle},
		{"CreateIsIdempotent", testCreateIsIdempotent},
		{"CreateAfterALostAnswer", testLostAnswer},
		{"CreateAgainWithFreshSecrets", testFreshSecrets},
		{"ListIsComplete", testListIsComplete},
		{"ForeignGroups", testForeignGroups},
		{"Changes", testChanges},
		{"ChangesAgreeWithGet", testChangesAgreeWithGet},
		{"Find", testFind},
		{"Missing", testMissing},
		{"DeleteTwice", testDeleteTwice},
		{"InvalidPod", testInvalidPod},
		{"Concurrency", testConcurrency},
		{"ExitCodes", testExitCodes},
		{"Restarts", testRestarts},
		{"InitContainers", testInitContainers},
		{"InitContainerFails", testInitContainerFails},
		{"Environment", testEnvironment},
		{"Files", testFiles},
		{"Logs", testLogs},
		{"PreviousLogs", testPreviousLogs},
		{"FaultClasses", testFaultClasses},
		{"PartialList", testPartialList},
		{"Credentials", testCredentials},
		{"Cancellation", testCancellation},
		{"Permit", testPermit},
		{"NoSecretInErrors", testNoSecretInErrors},
	}
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) { p.run(t, newHarness(t)) })
	}
}

// bound is how long the suite waits for anything.
const bound = 30 * time.Second

// within gives a test's calls a bound.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls until done returns true, or fails with what was waited for
// and the last thing that was seen.
func eventually(t *testing.T, what string, done func(ctx context.Context) (seen any, ok bool)) {
	t.Helper()
	ctx := within(t)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		seen, ok := done(ctx)
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %s; last seen: %+v", what, bound, seen)
		}
	}
}

// status polls Get until the group's status satisfies ok, and returns it.
func (h *Harness) status(t *testing.T, id, what string, ok func(*providers.GroupStatus) bool) *providers.GroupStatus {
	t.Helper()
	var last *providers.GroupStatus
	eventually(t, what, func(ctx context.Context) (any, bool) {
		g, err := h.Provider.Get(ctx, id)
		if err != nil {
			t.Fatalf("%s: Get(%s): %v", what, id, err)
		}
		if g.Status == nil {
			t.Fatalf("%s: Get(%s) has no status", what, id)
		}
		last = g.Status
		return *last, ok(last)
	})
	return last
}

func (h *Harness) running(t *testing.T, id string) *providers.GroupStatus {
	t.Helper()
	return h.status(t, id, "group "+id+" runs", func(s *providers.GroupStatus) bool {
		if s.Phase != providers.GroupRunning {
			return false
		}
		for _, c := range s.Containers {
			if c.State.Running == nil {
				return false
			}
		}
		return true
	})
}

func (h *Harness) create(t *testing.T, spec *providers.GroupSpec) string {
	t.Helper()
	id, err := h.Provider.Create(within(t), spec)
	if err != nil {
		t.Fatalf("Create(%s): %v", spec.Owner.PodName, err)
	}
	if id == "" {
		t.Fatalf("Create(%s) returned no ID", spec.Owner.PodName)
	}
	return id
}

func (h *Harness) logs(t *testing.T, id, container string, o providers.LogOptions) string {
	t.Helper()
	r, err := h.Provider.Logs(within(t), id, container, o)
	if err != nil {
		t.Fatalf("Logs(%s, %s): %v", id, container, err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Errorf("closing the logs: %v", err)
		}
	}()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("reading the logs of %s: %v", id, err)
	}
	return string(b)
}

// spec is a pod of one container that runs a line of sh.
func (h *Harness) spec(name, line string) *providers.GroupSpec {
	return &providers.GroupSpec{
		Owner: providers.Owner{
			ClusterUID: h.ClusterUID, NodeName: h.NodeName,
			Namespace: "conformance", PodName: name, PodUID: uid(name),
		},
		RestartPolicy: corev1.RestartPolicyAlways,
		Containers:    []providers.Container{shell("main", line)},
	}
}

// forever is a line of sh that does not end by itself.
const forever = "sleep 600"

func shell(name, line string) providers.Container {
	return providers.Container{
		Name: name, Image: "busybox:1.36", ImagePullPolicy: corev1.PullIfNotPresent,
		Command: []string{"sh", "-c", line},
	}
}

// uid makes a UID of the usual form out of a name.
func uid(name string) string {
	var sum uint64 = 14695981039346656037 // FNV-1a
	for _, b := range []byte(name) {
		sum = (sum ^ uint64(b)) * 1099511628211
	}
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", uint32(sum), uint16(sum>>32), uint16(sum>>48)&0xfff, uint16(sum>>20)&0xfff, sum&0xffffffffffff)
}

// wantClass fails unless err is a provider's error of one of the classes.
func wantClass(t *testing.T, what string, err error, classes ...providers.ErrorClass) {
	t.Helper()
	var e *providers.Error
	if !errors.As(err, &e) {
		t.Errorf("%s: error %v (%T), want a *providers.Error of class %v", what, err, err, classes)
		return
	}
	for _, c := range classes {
		if e.Class == c {
			return
		}
	}
	t.Errorf("%s: error of class %s (%v), want %v", what, e.Class, e, classes)
}

// wantNoSecret fails if an error shows what it must not.
func (h *Harness) wantNoSecret(t *testing.T, what string, err error, secrets ...string) {
	t.Helper()
	if err == nil {
		return
	}
	text := fmt.Sprintf("%v %+v", err, err)
	for _, s := range append(append([]string{}, h.Secrets...), secrets...) {
		if s != "" && strings.Contains(text, s) {
			t.Errorf("%s: the error shows a secret: %s", what, strings.ReplaceAll(text, s, "<SECRET>"))
		}
	}
	for _, s := range []string{"http://", "https://", "Signature=", "AccessKeyId=", "Bearer "} {
		if strings.Contains(text, s) {
			t.Errorf("%s: the error shows a part of the request (%s…): %s", what, s, text)
		}
	}
}
