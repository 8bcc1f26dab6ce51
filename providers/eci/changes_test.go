package eci_test

import (
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/eci"
	emulator "github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/cloud/sim"
)

// reads counts the calls that f makes, by action.
func (c *cloud) reads(f func()) map[string]int {
	var mu sync.Mutex
	got := map[string]int{}
	c.Inject(emulator.Fault{Calls: -1, Match: func(m url.Values) bool {
		mu.Lock()
		defer mu.Unlock()
		got[m.Get("Action")]++
		return false
	}})
	defer c.ClearFaults()
	f()
	mu.Lock()
	defer mu.Unlock()
	return got
}

func list(t *testing.T, p *eci.Provider) []providers.Group {
	t.Helper()
	groups, err := p.List(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return groups
}

// TestReadsOfManyGroups: what runs as it did costs one call for 200 groups.
func TestReadsOfManyGroups(t *testing.T) {
	c := newCloud(t)
	p := c.provider(t)
	const n = 230
	var last string
	for i := range n {
		id, err := p.Create(within(t), pod(fmt.Sprintf("web-%d", i)))
		if err != nil {
			t.Fatal(err)
		}
		last = id
	}
	for _, g := range c.Fleet().Groups() {
		waitUntil(t, "the group runs", func() bool { return g.Phase() == sim.Running })
	}
	steps := []struct {
		name string
		call func()
		want map[string]int
	}{
		{"the first listing describes all, 20 at a time", func() { list(t, p) }, map[string]int{"DescribeContainerGroupStatus": 2, "DescribeContainerGroups": 12}},
		{"the next has only statuses", func() { list(t, p) }, map[string]int{"DescribeContainerGroupStatus": 2}},
		{"so have changes", func() {
			if _, err := p.Changes(within(t), time.Minute); err != nil {
				t.Error(err)
			}
		}, map[string]int{"DescribeContainerGroupStatus": 2}},
		{"a group that is gone is asked for once", func() {
			g, _ := c.Fleet().Group(last)
			g.Remove()
			for range 2 {
				if got := len(list(t, p)); got != n-1 {
					t.Errorf("%d groups, want %d", got, n-1)
				}
			}
		}, map[string]int{"DescribeContainerGroupStatus": 4, "DescribeContainerGroups": 1}},
	}
	for _, step := range steps {
		if diff := cmp.Diff(step.want, c.reads(step.call)); diff != "" {
			t.Errorf("%s: calls (-want +got):\n%s", step.name, diff)
		}
	}
}

// TestWhatStatusesLackIsDescribed: events, and why a group fails.
func TestWhatStatusesLackIsDescribed(t *testing.T) {
	c := newCloud(t)
	p := c.provider(t)
	spec := pod("job")
	spec.RestartPolicy = corev1.RestartPolicyNever
	spec.Containers[0].Command = []string{"sh", "-c", "sleep 0.2; exit 3"}
	id, err := p.Create(within(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, p, id, "the group runs", running)
	list(t, p)
	waitFor(t, p, id, "the group fails", func(s *providers.GroupStatus) bool { return s.Phase == providers.GroupFailed })
	changes, err := p.Changes(within(t), time.Minute)
	if err != nil || len(changes) != 1 {
		t.Fatalf("Changes = %+v, %v, want the group", changes, err)
	}
	if s := changes[0].Status; s.Phase != providers.GroupFailed || len(s.Events) == 0 || s.CPUMillis == 0 {
		t.Errorf("status %+v, want failed, with events and the size", *s)
	}
	list(t, p) // once more, for events that came late
	want := map[string]int{"DescribeContainerGroupStatus": 3}
	if diff := cmp.Diff(want, c.reads(func() {
		for range 3 {
			list(t, p)
		}
	})); diff != "" {
		t.Errorf("calls for a group that has ended (-want +got):\n%s", diff)
	}
}

func waitUntil(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx := within(t)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not in time: %s", what)
		}
	}
}
