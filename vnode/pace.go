package vnode

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// stage says what the next thing is that is expected of a group, where the
// cloud's listing does not tell.
type stage int

const (
	unread    stage = iota // nobody waits for anything
	starting               // its containers do not run yet, or not well
	serving                // it runs until it is deleted
	finishing              // it runs until it has done its work
	checking               // it has ended, as an earlier run of the agent saw
)

// The longest times between two reads of a group. Azure's own agent reads each
// twice in 5 s, 24 times a minute.
const (
	slowStarting  = 15 * time.Second
	slowServing   = 32 * time.Second
	slowFinishing = 15 * time.Second
	slowChecking  = time.Minute
	// restless is how long after a restart a group is read as if it would come to
	// another one.
	restless     = 10 * time.Minute
	slowRestless = 10 * time.Second
)

// course is how a group is read: the more is expected of it the sooner, and in
// proportion to the time for which nothing has happened, as what has lasted long
// lasts longer.
type course struct {
	stage stage
	// owner names those whose run times are alike.
	owner string
	// changed is when anything about the group changed last, by its status.
	changed time.Time
	// restarted is whether a container ended and runs again.
	restarted bool

	// readAt is when the last read began that was answered.
	readAt time.Time
	// hurry asks for a read at once: a listing has shown that something changed.
	hurry bool
	// reading is true while a read is under way, notBefore set after one failed.
	reading   bool
	failures  int
	notBefore time.Time
}

// enter puts the group into a stage.
func (c *course) enter(s stage, owner string, changed time.Time) {
	c.stage, c.owner, c.changed = s, owner, changed
	if s == unread {
		c.hurry = false
	}
}

// wait is how long after the last read the next one is due.
func (c *course) wait(fast time.Duration, learnt spans) time.Duration {
	age := max(0, c.readAt.Sub(c.changed))
	switch c.stage {
	case starting:
		if w, ok := learnt.wait(startOf, age, fast, slowStarting); ok {
			return w
		}
		return within(age/8, fast, slowStarting)
	case finishing:
		if w, ok := learnt.wait(c.owner, age, fast, slowFinishing); ok {
			return w
		}
		return within(age/10, fast, slowFinishing)
	case serving:
		if c.restarted && age < restless {
			return within(age/10, fast, slowRestless)
		}
		return within(age/10, fast, slowServing)
	default:
		return slowChecking
	}
}

// within is d, but not below low nor above high.
func within(d, low, high time.Duration) time.Duration { return min(max(d, low), max(low, high)) }

// startOf is the name under which the time from a group's making to its running
// is kept; no owner bears it.
const startOf = "\x00start"

// spans is what was learnt of how long things take, by whose they are: the pods
// of one Job, and of one CronJob, run for similar times.
type spans map[string]*span

// maxSpans bounds the memory of spans.
const maxSpans = 1024

func newSpans() spans { return spans{} }

// span is the smoothed mean of a duration and its smoothed mean deviation, as TCP
// keeps them of round trips (RFC 6298), but as the plain mean at the beginning.
type span struct {
	mean, dev time.Duration
	n         int
}

// learn takes in how long something took.
func (s spans) learn(of string, took time.Duration) {
	if took <= 0 || of == "" {
		return
	}
	e, ok := s[of]
	if !ok {
		for other := range s { // any one makes room
			if len(s) < maxSpans {
				break
			}
			if other != startOf {
				delete(s, other)
			}
		}
		s[of] = &span{mean: took, dev: took / 4, n: 1}
		return
	}
	e.n++
	off := took - e.mean
	n := time.Duration(e.n)
	e.mean += off / min(8, n)
	e.dev += (max(off, -off) - e.dev) / min(4, n)
}

// wait is how long to wait when age has passed of something whose length is
// known: to where it may end, with care for what ends early; while it may end,
// in steps of how sure that is; and after that, ever slower.
func (s spans) wait(of string, age, fast, slow time.Duration) (time.Duration, bool) {
	e := s[of]
	if e == nil || e.n < 3 {
		return 0, false
	}
	from, to := e.mean-2*e.dev, e.mean+2*e.dev
	switch {
	case age < from:
		return within(from-age, fast, 2*slow), true
	case age <= to:
		return within(e.dev*3/4, fast, slow), true
	default:
		return within((age-to)/4, fast, slow), true
	}
}

// lastChange is when a pod's status says that something happened last.
func lastChange(st *corev1.PodStatus) time.Time {
	var last time.Time
	note := func(t metav1.Time) { last = later(last, t.Time) }
	if st.StartTime != nil {
		note(*st.StartTime)
	}
	for _, c := range st.Conditions {
		switch c.Type {
		case corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.ContainersReady:
			note(c.LastTransitionTime)
		}
	}
	for _, list := range [][]corev1.ContainerStatus{st.InitContainerStatuses, st.ContainerStatuses} {
		for _, s := range list {
			for _, state := range []corev1.ContainerState{s.State, s.LastTerminationState} {
				if state.Running != nil {
					note(state.Running.StartedAt)
				}
				if state.Terminated != nil {
					note(state.Terminated.FinishedAt)
				}
			}
		}
	}
	return last
}

// sawEnd tells whether the status is of containers whose ends were seen.
func sawEnd(st *corev1.PodStatus) bool {
	for _, s := range st.ContainerStatuses {
		if s.State.Terminated == nil || s.State.Terminated.Reason == reasonStatusUnknown {
			return false
		}
	}
	return len(st.ContainerStatuses) > 0
}

// ranFor is how long a pod's containers ran, zero if that is not known.
func ranFor(st *corev1.PodStatus) time.Duration {
	var begun, done time.Time
	for _, s := range st.ContainerStatuses {
		t := s.State.Terminated
		if t == nil || t.StartedAt.IsZero() || t.FinishedAt.IsZero() {
			return 0
		}
		if begun.IsZero() || t.StartedAt.Time.Before(begun) {
			begun = t.StartedAt.Time
		}
		if t.FinishedAt.After(done) {
			done = t.FinishedAt.Time
		}
	}
	return done.Sub(begun)
}

// kin names those whose run times are like the pod's: its controller, and the
// CronJob behind it, whose Jobs end in the minute they were made for.
func kin(pod *corev1.Pod) string {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		return ""
	}
	name := owner.Name
	cutTo := len(name)
	for cutTo > 0 && name[cutTo-1] >= '0' && name[cutTo-1] <= '9' {
		cutTo--
	}
	if len(name)-cutTo >= 8 && cutTo > 1 && name[cutTo-1] == '-' {
		name = name[:cutTo-1]
	}
	return pod.Namespace + "/" + owner.Kind + "/" + name
}
