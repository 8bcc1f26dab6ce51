package chaos

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// at is a time in a made-up history.
func at(seconds float64) time.Time {
	return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(seconds * float64(time.Second)))
}

// life is a pod that was made at second 0 and went through phases, one a second.
func life(uid string, phases ...corev1.PodPhase) []PodEvent {
	events := []PodEvent{{At: at(0), UID: uid, Name: uid, Node: "virtual-eci", Phase: corev1.PodPending}}
	for i, p := range phases {
		events = append(events, PodEvent{At: at(float64(i + 1)), UID: uid, Name: uid, Node: "virtual-eci", Phase: p})
	}
	return events
}

// then adds an event that differs from the last one.
func then(events []PodEvent, seconds float64, edit func(*PodEvent)) []PodEvent {
	e := events[len(events)-1]
	e.At = at(seconds)
	edit(&e)
	return append(events, e)
}

func gone(e *PodEvent)     { e.Gone = true }
func deleting(e *PodEvent) { e.Deleting = true }

func ofJob(job string, events []PodEvent) []PodEvent {
	for i := range events {
		events[i].Job = job
	}
	return events
}

func bill(group, uid string, from, to float64) Bill {
	b := Bill{Cloud: eciCloud, Group: group, UID: uid, From: at(from)}
	if to > 0 {
		b.To = at(to)
	}
	return b
}

// start is the first start of a container that runs on.
func start(group, uid string, seconds float64, edits ...func(*Start)) Start {
	s := Start{At: at(seconds), Cloud: eciCloud, Group: group, UID: uid, Container: "app", Policy: "Always"}
	for _, edit := range edits {
		edit(&s)
	}
	return s
}

func policy(p string) func(*Start) { return func(s *Start) { s.Policy = p } }
func attempt(n int) func(*Start)   { return func(s *Start) { s.Attempt = n } }
func exits(code int) func(*Start) {
	return func(s *Start) { s.Exits, s.For, s.Code = true, time.Second, code }
}
func acted(uid string, a Action) Act { return Act{At: at(1), UID: uid, What: a} }

const (
	pending   = corev1.PodPending
	running   = corev1.PodRunning
	succeeded = corev1.PodSucceeded
	failed    = corev1.PodFailed
)

// Each rule acquits what is as it should be and finds what is not; want is part
// of what it says, empty for nothing.
func TestInvariants(t *testing.T) {
	tests := map[string]struct {
		rule    func(*History) []Violation
		history History
		want    string
	}{
		"everything was seen":    {rule: sawEverything},
		"the watch broke":        {rule: sawEverything, history: History{Blind: []string{"pods are not seen any more"}}, want: "not seen"},
		"one bill after another": {rule: oneBill, history: History{Bills: []Bill{bill("g1", "a", 1, 2), bill("g2", "a", 2, 0), bill("g3", "b", 1, 0)}}},
		"two bills at once":      {rule: oneBill, history: History{Bills: []Bill{bill("g1", "a", 1, 0), bill("g2", "a", 2, 3)}}, want: "g1 and g2"},
		"two bills that overlap": {rule: oneBill, history: History{Bills: []Bill{bill("g2", "a", 2, 4), bill("g1", "a", 1, 3)}}, want: "g2 and g1"},

		"runs one after another": {rule: oneRun, history: History{
			Bills:  []Bill{bill("g1", "a", 0, 2), bill("g2", "a", 2, 0)},
			Starts: []Start{start("g1", "a", 1), start("g2", "a", 3)},
		}},
		"a run that had ended": {rule: oneRun, history: History{Starts: []Start{start("g1", "a", 1, exits(0)), start("g2", "a", 3)}}},
		"two runs at once":     {rule: oneRun, history: History{Starts: []Start{start("g1", "a", 1), start("g2", "a", 3)}}, want: "g1 and g2"},

		"an open bill of a live pod": {rule: nothingLeft, history: History{
			Pods: life("a", running), Bills: []Bill{bill("g1", "a", 1, 0)}, Left: []Bill{bill("g1", "a", 1, 0)},
		}},
		"an open bill of a pod that is gone": {rule: nothingLeft, history: History{
			Pods: then(life("a", running), 5, gone), Bills: []Bill{bill("g1", "a", 1, 0)},
		}, want: "bills group g1"},
		"a group that is kept for nobody": {rule: nothingLeft, history: History{
			Pods: then(life("a", succeeded), 5, gone), Bills: []Bill{bill("g1", "a", 1, 2)}, Left: []Bill{bill("g1", "a", 1, 2)},
		}, want: "still has group g1"},

		"a bill that ends soon after its pod": {rule: billsEnd, history: History{Pods: then(life("a", running), 5, gone), Bills: []Bill{bill("g1", "a", 1, 9)}}},
		"a bill that ends long after its pod": {rule: billsEnd, history: History{
			Pods: then(life("a", running), 5, gone), Bills: []Bill{bill("g1", "a", 1, 200)},
		}, want: "after its pod was gone"},
		"a bill for no pod": {rule: billsEnd, history: History{Bills: []Bill{bill("g1", "a", 1, 2)}}, want: "never was"},

		"a restart after a crash": {rule: noRestartWithoutCause, history: History{Starts: []Start{start("g1", "a", 1, exits(1)), start("g1", "a", 3, attempt(1))}}},
		"a restart by the cloud": {rule: noRestartWithoutCause, history: History{
			Starts: []Start{start("g1", "a", 1), start("g1", "a", 3, attempt(1))}, Acts: []Act{acted("a", Restart)},
		}},
		"a restart of what ran": {rule: noRestartWithoutCause, history: History{
			Starts: []Start{start("g1", "a", 1), start("g1", "a", 3, attempt(1))},
		}, want: "although it was running"},
		"a restart of what was over": {rule: noRestartWithoutCause, history: History{
			Starts: []Start{start("g1", "a", 1, exits(0), policy("OnFailure")), start("g1", "a", 3, attempt(1), policy("OnFailure"))},
		}, want: "although its policy is OnFailure"},
		"a restart before the end": {rule: noRestartWithoutCause, history: History{
			Starts: []Start{start("g1", "a", 1, exits(1), func(s *Start) { s.For = time.Minute }), start("g1", "a", 3, attempt(1))},
		}, want: "before it had ended"},

		"started once": {rule: startedOnce, history: History{Starts: []Start{start("g1", "a", 1), start("g2", "b", 1, policy("Never")), start("g1", "a", 2, attempt(1))}}},
		"started anew in another group": {rule: startedOnce, history: History{
			Starts: []Start{start("g1", "a", 1, exits(1)), start("g2", "a", 4)},
		}, want: "from the beginning again, in group g2"},
		"a Never pod started twice": {rule: startedOnce, history: History{
			Starts: []Start{start("g1", "a", 1, exits(0), policy("Never")), start("g1", "a", 4, policy("Never"))},
		}, want: "restartPolicy Never was started again"},
		"started anew after its group vanished": {rule: startedOnce, history: History{
			Starts: []Start{start("g1", "a", 1), start("g2", "a", 4)}, Acts: []Act{acted("a", Vanish)},
		}},

		"succeeded as its container": {rule: endedAsTheGroupDid, history: History{
			Pods: then(life("a", running), 5, func(e *PodEvent) { e.Phase = succeeded }), Starts: []Start{start("g1", "a", 1, exits(0), policy("Never"))},
		}},
		"failed as its container": {rule: endedAsTheGroupDid, history: History{
			Pods: then(life("a", running), 5, func(e *PodEvent) { e.Phase = failed }), Starts: []Start{start("g1", "a", 1, exits(3), policy("Never"))},
		}},
		"succeeded while it ran": {rule: endedAsTheGroupDid, history: History{
			Pods: life("a", running, succeeded), Starts: []Start{start("g1", "a", 1, policy("Never"))},
		}, want: "had not ended with 0"},
		"succeeded though it failed": {rule: endedAsTheGroupDid, history: History{
			Pods: life("a", running, running, succeeded), Starts: []Start{start("g1", "a", 1, exits(3), policy("Never"))},
		}, want: "had not ended with 0"},
		"failed while it ran": {rule: endedAsTheGroupDid, history: History{
			Pods: life("a", running, failed), Starts: []Start{start("g1", "a", 1)},
		}, want: "had not failed"},
		"failed between two runs": {rule: endedAsTheGroupDid, history: History{
			Pods: life("a", running, running, failed), Starts: []Start{start("g1", "a", 1, exits(1), policy("OnFailure"))},
		}, want: "had not failed"},
		"failed because its group vanished": {rule: endedAsTheGroupDid, history: History{
			Pods: life("a", running, failed), Starts: []Start{start("g1", "a", 1)}, Acts: []Act{acted("a", Vanish)},
		}},
		"failed while it is deleted": {rule: endedAsTheGroupDid, history: History{
			Pods: then(then(life("a", running), 2, deleting), 3, func(e *PodEvent) { e.Phase = failed }), Starts: []Start{start("g1", "a", 1)},
		}},
		"failed before it ran": {rule: endedAsTheGroupDid, history: History{Pods: life("a", failed)}, want: "never ran"},
		"refused": {rule: endedAsTheGroupDid, history: History{Pods: then(life("a"), 1, func(e *PodEvent) {
			e.Phase, e.RefusedByNode = failed, true
		})}},

		"there is one way":           {rule: noWayBack, history: History{Pods: life("a", running, running, succeeded, succeeded)}},
		"from Failed to Running":     {rule: noWayBack, history: History{Pods: life("a", running, failed, running)}, want: "from Failed to Running"},
		"from Succeeded to Failed":   {rule: noWayBack, history: History{Pods: life("a", succeeded, failed)}, want: "from Succeeded to Failed"},
		"from Running to Pending":    {rule: noWayBack, history: History{Pods: life("a", running, pending)}, want: "from Running to Pending"},
		"two pods, each for its own": {rule: noWayBack, history: History{Pods: append(life("a", running), life("b")...)}},

		"a Job that is counted right": {rule: jobsCountWhatRan, history: History{
			Pods:   append(ofJob("j", life("a", running, running, succeeded)), ofJob("j", life("b", running, running, failed))...),
			Starts: []Start{start("g1", "a", 1, exits(0), policy("Never")), start("g2", "b", 1, exits(2), policy("Never"))},
			Jobs:   []JobEvent{{UID: "j", Name: "j", Completions: 1, Succeeded: 1, Failed: 1, Finished: true}},
		}},
		"a success that is not counted": {rule: jobsCountWhatRan, history: History{
			Pods:   append(ofJob("j", life("a", running, failed)), ofJob("j", life("b", running, succeeded))...),
			Starts: []Start{start("g1", "a", 1, exits(0), policy("Never")), start("g2", "b", 1, exits(0), policy("Never"))},
			Jobs:   []JobEvent{{UID: "j", Name: "j", Completions: 1, Succeeded: 1, Failed: 1, Finished: true}},
		}, want: "Job j has 1 pods that succeeded"},
		"a Job that ran twice": {rule: jobsCountWhatRan, history: History{
			Pods:   append(ofJob("j", life("a", running, succeeded)), ofJob("j", life("b", running, succeeded))...),
			Starts: []Start{start("g1", "a", 1, exits(0), policy("Never")), start("g2", "b", 1, exits(0), policy("Never"))},
			Jobs:   []JobEvent{{UID: "j", Name: "j", Completions: 1, Succeeded: 2, Finished: true}},
		}, want: "wanted 1 completions and 2"},
		"a pod that the plan deleted": {rule: jobsCountWhatRan, history: History{
			Pods:   append(ofJob("j", then(life("a", running), 2, deleting)), ofJob("j", life("b", running, succeeded))...),
			Starts: []Start{start("g1", "a", 1, exits(0), policy("Never")), start("g2", "b", 1, exits(0), policy("Never"))},
			Jobs:   []JobEvent{{UID: "j", Name: "j", Completions: 1, Succeeded: 1, Failed: 1, Finished: true}},
		}},
		"a Job under way": {rule: jobsCountWhatRan, history: History{
			Pods:   ofJob("j", life("a", running)),
			Starts: []Start{start("g1", "a", 1, exits(0), policy("Never"))},
			Jobs:   []JobEvent{{UID: "j", Name: "j", Completions: 1}},
		}},

		"all is settled":             {rule: nothingHangs, history: History{Pods: append(life("a", running), append(life("b", succeeded), then(life("c"), 3, gone)...)...)}},
		"a pod that never starts":    {rule: nothingHangs, history: History{Pods: life("a")}, want: "pod a is Pending"},
		"a pod that is never let go": {rule: nothingHangs, history: History{Pods: then(life("a", running), 3, deleting)}, want: "still being deleted"},

		"a status that is true": {rule: statusIsTrue, history: History{
			Pods: then(life("a", running), 3, func(e *PodEvent) { e.Ready, e.Restarts = true, 1 }), Starts: []Start{start("g1", "a", 1, exits(1)), start("g1", "a", 3, attempt(1))},
		}},
		"a status that is late": {rule: statusIsTrue, history: History{
			Pods: life("a", running), Starts: []Start{start("g1", "a", 1, exits(0), policy("Never"))},
		}, want: "its container ended with 0"},
		"a status that is not ready": {rule: statusIsTrue, history: History{Pods: life("a", running), Starts: []Start{start("g1", "a", 1)}}, want: "runs since"},
		"a status that counts wrong": {rule: statusIsTrue, history: History{
			Pods: then(life("a", running), 3, func(e *PodEvent) { e.Ready, e.Restarts = true, 2 }), Starts: []Start{start("g1", "a", 1)},
		}, want: "was started 1 times"},
		"a status of nothing": {rule: statusIsTrue, history: History{Pods: life("a", running)}, want: "never started"},

		"a node that becomes ready": {rule: nodesStayReady, history: History{Nodes: []NodeEvent{{Name: "n", Ready: "False"}, {Name: "n", Ready: "True"}, {Name: "n", Ready: "True"}}}},
		"a node that fails":         {rule: nodesStayReady, history: History{Nodes: []NodeEvent{{Name: "n", Ready: "True"}, {Name: "n", Ready: "Unknown", Message: "no lease"}}}, want: "no lease"},
		"a node that refuses pods that run": {rule: nodesStayReady, history: History{
			Pods:  life("a", running),
			Nodes: []NodeEvent{{Name: "virtual-eci", Ready: "True"}, {At: at(3), Name: "virtual-eci", Ready: "False", Message: "no cloud"}},
		}, want: "no cloud"},
		"a node without pods that waits for its cloud": {rule: nodesStayReady, history: History{
			Pods:  append(life("a", running, succeeded), then(life("b", running), 2, gone)...),
			Nodes: []NodeEvent{{Name: "virtual-eci", Ready: "True"}, {At: at(4), Name: "virtual-eci", Ready: "False", Message: "no cloud"}},
		}},
		"a node that disappears": {rule: nodesStayReady, history: History{Nodes: []NodeEvent{{Name: "n", Ready: "True"}, {Name: "n"}}}, want: "node n"},

		"nothing is told":   {rule: noSecretTold, history: History{Secrets: []string{"s3cret"}, Texts: []Text{{"event", "all is well"}}}},
		"a secret is told":  {rule: noSecretTold, history: History{Secrets: []string{"s3cret"}, Texts: []Text{{"event E", "TOKEN=s3cret"}}}, want: `event E holds secret 0 after "TOKEN="`},
		"programs are fine": {rule: logsAreClean, history: History{Texts: []Text{{"log", "level=INFO"}}}},
		"a program races":   {rule: logsAreClean, history: History{Texts: []Text{{"log", "WARNING: DATA RACE"}}}, want: "DATA RACE"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.history.At = at(300)
			found := test.rule(&test.history)
			switch {
			case test.want == "" && len(found) > 0:
				t.Errorf("found %v, want nothing", found)
			case test.want != "" && !slices.ContainsFunc(found, func(v Violation) bool { return strings.Contains(v.String(), test.want) }):
				t.Errorf("found %v, want one that says %q", found, test.want)
			}
		})
	}
}

// The report of a leaked secret does not leak it again.
func TestSecretStaysOutOfTheReport(t *testing.T) {
	h := History{Secrets: []string{"s3cret"}, Texts: []Text{{"log", "a s3cret, and again s3cret"}}}
	for _, v := range Judge(&h) {
		if strings.Contains(v.String(), "s3cret") {
			t.Errorf("the report says %q", v)
		}
	}
}

// A pod's timeline tells what the API server, the cloud and the plan did, in
// order.
func TestTimeline(t *testing.T) {
	h := History{
		Pods: life("a", running), Bills: []Bill{bill("g1", "a", 0.5, 3)},
		Starts: []Start{start("g1", "a", 0.7)}, Acts: []Act{acted("a", Vanish)},
	}
	want := []string{"Pending", "is billed", "starts container", "Running", "plan: vanish", "no longer billed"}
	lines := strings.Split(strings.TrimSpace(h.Timeline("a")), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d: %q", len(lines), len(want), lines)
	}
	for i, w := range want {
		if !strings.Contains(lines[i], w) {
			t.Errorf("line %d is %q, want %q in it", i, lines[i], w)
		}
	}
}
