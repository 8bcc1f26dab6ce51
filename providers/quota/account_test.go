package quota

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/providers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const op = "CreateContainerGroup"

func account(t testing.TB, rules Rules) *Account {
	t.Helper()
	a, err := New(Plan{Quotas: []Quota{{Operation: op, Rules: rules}}, Create: op}, Settings{}, clock.RealClock{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func take(t testing.TB, a *Account, p Priority) *Permit {
	t.Helper()
	permit, err := a.Take(t.Context(), op, p)
	if err != nil {
		t.Fatal(err)
	}
	return permit
}

// bubble runs a test in virtual time.
func bubble(t *testing.T, name string, f func(*testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// pass lets the bubble's time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func throttled(after time.Duration) error {
	return &providers.Error{Class: providers.Throttled, RetryAfter: after}
}

func TestBucketInTheLongRun(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		a := account(t, Rules{Bucket: Bucket{100, 20}})
		pass(time.Minute)
		begun := time.Now()
		var wg sync.WaitGroup
		for range 2000 {
			wg.Go(func() {
				p := take(t, a, Confirming)
				<-time.After(200 * time.Millisecond)
				p.Done(nil)
			})
		}
		wg.Wait()
		if took, least := time.Since(begun), 95*time.Second; took < least || took > least*101/100+200*time.Millisecond {
			t.Errorf("2000 calls took %s, want hardly more than the %s that the quota asks for", took, least)
		}
	})
}

func TestRetryAfterClosesForEverybody(t *testing.T) {
	tests := map[string]struct {
		err  error
		want time.Duration
	}{
		"with a time":               {throttled(40 * time.Second), 40 * time.Second},
		"without":                   {throttled(0), firstPause},
		"unavailable with a time":   {&providers.Error{Class: providers.Unavailable, RetryAfter: 20 * time.Second}, 20 * time.Second},
		"unavailable without":       {&providers.Error{Class: providers.Unavailable}, 0},
		"another error with a time": {&providers.Error{Class: providers.Conflict, RetryAfter: 20 * time.Second}, 0},
	}
	for name, test := range tests {
		bubble(t, name, func(t *testing.T) {
			a := account(t, Rules{Bucket: Bucket{100, 20}})
			pass(time.Minute)
			take(t, a, Confirming).Done(fmt.Errorf("wrapped: %w", test.err))
			if test.want > patienceOf(Reading) {
				_, err := a.Take(t.Context(), op, Reading)
				if wait, ok := Postponed(err); !ok || wait < test.want || wait > test.want+time.Second {
					t.Errorf("an impatient call: postponed %v by %s, want %s: %v", ok, wait, test.want, err)
				}
			}
			begun := time.Now()
			take(t, a, Confirming).Cancel()
			// Where it was closed, one token has to come in first.
			if d := time.Since(begun); d < test.want || d > test.want+time.Second/5 {
				t.Errorf("the next call was permitted after %s, want %s", d, test.want)
			}
		})
	}
}

func patienceOf(p Priority) time.Duration { return p.patience() }

// Answers to calls that were under way together tell one thing.
func TestOneEpisodeLowersOnce(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		a := account(t, Rules{Bucket: Bucket{100, 20}})
		pass(time.Minute)
		var permits []*Permit
		for range 50 {
			permits = append(permits, take(t, a, Confirming))
		}
		pass(time.Second)
		for _, p := range permits {
			p.Done(throttled(0))
		}
		s := a.States()[0]
		if s.Throttled != 50 || s.Believed < 9.9 || s.Believed > 18 {
			t.Errorf("after one episode %+v, want between half and 90 %% of 20 a second", s)
		}
	})
}

// Pauses grow while the cloud accepts nothing, without lowering the belief: that
// nothing passes says nothing about the rate.
func TestPausesGrow(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		a := account(t, Rules{Bucket: Bucket{100, 20}})
		pass(time.Minute)
		var waits []time.Duration
		for range 7 {
			take(t, a, Confirming).Done(throttled(0))
			waits = append(waits, a.States()[0].Closed)
		}
		want := []time.Duration{1, 2, 4, 8, 16, 30, 30}
		for i := range want {
			want[i] *= time.Second
		}
		if diff := cmp.Diff(want, waits); diff != "" {
			t.Errorf("pauses (-want +got):\n%s", diff)
		}
		if b := a.States()[0].Believed; b < 10 {
			t.Errorf("%.2f a second believed, want at least half of 20 after one lowering", b)
		}
	})
}

func TestPriorities(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		a := account(t, Rules{Bucket: Bucket{1, 10}})
		var mu sync.Mutex
		var order []Priority
		var wg sync.WaitGroup
		ask := func(p Priority, n int) {
			for range n {
				wg.Go(func() {
					// As many as there are of them, none is to be impatient here.
					permit, err := a.Take(t.Context(), op, p)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					order = append(order, p)
					mu.Unlock()
					permit.Done(nil)
				})
			}
			synctest.Wait()
		}
		ask(Listing, 40) // the first is served at once
		ask(Confirming, 10)
		wg.Wait()
		late := 0
		for i, p := range order[1:] {
			if p == Confirming {
				late = i
			}
		}
		// One permit in eight goes to who has waited longest.
		if late > 11 {
			t.Errorf("the last of ten confirming calls was number %d behind the calls before: %v", late, order)
		}
	})
	bubble(t, "nobody starves", func(t *testing.T) {
		a := account(t, Rules{Bucket: Bucket{1, 10}})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 20 { // always more than there is
			wg.Go(func() {
				for {
					permit, err := a.Take(ctx, op, Confirming)
					if err != nil {
						return
					}
					permit.Done(nil)
				}
			})
		}
		pass(10 * time.Second)
		begun := time.Now()
		take(t, a, Listing).Done(nil)
		if d := time.Since(begun); d > 30*time.Second {
			t.Errorf("a listing waited %s behind confirming reads", d)
		}
		cancel()
		wg.Wait()
	})
}

func TestPatience(t *testing.T) {
	bubble(t, "of the priority", func(t *testing.T) {
		a := account(t, Rules{Windows: []Window{{1, time.Minute}}})
		take(t, a, Reading).Done(nil)
		begun := time.Now()
		_, err := a.Take(t.Context(), op, Reading)
		if wait, ok := Postponed(err); !ok || wait < 59*time.Second || wait > time.Minute || time.Since(begun) != 0 {
			t.Errorf("after %s: postponed %v by %s: %v", time.Since(begun), ok, wait, err)
		}
		if s := a.States()[0]; s.Waiting != 0 {
			t.Errorf("%d still wait", s.Waiting)
		}
	})
	bubble(t, "of the context", func(t *testing.T) {
		a := account(t, Rules{Windows: []Window{{1, time.Minute}}})
		take(t, a, Confirming).Done(nil)
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		if _, err := a.Take(ctx, op, Confirming); err == nil {
			t.Error("more than half of the context's time was spent waiting")
		}
		ctx, cancel = context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		permit, err := a.Take(ctx, op, Confirming)
		if err != nil {
			t.Fatal(err)
		}
		permit.Cancel()
	})
	bubble(t, "runs out while others go first", func(t *testing.T) {
		a := account(t, Rules{Bucket: Bucket{1, 3}})
		take(t, a, Confirming).Done(nil)
		var wg sync.WaitGroup
		wg.Go(func() {
			begun := time.Now()
			_, err := a.Take(t.Context(), op, Reading)
			if _, ok := Postponed(err); !ok || time.Since(begun) != patienceOf(Reading) {
				t.Errorf("after %s: %v", time.Since(begun), err)
			}
		})
		synctest.Wait()
		for range 5 {
			wg.Go(func() { take(t, a, Confirming).Done(nil) })
		}
		wg.Wait()
	})
	bubble(t, "a context that ends", func(t *testing.T) {
		a := account(t, Rules{Windows: []Window{{1, time.Hour}}})
		take(t, a, Confirming).Done(nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := a.Take(ctx, op, Confirming)
			done <- err
		}()
		pass(time.Second)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

func TestPermits(t *testing.T) {
	bubble(t, "a call that was not sent is not counted", func(t *testing.T) {
		a := account(t, Rules{Windows: []Window{{1, time.Hour}}})
		for range 5 {
			p := take(t, a, Reading)
			p.Cancel()
			p.Cancel()
			p.Done(nil)
		}
		take(t, a, Reading).Done(nil)
		if _, err := a.Take(t.Context(), op, Reading); err == nil {
			t.Error("a second call within the window was permitted")
		}
	})
	bubble(t, "carried, for one call of its operation", func(t *testing.T) {
		a, err := New(Plan{Quotas: []Quota{
			{Operation: op, Rules: Rules{Windows: []Window{{1, time.Hour}}}},
			{Operation: "other", Rules: Rules{Windows: []Window{{1, time.Hour}}}},
		}}, Settings{}, clock.RealClock{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		p := take(t, a, Confirming)
		ctx := Carry(t.Context(), p)
		other, err := a.Take(ctx, "other", Reading)
		if err != nil || other == p {
			t.Errorf("another operation: %v %v", other == p, err)
		}
		got, err := a.Take(ctx, op, Reading)
		if err != nil || got != p {
			t.Errorf("the permit was not used: %v", err)
		}
		got.Done(nil)
		if _, err := a.Take(ctx, op, Reading); err == nil {
			t.Error("the permit was used twice")
		}
	})
	bubble(t, "of an operation without a quota", func(t *testing.T) {
		a := account(t, Rules{})
		for range 1000 {
			p, err := a.Take(t.Context(), "Unheard", Reading)
			if err != nil {
				t.Fatal(err)
			}
			p.Done(throttled(time.Hour))
		}
	})
}

func TestSettings(t *testing.T) {
	tests := map[string]struct {
		text string
		want Settings
		err  string
	}{
		"nothing":   {"", Settings{rules: map[string]Rules{}}, ""},
		"unlimited": {"unlimited", Settings{rules: map[string]Rules{}, unlimited: true}, ""},
		"all forms": {
			" A=200+40/s,2000/1m ;B=1/1h; C=unlimited;",
			Settings{rules: map[string]Rules{
				"A": {Bucket: Bucket{200, 40}, Windows: []Window{{2000, time.Minute}}},
				"B": {Windows: []Window{{1, time.Hour}}},
				"C": {},
			}}, "",
		},
		"no rules":         {"A", Settings{}, `"A" is no quota`},
		"no operation":     {"=1/1m", Settings{}, "is no quota"},
		"a rate without s": {"A=1+2/m", Settings{}, "quota of A"},
		"nothing a second": {"A=1+0/s", Settings{}, "quota of A"},
		"not a number":     {"A=1+NaN/s", Settings{}, "quota of A"},
		"no burst":         {"A=0+1/s", Settings{}, "quota of A"},
		"two buckets":      {"A=1+1/s,1+1/s", Settings{}, "quota of A"},
		"no calls":         {"A=0/1m", Settings{}, "quota of A"},
		"too short":        {"A=1/1ms", Settings{}, "quota of A"},
		"every mistake":    {"A=x;B=y", Settings{}, "quota of B"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(test.text)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("error %v, want one with %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(Settings{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	s, err := Parse("Craete=1/1m")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Plan{Quotas: []Quota{{Operation: op}}}, s, clock.RealClock{}, nil); err == nil || !strings.Contains(err.Error(), op) {
		t.Errorf("an unknown operation: %v, want an error that names the known ones", err)
	}
}

func TestIntend(t *testing.T) {
	claims := func(wanted int) Claims { return Claims{op: {Wanted: wanted}} }
	tests := map[string]struct {
		mine   int
		others []int
		want   float64
	}{
		"alone":                    {0, nil, 1},
		"nobody wants anything":    {0, []int{0}, 0.5},
		"only this one":            {100, []int{0}, 0.95},
		"only the other":           {0, []int{100}, 0.05},
		"by demand":                {300, []int{100}, 0.05 + 0.9*0.75},
		"many that want nothing":   {100, make([]int, 19), 1 - 19*0.025},
		"more agents than 1/floor": {0, make([]int, 39), 1.0 / 40},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var others []Claims
			for _, w := range test.others {
				others = append(others, claims(w))
			}
			if got := Intend(claims(test.mine), others)[op].Share; got < test.want-1e-9 || got > test.want+1e-9 {
				t.Errorf("share %g, want %g", got, test.want)
			}
		})
	}
}

func TestRemember(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		a := account(t, Rules{Windows: []Window{{100, 5 * time.Minute}, {300, time.Hour}}})
		at := time.Now()
		pass(time.Minute)
		a.Remember(Claims{op: {Used: []int{90, 250}}, "unheard": {Used: []int{1}}}, at)
		for range 10 {
			take(t, a, Reading).Done(nil)
		}
		_, err := a.Take(t.Context(), op, Reading)
		if wait, ok := Postponed(err); !ok || wait != 4*time.Minute {
			t.Errorf("postponed %v by %s, want until 5 minutes after the other process: %v", ok, wait, err)
		}
	})
}

// What the process before this one has left in the bucket is not lost, if it said
// so at its end.
func TestInherit(t *testing.T) {
	left := Claims{op: {Share: 1, Left: 40}}
	for name, test := range map[string]struct {
		begin func(a *Account, at time.Time)
		want  int
	}{
		"nobody":                 {func(a *Account, _ time.Time) { a.Fresh() }, 100},
		"nothing is known":       {func(*Account, time.Time) {}, 20},
		"a farewell":             {func(a *Account, at time.Time) { a.Inherit(left.Farewell(), at, true) }, 20 + 40 + 20},
		"others used the flow":   {func(a *Account, at time.Time) { a.Inherit(left.Farewell(), at, false) }, 20 + 40},
		"no farewell":            {func(a *Account, at time.Time) { a.Inherit(left, at, true) }, 20},
		"twice is once":          {func(a *Account, at time.Time) { a.Fresh(); a.Inherit(left.Farewell(), at, true) }, 100},
		"long ago":               {func(a *Account, at time.Time) { a.Inherit(left.Farewell(), at.Add(-time.Hour), true) }, 100},
		"the share is a tenth":   {func(a *Account, at time.Time) { a.divideAll(0.1); a.Inherit(left.Farewell(), at, true) }, 10},
		"an operation of old":    {func(a *Account, at time.Time) { a.Inherit(Claims{"Gone": {Left: 9}}, at, true) }, 20},
		"throttled in between":   {func(a *Account, at time.Time) { throttle(t, a); a.Inherit(left.Farewell(), at, true) }, 0},
		"a farewell yet to come": {func(a *Account, at time.Time) { a.Inherit(left.Farewell(), at.Add(time.Hour), true) }, 20 + 40},
	} {
		bubble(t, name, func(t *testing.T) {
			at := time.Now()
			pass(time.Second)
			a := account(t, Rules{Bucket: Bucket{Burst: 100, PerSecond: 20}})
			test.begin(a, at)
			got := 0
			for got < 200 && a.Delay(op, got+1) <= 0 {
				got++
			}
			if got != test.want {
				t.Errorf("%d calls can be made at once, want %d", got, test.want)
			}
		})
	}
}

func throttle(t *testing.T, a *Account) {
	t.Helper()
	take(t, a, Reading).Done(&providers.Error{Class: providers.Throttled})
}
