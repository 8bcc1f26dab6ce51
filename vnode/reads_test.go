package vnode

import (
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/providers"
)

func TestAllowance(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	throttled := &providers.Error{Class: providers.Throttled, RetryAfter: 30 * time.Second}
	tests := map[string]struct {
		after []time.Duration // when as many calls as are left are made
		err   error           // heard at the start
		want  []int
	}{
		"a rush is saved for": {[]time.Duration{0, 0, time.Second, time.Hour}, nil, []int{20, 0, 4, 20}},
		"a wait is heeded":    {[]time.Duration{0, 30 * time.Second, 31 * time.Second}, throttled, []int{0, 0, 4}},
		"other errors are no reason to wait": {
			[]time.Duration{0}, errors.Join(&providers.Error{Class: providers.Unavailable, RetryAfter: time.Hour}), []int{20},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := &allowance{rate: 4, saved: 5 * time.Second}
			if tt.err != nil {
				a.failed(start, tt.err)
			}
			for i, after := range tt.after {
				n := 0
				for a.take(start.Add(after)) {
					n++
				}
				if n != tt.want[i] {
					t.Errorf("%d calls after %s, want %d", n, after, tt.want[i])
				}
				if a.next(start.Add(after)) <= 0 {
					t.Errorf("no wait after %s although nothing is left", after)
				}
			}
		})
	}
}

// TestRushOfStarts: many groups that start are read within the plan, and none is
// left behind.
func TestRushOfStarts(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		const n = 300
		b := newBed(t)
		b.as(listsBare)
		b.start()
		b.settle(time.Second)
		for i := range n {
			b.create(testPod(fmt.Sprintf("web-%d", i)))
		}
		b.settle(5 * time.Second)
		gets, began := b.cloud.count("Get"), time.Now()
		for i := range n {
			b.cloud.set(fmt.Sprintf("g-uid-web-%d", i), running("app"))
			b.cloud.mark(fmt.Sprintf("g-uid-web-%d", i), "Succeeded")
		}
		for i := range n {
			b.phase(fmt.Sprintf("web-%d", i), corev1.PodRunning)
		}
		took := time.Since(began)
		if took > 30*time.Second {
			t.Errorf("%d starts were seen after %s, want 12 a second", n, took)
		}
		if rate := float64(b.cloud.count("Get")-gets) / took.Seconds(); rate > 15 {
			t.Errorf("%.1f reads a second, want the 12 that are planned and what was saved", rate)
		}
	})
}

// TestReadsWaitWhenThrottled: a refusal for too many requests stops the plan for as
// long as the cloud says.
func TestReadsWaitWhenThrottled(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.as(listsBare)
		b.start()
		for i := range 20 {
			b.create(testPod(fmt.Sprintf("web-%d", i)))
		}
		b.settle(10 * time.Second)
		b.cloud.setFail(func(op, _ string, _ int) error {
			if op == "Get" {
				return &providers.Error{Class: providers.Throttled, Operation: "Get", RetryAfter: 40 * time.Second}
			}
			return nil
		})
		b.settle(10 * time.Second)
		gets := b.cloud.count("Get")
		b.settle(2 * time.Minute)
		if n := b.cloud.count("Get") - gets; n > 10 {
			t.Errorf("%d reads in two minutes in which each was told to wait for 40 s", n)
		}
	})
}

// TestMassDeletionByListing: where listings tell, nobody asks for each group that
// goes.
func TestMassDeletionByListing(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		const n = 200
		b := crowd(t, tellsChanges, n)
		b.cloud.linger = 1
		b.start()
		b.settle(time.Minute)
		lists, gets, began := b.cloud.count("List"), b.cloud.count("Get"), time.Now()
		for i := range n {
			b.remove(fmt.Sprintf("web-%d", i))
		}
		for i := range n {
			b.absent(fmt.Sprintf("web-%d", i))
		}
		if took := time.Since(began); took > 12*time.Second {
			t.Errorf("gone after %s", took)
		}
		if l, g := b.cloud.count("List")-lists, b.cloud.count("Get")-gets; l > 8 || g > 0 {
			t.Errorf("%d listings and %d reads of single groups, want a few listings", l, g)
		}
		b.groups()
	})
}

func TestInTurns(t *testing.T) {
	many := func(n int, late float64, starts bool) []dueRead {
		var list []dueRead
		for range n {
			list = append(list, dueRead{late: late, starts: starts})
		}
		return list
	}
	for name, tt := range map[string]struct {
		due  []dueRead
		turn int
		want string
	}{
		"nothing":                      {nil, 0, ""},
		"only starts":                  {many(3, 9, true), 0, "sss"},
		"only others":                  {many(3, 9, false), 3, "ooo"},
		"one in eight":                 {append(many(14, 9, true), many(3, 1, false)...), 1, "sssssssosssssssoo"},
		"the turn is kept":             {append(many(2, 9, true), many(2, 1, false)...), 8, "osso"},
		"the later first, of others":   {append(many(1, 9, false), many(2, 1, true)...), 1, "oss"},
		"what has changed comes first": {append(many(2, 1e6, false), many(2, 9, true)...), 3, "ooss"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			for _, d := range inTurns(tt.due, tt.turn) {
				got += map[bool]string{true: "s", false: "o"}[d.starts]
			}
			if got != tt.want {
				t.Errorf("order %q, want %q", got, tt.want)
			}
		})
	}
}
