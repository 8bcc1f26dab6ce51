package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The bounds within which things must have happened. Settling lifts all faults
// first; a pod's calls may be backed off for a minute.
const (
	// billBound is how long after the end of its pod a group may be billed.
	billBound = 90 * time.Second
	// exitSlack is by how much a process may seem to be started again before it has
	// ended: a fleet carries out what is due when somebody looks.
	exitSlack = time.Second
	// overlapSlack covers clocks that are read one after the other.
	overlapSlack = 5 * time.Millisecond
)

// Judge applies every invariant to a history that was taken after things had
// settled.
func Judge(h *History) []Violation {
	var all []Violation
	for _, rule := range []func(*History) []Violation{
		sawEverything, oneBill, oneRun, nothingLeft, billsEnd, noRestartWithoutCause, startedOnce,
		endedAsTheGroupDid, noWayBack, jobsCountWhatRan, nothingHangs, statusIsTrue, nodesStayReady, noSecretTold, logsAreClean,
	} {
		all = append(all, rule(h)...)
	}
	return all
}

// sawEverything fails a run whose judge was blind at times.
func sawEverything(h *History) (out []Violation) {
	for _, why := range h.Blind {
		out = append(out, Violation{Rule: "watch", What: why})
	}
	return out
}

// oneBill: no pod UID ever had two billed groups at once.
func oneBill(h *History) (out []Violation) {
	for uid, bills := range h.billsByUID() {
		for i, a := range bills {
			for _, b := range bills[i+1:] {
				if a.From.Add(overlapSlack).Before(h.end(b)) && b.From.Add(overlapSlack).Before(h.end(a)) {
					out = append(out, Violation{"one group for a pod", uid, fmt.Sprintf("groups %s and %s of %s were billed at the same time", a.Group, b.Group, a.Cloud)})
				}
			}
		}
	}
	return out
}

// oneRun: the containers of two groups of a pod never ran at once, whatever was
// billed.
func oneRun(h *History) (out []Violation) {
	bills := h.billsByUID()
	ends := func(s Start) time.Time {
		end := h.At
		for _, b := range bills[s.UID] {
			if b.Group == s.Group && !b.From.After(s.At) {
				end = h.end(b)
			}
		}
		if own := s.At.Add(s.For); s.Exits && own.Before(end) {
			end = own
		}
		return end
	}
	for uid, starts := range h.startsByUID() {
		for i, a := range starts {
			for _, b := range starts[i+1:] {
				if a.Group != b.Group && a.Container == b.Container && a.At.Add(overlapSlack).Before(ends(b)) && b.At.Add(overlapSlack).Before(ends(a)) {
					out = append(out, Violation{"one run of a pod", uid, fmt.Sprintf("container %s ran in groups %s and %s at the same time", a.Container, a.Group, b.Group)})
				}
			}
		}
	}
	return out
}

// nothingLeft: after settling, every group that a cloud bills or only keeps
// belongs to a pod that the API server has.
func nothingLeft(h *History) (out []Violation) {
	live := map[string]bool{}
	for uid, events := range h.podsByUID() {
		live[uid] = !events[len(events)-1].Gone
	}
	for _, b := range h.Bills {
		if b.To.IsZero() && !live[b.UID] {
			out = append(out, Violation{"no group without a pod", b.UID, fmt.Sprintf("%s bills group %s since %s", b.Cloud, b.Group, clockTime(b.From))})
		}
	}
	for _, b := range h.Left {
		if !live[b.UID] {
			out = append(out, Violation{"no group without a pod", b.UID, fmt.Sprintf("%s still has group %s", b.Cloud, b.Group)})
		}
	}
	return out
}

// billsEnd: a group is billed hardly longer than its pod exists.
func billsEnd(h *History) (out []Violation) {
	pods := h.podsByUID()
	for _, b := range h.Bills {
		events := pods[b.UID]
		if len(events) == 0 {
			out = append(out, Violation{"no group without a pod", b.UID, fmt.Sprintf("%s billed group %s for a pod that never was", b.Cloud, b.Group)})
			continue
		}
		if last := events[len(events)-1]; last.Gone && h.end(b).Sub(last.At) > billBound {
			out = append(out, Violation{"no group outlives its pod", b.UID, fmt.Sprintf("%s billed group %s for %s after its pod was gone", b.Cloud, b.Group, h.end(b).Sub(last.At).Round(time.Millisecond))})
		}
	}
	return out
}

// noRestartWithoutCause: a container is started again because it ended and its
// policy says so, or because the cloud restarted its group.
func noRestartWithoutCause(h *History) (out []Violation) {
	type key struct{ group, container string }
	last := map[key]Start{}
	for _, s := range h.Starts {
		k := key{s.Group, s.Container}
		before, again := last[k]
		last[k] = s
		if !again || s.Attempt == 0 || h.acted(s.UID, Restart) {
			continue
		}
		var why string
		switch {
		case !before.Exits:
			why = "although it was running"
		case !before.restarts():
			why = fmt.Sprintf("although its policy is %s and it ended with %d", before.Policy, before.Code)
		case s.At.Add(exitSlack).Before(before.At.Add(before.For)):
			why = "before it had ended"
		default:
			continue
		}
		out = append(out, Violation{"no restart without cause", s.UID, fmt.Sprintf("container %s of group %s was started again %s", s.Container, s.Group, why)})
	}
	return out
}

// startedOnce: a pod's containers are started once from the beginning, and those
// of a pod that is never restarted once at all. A group that vanished before the
// agent had seen it run may be made anew.
func startedOnce(h *History) (out []Violation) {
	for uid, starts := range h.startsByUID() {
		if h.acted(uid, Restart, Vanish) {
			continue
		}
		first, all := map[string]int{}, map[string]int{}
		for _, s := range starts {
			all[s.Container]++
			if s.Attempt == 0 {
				first[s.Container]++
			}
			if n := all[s.Container]; s.Policy == string(corev1.RestartPolicyNever) && n == 2 {
				out = append(out, Violation{"no second run", uid, fmt.Sprintf("container %s of a pod with restartPolicy Never was started again, in group %s", s.Container, s.Group)})
			} else if first[s.Container] == 2 && s.Attempt == 0 {
				out = append(out, Violation{"no second run", uid, fmt.Sprintf("container %s was started from the beginning again, in group %s", s.Container, s.Group)})
			}
		}
	}
	return out
}

// endedAsTheGroupDid: no pod is told to have ended whose containers did not end
// so. Pods that are being deleted may be told to have failed.
func endedAsTheGroupDid(h *History) (out []Violation) {
	starts := h.startsByUID()
	for uid, events := range h.podsByUID() {
		i := slices.IndexFunc(events, PodEvent.ended)
		if i < 0 || slices.ContainsFunc(events[:i+1], func(e PodEvent) bool { return e.Deleting || e.Gone }) {
			continue
		}
		e := events[i]
		bad := func(format string, args ...any) {
			out = append(out, Violation{"no end that was none", uid, fmt.Sprintf("pod %s was told to be %s (%s), but ", e.Name, e.Phase, e.Reason) + fmt.Sprintf(format, args...)})
		}
		own := starts[uid]
		if len(own) == 0 {
			switch {
			case e.Phase == corev1.PodSucceeded:
				bad("its containers never ran")
			case !e.RefusedByNode && !h.acted(uid, Vanish):
				bad("its containers never ran and nothing was done to it")
			}
			continue
		}
		s := own[len(own)-1]
		over := s.final() && !s.At.Add(s.For).After(e.At.Add(exitSlack))
		switch {
		case e.Phase == corev1.PodSucceeded && (!over || s.Code != 0):
			bad("its container had not ended with 0")
		case e.Phase == corev1.PodFailed && (!over || s.Code == 0) && !h.acted(uid, Vanish):
			bad("its container had not failed and nothing was done to it")
		}
	}
	return out
}

// noWayBack: a pod that has ended stays as it ended, and one that ran is not
// pending again.
func noWayBack(h *History) (out []Violation) {
	for uid, events := range h.podsByUID() {
		for i := 1; i < len(events); i++ {
			a, b := events[i-1], events[i]
			switch {
			case a.Phase == b.Phase:
			case a.ended(), b.Phase == corev1.PodPending:
				out = append(out, Violation{"no way back", uid, fmt.Sprintf("pod %s went from %s to %s", b.Name, a.Phase, b.Phase)})
			}
		}
	}
	return out
}

// jobsCountWhatRan: what the Job controller has counted is what the containers
// did. What the plan deleted or made vanish may be lost to it.
func jobsCountWhatRan(h *History) (out []Violation) {
	type tally struct{ succeeded, failed, disturbed, pods int32 }
	starts := h.startsByUID()
	ran := map[string]*tally{}
	for uid, events := range h.podsByUID() {
		last := events[len(events)-1]
		if last.Job == "" {
			continue
		}
		t := ran[last.Job]
		if t == nil {
			t = &tally{}
			ran[last.Job] = t
		}
		t.pods++
		ended := slices.IndexFunc(events, PodEvent.ended)
		deleted := slices.IndexFunc(events, func(e PodEvent) bool { return e.Deleting || e.Gone })
		own := starts[uid]
		switch {
		case deleted >= 0 && (ended < 0 || deleted <= ended), h.acted(uid, Vanish, Restart), ended >= 0 && events[ended].RefusedByNode:
			t.disturbed++
		case len(own) > 0 && own[len(own)-1].final() && own[len(own)-1].Code == 0:
			t.succeeded++
		case len(own) > 0 && own[len(own)-1].final():
			t.failed++
		}
	}
	last := map[string]JobEvent{}
	for _, j := range h.Jobs {
		last[j.UID] = j
	}
	for uid, j := range last {
		t := ran[uid]
		if t == nil || !j.Finished || j.Deleting {
			continue
		}
		if j.Succeeded < t.succeeded || j.Succeeded > t.succeeded+t.disturbed || j.Failed < t.failed || j.Failed > t.failed+t.disturbed {
			out = append(out, Violation{"Jobs run as often as they should", "", fmt.Sprintf(
				"Job %s has %d pods that succeeded and %d that failed, but of its %d pods %d did and %d failed, and the plan disturbed %d",
				j.Name, j.Succeeded, j.Failed, t.pods, t.succeeded, t.failed, t.disturbed)})
		}
		if t.succeeded > j.Completions {
			out = append(out, Violation{"Jobs run as often as they should", "", fmt.Sprintf("Job %s wanted %d completions and %d pods ran to their end", j.Name, j.Completions, t.succeeded)})
		}
	}
	return out
}

// nothingHangs: after settling, every pod runs or has ended, and none is on its
// way out for ever.
func nothingHangs(h *History) (out []Violation) {
	for uid, events := range h.podsByUID() {
		last := events[len(events)-1]
		switch {
		case last.Gone || last.ended() && !last.Deleting:
		case last.Deleting:
			out = append(out, Violation{"nothing hangs", uid, fmt.Sprintf("pod %s is still being deleted", last.Name)})
		case last.Phase != corev1.PodRunning:
			out = append(out, Violation{"nothing hangs", uid, fmt.Sprintf("pod %s is %s (%s)", last.Name, last.Phase, last.Reason)})
		}
	}
	return out
}

// statusIsTrue: after settling, the status of a pod that runs tells what its
// container does, and how often it was started.
func statusIsTrue(h *History) (out []Violation) {
	starts := h.startsByUID()
	for uid, events := range h.podsByUID() {
		last, own := events[len(events)-1], starts[uid]
		if last.Gone || last.Deleting || last.Phase != corev1.PodRunning {
			continue
		}
		bad := func(format string, args ...any) {
			out = append(out, Violation{"statuses are true", uid, fmt.Sprintf("pod %s is Running, ready %t, with %d restarts, but ", last.Name, last.Ready, last.Restarts) + fmt.Sprintf(format, args...)})
		}
		if len(own) == 0 {
			bad("its container was never started")
			continue
		}
		switch s := own[len(own)-1]; {
		case s.final() && s.At.Add(s.For+exitSlack).Before(h.At):
			bad("its container ended with %d at %s", s.Code, clockTime(s.At.Add(s.For)))
		case !s.Exits && !last.Ready:
			bad("its container runs since %s", clockTime(s.At))
		case !s.Exits && int(last.Restarts) != s.Attempt:
			bad("its container was started %d times", s.Attempt+1)
		}
	}
	return out
}

// nodesStayReady: once ready, a virtual node stays so. No plan leaves a node
// without an agent for as long as Kubernetes waits for a lease. One that has no pods
// may wait for its cloud when an agent starts.
func nodesStayReady(h *History) (out []Violation) {
	was := map[string]bool{}
	for _, e := range h.Nodes {
		if was[e.Name] && e.Ready != corev1.ConditionTrue && (e.Ready != corev1.ConditionFalse || h.busy(e.Name, e.At)) {
			out = append(out, Violation{"nodes stay ready", "", fmt.Sprintf("node %s: Ready is %q: %s", e.Name, e.Ready, e.Message)})
		}
		was[e.Name] = e.Ready == corev1.ConditionTrue
	}
	return out
}

// busy tells whether a node had a pod that was alive then, and for a second before.
func (h *History) busy(node string, then time.Time) bool {
	for _, events := range h.podsByUID() {
		since := time.Time{} // when the pod came to the node, zero while it is not there
		for _, e := range events {
			switch {
			case e.At.After(then):
			case e.ended() || e.Gone || e.Node != node:
				since = time.Time{}
			case since.IsZero():
				since = e.At
			}
		}
		if !since.IsZero() && since.Add(time.Second).Before(then) {
			return true
		}
	}
	return false
}

// noSecretTold: no text that anybody can read holds a secret.
func noSecretTold(h *History) (out []Violation) {
	for _, t := range h.Texts {
		for n, secret := range h.Secrets {
			if i := strings.Index(t.Text, secret); i >= 0 {
				// The secret itself stays out of the report too.
				around := t.Text[max(0, i-80):i]
				out = append(out, Violation{"no secret is told", "", fmt.Sprintf("%s holds secret %d after %q", t.Where, n, around)})
				break
			}
		}
	}
	return out
}

func clockTime(t time.Time) string { return t.UTC().Format("15:04:05.000") }

// logsAreClean: no program raced, panicked, or did what its Role forbids.
func logsAreClean(h *History) (out []Violation) {
	for _, t := range h.Texts {
		for _, bad := range []string{"DATA RACE", "panic:", "panic in", "is forbidden: User"} {
			if i := strings.Index(t.Text, bad); i >= 0 {
				out = append(out, Violation{"programs are sound", "", fmt.Sprintf("%s contains %q: …%s", t.Where, bad, t.Text[max(0, i-200):min(len(t.Text), i+400)])})
			}
		}
	}
	return out
}
