package vnode

import (
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/autoburst/autoburst/providers"
)

// truth is a cloud of which the test knows everything: what each group was at
// each time.
type truth struct {
	now  time.Time
	life map[string][]moment
}

// moment is a group from a time on.
type moment struct {
	from    time.Time
	there   bool
	version int
}

func (c *truth) at(id string, t time.Time) moment {
	var m moment
	for _, x := range c.life[id] {
		if !x.from.After(t) {
			m = x
		}
	}
	return m
}

func (c *truth) set(id string, there bool) {
	version := 1
	if l := c.life[id]; len(l) > 0 {
		version = l[len(l)-1].version + 1
	}
	c.life[id] = append(c.life[id], moment{c.now, there, version})
}

func (c *truth) group(id string, m moment) providers.Group {
	return providers.Group{
		ID:     id,
		Owner:  providers.Owner{ClusterUID: testCluster, NodeName: testNode, Namespace: "default", PodName: id, PodUID: "uid-" + id},
		Status: &providers.GroupStatus{Phase: providers.GroupRunning, Message: fmt.Sprint(m.version)},
	}
}

// answer is a call whose answer is still under way, and what it is.
type answer struct {
	kind   string // list, changes, get
	begun  time.Time
	ids    []string // that it shows
	groups []providers.Group
	asked  string // of a get
}

// TestLedgerNeverGoesBack plays calls whose answers come late, twice and out of
// order: no answer brings back what a later call has told otherwise, and no group
// is lost that a call has shown and none has denied since.
func TestLedgerNeverGoesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		cloud := &truth{now: start, life: map[string][]moment{}}
		ids := []string{"a", "b", "c"}
		const late = time.Hour // longer than the whole play
		l := newLedger(late)
		var underWay, answered []answer
		told := map[string]time.Time{}    // begin of the newest answer that showed the group
		seen := map[string]time.Time{}    // what the ledger has shown, by when the call began
		highest := map[string]int{}       // the newest state that the ledger has shown
		denied := map[string]time.Time{}  // when the ledger was told by a direct question that it is gone
		removed := map[string]time.Time{} // when we asked the cloud to remove it

		check := func() {
			for _, id := range ids {
				var s *sighting
				if rec, ok := l.records[types.UID("uid-"+id)]; ok {
					s = rec.groups[id]
				}
				if s == nil {
					if at, seen := told[id]; seen && at.After(denied[id]) && removed[id].IsZero() {
						t.Fatalf("group %s is lost: it was seen by a call at %s, denied at %s", id, at.Sub(start), denied[id].Sub(start))
					}
					continue
				}
				if at, ok := denied[id]; ok && !s.seenAt.After(at) {
					t.Fatalf("group %s is back by a call of %s, after it was found gone at %s", id, s.seenAt.Sub(start), at.Sub(start))
				}
				if s.seenAt.Before(seen[id]) {
					t.Fatalf("group %s is as a call at %s saw it, after one at %s did", id, s.seenAt.Sub(start), seen[id].Sub(start))
				}
				seen[id] = s.seenAt
				if s.group.Status == nil {
					continue
				}
				var version int
				if _, err := fmt.Sscan(s.group.Status.Message, &version); err != nil {
					t.Fatal(err)
				}
				if version < highest[id] {
					t.Fatalf("group %s is shown in state %d after %d", id, version, highest[id])
				}
				highest[id] = version
				if s.missed > 0 && !s.missedAt.After(s.seenAt) {
					t.Fatalf("group %s counts as missed at %s although a call at %s saw it", id, s.missedAt.Sub(start), s.seenAt.Sub(start))
				}
			}
		}
		deliver := func(a answer) {
			switch a.kind {
			case "list":
				l.observe(a.begun, cloud.now, a.groups)
			case "changes":
				l.take(a.begun, cloud.now, a.groups...)
			case "get":
				if len(a.groups) > 0 {
					l.take(a.begun, cloud.now, a.groups...)
				}
			}
			for _, id := range a.ids {
				if at, ok := denied[id]; ok && !at.Before(a.begun) {
					continue
				}
				if a.begun.After(told[id]) {
					told[id] = a.begun
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { check() },
			"time passes": func(t *rapid.T) {
				cloud.now = cloud.now.Add(time.Duration(rapid.IntRange(1, 5000).Draw(t, "ms")) * time.Millisecond)
			},
			"a group comes or changes": func(t *rapid.T) {
				cloud.now = cloud.now.Add(time.Millisecond)
				cloud.set(rapid.SampledFrom(ids).Draw(t, "id"), true)
			},
			"a group goes": func(t *rapid.T) {
				cloud.now = cloud.now.Add(time.Millisecond)
				if id := rapid.SampledFrom(ids).Draw(t, "id"); cloud.at(id, cloud.now).there {
					cloud.set(id, false)
				}
			},
			"a call begins": func(t *rapid.T) {
				cloud.now = cloud.now.Add(time.Millisecond)
				a := answer{kind: rapid.SampledFrom([]string{"list", "changes", "get"}).Draw(t, "kind"), begun: cloud.now}
				// The cloud looks somewhat later than the call began.
				cloud.now = cloud.now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "way")) * time.Millisecond)
				asked := ids
				switch a.kind {
				case "get":
					a.asked = rapid.SampledFrom(ids).Draw(t, "id")
					asked = []string{a.asked}
				case "changes":
					asked = rapid.SliceOfDistinct(rapid.SampledFrom(ids), rapid.ID[string]).Draw(t, "changed")
				}
				for _, id := range asked {
					if m := cloud.at(id, cloud.now); m.there {
						a.ids = append(a.ids, id)
						a.groups = append(a.groups, cloud.group(id, m))
					}
				}
				underWay = append(underWay, a)
			},
			"an answer comes": func(t *rapid.T) {
				if len(underWay) == 0 {
					return
				}
				i := rapid.IntRange(0, len(underWay)-1).Draw(t, "which")
				a := underWay[i]
				underWay = slices.Delete(underWay, i, i+1)
				answered = append(answered, a)
				cloud.now = cloud.now.Add(time.Millisecond)
				deliver(a)
			},
			"an answer comes once more": func(t *rapid.T) {
				if len(answered) > 0 {
					deliver(rapid.SampledFrom(answered).Draw(t, "which"))
				}
			},
			"the group is asked for and gone": func(t *rapid.T) {
				id := rapid.SampledFrom(ids).Draw(t, "id")
				cloud.now = cloud.now.Add(time.Millisecond)
				rec, ok := l.records[types.UID("uid-"+id)]
				if !ok || rec.groups[id] == nil || cloud.at(id, cloud.now).there {
					return
				}
				l.confirm(types.UID("uid-"+id), id, cloud.now)
				denied[id] = cloud.now
				cloud.now = cloud.now.Add(time.Millisecond)
			},
			"the cloud accepts a deletion": func(t *rapid.T) {
				id := rapid.SampledFrom(ids).Draw(t, "id")
				if rec, ok := l.records[types.UID("uid-"+id)]; ok && rec.groups[id] != nil && removed[id].IsZero() {
					cloud.now = cloud.now.Add(time.Millisecond)
					if cloud.at(id, cloud.now).there {
						cloud.set(id, false)
					}
					rec.groups[id].deleted, removed[id] = cloud.now, cloud.now
				}
			},
		})
	})
}

// TestSameStatus: an answer that says the same once more has no pod looked at.
func TestSameStatus(t *testing.T) {
	at := time.Now()
	status := func(edits ...func(*providers.GroupStatus)) *providers.GroupStatus {
		s := running("app")
		s.Containers[0].State.Running.StartedAt = metav1.NewTime(at).Rfc3339Copy()
		s.Events = []providers.Event{{Reason: "Pulled", Count: 1, First: at, Last: at}}
		for _, e := range edits {
			e(&s)
		}
		return &s
	}
	tests := map[string]struct {
		other *providers.GroupStatus
		want  bool
	}{
		"the same":          {status(), true},
		"in another zone":   {status(func(s *providers.GroupStatus) { s.Events[0].First, s.Events[0].Last = at.UTC(), at.UTC().Round(0) }), true},
		"nothing":           {nil, false},
		"an event more":     {status(func(s *providers.GroupStatus) { s.Events = append(s.Events, s.Events[0]) }), false},
		"an event repeated": {status(func(s *providers.GroupStatus) { s.Events[0].Last = at.Add(time.Second) }), false},
		"another event":     {status(func(s *providers.GroupStatus) { s.Events[0].Message = "x" }), false},
		"a restart":         {status(func(s *providers.GroupStatus) { s.Containers[0].RestartCount = 1 }), false},
		"another address":   {status(func(s *providers.GroupStatus) { s.PodIP = "10.9.9.9" }), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := sameStatus(status(), tt.other); got != tt.want {
				t.Errorf("same: %t, want %t", got, tt.want)
			}
		})
	}
}
