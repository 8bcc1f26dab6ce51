package vnode

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

const (
	// orphanAlarm is for how long a group may exist without a pod before the node
	// says so: each costs money, and the agent removes it within a minute if it can.
	orphanAlarm = 10 * time.Minute
	// orphanAgain is how often it says so.
	orphanAgain = time.Hour
	// orphansNamed is how many of them it names.
	orphansNamed = 5
	// reasonOrphans is the reason of that event.
	reasonOrphans = "GroupsWithoutPod"
)

// orphans remembers since when groups have no pod.
type orphans struct {
	mu     sync.Mutex
	since  map[string]time.Time // by the group's ID
	warned time.Time
}

// countOrphans compares the groups with the pods after a sweep, and raises the alarm
// when the cloud holds more than it should for long.
func (r *reconciler) countOrphans() {
	r.health.swept()
	now := r.clock.Now()
	extra := map[types.UID][]string{}
	r.ledger.mu.Lock()
	for uid, rec := range r.ledger.records {
		for _, s := range rec.sorted() {
			extra[uid] = append(extra[uid], s.group.ID)
		}
	}
	r.ledger.mu.Unlock()

	o := &r.orphans
	o.mu.Lock()
	defer o.mu.Unlock()
	since := map[string]time.Time{}
	var old []string
	for uid, ids := range extra {
		if r.pods.byUID(uid) != nil {
			ids = ids[min(1, len(ids)):] // the first stands for the pod
		}
		for _, id := range ids {
			at, ok := o.since[id]
			if !ok {
				at = now
			}
			since[id] = at
			if now.Sub(at) >= orphanAlarm {
				old = append(old, id)
			}
		}
	}
	o.since = since
	r.metrics.orphaned.Set(float64(len(since)))
	r.metrics.orphanedLong.Set(float64(len(old)))
	if len(old) == 0 {
		o.warned = time.Time{}
		return
	}
	if !o.warned.IsZero() && now.Sub(o.warned) < orphanAgain {
		return
	}
	o.warned = now
	slices.Sort(old)
	named := strings.Join(old[:min(len(old), orphansNamed)], ", ")
	if len(old) > orphansNamed {
		named += fmt.Sprintf(" and %d more", len(old)-orphansNamed)
	}
	text := fmt.Sprintf("%s has held %d container groups of this node without a pod for more than %s, and they may be charged for: %s. The agent goes on removing them; its log says what the cloud answers. If that does not change, delete them in the cloud.",
		r.provider.Name(), len(old), orphanAlarm, named)
	r.log.Error("groups without a pod are not removed", "groups", len(old), "first", named)
	r.events.onNode(occurrence{warning: true, reason: reasonOrphans, message: text, key: now.String()})
}
