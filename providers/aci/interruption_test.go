package aci

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/providers"
)

func groupOf(state, more, view string) string {
	return `{"properties":{"osType":"Linux","provisioningState":"Succeeded","instanceView":{"state":"` + state + `","events":[]}` + more + `,"containers":[` + app(view) + `]}}`
}

func TestDisplaced(t *testing.T) {
	const (
		spot     = `,"priority":"Spot"`
		waiting  = `{"restartCount":1,"currentState":{"state":"Waiting","detailStatus":""},"previousState":{"state":"Terminated","exitCode":137}}`
		fresh    = `{"restartCount":0,"currentState":{"state":"Waiting","detailStatus":""}}`
		running  = `{"restartCount":1,"currentState":{"state":"Running","startTime":"2026-03-01T11:59:00Z"}}`
		crashed  = `{"restartCount":2,"currentState":{"state":"Waiting","detailStatus":"CrashLoopBackOff: Back-off restarting failed"},"previousState":{"state":"Terminated","exitCode":1}}`
		badImage = `{"restartCount":0,"currentState":{"state":"Waiting"},"events":[{"name":"Failed","type":"Warning","message":"Failed to pull image \"x\"","lastTimestamp":"2026-03-01T11:59:00Z"}]}`
		initRuns = `,"initContainers":[{"name":"init","properties":{"image":"i","instanceView":{"currentState":{"state":"Running"}}}}]`
	)
	tests := map[string]struct {
		body            string
		displaced, spot bool
		phase           providers.GroupPhase
	}{
		"evicted":                       {groupOf("Pending", spot, waiting), true, true, providers.GroupRunning},
		"evicted, without its past":     {groupOf("Pending", spot, fresh), true, true, providers.GroupPending},
		"repaired":                      {groupOf("Repairing", spot, waiting), true, true, providers.GroupRunning},
		"runs":                          {groupOf("Running", spot, running), false, true, providers.GroupRunning},
		"started again in place":        {groupOf("Running", spot, waiting), false, true, providers.GroupRunning},
		"crash loop":                    {groupOf("Pending", spot, crashed), false, true, providers.GroupRunning},
		"no image":                      {groupOf("Pending", spot, badImage), false, true, providers.GroupPending},
		"on its new machine":            {groupOf("Pending", spot+initRuns, waiting), false, true, providers.GroupRunning},
		"stopped":                       {groupOf("Stopped", spot, waiting), false, true, providers.GroupFailed},
		"a regular group that restarts": {groupOf("Pending", "", waiting), false, false, providers.GroupRunning},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := groupStatus(decodeGroup(t, test.body), testNow)
			if got.Displaced != test.displaced || got.Spot != test.spot || got.Phase != test.phase {
				t.Errorf("displaced %v, spot %v, phase %s; want %v, %v, %s", got.Displaced, got.Spot, got.Phase, test.displaced, test.spot, test.phase)
			}
		})
	}
}

// TestMaintenance is about exit codes by which the platform says that it ended a
// container itself.
func TestMaintenance(t *testing.T) {
	const (
		never     = `,"restartPolicy":"Never"`
		ended     = `{"restartCount":0,"currentState":{"state":"Terminated","exitCode":7147,"startTime":"2026-03-01T11:00:00Z","finishTime":"2026-03-01T11:59:00Z","detailStatus":"Error"}}`
		again     = `{"restartCount":1,"currentState":{"state":"Running","startTime":"2026-03-01T11:59:30Z"},"previousState":{"state":"Terminated","exitCode":7148,"finishTime":"2026-03-01T11:59:00Z"}}`
		otherwise = `{"restartCount":1,"currentState":{"state":"Running","startTime":"2026-03-01T11:59:30Z"},"previousState":{"state":"Terminated","exitCode":1,"finishTime":"2026-03-01T11:59:00Z"}}`
	)
	event := func(code string) []providers.Event {
		at := time.Date(2026, 3, 1, 11, 59, 0, 0, time.UTC)
		return []providers.Event{{Warning: true, Reason: "PlatformMaintenance", Container: "app", Count: 1, First: at, Last: at,
			Message: "The platform ended the container for maintenance. Its exit code is " + code + "."}}
	}
	tests := map[string]struct {
		body     string
		phase    providers.GroupPhase
		waiting  string // the reason, if the container waits
		last     int32  // exit code of the last run
		restarts int32
		events   []providers.Event
	}{
		"ended, and starts again":       {groupOf("Running", never, ended), providers.GroupRunning, "PlatformMaintenance", 7147, 0, event("7147")},
		"while the group is repaired":   {groupOf("Repairing", never, ended), providers.GroupRunning, "PlatformMaintenance", 7147, 0, event("7147")},
		"runs again":                    {groupOf("Running", never, again), providers.GroupRunning, "", 7148, 1, event("7148")},
		"the group has failed by it":    {groupOf("Failed", never, ended), providers.GroupFailed, "", 0, 0, event("7147")},
		"restarted for its own failure": {groupOf("Running", "", otherwise), providers.GroupRunning, "", 1, 1, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := groupStatus(decodeGroup(t, test.body), testNow)
			if got.Phase != test.phase {
				t.Errorf("phase %s, want %s", got.Phase, test.phase)
			}
			c := got.Containers[0]
			waiting := ""
			if w := c.State.Waiting; w != nil {
				waiting = w.Reason
			}
			last := int32(0)
			if l := c.LastTerminationState.Terminated; l != nil {
				last = l.ExitCode
			}
			if waiting != test.waiting || last != test.last || c.RestartCount != test.restarts {
				t.Errorf("waits for %q after exit code %d, %d restarts; want %q, %d, %d", waiting, last, c.RestartCount, test.waiting, test.last, test.restarts)
			}
			if test.phase == providers.GroupFailed && (c.State.Terminated == nil || got.Reason == "") {
				t.Errorf("a failed group says %q of container %+v", got.Reason, c.State)
			}
			if diff := cmp.Diff(test.events, got.Events); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// TestReasonsOfEnds: what the service says of an end is what the pod says.
func TestReasonsOfEnds(t *testing.T) {
	tests := map[string]struct {
		view string
		want corev1.ContainerStateTerminated
	}{
		"out of memory": {`{"currentState":{"state":"Terminated","exitCode":137,"detailStatus":"OOMKilled"}}`, corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}},
		"killed":        {`{"currentState":{"state":"Terminated","exitCode":137,"detailStatus":"Error"}}`, corev1.ContainerStateTerminated{ExitCode: 137, Reason: "Error"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := groupStatus(decodeGroup(t, groupOf("Failed", `,"restartPolicy":"Never"`, test.view)), testNow)
			if diff := cmp.Diff(&test.want, got.Containers[0].State.Terminated); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got.Reason != test.want.Reason {
				t.Errorf("the group's reason is %q, want %q", got.Reason, test.want.Reason)
			}
		})
	}
}
