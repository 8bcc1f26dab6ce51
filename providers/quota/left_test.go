package quota

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// What the cloud says is left bounds what is sent next, and never adds to it.
func TestLeft(t *testing.T) {
	for name, tt := range map[string]struct {
		inFlight, left, want int
	}{
		"as was believed":                  {left: 9, want: 9},
		"others use the account":           {left: 4, want: 4},
		"nothing is left":                  {left: 0, want: 0},
		"less than nothing":                {left: -3, want: 0},
		"more than was believed":           {left: 200, want: 9},
		"some are under way":               {inFlight: 3, left: 6, want: 6},
		"some are under way, others too":   {inFlight: 3, left: 2, want: 2},
		"those under way used up the rest": {inFlight: 3, left: 0, want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1_800_000_000, 0)
			m := newMeter(Quota{"reads", Rules{Bucket: Bucket{10, 1}}}, now)
			now = now.Add(time.Minute)
			for range 1 + tt.inFlight {
				if !m.open(now) {
					t.Fatal("the meter is closed")
				}
				m.grant()
			}
			m.told(now, tt.left)
			m.answered(now)
			got := 0
			for m.open(now) {
				m.grant()
				got++
			}
			if got != tt.want {
				t.Errorf("%d more calls are allowed, want %d", got, tt.want)
			}
			if m.belief != 1 {
				t.Errorf("the belief is %g, want 1", m.belief)
			}
		})
	}
}

func TestLeftOfWhatHasNoBucket(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	m := newMeter(Quota{"lists", Rules{Windows: []Window{{5, time.Minute}}}}, now)
	m.grant()
	m.told(now, 0)
	m.answered(now)
	if !m.open(now) {
		t.Error("a window is taken for a bucket")
	}
}

// Others use the same account, as much as they can. An agent that is told what is left
// is refused less often than one that is not.
func TestLeftSparesRefusals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := Rules{Bucket: Bucket{250, 25}}
		others := rapid.IntRange(10, 24).Draw(t, "others per second")
		refused := func(told bool) (n int) {
			now := time.Unix(1_800_000_000, 0)
			c, m := newCloud(rules, now), newMeter(Quota{"reads", rules}, now)
			for range 120 {
				now = now.Add(time.Second)
				for range others {
					c.accept(now)
				}
				for range 25 {
					if !m.open(now) {
						continue
					}
					m.grant()
					if !c.accept(now) {
						m.refused(now, now, 0)
						n++
						continue
					}
					if told {
						m.told(now, int(c.tokens))
					}
					m.answered(now)
				}
			}
			return n
		}
		with, without := refused(true), refused(false)
		if with > without || with > 1 {
			t.Errorf("%d refusals when told what is left, %d when not; want at most one", with, without)
		}
	})
}
