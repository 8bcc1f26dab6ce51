package eci

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/providers"
)

// published is a group in the form of the published example of
// DescribeContainerGroups, with numbers both bare and as texts, which the
// vendor's SDKs allow.
const published = `{
  "ContainerGroupId": "eci-1", "ContainerGroupName": "default-web", "Status": "Running",
  "CreationTime": "2018-08-02T15:00:00Z", "IntranetIp": "172.16.0.1", "Cpu": "2.0", "Memory": 4.5,
  "Tags": [{"Key": "name", "Value": "x"}, {"Key": "autoburst.io/cluster", "Value": "c"}, {"Key": "autoburst.io/node", "Value": "n"},
           {"Key": "autoburst.io/namespace", "Value": "default"}, {"Key": "autoburst.io/pod", "Value": "web"}, {"Key": "autoburst.io/pod-uid", "Value": "u"}],
  "InitContainers": [{"Name": "init", "Image": "busybox", "RestartCount": 1, "Ready": false,
     "CurrentState": {"State": "Terminated", "Reason": "completed", "ExitCode": 0, "StartTime": "2018-08-02T15:00:05Z", "FinishTime": "2018-08-02T15:00:06Z"},
     "PreviousState": {"State": "Terminated", "ExitCode": 2, "Signal": 0}}],
  "Containers": [
    {"Name": "web", "Image": "nginx", "RestartCount": "3", "Ready": "true",
     "CurrentState": {"State": "Running", "Reason": "Started", "StartTime": "2018-08-02T15:01:00Z"},
     "PreviousState": {"State": "Terminated", "DetailStatus": "OOMKilled", "ExitCode": "137", "Signal": 9, "StartTime": "2018-08-02T15:00:10Z", "FinishTime": "2018-08-02T15:00:50Z"}},
    {"Name": "loop", "Image": "app", "RestartCount": 5, "CurrentState": {"State": "Waiting", "Reason": "CrashLoopBackOff", "Message": "Back-off 5m0s restarting failed container"}},
    {"Name": "later", "Image": "app"}],
  "Events": [{"Type": "Warning", "Reason": "BackOff", "Message": "Back-off", "Count": 4, "FirstTimestamp": "2018-08-02T15:00:00Z", "LastTimestamp": "2018-08-02T15:02:00Z"},
             {"Type": "Normal", "Reason": "Started", "Message": "Started container"}],
  "SomethingNew": {"a": 1}
}`

func utc(h, m, s int) time.Time { return time.Date(2018, 8, 2, h, m, s, 0, time.UTC) }

func TestGroup(t *testing.T) {
	var a groupAnswer
	if err := json.Unmarshal([]byte(published), &a); err != nil {
		t.Fatal(err)
	}
	terminated := func(name string, code, signal int32, reason string, from, to time.Time) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: code, Signal: signal, Reason: reason, ContainerID: "eci://eci-1/" + name,
			StartedAt: metav1.NewTime(from), FinishedAt: metav1.NewTime(to),
		}}
	}
	want := providers.Group{
		ID: "eci-1", Name: "default-web", CreatedAt: utc(15, 0, 0),
		Owner: providers.Owner{ClusterUID: "c", NodeName: "n", Namespace: "default", PodName: "web", PodUID: "u"},
		Status: &providers.GroupStatus{
			Phase: providers.GroupRunning, PodIP: "172.16.0.1", CPUMillis: 2000, MemoryBytes: 4.5 * (1 << 30),
			InitContainers: []corev1.ContainerStatus{{
				Name: "init", Image: "busybox", RestartCount: 1, Ready: true, Started: ptr.To(false), ContainerID: "eci://eci-1/init",
				State:                terminated("init", 0, 0, "completed", utc(15, 0, 5), utc(15, 0, 6)),
				LastTerminationState: terminated("init", 2, 0, "Error", time.Time{}, time.Time{}),
			}},
			Containers: []corev1.ContainerStatus{
				{
					Name: "web", Image: "nginx", RestartCount: 3, Ready: true, Started: ptr.To(true), ContainerID: "eci://eci-1/web",
					State:                corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(utc(15, 1, 0))}},
					LastTerminationState: terminated("web", 137, 9, "OOMKilled", utc(15, 0, 10), utc(15, 0, 50)),
				},
				{
					Name: "loop", Image: "app", RestartCount: 5, Started: ptr.To(false),
					State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "Back-off 5m0s restarting failed container"}},
				},
				{
					Name: "later", Image: "app", Started: ptr.To(false),
					State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}},
				},
			},
			Events: []providers.Event{
				{Warning: true, Reason: "BackOff", Message: "Back-off", Count: 4, First: utc(15, 0, 0), Last: utc(15, 2, 0)},
				{Reason: "Started", Message: "Started container", Count: 1},
			},
		},
	}
	if diff := cmp.Diff(want, a.group()); diff != "" {
		t.Errorf("group (-want +got):\n%s", diff)
	}
}

func TestPhases(t *testing.T) {
	noStock := []eventAnswer{{Type: "Normal", Reason: "Scheduling"}, {Type: "Warning", Reason: "NoStock", Message: "out of stock"}}
	tests := map[string]struct {
		group    groupAnswer
		phase    providers.GroupPhase // "" for no status
		reason   string
		deleting bool
	}{
		"scheduling":             {groupAnswer{Status: "Scheduling"}, providers.GroupPending, "", false},
		"scheduling, short":      {groupAnswer{Status: "Scheduling", Events: noStock}, providers.GroupPending, "NoStock", false},
		"no machine":             {groupAnswer{Status: "ScheduleFailed"}, providers.GroupFailed, "ScheduleFailed", false},
		"no machine, with cause": {groupAnswer{Status: "ScheduleFailed", Events: noStock}, providers.GroupFailed, "NoStock", false},
		"pending":                {groupAnswer{Status: "Pending"}, providers.GroupPending, "", false},
		"running":                {groupAnswer{Status: "Running", Events: noStock}, providers.GroupRunning, "", false},
		"restarting":             {groupAnswer{Status: "Restarting"}, providers.GroupPending, "", false},
		"updating":               {groupAnswer{Status: "Updating"}, providers.GroupPending, "", false},
		"terminating":            {groupAnswer{Status: "Terminating"}, providers.GroupRunning, "", true},
		"succeeded":              {groupAnswer{Status: "Succeeded"}, providers.GroupSucceeded, "", false},
		"failed":                 {groupAnswer{Status: "Failed"}, providers.GroupFailed, "", false},
		"expired":                {groupAnswer{Status: "Expired"}, providers.GroupFailed, "Expired", false},
		"not published":          {groupAnswer{Status: "Hibernating"}, "", "", false},
	}
	refused := map[string]providers.ErrorClass{"no machine, with cause": providers.OutOfStock}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			g := tt.group.group()
			if g.Deleting != tt.deleting {
				t.Errorf("deleting %v, want %v", g.Deleting, tt.deleting)
			}
			if g.Status == nil {
				if tt.phase != "" {
					t.Errorf("no status, want phase %s", tt.phase)
				}
				return
			}
			if g.Status.Refused != refused[name] {
				t.Errorf("refused %q, want %q", g.Status.Refused, refused[name])
			}
			if g.Status.Phase != tt.phase || g.Status.Reason != tt.reason {
				t.Errorf("phase %s, reason %q, want %s, %q", g.Status.Phase, g.Status.Reason, tt.phase, tt.reason)
			}
		})
	}
}

func TestContainersWaitForInitContainers(t *testing.T) {
	g := groupAnswer{
		Status:         "Pending",
		InitContainers: []containerAnswer{{Name: "i", CurrentState: stateAnswer{State: "Running"}}},
		Containers:     []containerAnswer{{Name: "c", CurrentState: stateAnswer{State: "Waiting"}}},
	}
	if got := g.status().Containers[0].State.Waiting.Reason; got != "PodInitializing" {
		t.Errorf("the container waits with the reason %q, want PodInitializing", got)
	}
}

func TestTermination(t *testing.T) {
	for code, want := range map[number]string{0: "Completed", 3: "Error"} {
		s := stateAnswer{State: "Terminated", ExitCode: code}
		if got := s.state("g", "c", "").Terminated.Reason; got != want {
			t.Errorf("exit code %v without a reason: %q, want %q", code, got, want)
		}
	}
}
