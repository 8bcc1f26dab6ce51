package vnode

import (
	"cmp"
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/autoburst/autoburst/providers/quota"
)

// lane is where pods stand that wait for a write to the cloud of one kind. Its
// workers take a permit of the account's quota first and then the pod that is
// best at that moment, so that an important pod overtakes those that have waited
// longer. They are not the workers that do everything else: reads, and writes of
// the other kind, go on.
type lane struct {
	account   *quota.Account // nil where nothing bounds the writes
	operation string

	mu     sync.Mutex
	ready  *sync.Cond // a pod has come, or the lane is closed
	line   standings
	at     map[types.UID]*standing
	count  uint64
	taking int // workers that have a permit, or wait for one, and no pod yet
	closed bool
}

// standing is one pod in a lane.
type standing struct {
	uid      types.UID
	priority int32
	created  time.Time // of the pod; zero where it does not matter
	arrival  uint64
	since    time.Time // when it came into the lane
	told     bool      // in the pod's status, that it waits
	index    int
}

func newLane(account *quota.Account, operation string) *lane {
	l := &lane{account: account, operation: operation, at: map[types.UID]*standing{}}
	l.ready = sync.NewCond(&l.mu)
	return l
}

// push puts a pod into the lane; one that stands there keeps its place.
func (l *lane) push(s standing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, stands := l.at[s.uid]; stands {
		return
	}
	l.count++
	s.arrival = l.count
	l.at[s.uid] = &s
	heap.Push(&l.line, &s)
	l.ready.Signal()
}

// drop takes a pod out of the lane, if it stands there.
func (l *lane) drop(uid types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s, stands := l.at[uid]; stands {
		heap.Remove(&l.line, s.index)
		delete(l.at, uid)
	}
}

// await returns when there is a pod for one more worker, or false when the lane
// is closed.
func (l *lane) await() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.line) <= l.taking && !l.closed {
		l.ready.Wait()
	}
	if l.closed {
		return false
	}
	l.taking++
	return true
}

// pop ends what await began with the best pod, if one is left.
func (l *lane) pop() (types.UID, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taking--
	if len(l.line) == 0 {
		return "", false
	}
	s, _ := heap.Pop(&l.line).(*standing)
	delete(l.at, s.uid)
	return s.uid, true
}

func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.ready.Broadcast()
}

// permit waits until the account's quota allows one more write.
func (l *lane) permit(ctx context.Context) (*quota.Permit, error) {
	if l.account == nil {
		return &quota.Permit{}, ctx.Err()
	}
	return l.account.Take(ctx, l.operation, quota.Confirming)
}

// depth is how many pods stand in the lane. It also tells the account, for the
// demand, how many of them no worker waits for.
func (l *lane) depth() int {
	l.mu.Lock()
	n, taking := len(l.line), l.taking
	l.mu.Unlock()
	if l.account != nil {
		l.account.Backlog(l.operation, max(0, n-taking))
	}
	return n
}

// waiting are the pods that have stood in the lane since the given time and were
// not told so yet, each with its place, counted from 1.
func (l *lane) waiting(since time.Time) map[types.UID]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	order := slices.SortedFunc(slices.Values(l.line), (*standing).compare)
	found := map[types.UID]int{}
	for i, s := range order {
		if !s.told && !s.since.After(since) {
			found[s.uid] = i + 1
		}
	}
	return found
}

// tell notes that a pod was told; it returns false if it has left the lane.
func (l *lane) tell(uid types.UID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, stands := l.at[uid]
	if stands {
		s.told = true
	}
	return stands
}

// compare orders by priority, then age.
func (s *standing) compare(other *standing) int {
	return cmp.Or(
		cmp.Compare(other.priority, s.priority),
		s.created.Compare(other.created),
		cmp.Compare(s.arrival, other.arrival),
	)
}

// standings are a heap, for container/heap.
type standings []*standing

func (h standings) Len() int           { return len(h) }
func (h standings) Less(i, j int) bool { return h[i].compare(h[j]) < 0 }
func (h standings) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push appends an element; it is for container/heap.
func (h *standings) Push(x any) {
	s, _ := x.(*standing)
	s.index = len(*h)
	*h = append(*h, s)
}

// Pop removes the last element; it is for container/heap.
func (h *standings) Pop() any {
	old := *h
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return s
}
