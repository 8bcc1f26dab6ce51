package sim

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAlarmRingsAtItsTimeThoughNobodyLooks(t *testing.T) {
	f, clk := testFleet(t, Config{})
	g := mustStart(t, f, Spec{})
	var rang []time.Duration
	g.Alarm(epoch.Add(time.Hour), func(m Moment) {
		rang = append(rang, m.Now().Sub(epoch))
		m.Event(Warning, "Soon", "it ends")
		m.Alarm(m.Now().Add(time.Minute), func(m Moment) { m.End(Expired, "Over", "it is over") })
	})
	clk.Step(24 * time.Hour)
	s := g.Snapshot()
	if s.Phase != Expired || s.Reason != "Over" || !s.Finished.Equal(epoch.Add(61*time.Minute)) || s.Containers[0].Current.ExitCode != 137 {
		t.Errorf("%s %s at %s, %+v", s.Phase, s.Reason, s.Finished, s.Containers[0])
	}
	if diff := cmp.Diff([]time.Duration{time.Hour}, rang); diff != "" {
		t.Errorf("alarms (-want +got):\n%s", diff)
	}
	if e := f.Record().Entries; len(e) != 1 || e[0].To == nil || !e[0].To.Equal(epoch.Add(61*time.Minute)) {
		t.Errorf("bill %+v, want that it ends with the group", e)
	}
	g.Alarm(epoch, func(Moment) { t.Error("an alarm rang after the end") })
	clk.Step(time.Hour)
	g.Phase()
}

func TestAlarmOutlivesRestartsAndSparesWhatIsDeleted(t *testing.T) {
	f, clk := testFleet(t, Config{})
	g := mustStart(t, f, Spec{})
	g.Alarm(epoch.Add(time.Hour), func(m Moment) { m.End(Failed, "DeadlineExceeded", "") })
	clk.Step(time.Minute)
	if err := g.Restart(time.Second); err != nil {
		t.Fatal(err)
	}
	clk.Step(time.Hour)
	if got := g.Phase(); got != Failed {
		t.Errorf("phase %s, want Failed by the alarm", got)
	}
	slow := mustStart(t, f, Spec{ID: "slow", Containers: []Container{{Name: "c", Image: "x", PreStop: &Action{Exec: []string{"sleep", "600"}}}}})
	slow.Alarm(clk.Now().Add(2*time.Minute), func(m Moment) { m.End(Expired, "Over", "") })
	clk.Step(time.Minute)
	if err := slow.Delete(10 * time.Minute); err != nil {
		t.Fatal(err)
	}
	clk.Step(5 * time.Minute)
	if got := slow.Phase(); got != Terminating {
		t.Errorf("phase %s, want Terminating until the end of the grace", got)
	}
}

func TestImagesOnTheMachineAreNotPulled(t *testing.T) {
	f, clk := testFleet(t, Config{})
	g := mustStart(t, f, Spec{Images: []string{"nginx:1"}})
	clk.Step(2 * time.Second) // scheduling and start
	s := g.Snapshot()
	if s.Phase != Running {
		t.Errorf("phase %s, want Running without a pull", s.Phase)
	}
	for _, e := range s.Events {
		if e.Reason == "Pulling" {
			t.Errorf("event %+v", e)
		}
	}
}

func TestUpdateBillsTheNewSize(t *testing.T) {
	f, clk := testFleet(t, Config{})
	g := mustStart(t, f, Spec{ID: "g", CPU: 2, MemoryGiB: 4, RestartPolicy: Never, Definition: "old"})
	clk.Step(time.Minute)
	larger := Spec{ID: "g", CPU: 4, MemoryGiB: 8, RestartPolicy: Never, Definition: "new", Containers: []Container{{Name: "web", Image: "nginx:1"}}}
	if err := g.Update(larger, 0); err != nil {
		t.Fatal(err)
	}
	if s := g.Snapshot(); s.Phase != Restarting || s.Spec.Definition != "old" {
		t.Errorf("%s with the definition %v, want the old one until its containers are gone", s.Phase, s.Spec.Definition)
	}
	if err := g.Update(larger, 0); !errors.Is(err, ErrBusy) {
		t.Errorf("a second update: %v", err)
	}
	clk.Step(time.Minute)
	if s := g.Snapshot(); s.Phase != Running || s.Spec.Definition != "new" {
		t.Errorf("%s with the definition %v", s.Phase, s.Spec.Definition)
	}
	e := f.Record().Entries
	if len(e) != 2 || e[0].CPU != 2 || e[1].CPU != 4 || e[0].To == nil || !e[0].To.Equal(e[1].From) || e[1].To != nil {
		t.Errorf("bills %+v", e)
	}
	if err := g.Exit("web", 0); err != nil {
		t.Fatal(err)
	}
	if err := g.Update(larger, 0); !errors.Is(err, ErrPhase) || g.Phase() != Succeeded {
		t.Errorf("an update of an ended group: %v, %s", err, g.Phase())
	}
}
