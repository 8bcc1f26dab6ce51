package limits

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/autoburst/autoburst/policy"
)

var (
	accountA = policy.Account{Policy: policy.Ref{Kind: policy.KindPolicy, Namespace: "shop", Name: "a"}}
	accountB = policy.Account{Policy: policy.Ref{Kind: policy.KindClusterPolicy, Name: "b"}}
)

// world is the truth that the Ledger is held against: what the API server has,
// and all that is on its way to it.
type world struct {
	limits map[policy.Account]policy.Limits
	now    time.Time

	// What the API server has: pods by UID, the ledger, the heartbeats.
	pods      map[types.UID]*pod
	persisted []byte // nil before the first
	history   [][]byte
	version   int // its resourceVersion
	beats     map[string]beat

	// On their way: pods that were admitted, and patches of late grants.
	admitted []arriving
	patches  []arriving
	// pending are pods that wait for a late grant.
	pending map[types.UID]*pod
	next    int

	leaders  []*leader
	replicas []*replica
	names    int
}

// pod is what the API server has of one.
type pod struct {
	uid     types.UID
	charges []policy.Charge
	stamp   string
	granted bool
	bound   bool
	rank    Rank
}

// arriving becomes a fact at any time before its deadline, or never.
type arriving struct {
	pod *pod
	by  time.Time
}

// beat is a heartbeat as it is persisted.
type beat struct {
	serial int
	closed map[string]policy.Amount
}

// leader is a replica that believes to be elected. The last is; others go on for
// as long as they do not notice.
type leader struct {
	w       *world
	ledger  *Ledger
	version int // of the persisted ledger that it wrote last
	written uint64
	// queue are observations under way, in order.
	queue []func()
	heard map[string]heardAt
	// reserved are grants of which the reservation is not yet persisted.
	reserved map[types.UID]uint64
	fenced   bool
	fresh    int // index of queue up to which it is fresh after a barrier
}

type heardAt struct {
	serial int
	at     time.Time
}

// replica answers the webhook.
type replica struct {
	holder *Holder
	name   string
	// beats is true once its heartbeat exists.
	beats bool
	// cut is true while it is cut off from the API server, which calls it still.
	cut bool
}

func newWorld(t *rapid.T) *world {
	w := &world{
		limits: map[policy.Account]policy.Limits{
			accountA: {Pods: int64(rapid.IntRange(0, 12).Draw(t, "limit a")), MilliCPU: policy.Unlimited, Memory: policy.Unlimited},
			accountB: {
				Pods: int64(rapid.IntRange(0, 12).Draw(t, "limit b")), MilliCPU: int64(rapid.IntRange(0, 4000).Draw(t, "cpu b")), Memory: policy.Unlimited,
			},
		},
		now: time.Unix(0, 0), pods: map[types.UID]*pod{}, beats: map[string]beat{}, pending: map[types.UID]*pod{},
	}
	for range 2 {
		w.startReplica()
	}
	w.elect()
	return w
}

func (w *world) startReplica() *replica {
	w.names++
	r := &replica{name: fmt.Sprint("replica-", w.names)}
	r.holder = NewHolder(r.name)
	w.replicas = append(w.replicas, r)
	return r
}

func (w *world) newPod(t *rapid.T) *pod {
	w.next++
	p := &pod{uid: types.UID(fmt.Sprint(w.next)), rank: Rank{Created: w.now, Name: fmt.Sprint(w.next)}}
	cpu := int64(rapid.SampledFrom([]int{100, 500, 1000}).Draw(t, "cpu"))
	amount := policy.Amount{Pods: 1, MilliCPU: cpu}
	which := rapid.IntRange(0, 2).Draw(t, "accounts")
	if which != 1 {
		p.charges = append(p.charges, policy.Charge{Account: accountA, Amount: amount})
	}
	if which != 0 {
		p.charges = append(p.charges, policy.Charge{Account: accountB, Amount: amount})
	}
	return p
}

// notify tells every leader's informer of a pod.
func (w *world) notify(p *pod, gone bool) {
	o := Observation{UID: p.uid, Settled: p.bound}
	if p.granted {
		o.Charges, o.Stamp = p.charges, p.stamp
	}
	for _, l := range w.leaders {
		l.queue = append(l.queue, func() {
			if gone {
				l.ledger.Gone(o.UID)
			} else {
				l.ledger.Observe(o)
			}
		})
	}
}

// elect starts a new leader: it takes the persisted ledger over by a write, and
// then counts all pods.
func (w *world) elect() {
	l := &leader{w: w, heard: map[string]heardAt{}, reserved: map[types.UID]uint64{}, fresh: 0}
	if w.persisted == nil {
		l.ledger = NewLedger("x", time.Time{})
	} else {
		l.ledger = Restore(w.read(), w.now)
	}
	l.version = w.version
	l.ledger.SetLimits(w.limits, w.now)
	w.leaders = append(w.leaders, l)
	l.write()
	for _, uid := range slices.Sorted(maps.Keys(w.pods)) {
		p := w.pods[uid]
		o := Observation{UID: p.uid, Settled: p.bound}
		if p.granted {
			o.Charges, o.Stamp = p.charges, p.stamp
		}
		l.ledger.Observe(o)
	}
}

func (w *world) read() State { return decode(w.persisted) }

func decode(b []byte) State {
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		panic(err)
	}
	return s
}

// write persists the ledger, unless another leader has.
func (l *leader) write() {
	if l.fenced {
		return
	}
	if l.version != l.w.version {
		l.fenced = true
		return
	}
	s := l.ledger.State()
	l.w.version++
	s.Revision = int64(l.w.version)
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	l.w.persisted, l.version = b, l.w.version
	l.w.history = append(l.w.history, b)
	l.written, _ = l.ledger.Version()
}

// hear reads the heartbeats as they are persisted, or as they were.
func (l *leader) hear() {
	for name, b := range l.w.beats {
		if l.heard[name].serial != b.serial {
			l.heard[name] = heardAt{b.serial, l.w.now}
			l.ledger.Heard(name, b.closed, l.w.now)
		}
	}
}

// bury declares replicas dead from which nothing was heard, by deleting their
// heartbeat if it is still the one that was seen.
func (l *leader) bury() {
	holders := l.ledger.Holders()
	for name := range l.heard {
		holders[name] = true
	}
	for name := range holders {
		h, known := l.heard[name]
		if !known {
			l.heard[name] = heardAt{-1, l.w.now}
			continue
		}
		if l.w.now.Sub(h.at) < Renewal+2*time.Second {
			continue
		}
		if b, ok := l.w.beats[name]; ok && b.serial != h.serial {
			continue // it lives: the write conflicts
		}
		if l.fenced {
			continue
		}
		delete(l.w.beats, name)
		delete(l.heard, name)
		l.ledger.Lost(name, l.w.now)
	}
}

// plan is one turn of the leader.
func (l *leader) plan() {
	fresh := false
	if l.ledger.Ending(l.w.now) {
		l.catchUp()
		fresh = true
	}
	l.ledger.Plan(fresh, l.w.now)
	if v, lazy := l.ledger.Version(); v != l.written || lazy > 0 {
		l.write()
	}
}

// usage is the truth: what granted pods take, and what may never exceed the
// limits.
func (w *world) usage() map[policy.Account]policy.Amount {
	used := map[policy.Account]policy.Amount{}
	for _, p := range w.pods {
		if p.granted {
			for _, c := range p.charges {
				used[c.Account] = used[c.Account].Plus(c.Amount)
			}
		}
	}
	return used
}

func (w *world) check(t *rapid.T) {
	for of, used := range w.usage() {
		if !w.limits[of].Allow(used) {
			t.Fatalf("%s: %+v is used, the limit is %+v", of, used, w.limits[of])
		}
	}
}

func (w *world) anyReplica(t *rapid.T) *replica {
	return rapid.SampledFrom(w.replicas).Draw(t, "replica")
}

func (w *world) anyLeader(t *rapid.T) *leader {
	return rapid.SampledFrom(w.leaders).Draw(t, "leader")
}

// round is a turn in which nothing is lost: without some, nobody would ever have
// a share.
func (w *world) round(t *rapid.T) {
	l := w.leaders[len(w.leaders)-1]
	for _, r := range w.replicas {
		w.beat(r, false)
	}
	if rapid.Bool().Draw(t, "caught up") {
		l.catchUp()
	}
	l.hear()
	l.bury()
	l.plan()
	for _, r := range w.replicas {
		w.bring(r, w.persisted)
	}
}

// bring tells a replica of the ledger.
func (w *world) bring(r *replica, b []byte) {
	if !r.cut {
		r.holder.Adopt(decode(b))
	}
}

// cutOff parts a replica from the API server, or joins them again.
func (w *world) cutOff(t *rapid.T) {
	r := w.anyReplica(t)
	r.cut = !r.cut
}

// bind puts a pod on its node; informers hear of it again.
func (w *world) bind(t *rapid.T) {
	if len(w.pods) == 0 {
		t.Skip()
	}
	p := w.pods[rapid.SampledFrom(slices.Sorted(maps.Keys(w.pods))).Draw(t, "pod")]
	p.bound = p.granted
	w.notify(p, false)
}

// withdraw is a pod that may not burst for another reason, for now.
func (w *world) withdraw(t *rapid.T) {
	if len(w.pending) == 0 {
		t.Skip()
	}
	w.anyLeader(t).ledger.Withdraw(rapid.SampledFrom(slices.Sorted(maps.Keys(w.pending))).Draw(t, "pod"))
}

func (l *leader) catchUp() {
	for _, f := range l.queue {
		f()
	}
	l.queue = nil
}

// rush is many pods at once.
func (w *world) rush(t *rapid.T) {
	r := w.anyReplica(t)
	for range 5 {
		w.admitBy(t, r)
	}
}

// admit answers the webhook for a new pod.
func (w *world) admit(t *rapid.T) { w.admitBy(t, w.anyReplica(t)) }

func (w *world) admitBy(t *rapid.T, r *replica) {
	p := w.newPod(t)
	stamp, ok := r.holder.Take(p.charges, w.now)
	if !ok {
		p.granted = false
		w.pods[p.uid], w.pending[p.uid] = p, p
		w.notify(p, false)
		return
	}
	p.stamp, p.granted = stamp, true
	w.admitted = append(w.admitted, arriving{p, w.now.Add(60 * time.Second)})
}

// arrive persists an admitted pod, or the request has failed.
func (w *world) arrive(t *rapid.T) {
	if len(w.admitted) == 0 {
		t.Skip()
	}
	i := rapid.IntRange(0, len(w.admitted)-1).Draw(t, "which")
	a := w.admitted[i]
	w.admitted = slices.Delete(w.admitted, i, i+1)
	if rapid.IntRange(0, 4).Draw(t, "fails") == 0 {
		return
	}
	w.persist(a.pod)
}

func (w *world) persist(p *pod) {
	w.pods[p.uid] = p
	w.notify(p, false)
}

// arriveAll persists all that was admitted.
func (w *world) arriveAll(*rapid.T) {
	for _, a := range w.admitted {
		w.persist(a.pod)
	}
	w.admitted = nil
}

// reserveAll is the work of a leader that has many to grant, and all grants that
// are under way.
func (w *world) reserveAll(t *rapid.T) {
	l := w.anyLeader(t)
	for _, uid := range slices.Sorted(maps.Keys(w.pending)) {
		w.late(l, w.pending[uid], func() bool { return false })
	}
	if rapid.Bool().Draw(t, "patched") {
		for _, a := range w.patches {
			if w.pods[a.pod.uid] != nil {
				w.grant(a.pod)
			}
		}
		w.patches = nil
	}
}

// advance moves the clock; what was in flight for too long comes to nothing.
func (w *world) advance(t *rapid.T) {
	d := rapid.SampledFrom([]time.Duration{time.Millisecond, 100 * time.Millisecond, time.Second, 5 * time.Second, 30 * time.Second}).Draw(t, "step")
	w.pass(d)
}

func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	over := func(a arriving) bool { return w.now.After(a.by) }
	w.admitted = slices.DeleteFunc(w.admitted, over)
	w.patches = slices.DeleteFunc(w.patches, over)
}

// renew sends the heartbeat of a replica.
func (w *world) renew(t *rapid.T) {
	w.beat(w.anyReplica(t), rapid.IntRange(0, 3).Draw(t, "answer lost") == 0)
}

func (w *world) beat(r *replica, answerLost bool) {
	if r.cut {
		return
	}
	started := w.now
	closed, _ := r.holder.Report()
	b, ok := w.beats[r.name]
	switch {
	case !ok && r.beats:
		// Its heartbeat was deleted: it was declared dead.
		w.names++
		r.name = fmt.Sprint("replica-", w.names)
		r.holder.Rename(r.name)
		r.beats = false
		return
	case !ok:
		r.beats = true
		w.beats[r.name] = beat{1, closed}
	default:
		w.beats[r.name] = beat{b.serial + 1, closed}
	}
	if !answerLost {
		r.holder.Renewed(started)
	}
}

// adopt brings the ledger to a replica, or an older state of it, as a watch that
// begins anew may.
func (w *world) adopt(t *rapid.T) {
	back := rapid.SampledFrom([]int{0, 0, 0, 1, 2, 10}).Draw(t, "back")
	w.bring(w.anyReplica(t), w.history[max(0, len(w.history)-1-back)])
}

// crash ends a replica; another takes its place.
func (w *world) crash(t *rapid.T) {
	if len(w.replicas) > 6 {
		t.Skip()
	}
	i := rapid.IntRange(0, len(w.replicas)-1).Draw(t, "which")
	w.replicas = slices.Delete(w.replicas, i, i+1)
	w.startReplica()
}

// takeover elects a new leader while the old one may still act.
func (w *world) takeover(t *rapid.T) {
	if len(w.leaders) > 4 {
		w.leaders = w.leaders[1:]
	}
	w.elect()
}

// observe lets a leader's informer catch up by one event or all.
func (w *world) observe(t *rapid.T) {
	l := w.anyLeader(t)
	n := rapid.SampledFrom([]int{1, 100}).Draw(t, "events")
	for range min(n, len(l.queue)) {
		l.queue[0]()
		l.queue = l.queue[1:]
	}
}

func (w *world) lead(t *rapid.T) {
	l := w.anyLeader(t)
	if rapid.Bool().Draw(t, "hears") {
		l.hear()
	}
	l.bury()
	l.plan()
}

// reserve asks for a late grant of a pending pod, and sends the patch once the
// reservation is persisted.
func (w *world) reserve(t *rapid.T) {
	if len(w.pending) == 0 {
		t.Skip()
	}
	uid := rapid.SampledFrom(slices.Sorted(maps.Keys(w.pending))).Draw(t, "pod")
	l := w.anyLeader(t)
	w.late(l, w.pending[uid], func() bool { return rapid.IntRange(0, 3).Draw(t, "withdrawn") == 0 })
}

func (w *world) late(l *leader, p *pod, withdraws func() bool) {
	v, refused := l.ledger.Reserve(p.uid, p.rank, p.charges, w.now)
	if refused != nil {
		return
	}
	if l.written < v {
		l.write()
	}
	if l.fenced || l.written < v {
		return
	}
	if withdraws() {
		l.ledger.Withdraw(p.uid)
		return
	}
	l.ledger.Sent(p.uid, w.now)
	w.patches = append(w.patches, arriving{p, w.now.Add(60 * time.Second)})
}

// patch carries a late grant out, or it fails.
func (w *world) patch(t *rapid.T) {
	if len(w.patches) == 0 {
		t.Skip()
	}
	i := rapid.IntRange(0, len(w.patches)-1).Draw(t, "which")
	a := w.patches[i]
	w.patches = slices.Delete(w.patches, i, i+1)
	if w.pods[a.pod.uid] == nil || rapid.IntRange(0, 4).Draw(t, "fails") == 0 {
		return
	}
	w.grant(a.pod)
}

func (w *world) grant(p *pod) {
	p.granted = true
	delete(w.pending, p.uid)
	w.notify(p, false)
}

func (w *world) remove(t *rapid.T) {
	if len(w.pods) == 0 {
		t.Skip()
	}
	p := w.pods[rapid.SampledFrom(slices.Sorted(maps.Keys(w.pods))).Draw(t, "pod")]
	delete(w.pods, p.uid)
	delete(w.pending, p.uid)
	w.notify(p, true)
}

// settle lets everything come to rest: then the whole limit must be usable.
func (w *world) settle(t *rapid.T) {
	w.patches, w.admitted = nil, nil
	for _, r := range w.replicas {
		r.cut = false
	}
	w.leaders = w.leaders[len(w.leaders)-1:]
	l := w.leaders[0]
	if l.fenced { // it notices, and is elected anew
		w.leaders = nil
		w.elect()
		l = w.leaders[0]
	}
	for range 120 {
		w.pass(2 * time.Second)
		for _, r := range w.replicas {
			w.beat(r, false)
			w.bring(r, w.persisted)
		}
		l.catchUp()
		l.hear()
		l.bury()
		l.plan()
	}
	// More pods than fit: each limit is used up to the last one.
	for i := range 30 {
		w.next++
		p := &pod{uid: types.UID(fmt.Sprint(w.next)), rank: Rank{Created: w.now, Name: fmt.Sprint(i)}}
		p.charges = []policy.Charge{{Account: accountA, Amount: policy.Amount{Pods: 1}}}
		w.pods[p.uid], w.pending[p.uid] = p, p
		w.late(l, p, func() bool { return false })
	}
	for range 60 {
		w.pass(2 * time.Second)
		for _, r := range w.replicas {
			w.beat(r, false)
			w.bring(r, w.persisted)
		}
		l.hear()
		l.bury()
		l.plan()
		for _, uid := range l.ledger.Next(w.now) {
			if p := w.pending[uid]; p != nil {
				w.late(l, p, func() bool { return false })
			} else {
				l.ledger.Withdraw(uid)
			}
		}
		for _, a := range w.patches {
			w.grant(a.pod)
		}
		w.patches = nil
		l.catchUp()
		w.check(t)
	}
	if used, limit := w.usage()[accountA], w.limits[accountA]; used.Pods != limit.Pods {
		a := l.ledger.accounts[accountA]
		t.Fatalf("after all has settled %d pods are granted of a limit of %d; exposure %+v, waiting %d, shares %v", used.Pods, limit.Pods, a.exposure(), l.ledger.Waiting(), a.shares)
	}
}

// TestNeverExceeded: whatever happens in whatever order, what the API server has
// never exceeds a limit, and when all has settled the whole limit can be used.
func TestNeverExceeded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(map[string]func(*rapid.T){
			"":         w.check,
			"admit":    w.admit,
			"arrive":   w.arrive,
			"arrive2":  w.arrive,
			"advance":  w.advance,
			"renew":    w.renew,
			"renew2":   w.renew,
			"adopt":    w.adopt,
			"adopt2":   w.adopt,
			"crash":    w.crash,
			"takeover": w.takeover,
			"observe":  w.observe,
			"lead":     w.lead,
			"lead2":    w.lead,
			"reserve":  w.reserve,
			"patch":    w.patch,
			"remove":   w.remove,

			"round":      w.round,
			"round2":     w.round,
			"round3":     w.round,
			"rush":       w.rush,
			"arriveAll":  w.arriveAll,
			"reserveAll": w.reserveAll,
			"advance2":   w.advance,
			"advance3":   w.advance,
			"cutOff":     w.cutOff,
			"bind":       w.bind,
			"withdraw":   w.withdraw,
		})
		w.settle(t)
	})
}
