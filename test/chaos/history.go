package chaos

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// History is all that was seen of a run from the outside. UIDs are those of
// pods.
type History struct {
	// Pods, Nodes and Jobs are what the API server told a watch that began before
	// the first round, in its order.
	Pods  []PodEvent
	Nodes []NodeEvent
	Jobs  []JobEvent
	// Bills and Starts are the clouds' own records.
	Bills  []Bill
	Starts []Start
	// Left are the groups that the clouds still have, billed or not.
	Left []Bill
	// Acts are what the plan did to single pods and their groups.
	Acts []Act
	// Texts are what people read: statuses, events, logs.
	Texts []Text
	// Secrets are what none of the texts may contain.
	Secrets []string
	// Blind says where watching failed: a judge that saw nothing must not acquit.
	Blind []string
	// At is when the history was taken, after things had settled.
	At time.Time
}

// PodEvent is one change of a pod.
type PodEvent struct {
	At        time.Time
	UID, Name string
	Node      string
	// Job is the UID of the Job that the pod belongs to.
	Job           string
	Phase         corev1.PodPhase
	Reason        string
	Ready         bool
	Restarts      int32
	Deleting      bool // a deletion was asked for
	Gone          bool // the object does not exist any more
	RefusedByNode bool
}

func (e PodEvent) ended() bool { return e.Phase == corev1.PodSucceeded || e.Phase == corev1.PodFailed }

// NodeEvent is a change of a virtual node's condition Ready.
type NodeEvent struct {
	At      time.Time
	Name    string
	Ready   corev1.ConditionStatus // empty for a node that is gone
	Message string
}

// JobEvent is a change of a Job.
type JobEvent struct {
	At                time.Time
	UID, Name         string
	Completions       int32
	Succeeded, Failed int32
	// Finished is set when the Job is Complete or Failed and all is counted.
	Finished bool
	Deleting bool
}

// Bill is a stretch of time for which a cloud charges a group.
type Bill struct {
	Cloud, Group, UID string
	From              time.Time
	To                time.Time // zero while it is open
}

// Start is one start of a container's process, and how it is going to end.
type Start struct {
	At                           time.Time
	Cloud, Group, UID, Container string
	Policy                       string
	// Attempt counts the starts within the group, from 0.
	Attempt int
	// Exits tells that it ends by itself, For later, with Code.
	Exits bool
	For   time.Duration
	Code  int
}

// restarts tells whether the policy of the pod wants a start after this one has
// ended.
func (s Start) restarts() bool {
	switch s.Policy {
	case string(corev1.RestartPolicyNever):
		return false
	case string(corev1.RestartPolicyOnFailure):
		return s.Code != 0
	}
	return true
}

// final tells whether the container ends for good with this run.
func (s Start) final() bool { return s.Exits && !s.restarts() }

// Act is something that the plan did to the pod of a UID or to its group.
type Act struct {
	At   time.Time
	UID  string
	What Action
}

// Text is something that a person may read.
type Text struct{ Where, Text string }

// Violation is a rule that was broken.
type Violation struct {
	Rule string
	UID  string // empty if it is about no pod
	What string
}

func (v Violation) String() string {
	if v.UID == "" {
		return v.Rule + ": " + v.What
	}
	return fmt.Sprintf("%s: pod %s: %s", v.Rule, v.UID, v.What)
}

// acted tells whether the plan did one of these things to a pod.
func (h *History) acted(uid string, what ...Action) bool {
	return slices.ContainsFunc(h.Acts, func(a Act) bool { return a.UID == uid && slices.Contains(what, a.What) })
}

// podsByUID are the events of each pod, in order.
func (h *History) podsByUID() map[string][]PodEvent {
	m := map[string][]PodEvent{}
	for _, e := range h.Pods {
		m[e.UID] = append(m[e.UID], e)
	}
	return m
}

func (h *History) startsByUID() map[string][]Start {
	m := map[string][]Start{}
	for _, s := range h.Starts {
		m[s.UID] = append(m[s.UID], s)
	}
	return m
}

func (h *History) billsByUID() map[string][]Bill {
	m := map[string][]Bill{}
	for _, b := range h.Bills {
		m[b.UID] = append(m[b.UID], b)
	}
	return m
}

// end is when a bill ended, or now.
func (h *History) end(b Bill) time.Time {
	if b.To.IsZero() {
		return h.At
	}
	return b.To
}

// Timeline tells all that is known of one pod, for a person.
func (h *History) Timeline(uid string) string {
	type line struct {
		at   time.Time
		text string
	}
	var lines []line
	add := func(at time.Time, format string, args ...any) {
		lines = append(lines, line{at, fmt.Sprintf(format, args...)})
	}
	for _, e := range h.Pods {
		if e.UID != uid {
			continue
		}
		state := string(e.Phase)
		if e.Reason != "" {
			state += " " + e.Reason
		}
		if e.Deleting {
			state += ", deleting"
		}
		if e.Gone {
			state += ", gone"
		}
		add(e.At, "API server: pod %s on %s: %s, %d restarts", e.Name, e.Node, state, e.Restarts)
	}
	for _, s := range h.Starts {
		if s.UID == uid {
			end := "runs on"
			if s.Exits {
				end = fmt.Sprintf("exits %d after %s", s.Code, s.For)
			}
			add(s.At, "%s: group %s starts container %s for the %d. time, %s", s.Cloud, s.Group, s.Container, s.Attempt+1, end)
		}
	}
	for _, b := range h.Bills {
		if b.UID == uid {
			add(b.From, "%s: group %s is billed", b.Cloud, b.Group)
			if !b.To.IsZero() {
				add(b.To, "%s: group %s is no longer billed", b.Cloud, b.Group)
			}
		}
	}
	for _, a := range h.Acts {
		if a.UID == uid {
			add(a.At, "plan: %s", a.What)
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.at.UnixNano(), b.at.UnixNano()) })
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "  %s %s\n", l.at.UTC().Format("15:04:05.000"), l.text)
	}
	return b.String()
}
