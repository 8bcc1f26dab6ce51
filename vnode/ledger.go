package vnode

import (
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/autoburst/autoburst/providers"
)

// ledger is what the agent knows about the cloud's groups, by pod UID. It holds
// observations only, nothing that could not be rebuilt from one listing.
type ledger struct {
	mu      sync.Mutex
	records map[types.UID]*record
	// gone holds the groups that were confirmed to be gone, so that a listing
	// which began before does not bring them back.
	gone map[string]time.Time
	// listed is when the last complete listing began.
	listed time.Time
	// carriesStatus is whether the cloud's listing holds the groups' status.
	carriesStatus bool
	busy, quiet   int
}

func newLedger() *ledger {
	return &ledger{records: map[types.UID]*record{}, gone: map[string]time.Time{}}
}

// record is what is known about one pod's group. Its fields are guarded by the
// ledger's mutex; the work on one UID is never concurrent with itself.
type record struct {
	uid             types.UID
	namespace, name string
	groups          map[string]*sighting

	// doubt is when a create ended with an unknown outcome: only a listing that
	// began later proves that there is no group.
	doubt time.Time
	// since is when the record was made, absent how many complete listings since
	// then had no group for it.
	since  time.Time
	absent int

	// notBefore and failures are the back-off of the calls for this pod.
	notBefore time.Time
	failures  int
	// refusals is how often the cloud has refused the pod for want of room, refused
	// when it did so first.
	refusals int
	refused  time.Time
	// lost counts groups that vanished before the pod had run.
	lost int
	// busy is whether the group starts, changes or ends.
	busy bool

	// written is the pod as the API server returned it after our last write.
	written *corev1.Pod
	// started is when the agent took the pod on.
	started time.Time
	// settled is when the agent found that the pod had ended.
	settled time.Time
}

// sighting is one group of a pod.
type sighting struct {
	group    providers.Group
	added    time.Time // when the agent learnt of it
	missed   int       // complete listings in a row without it
	statusAt time.Time // when its status was read
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
// the UIDs that have a record.
func (l *ledger) observe(begun, now time.Time, groups []providers.Group) []types.UID {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listed = begun
	seen := make(map[string]bool, len(groups))
	present := make(map[types.UID]bool, len(groups))
	for i := range groups {
		g := groups[i]
		if at, ok := l.gone[g.ID]; ok && !at.Before(begun) {
			continue
		}
		if g.Status != nil {
			l.carriesStatus = true
		}
		seen[g.ID] = true
		uid := types.UID(g.Owner.PodUID)
		present[uid] = true
		r := l.get(uid, now)
		if r.name == "" {
			r.namespace, r.name = g.Owner.Namespace, g.Owner.PodName
		}
		r.see(g, now)
	}
	for id, at := range l.gone {
		if at.Before(begun) {
			delete(l.gone, id)
		}
	}
	uids := make([]types.UID, 0, len(l.records))
	l.busy, l.quiet = 0, 0
	for uid, r := range l.records {
		uids = append(uids, uid)
		for id, s := range r.groups {
			switch {
			case seen[id] || !s.added.Before(begun):
			case !s.deleted.IsZero() && s.deleted.Before(begun):
				delete(r.groups, id)
				l.gone[id] = now
			default:
				s.missed++
			}
		}
		if !present[uid] && r.since.Before(begun) {
			r.absent++
		} else {
			r.absent = 0
		}
		switch s := r.primary(); {
		case r.busy:
			l.busy++
		case s != nil && !ended(s.group.Status):
			l.quiet++
		}
	}
	return uids
}

// see takes in what one answer of the cloud says about a group.
func (r *record) see(g providers.Group, now time.Time) *sighting {
	s, ok := r.groups[g.ID]
	if !ok {
		s = &sighting{added: now}
		r.groups[g.ID] = s
	}
	status, at := s.group.Status, s.statusAt
	s.group = g
	if g.Status == nil {
		s.group.Status = status
	} else {
		at = now
	}
	s.statusAt, s.missed = at, 0
	return s
}

// primary is the group that stands for the pod: the oldest that nobody deletes,
// else the oldest.
func (r *record) primary() *sighting {
	all := r.sorted()
	if len(all) == 0 {
		return nil
	}
	return all[0]
}

func (r *record) sorted() []*sighting {
	all := make([]*sighting, 0, len(r.groups))
	for _, s := range r.groups {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *sighting) int {
		if x, y := a.ending(), b.ending(); x != y {
			if x {
				return 1
			}
			return -1
		}
		if c := a.group.CreatedAt.Compare(b.group.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.group.ID, b.group.ID)
	})
	return all
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
