package aci

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	sdk "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerinstance/armcontainerinstance/v2"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/providers"
)

var (
	testNow   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	testStart = testNow.Add(-time.Minute)
)

// app is a container's JSON with an instance view.
func app(view string) string {
	return `{"name":"app","properties":{"image":"nginx","resources":{"requests":{"cpu":1.5,"memoryInGB":0.7}},"instanceView":` + view + `}}`
}

func decodeGroup(t *testing.T, body string) *sdk.ContainerGroup {
	t.Helper()
	var g sdk.ContainerGroup
	if err := json.Unmarshal([]byte(body), &g); err != nil {
		t.Fatal(err)
	}
	return &g
}

func TestPhases(t *testing.T) {
	const (
		waiting   = `{"restartCount":0,"currentState":{"state":"Waiting","detailStatus":""}}`
		running   = `{"restartCount":0,"currentState":{"state":"Running","startTime":"2026-03-01T11:59:00Z","detailStatus":""}}`
		ended     = `{"restartCount":0,"currentState":{"state":"Terminated","exitCode":0,"detailStatus":"Completed"}}`
		failed    = `{"restartCount":0,"currentState":{"state":"Terminated","exitCode":7,"detailStatus":"Error"}}`
		crashed   = `{"restartCount":2,"currentState":{"state":"Waiting","detailStatus":"CrashLoopBackOff: Back-off 40s restarting failed"},"previousState":{"state":"Terminated","exitCode":1}}`
		badImage  = `{"restartCount":0,"currentState":{"state":"Waiting"},"events":[{"name":"Failed","type":"Warning","message":"Failed to pull image \"x\"","lastTimestamp":"2026-03-01T11:59:00Z"}]}`
		succeeded = "Succeeded"
	)
	tests := map[string]struct {
		provisioning, state, view, policy string
		want                              providers.GroupPhase
		reason                            string
	}{
		"accepted":                     {"Pending", "Pending", waiting, "", providers.GroupPending, ""},
		"no instance view":             {"Creating", "", "null", "", providers.GroupPending, ""},
		"runs":                         {succeeded, "Running", running, "", providers.GroupRunning, ""},
		"runs, other case":             {succeeded, "running", running, "", providers.GroupRunning, ""},
		"crash loop":                   {succeeded, "Running", crashed, "", providers.GroupRunning, ""},
		"done":                         {succeeded, "Succeeded", ended, "Never", providers.GroupSucceeded, ""},
		"failed":                       {succeeded, "Failed", failed, "Never", providers.GroupFailed, "Error"},
		"stopped":                      {succeeded, "Stopped", ended, "Always", providers.GroupFailed, "Stopped"},
		"terminated well":              {succeeded, "Terminated", ended, "Never", providers.GroupSucceeded, ""},
		"terminated badly":             {succeeded, "Terminated", failed, "Never", providers.GroupFailed, ""},
		"repaired while it runs":       {"Repairing", "Repairing", running, "", providers.GroupRunning, "Repairing"},
		"repaired after it ran":        {"Repairing", "Repairing", crashed, "", providers.GroupRunning, "Repairing"},
		"unhealthy before it ran":      {"Unhealthy", "Unhealthy", waiting, "", providers.GroupPending, "Unhealthy"},
		"pending again":                {succeeded, "Pending", crashed, "", providers.GroupRunning, ""},
		"no state, runs":               {succeeded, "", running, "", providers.GroupRunning, ""},
		"no state, done":               {succeeded, "", ended, "OnFailure", providers.GroupSucceeded, ""},
		"no state, will restart":       {succeeded, "", failed, "OnFailure", providers.GroupRunning, ""},
		"no state, always restarts":    {succeeded, "", ended, "", providers.GroupRunning, ""},
		"no state, failed":             {succeeded, "", failed, "Never", providers.GroupFailed, ""},
		"image cannot be pulled":       {"Creating", "Pending", badImage, "", providers.GroupPending, "ErrImagePull"},
		"given up":                     {"Failed", "Pending", badImage, "", providers.GroupFailed, "ProvisioningFailed"},
		"given up, no view":            {"Failed", "", "null", "", providers.GroupFailed, "ProvisioningFailed"},
		"given up, but runs after all": {"Failed", "Running", running, "", providers.GroupRunning, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			view := "null"
			if test.state != "" {
				view = `{"state":"` + test.state + `","events":[]}`
			}
			policy := ""
			if test.policy != "" {
				policy = `,"restartPolicy":"` + test.policy + `"`
			}
			g := decodeGroup(t, `{"properties":{"osType":"Linux","provisioningState":"`+test.provisioning+`","instanceView":`+view+policy+`,"containers":[`+app(test.view)+`]}}`)
			got := groupStatus(g, testNow)
			if got.Phase != test.want || got.Reason != test.reason {
				t.Errorf("%s %q (%s), want %s %q", got.Phase, got.Reason, got.Message, test.want, test.reason)
			}
			if (got.Phase == providers.GroupFailed && got.Reason != "") && got.Message == "" {
				t.Error("no message")
			}
		})
	}
}

func TestContainerStates(t *testing.T) {
	started := metav1.NewTime(testStart)
	yes := true
	tests := map[string]struct {
		view string
		want corev1.ContainerStatus
	}{
		"nothing": {`null`, corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}}},
		"no state": {`{"restartCount":0}`, corev1.ContainerStatus{
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}},
		}},
		"runs without a start time": {`{"currentState":{"state":"Running"}}`, corev1.ContainerStatus{
			Ready: true, Started: &yes,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		}},
		"restarted": {`{"restartCount":1,"currentState":{"state":"Running","startTime":"2026-03-01T11:59:00Z"},"previousState":{"state":"Terminated","exitCode":137,"detailStatus":"OOMKilled","startTime":"2026-03-01T11:59:00Z","finishTime":"2026-03-01T11:59:00Z"}}`, corev1.ContainerStatus{
			Ready: true, Started: &yes, RestartCount: 1,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: started}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				ExitCode: 137, Reason: "OOMKilled", StartedAt: started, FinishedAt: started,
			}},
		}},
		"back-off": {`{"restartCount":3,"currentState":{"state":"Waiting","detailStatus":"CrashLoopBackOff: Back-off 40s restarting failed"}}`, corev1.ContainerStatus{
			RestartCount: 3,
			State:        corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "Back-off 40s restarting failed"}},
		}},
		"image back-off": {`{"currentState":{"state":"Waiting"},"events":[
				{"name":"BackOff","type":"Normal","message":"Back-off pulling image \"https://u:p@r.io/x?sig=1\"","lastTimestamp":"2026-03-01T11:59:30Z"},
				{"name":"Failed","type":"Warning","message":"Failed to pull image","lastTimestamp":"2026-03-01T11:59:00Z"}]}`, corev1.ContainerStatus{
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: `Back-off pulling image "https://r.io/x"`}},
		}},
		"pulling again": {`{"currentState":{"state":"Waiting"},"events":[
				{"name":"Failed","type":"Warning","message":"Failed to pull image","lastTimestamp":"2026-03-01T11:59:00Z"},
				{"name":"Pulling","type":"Normal","message":"pulling image","lastTimestamp":"2026-03-01T11:59:30Z"}]}`, corev1.ContainerStatus{
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}},
		}},
		"exit code": {`{"currentState":{"state":"Terminated","exitCode":3,"detailStatus":"Error"}}`, corev1.ContainerStatus{
			State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 3, Reason: "Error"}},
		}},
		"no exit code": {`{"currentState":{"state":"Terminated"}}`, corev1.ContainerStatus{
			State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 255, Reason: "Error", Message: "The service reported no exit code."}},
		}},
		"stopped by a client": {`{"currentState":{"state":"Terminated","exitCode":0,"detailStatus":"Terminated by client request"}}`, corev1.ContainerStatus{
			State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed", Message: "Terminated by client request"}},
		}},
		"maintenance": {`{"currentState":{"state":"Terminated","exitCode":7148,"detailStatus":"Error"}}`, corev1.ContainerStatus{
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
				Reason: "PlatformMaintenance", Message: "The platform ended the container for maintenance.",
			}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				ExitCode: 7148, Reason: "Error", Message: "The platform ended the container for maintenance.",
			}},
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			g := decodeGroup(t, `{"properties":{"osType":"Linux","containers":[`+app(test.view)+`]}}`)
			test.want.Name, test.want.Image = "app", "nginx"
			got := groupStatus(g, testNow).Containers
			if diff := cmp.Diff([]corev1.ContainerStatus{test.want}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestInitContainersHoldBackTheRest(t *testing.T) {
	g := decodeGroup(t, `{"properties":{"osType":"Linux","instanceView":{"state":"Pending"},
		"initContainers":[
			{"name":"one","properties":{"image":"i","instanceView":{"currentState":{"state":"Terminated","exitCode":0,"detailStatus":"Completed"}}}},
			{"name":"two","properties":{"image":"i","instanceView":{"currentState":{"state":"Running"}}}}],
		"containers":[{"name":"app","properties":{"image":"nginx","instanceView":{"currentState":{"state":"Waiting"}}}}]}}`)
	got := groupStatus(g, testNow)
	if got.Phase != providers.GroupPending {
		t.Errorf("phase %s", got.Phase)
	}
	if !got.InitContainers[0].Ready || got.InitContainers[1].Ready || !*got.InitContainers[1].Started {
		t.Errorf("init containers %+v", got.InitContainers)
	}
	if w := got.Containers[0].State.Waiting; w == nil || w.Reason != "PodInitializing" {
		t.Errorf("container %+v", got.Containers[0].State)
	}
}

func TestReadiness(t *testing.T) {
	tests := map[string]struct {
		probe, start, event string
		want                bool
	}{
		"no probe":               {`null`, "11:59:00", `{"name":"Unhealthy","message":"Readiness probe failed","lastTimestamp":"2026-03-01T11:59:59Z"}`, true},
		"no failure":             {`{"periodSeconds":10}`, "11:59:00", `{"name":"Started","lastTimestamp":"2026-03-01T11:59:59Z"}`, true},
		"before the first probe": {`{"initialDelaySeconds":90}`, "11:59:00", `{}`, false},
		"fails":                  {`{"periodSeconds":10,"timeoutSeconds":1}`, "11:59:00", `{"name":"Unhealthy","message":"Readiness probe failed: x","lastTimestamp":"2026-03-01T11:59:50Z"}`, false},
		"failed once":            {`{"periodSeconds":10,"timeoutSeconds":1}`, "11:59:00", `{"name":"Unhealthy","message":"Readiness probe failed: x","lastTimestamp":"2026-03-01T11:59:49Z"}`, true},
		"liveness fails":         {`{}`, "11:59:00", `{"name":"Unhealthy","message":"Liveness probe failed","lastTimestamp":"2026-03-01T11:59:59Z"}`, true},
		"failed before restart":  {`{}`, "11:59:55", `{"name":"Unhealthy","message":"Readiness probe failed","lastTimestamp":"2026-03-01T11:59:54Z"}`, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			g := decodeGroup(t, `{"properties":{"osType":"Linux","containers":[{"name":"app","properties":{"image":"x","readinessProbe":`+test.probe+
				`,"instanceView":{"currentState":{"state":"Running","startTime":"2026-03-01T`+test.start+`Z"},"events":[`+test.event+`]}}}]}}`)
			if got := groupStatus(g, testNow).Containers[0].Ready; got != test.want {
				t.Errorf("ready %v, want %v", got, test.want)
			}
		})
	}
}

func TestStatusOfAWholeGroup(t *testing.T) {
	body, err := os.ReadFile(filepath.Join("testdata", "groups", "failed-mount.json"))
	if err != nil {
		t.Fatal(err)
	}
	at := func(s string) time.Time {
		parsed, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	want := &providers.GroupStatus{
		Phase: providers.GroupFailed, Reason: "ProvisioningFailed", Message: "FailedMount: Output: mount error(2): Permission denied",
		PodIP: "10.0.0.1", CPUMillis: 1000, MemoryBytes: 1_500_000_000,
		Containers: []corev1.ContainerStatus{{
			Name: "demo1", Image: "nginx",
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}},
		}},
		Events: []providers.Event{
			{Reason: "Pulling", Message: `pulling image "nginx"`, Container: "demo1", Count: 1, First: at("2017-08-08T00:09:01Z"), Last: at("2017-08-08T00:09:01Z")},
			{Reason: "Pulled", Message: `Successfully pulled image "nginx"`, Container: "demo1", Count: 1, First: at("2017-08-08T00:09:10Z"), Last: at("2017-08-08T00:09:10Z")},
			{Reason: "FailedMount", Message: "Output: mount error(2): Permission denied", Count: 1, First: at("2017-10-08T00:19:10Z"), Last: at("2017-10-08T00:19:10Z")},
		},
	}
	if diff := cmp.Diff(want, groupStatus(decodeGroup(t, string(body)), testNow)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestStatusOfParts: any part of an answer may be missing or null.
func TestStatusOfParts(t *testing.T) {
	for _, body := range []string{
		`{}`, `{"properties":null}`, `{"properties":{}}`, `{"properties":{"containers":[null],"initContainers":[null]}}`,
		`{"properties":{"containers":[{"name":"a"}],"initContainers":[{"name":"b"}]}}`,
		`{"properties":{"containers":[{"properties":{}}],"instanceView":{"state":null,"events":[null,{}]}}}`,
		`{"properties":{"containers":[{"properties":{"instanceView":{"events":[null,{"name":"Failed"}]}}}],"ipAddress":{}}}`,
		`{"properties":{"containers":[{"properties":{"readinessProbe":{},"instanceView":{"currentState":{"state":"Running"},"events":[null]}}}]}}`,
	} {
		if got := groupStatus(decodeGroup(t, body), testNow); got.Phase == "" {
			t.Errorf("%s: %+v", body, got)
		}
	}
}
