package aci

import (
	"context"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

func TestLostCreatesSettle(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(testNow)
	c := newCreates(clock, 10*time.Second)
	want := func(id string, wait time.Duration) {
		t.Helper()
		if got := c.unsettled(id); got != wait {
			t.Errorf("%s: %v, want %v", id, got, wait)
		}
	}
	want("a", 0)
	c.lost("a")
	want("a", 10*time.Second)
	want("b", 0)
	clock.SetTime(testNow.Add(4 * time.Second))
	want("a", 6*time.Second)
	c.lost("b")
	clock.SetTime(testNow.Add(10 * time.Second))
	want("a", 0)
	want("b", 4*time.Second)
	c.settle("b")
	want("b", 0)
	c.lost("c")
	if len(c.open) != 1 {
		t.Errorf("old entries stay: %v", c.open)
	}
}

func TestCreatesOfOneGroupWait(t *testing.T) {
	c := newCreates(clocktesting.NewFakePassiveClock(testNow), 0)
	leave, err := c.enter(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := c.enter(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	other()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.enter(ctx, "a"); err == nil {
		t.Fatal("two creates of one group")
	}
	leave()
	again, err := c.enter(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	again()
	if len(c.busy) != 0 {
		t.Errorf("busy %v", c.busy)
	}
}
