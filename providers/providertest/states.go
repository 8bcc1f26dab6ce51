package providertest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/providers"
)

func testExitCodes(t *testing.T, h *Harness) {
	tests := map[string]struct {
		policy corev1.RestartPolicy
		line   string
		phase  providers.GroupPhase
		code   int32
		reason string
	}{
		"never-ok":     {corev1.RestartPolicyNever, "exit 0", providers.GroupSucceeded, 0, "Completed"},
		"never-failed": {corev1.RestartPolicyNever, "exit 3", providers.GroupFailed, 3, "Error"},
		"onfailure-ok": {corev1.RestartPolicyOnFailure, "exit 0", providers.GroupSucceeded, 0, "Completed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			spec := h.spec(name, tt.line)
			spec.RestartPolicy = tt.policy
			id := h.create(t, spec)
			s := h.status(t, id, "the group ends", func(s *providers.GroupStatus) bool {
				return s.Phase == providers.GroupSucceeded || s.Phase == providers.GroupFailed
			})
			if s.Phase != tt.phase {
				t.Errorf("phase %s, want %s", s.Phase, tt.phase)
			}
			end := s.Containers[0].State.Terminated
			if end == nil {
				t.Fatalf("state %+v, want Terminated", s.Containers[0].State)
			}
			if end.ExitCode != tt.code || end.Reason != tt.reason {
				t.Errorf("exit code %d, reason %q, want %d, %q", end.ExitCode, end.Reason, tt.code, tt.reason)
			}
			if end.StartedAt.IsZero() || end.FinishedAt.Before(&end.StartedAt) {
				t.Errorf("ran from %s to %s", end.StartedAt, end.FinishedAt)
			}
			if s.Containers[0].Ready {
				t.Error("an ended container is ready")
			}
		})
	}
}

func testRestarts(t *testing.T, h *Harness) {
	id := h.create(t, h.spec("crash-loop", "exit 7"))
	s := h.status(t, id, "the container was restarted twice", func(s *providers.GroupStatus) bool {
		return len(s.Containers) == 1 && s.Containers[0].RestartCount >= 2 && s.Containers[0].LastTerminationState.Terminated != nil
	})
	if s.Phase != providers.GroupRunning {
		t.Errorf("phase %s, want Running: restartPolicy is Always", s.Phase)
	}
	if code := s.Containers[0].LastTerminationState.Terminated.ExitCode; code != 7 {
		t.Errorf("the last run ended with %d, want 7", code)
	}
}

func testInitContainers(t *testing.T, h *Harness) {
	spec := h.spec("init", forever)
	spec.InitContainers = []providers.Container{shell("init-1", "sleep 0.2"), shell("init-2", "sleep 0.2")}
	id := h.create(t, spec)
	s := h.status(t, id, "the group runs after its init containers", func(s *providers.GroupStatus) bool {
		if len(s.InitContainers) != 2 || len(s.Containers) != 1 {
			t.Fatalf("%d init containers and %d containers, want 2 and 1", len(s.InitContainers), len(s.Containers))
		}
		if s.Containers[0].State.Waiting == nil {
			for _, c := range s.InitContainers {
				if c.State.Terminated == nil {
					t.Fatalf("the container started before %s ended: %+v", c.Name, c.State)
				}
			}
		}
		if s.InitContainers[1].State.Waiting == nil && s.InitContainers[0].State.Terminated == nil {
			t.Fatalf("init-2 started before init-1 ended: %+v", s.InitContainers)
		}
		return s.Containers[0].State.Running != nil
	})
	for i, want := range []string{"init-1", "init-2"} {
		c := s.InitContainers[i]
		if c.Name != want || !c.Ready || c.State.Terminated.ExitCode != 0 {
			t.Errorf("init container %d is %+v, want %s, ended with 0 and ready", i, c, want)
		}
	}
}

func testInitContainerFails(t *testing.T, h *Harness) {
	spec := h.spec("init-fails", forever)
	spec.RestartPolicy = corev1.RestartPolicyNever
	spec.InitContainers = []providers.Container{shell("init", "exit 5")}
	id := h.create(t, spec)
	s := h.status(t, id, "the group fails", func(s *providers.GroupStatus) bool { return s.Phase == providers.GroupFailed })
	if end := s.InitContainers[0].State.Terminated; end == nil || end.ExitCode != 5 {
		t.Errorf("init container %+v, want ended with 5", s.InitContainers[0].State)
	}
	if s.Containers[0].State.Running != nil {
		t.Error("the container runs")
	}
}

func testEnvironment(t *testing.T, h *Harness) {
	want := map[string]string{
		"PLAIN": "a value", "EMPTY": "", "QUOTES": `it's "quoted" & <odd>`,
		"SIGNS": "1+1=2 100% ~*", "WIDE": "übergröße 雲", "SECRET": "hunter2-hunter2",
	}
	order := []string{"PLAIN", "EMPTY", "QUOTES", "SIGNS", "WIDE", "SECRET"}
	spec := h.spec("env", `for v in "$PLAIN" "${EMPTY-unset}" "$QUOTES" "$SIGNS" "$WIDE" "$SECRET"; do echo "[$v]"; done; `+forever)
	for _, name := range order {
		spec.Containers[0].Env = append(spec.Containers[0].Env, providers.EnvVar{Name: name, Value: want[name], Secret: name == "SECRET"})
	}
	id := h.create(t, spec)
	h.running(t, id)
	var lines []string
	for _, name := range order {
		lines = append(lines, "["+want[name]+"]")
	}
	h.wantLog(t, id, providers.LogOptions{}, strings.Join(lines, "\n")+"\n")
}

func testFiles(t *testing.T, h *Harness) {
	spec := h.spec("files", forever)
	spec.Volumes = []providers.Volume{
		{Name: "scratch-volume", EmptyDir: &corev1.EmptyDirVolumeSource{}},
		{Name: "config-volume", Files: &providers.Files{Items: []providers.File{{Path: "app.conf", Data: []byte("a=1\n"), Mode: 0o644}, {Path: "empty", Mode: 0o644}}}},
		{Name: "secret-volume", Files: &providers.Files{Secret: true, Items: []providers.File{{Path: "key.bin", Data: []byte{0, 1, 2, 0xff}, Mode: 0o644}}}},
		{Name: "optional-volume", Files: &providers.Files{}},
	}
	for _, v := range spec.Volumes {
		spec.Containers[0].Mounts = append(spec.Containers[0].Mounts, corev1.VolumeMount{Name: v.Name, MountPath: "/mnt/" + v.Name})
	}
	h.running(t, h.create(t, spec))
}

// wantLog polls, since output takes its way.
func (h *Harness) wantLog(t *testing.T, id string, o providers.LogOptions, want string) {
	t.Helper()
	var got string
	h.status(t, id, "the log is complete", func(*providers.GroupStatus) bool {
		got = h.logs(t, id, "main", o)
		return len(got) >= len(want)
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("log with %+v (-want +got):\n%s", o, diff)
	}
}

func testLogs(t *testing.T, h *Harness) {
	var all strings.Builder
	for i := range 5 {
		fmt.Fprintf(&all, "line %d\n", i+1)
	}
	id := h.create(t, h.spec("logs", `for i in 1 2 3 4 5; do echo "line $i"; done; `+forever))
	h.running(t, id)
	h.wantLog(t, id, providers.LogOptions{}, all.String())
	h.wantLog(t, id, providers.LogOptions{Tail: 2}, "line 4\nline 5\n")
	h.wantLog(t, id, providers.LogOptions{LimitBytes: 10}, "line 1\nlin")

	stamped := strings.Split(strings.TrimSuffix(h.logs(t, id, "main", providers.LogOptions{Timestamps: true}), "\n"), "\n")
	if len(stamped) != 5 {
		t.Fatalf("%d lines with timestamps, want 5", len(stamped))
	}
	for i, l := range stamped {
		at, text, _ := strings.Cut(l, " ")
		if when, err := parseTime(at); err != nil || when.IsZero() {
			t.Errorf("line %q begins with no time: %v", l, err)
		}
		if want := fmt.Sprintf("line %d", i+1); text != want {
			t.Errorf("line %q, want %q after its time", l, want)
		}
	}
	first, _, _ := strings.Cut(stamped[0], " ")
	when, _ := parseTime(first)
	h.wantLog(t, id, providers.LogOptions{Since: when}, all.String())
	if got := h.logs(t, id, "main", providers.LogOptions{Since: when.Add(bound)}); got != "" {
		t.Errorf("logs since a later time: %q, want none", got)
	}
	if _, err := h.Provider.Logs(within(t), id, "nobody", providers.LogOptions{}); err == nil {
		t.Error("logs of a container that the group does not have: no error")
	}
}

func testPreviousLogs(t *testing.T, h *Harness) {
	id := h.create(t, h.spec("previous", `echo "a run"; exit 1`))
	h.status(t, id, "the container was restarted", func(s *providers.GroupStatus) bool { return s.Containers[0].RestartCount >= 1 })
	if h.NoPreviousLogs {
		if _, err := h.Provider.Logs(within(t), id, "main", providers.LogOptions{Previous: true}); err == nil {
			t.Error("logs of the previous run: no error, though the cloud keeps none")
		}
		return
	}
	h.wantLog(t, id, providers.LogOptions{Previous: true}, "a run\n")
}
