package vnode

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// life is one container group as the test plays it: when it starts, and how it
// goes on.
type life struct {
	owner  string
	always bool
	start  time.Duration // from its making to its running
	run    time.Duration // to its end, or its crash
	made   time.Duration
	kept   time.Duration // after its end
	c      course
	next   time.Duration // when it is read
	seenUp bool
}

// TestPace plays pods against the pace at which they are read, and compares it
// with Azure's own agent: 24 reads a minute of each pod that has not ended and 12
// of each that has.
func TestPace(t *testing.T) {
	services := func(n int) func(*rand.Rand, func(life)) {
		return func(rng *rand.Rand, add func(life)) {
			for range n {
				add(life{always: true, start: spread(rng, 25*time.Second, 0.3), run: 10*time.Minute + time.Duration(rng.Int64N(int64(10*time.Hour)))})
			}
		}
	}
	jobs := func(kinds int, run time.Duration, by float64) func(*rand.Rand, func(life)) {
		return func(rng *rand.Rand, add func(life)) {
			for made := time.Duration(0); made < playFor; made += time.Minute {
				for k := range kinds {
					add(life{owner: fmt.Sprint(run, k), made: made, start: spread(rng, 25*time.Second, 0.2), run: spread(rng, run, by), kept: 3 * time.Minute})
				}
			}
		}
	}
	tests := map[string]struct {
		mix []func(*rand.Rand, func(life))
		// share is how many reads there may be for one of Azure's agent, mean and
		// highest how old the news may be: of all, and of 99 in 100.
		share         float64
		mean, highest time.Duration
	}{
		"services that seldom crash": {[]func(*rand.Rand, func(life)){services(300)}, 0.1, 9 * time.Second, 33 * time.Second},
		"jobs that take 5 minutes":   {[]func(*rand.Rand, func(life)){jobs(5, 5*time.Minute, 0.05)}, 0.13, 4 * time.Second, 16 * time.Second},
		"jobs that take a minute":    {[]func(*rand.Rand, func(life)){jobs(5, time.Minute, 0.1)}, 0.2, 3 * time.Second, 12 * time.Second},
		"jobs that take any time":    {[]func(*rand.Rand, func(life)){jobs(5, 5*time.Minute, 0.8)}, 0.2, 5 * time.Second, 16 * time.Second},
		"600 services and some 100 jobs": {[]func(*rand.Rand, func(life)){
			services(600), jobs(10, 5*time.Minute, 0.05), jobs(10, time.Minute, 0.1), jobs(5, 5*time.Minute, 0.8),
		}, 0.1, 5 * time.Second, 26 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := playPace(tt.mix)
			t.Logf("%.2f reads for each pod that runs and minute, %.3f of what Azure's agent does; age of news: mean %s, 99 of 100 within %s",
				got.perMinute, got.share, got.mean.Round(time.Millisecond), got.highest.Round(time.Millisecond))
			if got.share > tt.share || got.mean > tt.mean || got.highest > tt.highest {
				t.Errorf("want a share of at most %.2f, %s and %s", tt.share, tt.mean, tt.highest)
			}
		})
	}
}

// playFor is for how long pods are played.
const playFor = 4 * time.Hour

// lives are in the order in which they are read.
type lives []*life

func (l lives) Len() int           { return len(l) }
func (l lives) Less(i, j int) bool { return l[i].next < l[j].next }
func (l lives) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l *lives) Push(x any)        { *l = append(*l, x.(*life)) }

func (l *lives) Pop() any {
	last := (*l)[len(*l)-1]
	*l = (*l)[:len(*l)-1]
	return last
}

type paceFigures struct {
	perMinute, share float64
	mean, highest    time.Duration
}

func spread(rng *rand.Rand, mean time.Duration, by float64) time.Duration {
	return max(time.Second, time.Duration(float64(mean)*(1+by*rng.NormFloat64())))
}

// playPace lets time pass from read to read.
func playPace(mix []func(*rand.Rand, func(life))) paceFigures {
	rng := rand.New(rand.NewPCG(1, 2))
	all := &lives{}
	origin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, part := range mix {
		part(rng, func(l life) {
			l.c.enter(starting, "", origin.Add(l.made))
			l.c.readAt = origin.Add(l.made)
			l.next = l.made + l.c.wait(2*time.Second, nil)
			heap.Push(all, &l)
		})
	}
	learnt := newSpans()
	var late []time.Duration
	reads, minutes, theirs := 0, 0.0, 0.0
	for all.Len() > 0 && (*all)[0].next <= playFor {
		l := (*all)[0]
		now := l.next
		reads++
		up, in := l.made+l.start, l.made+l.start+l.run
		l.c.readAt = origin.Add(now)
		switch {
		case now >= in:
			late = append(late, now-in)
			learnt.learn(l.owner, l.run)
			minutes += (in - l.made).Minutes()
			theirs += 24*(in-l.made).Minutes() + 12*l.kept.Minutes()
			heap.Pop(all)
			continue
		case now >= up && !l.seenUp:
			late = append(late, now-up)
			l.seenUp = true
			learnt.learn(startOf, l.start)
			s := finishing
			if l.always {
				s = serving
			}
			l.c.enter(s, l.owner, origin.Add(up))
		}
		l.next = now + l.c.wait(2*time.Second, learnt)
		heap.Fix(all, 0)
	}
	for _, l := range *all {
		minutes += (playFor - l.made).Minutes()
		theirs += 24 * (playFor - l.made).Minutes()
	}
	reads += int(playFor / (10 * time.Second)) // the listings
	slices.Sort(late)
	var sum time.Duration
	for _, d := range late {
		sum += d
	}
	return paceFigures{
		perMinute: float64(reads) / minutes, share: float64(reads) / theirs,
		mean: sum / time.Duration(len(late)), highest: late[len(late)*99/100],
	}
}
