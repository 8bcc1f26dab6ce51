package vnode

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/autoburst/autoburst/providers"
)

// ledger is what the agent knows about the cloud's groups, by pod UID. It holds
// observations only, nothing that could not be rebuilt from one listing.
//
// Answers come late, twice and out of order. Each is dated by when its call
// began: what it says was true then or later. So an answer never undoes what one
// of a later call has said, and a group that was found gone is not brought back.
type ledger struct {
	mu      sync.Mutex
	records map[types.UID]*record
	// gone holds the groups that were confirmed to be gone, for as long as the
	// answer to a call that began before may still come.
	gone map[string]time.Time
	late time.Duration
	// listed is when the last complete listing began.
	listed time.Time
	// carriesStatus is whether the cloud's listing holds the groups' status.
	carriesStatus bool
	// busy, lively, ending and known count groups: those that start, change or end,
	// those of them of which something is soon to be heard, those whose deletion
	// was accepted, and all.
	busy, lively, ending, known int
	// spans is what was learnt of how long things take.
	spans spans
}

// newLedger makes an empty ledger; no answer comes later than late after its call
// began.
func newLedger(late time.Duration) *ledger {
	return &ledger{records: map[types.UID]*record{}, gone: map[string]time.Time{}, late: late, spans: newSpans()}
}

// record is what is known about one pod's group. Its fields are guarded by the
// ledger's mutex; the work on one UID is never concurrent with itself.
type record struct {
	uid             types.UID
	namespace, name string
	groups          map[string]*sighting
	// known is whether this run of the agent has ever seen a group of the pod.
	known bool

	// doubt is when a create ended with an unknown outcome: only a listing that
	// began later proves that there is no group.
	doubt time.Time
	// since is when the record was made, absent how many complete listings since
	// then, and since the last doubt, had no group for it.
	since  time.Time
	absent int

	// notBefore and failures are the back-off of the calls for this pod.
	notBefore time.Time
	failures  int
	// refusals is how often the cloud has refused the pod for want of room, refused
	// when it did so first.
	refusals int
	refused  time.Time
	// outage is true when the last of the failures was of a cloud that did not work.
	outage bool
	// held is what the pod was last told to wait for.
	held string
	// asked are the annotations for the cloud that the pod had when its group was asked
	// for; nil where that is not known.
	asked map[string]string
	// creates counts the groups that were made for the pod.
	creates int
	// lost counts groups that vanished before the pod had run.
	lost int
	// busy is whether the group starts, changes or ends.
	busy bool
	// young is true until the pod has run for the first time.
	young bool
	// course is how the group is read where the listing does not carry its status.
	course course

	// written is the pod as the API server returned it after our last write.
	written *corev1.Pod
	// started is when the agent took the pod on.
	started time.Time
	// found is the end of what the pod's status told when the agent started: the
	// cloud's events up to then were seen by an earlier run.
	found time.Time
	// settled is when the agent found that the pod had ended.
	settled time.Time
}

// sighting is one group of a pod.
type sighting struct {
	group    providers.Group
	added    time.Time // when the agent learnt of it
	seenAt   time.Time // when the call began that saw it last
	statusAt time.Time // when the call began that read its status
	missed   int       // complete listings in a row without it
	missedAt time.Time // when the last of them began
	deleted  time.Time // when the cloud accepted its deletion
}

// get returns the record of a pod, made on demand.
func (l *ledger) get(uid types.UID, now time.Time) *record {
	r, ok := l.records[uid]
	if !ok {
		r = &record{uid: uid, groups: map[string]*sighting{}, since: now}
		l.records[uid] = r
	}
	return r
}

func (l *ledger) forget(uid types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.records, uid)
}

// observe takes in a complete listing that began at the given time and returns
// the UIDs for which it tells something new, or which lack their group.
func (l *ledger) observe(begun, now time.Time, groups []providers.Group) []types.UID {
	l.mu.Lock()
	defer l.mu.Unlock()
	changed := l.admitAll(begun, now, groups)
	l.carriesStatus = l.carriesStatus || slices.ContainsFunc(groups, func(g providers.Group) bool { return g.Status != nil })
	defer l.count(now)
	if !begun.After(l.listed) {
		return sortedKeys(changed) // of absence, a later listing has told already
	}
	l.listed = begun
	seen := make(map[string]bool, len(groups))
	present := make(map[types.UID]bool, len(groups))
	for i := range groups {
		if at, ok := l.gone[groups[i].ID]; ok && !at.Before(begun) {
			continue
		}
		seen[groups[i].ID] = true
		present[types.UID(groups[i].Owner.PodUID)] = true
	}
	for id, at := range l.gone {
		if at.Before(begun.Add(-l.late)) {
			delete(l.gone, id)
		}
	}
	for uid, r := range l.records {
		for id, s := range r.groups {
			switch {
			case seen[id] || !s.added.Before(begun) || !s.seenAt.Before(begun):
			case !s.deleted.IsZero() && s.deleted.Before(begun):
				delete(r.groups, id)
				l.gone[id] = now
				changed[uid] = true
			default:
				s.missed++
				s.missedAt = begun
				changed[uid] = changed[uid] || s.missed <= sightings
			}
		}
		switch {
		case present[uid] || !r.since.Before(begun) || !r.doubt.IsZero() && !r.doubt.Before(begun):
			r.absent = 0
		default:
			r.absent++
			changed[uid] = changed[uid] || len(r.groups) == 0 && r.absent <= sightings
		}
	}
	return sortedKeys(changed)
}

// take takes in answers that are no complete listing, and returns the UIDs for
// which they tell something new.
func (l *ledger) take(begun, now time.Time, groups ...providers.Group) []types.UID {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.count(now)
	return sortedKeys(l.admitAll(begun, now, groups))
}

func (l *ledger) admitAll(begun, now time.Time, groups []providers.Group) map[types.UID]bool {
	changed := map[types.UID]bool{}
	for i := range groups {
		if l.admit(begun, now, &groups[i]) {
			changed[types.UID(groups[i].Owner.PodUID)] = true
		}
	}
	return changed
}

// admit takes in what the answer to one call says about a group, and tells
// whether that is new.
func (l *ledger) admit(begun, now time.Time, g *providers.Group) bool {
	if at, ok := l.gone[g.ID]; ok && !at.Before(begun) {
		return false
	}
	r := l.get(types.UID(g.Owner.PodUID), now)
	if r.name == "" {
		r.namespace, r.name = g.Owner.Namespace, g.Owner.PodName
	}
	s, ok := r.groups[g.ID]
	if !ok {
		s = &sighting{added: now}
		r.groups[g.ID], r.known = s, true
	}
	changed := !ok
	if !begun.Before(s.missedAt) && s.missed > 0 {
		s.missed, changed = 0, true
	}
	before := s.group
	if !begun.Before(s.seenAt) {
		s.seenAt, s.group = begun, *g
		s.group.Status = before.Status
		if g.CreatedAt.IsZero() {
			s.group.CreatedAt = before.CreatedAt
		}
		changed = changed || before.Deleting != g.Deleting
		if g.Mark == "" {
			s.group.Mark = before.Mark
		} else if before.Mark != "" && before.Mark != g.Mark && g.Status == nil {
			r.course.hurry = true
		}
	}
	if g.Status != nil && !begun.Before(s.statusAt) {
		s.statusAt = begun
		r.course.readAt = begun
		if before.Status != g.Status && !sameStatus(before.Status, g.Status) {
			s.group.Status, changed = g.Status, true
		}
	}
	return changed
}

// sameStatus compares two statuses by what they mean: quantities and times have
// more than one form.
func sameStatus(a, b *providers.GroupStatus) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.Events, y.Events = nil, nil
	return slices.EqualFunc(a.Events, b.Events, sameEvent) && equality.Semantic.DeepEqual(x, y)
}

func sameEvent(a, b providers.Event) bool {
	if !a.First.Equal(b.First) || !a.Last.Equal(b.Last) {
		return false
	}
	a.First, a.Last = b.First, b.Last
	return a == b
}

// created notes a group that a call which ended just now has made. It is another
// one than any of that ID before.
func (l *ledger) created(now time.Time, g providers.Group) {
	delete(l.gone, g.ID)
	r := l.get(types.UID(g.Owner.PodUID), now)
	r.known = true
	if _, known := r.groups[g.ID]; !known {
		r.groups[g.ID] = &sighting{group: g, added: now, seenAt: now, statusAt: now}
	}
}

// confirm notes that a group was asked for just now and does not exist.
func (l *ledger) confirm(uid types.UID, id string, now time.Time) {
	delete(l.get(uid, now).groups, id)
	l.gone[id] = now
}

// livelyFor is how long after its last change a group that starts is expected to
// change again.
const livelyFor = 2 * time.Minute

// count counts the groups.
func (l *ledger) count(now time.Time) {
	l.busy, l.lively, l.ending, l.known = 0, 0, 0, 0
	for _, r := range l.records {
		if r.busy {
			l.busy++
			if now.Sub(r.course.changed) < livelyFor {
				l.lively++
			}
		}
		for _, s := range r.groups {
			l.known++
			if !s.deleted.IsZero() {
				l.ending++
			}
		}
	}
}

// all returns the UIDs that have a record.
func (l *ledger) all() []types.UID {
	l.mu.Lock()
	defer l.mu.Unlock()
	uids := make([]types.UID, 0, len(l.records))
	for uid := range l.records {
		uids = append(uids, uid)
	}
	return uids
}

func sortedKeys(set map[types.UID]bool) []types.UID {
	uids := make([]types.UID, 0, len(set))
	for uid, in := range set {
		if in {
			uids = append(uids, uid)
		}
	}
	slices.Sort(uids)
	return uids
}

// primary is the group that stands for the pod: the oldest that nobody deletes,
// else the oldest.
func (r *record) primary() *sighting {
	var first *sighting
	for _, s := range r.groups {
		if first == nil || s.compare(first) < 0 {
			first = s
		}
	}
	return first
}

// sorted are all groups of the pod, the one that stands for it first.
func (r *record) sorted() []*sighting {
	return slices.SortedFunc(maps.Values(r.groups), (*sighting).compare)
}

func (s *sighting) compare(other *sighting) int {
	if x := s.ending(); x != other.ending() {
		if x {
			return 1
		}
		return -1
	}
	return cmp.Or(s.group.CreatedAt.Compare(other.group.CreatedAt), strings.Compare(s.group.ID, other.group.ID))
}

func (s *sighting) ending() bool { return s.group.Deleting || !s.deleted.IsZero() }

// newest returns the pod with the status that the agent itself wrote last, when
// the watch has not delivered it yet.
func (r *record) newest(pod *corev1.Pod) *corev1.Pod {
	if pod == nil || r.written == nil || r.written.UID != pod.UID {
		return pod
	}
	if c, err := resourceversion.CompareResourceVersion(r.written.ResourceVersion, pod.ResourceVersion); err != nil || c <= 0 {
		r.written = nil
		return pod
	}
	return r.written
}

func ended(s *providers.GroupStatus) bool {
	return s != nil && (s.Phase == providers.GroupSucceeded || s.Phase == providers.GroupFailed)
}
