package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/playground"
)

// Options of Run.
type Options struct {
	Plan Plan
	// SettleEvery is after how many rounds things settle and are judged; zero means
	// 20. They always do at the end.
	SettleEvery int
	// Race builds the agents with the race detector.
	Race bool
	// Progress is told what is done, nil for nobody.
	Progress io.Writer
}

// Result is what came of a run.
type Result struct {
	Violations []Violation
	// Rounds are those since things had settled before, in which what was found
	// has its cause, with the times of their steps.
	Rounds string
	// Timelines are those of the pods that the violations are about.
	Timelines string
	// Summary counts what happened.
	Summary string
	// Logs is where the logs are kept, if anything was found.
	Logs string
}

const (
	// pointBound is how long a step waits for its point.
	pointBound = 2 * time.Second
	// settleBound is how long things may take to settle; a pod's calls may be backed
	// off for a minute.
	settleBound = 100 * time.Second
	// quiet is for how long nothing may change before things count as settled.
	quiet = 1500 * time.Millisecond
	// marker is the value of a Secret that must not be found in any text.
	marker = "chaos-marker-5e2b7d"
)

// timing is a cloud in which everything takes its time, but not long.
var timing = sim.Timing{
	Schedule: 30 * time.Millisecond, Pull: 100 * time.Millisecond, Start: 30 * time.Millisecond,
	Stop: 60 * time.Millisecond, Restart: 50 * time.Millisecond,
	CrashBackOff: sim.BackOff{Initial: 200 * time.Millisecond, Max: 2 * time.Second},
	PullBackOff:  sim.BackOff{Initial: 200 * time.Millisecond, Max: 2 * time.Second},
}

// replicas is how many agents each node has.
const replicas = 2

// callTimeout is when the agents give up on a call.
const callTimeout = 4 * time.Second

// agentArgs make the agents as quick as the clouds, and another of them lead 3 s
// after the last sign of life of one.
var agentArgs = "vnode.extraArgs={" + strings.Join([]string{
	"--sweep-interval=1s", "--fast-interval=200ms", "--check-interval=1s", "--missing-interval=500ms", "--reads-per-second=100", "--capacity-pause=10s",
	"--call-timeout=" + callTimeout.String(),
	"--leader-elect-lease-duration=3s", "--leader-elect-renew-deadline=2s", "--leader-elect-retry-period=500ms",
}, ",") + "}"

// bed is the running system under a plan.
type bed struct {
	*playground.Playground
	client   kubernetes.Interface
	recorder *recorder
	clouds   map[string]cloud
	agents   map[string]*agents
	seed     uint64

	rotations int
	pending   sync.WaitGroup // what goes on beside the rounds

	mu   sync.Mutex
	errs []error
	lies map[string]*Step // the Forget that goes on, by cloud

	done  map[Action]int
	steps strings.Builder // of the rounds since things had settled
}

// Run carries out a plan and judges what comes of it. It stops at the first
// violations. An error means that the run itself failed, not that something was
// found.
func Run(ctx context.Context, o Options) (result *Result, err error) {
	if o.SettleEvery == 0 {
		o.SettleEvery = 20
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	begun := time.Now()
	b, err := newBed(ctx, o)
	if err != nil {
		return nil, err
	}
	result = &Result{}
	defer func() {
		if err != nil || len(result.Violations) > 0 {
			b.KeepLogs()
			result.Logs = b.Dir
		}
		b.recorder.close()
		err = errors.Join(err, b.Stop())
	}()
	fmt.Fprintf(o.Progress, "chaos: the system runs after %s\n", time.Since(begun).Round(time.Second))
	running := time.Now()
	var history *History
	for i, round := range o.Plan.Rounds {
		if err := b.round(ctx, round); err != nil {
			return result, fmt.Errorf("round %d: %w", round.Number, err)
		}
		last := i == len(o.Plan.Rounds)-1
		if (i+1)%o.SettleEvery != 0 && !last {
			continue
		}
		at := time.Now()
		if history, err = b.settle(ctx); err != nil {
			return result, err
		}
		result.Violations = append(Judge(history), b.deaths()...)
		fmt.Fprintf(o.Progress, "chaos: %s: rounds up to %d done, settled in %s, %d pods so far, %d violations\n",
			time.Since(running).Round(time.Second), round.Number, time.Since(at).Round(100*time.Millisecond), len(history.podsByUID()), len(result.Violations))
		if len(result.Violations) > 0 {
			break
		}
		b.steps.Reset()
	}
	if len(result.Violations) == 0 {
		// The end of everything: what the workloads leave behind is nothing.
		if history, err = b.empty(ctx); err != nil {
			return result, err
		}
		result.Violations = append(Judge(history), b.deaths()...)
	}
	result.Rounds = b.steps.String()
	told := map[string]bool{}
	for _, v := range result.Violations {
		if v.UID != "" && !told[v.UID] && len(told) < 5 {
			told[v.UID] = true
			result.Timelines += fmt.Sprintf("pod %s:\n%s", v.UID, history.Timeline(v.UID))
		}
	}
	result.Summary = b.summary(history, time.Since(running))
	return result, nil
}

func newBed(ctx context.Context, o Options) (_ *bed, err error) {
	b := &bed{recorder: newRecorder(), seed: o.Plan.Seed, done: map[Action]int{}, agents: map[string]*agents{}, lies: map[string]*Step{}}
	b.Playground, err = playground.Start(ctx, playground.Options{
		Progress: o.Progress, Race: o.Race, Controllers: -1, Agents: replicas, Taps: true, PageSize: 3,
		Cloud: sim.Config{Timing: timing, Plan: b.recorder.plan},
		Set:   []string{agentArgs},
	})
	if err != nil {
		return nil, err
	}
	b.client = b.Client()
	b.clouds = map[string]cloud{eciCloud: eciFaults{b.ECI}, aciCloud: aciFaults{b.ACI}}
	b.ECI.Hook(b.recorder.hook(eciCloud, b.ECI.Fleet()))
	b.ACI.Hook(b.recorder.hook(aciCloud, b.ACI.Fleet()))
	for name, node := range nodes {
		b.agents[name] = &agents{system: b.Playground, node: node}
	}
	b.recorder.history.Secrets = []string{marker, playground.ECISecretKey, playground.ACIClientPassword}
	for _, prepare := range []func() error{
		func() error { return b.CreateNamespace(ctx, namespace, nil) },
		func() error {
			secret := corev1apply.Secret(secretName, namespace).WithStringData(map[string]string{secretKey: marker})
			_, err := b.client.CoreV1().Secrets(namespace).Apply(ctx, secret, metav1.ApplyOptions{FieldManager: "chaos"})
			return err
		},
		func() error { return b.recorder.watch(ctx, b.client, namespace) },
	} {
		if err := prepare(); err != nil {
			return nil, errors.Join(err, b.Stop())
		}
	}
	return b, nil
}

// round carries out the steps of a round.
func (b *bed) round(ctx context.Context, r Round) error {
	fmt.Fprintf(&b.steps, "round %d\n", r.Number)
	for _, s := range r.Steps {
		late := ""
		if s.After != Now && !b.recorder.await(ctx, s.After, s.Of, pointBound) {
			late = " (that did not happen in time)"
		}
		fmt.Fprintf(&b.steps, "  %s %s%s", clockTime(time.Now()), s, late)
		done, err := b.step(ctx, s)
		if done {
			b.done[s.Do]++
		} else {
			b.steps.WriteString(" (left out: there was nothing to do it to)")
		}
		b.steps.WriteByte('\n')
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return b.failed()
}

// step does what a step says. False means that what the step is about was not there.
func (b *bed) step(ctx context.Context, s Step) (done bool, err error) {
	switch s.Do {
	case Create:
		return true, b.create(ctx, s.Workload)
	case Delete, Force:
		return found(b.remove(ctx, s))
	case Recreate:
		return found(b.recreate(ctx, s))
	case Scale:
		return found(b.scale(ctx, s))
	case Evict:
		return found(b.evict(ctx, s))
	case Cleanup:
		return true, b.cleanup(ctx, s.Count)
	case Throttle, Error, CutFirst, CutAfter, Slow, SlowCall, Partial, Garbled:
		b.clouds[s.Cloud].inject(s)
	case LateCall:
		b.late(ctx, s)
	case Forget:
		b.forget(ctx, s)
	case Outage:
		b.clouds[s.Cloud].outage(s.Mode)
		b.later(ctx, s.For, func(context.Context) error { b.relieve(s.Cloud, cloud.lift); return nil })
	case Shortage:
		b.clouds[s.Cloud].shortage(s.Mode, true)
		b.later(ctx, s.For, func(context.Context) error {
			b.relieve(s.Cloud, func(c cloud) { c.shortage(s.Mode, false) })
			return nil
		})
	case Vanish, Restart:
		return b.platform(s), nil
	case Rotate:
		return true, b.rotate(ctx, s)
	case HoldWatches, HoldExpired, APIDown, APISlow, APIError, APICut:
		return true, b.apiServer(ctx, s)
	case Kill, Term, Pause:
		b.agent(ctx, s)
	default:
		return false, fmt.Errorf("nobody knows how to do %q", s.Do)
	}
	return true, nil
}

// failed is what went wrong beside the rounds.
func (b *bed) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(append(b.errs, b.Err())...)
}

// deaths are agents that ended by themselves.
func (b *bed) deaths() (out []Violation) {
	for _, name := range clouds {
		for _, err := range b.agents[name].dead() {
			out = append(out, Violation{Rule: "agents do not die", What: err.Error()})
		}
	}
	return out
}

// settle lifts all faults, waits until nothing changes any more, and returns what
// was seen so far. What hangs is in it.
func (b *bed) settle(ctx context.Context) (*History, error) {
	b.pending.Wait()
	for _, name := range clouds {
		b.clouds[name].lift()
		for _, replica := range b.Agents(nodes[name]) {
			b.Tap(replica).Restore()
		}
	}
	if err := b.failed(); err != nil {
		return nil, err
	}
	return b.wait(ctx)
}

// empty deletes everything, and settles once more.
func (b *bed) empty(ctx context.Context) (*History, error) {
	options := metav1.DeleteOptions{}
	background := metav1.DeletePropagationBackground
	options.PropagationPolicy = &background
	for _, err := range []error{
		b.client.AppsV1().Deployments(namespace).DeleteCollection(ctx, options, metav1.ListOptions{}),
		b.client.AppsV1().StatefulSets(namespace).DeleteCollection(ctx, options, metav1.ListOptions{}),
		b.client.BatchV1().Jobs(namespace).DeleteCollection(ctx, options, metav1.ListOptions{}),
		b.client.CoreV1().Pods(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}),
	} {
		if err != nil {
			return nil, err
		}
	}
	return b.wait(ctx)
}

// wait waits until nothing is under way and stays so for a while, within a bound.
func (b *bed) wait(ctx context.Context) (*History, error) {
	deadline := time.Now().Add(settleBound)
	since, before := time.Now(), ""
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		now, busy, err := b.state(ctx)
		if err != nil {
			return nil, err
		}
		if busy || now != before {
			since, before = time.Now(), now
		}
		if time.Since(since) >= quiet || time.Now().After(deadline) {
			return b.history(ctx)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// state is a print of all that may change, and whether something is under way.
func (b *bed) state(ctx context.Context) (string, bool, error) {
	var text strings.Builder
	busy := false
	pods, err := b.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", false, err
	}
	live := map[string]bool{}
	owned := map[string]int32{}
	for _, p := range pods.Items {
		live[string(p.UID)] = true
		fmt.Fprintln(&text, p.UID, p.ResourceVersion)
		over := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
		does, _ := parseBehaviour(p.Spec.Containers[0].Command)
		busy = busy || p.DeletionTimestamp != nil || !over && (p.Status.Phase != corev1.PodRunning || does.Exits)
		if p.Status.Phase == corev1.PodRunning {
			owned[p.Labels["app"]]++
		}
	}
	deployments, err := b.client.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", false, err
	}
	for _, d := range deployments.Items {
		busy = busy || owned[d.Name] != *d.Spec.Replicas
	}
	sets, err := b.client.AppsV1().StatefulSets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", false, err
	}
	for _, s := range sets.Items {
		busy = busy || owned[s.Name] != *s.Spec.Replicas
	}
	jobs, err := b.client.BatchV1().Jobs(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", false, err
	}
	for _, j := range jobs.Items {
		busy = busy || len(j.Status.Conditions) == 0 || j.Status.Active > 0
	}
	for _, name := range clouds {
		for _, g := range b.clouds[name].fleet().Groups() {
			fmt.Fprintln(&text, g.ID(), g.Phase())
			busy = busy || !live[uidOf(g.Tags())]
		}
	}
	return text.String(), busy, nil
}

// history is everything that was seen so far.
func (b *bed) history(ctx context.Context) (*History, error) {
	events, err := b.client.CoreV1().Events("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	logs, err := filepath.Glob(filepath.Join(b.Dir, "autoburst-vnode-*.log"))
	if err != nil {
		return nil, err
	}
	r := b.recorder
	r.mu.Lock()
	for _, e := range events.Items {
		r.tell("event "+e.Reason+" of "+e.InvolvedObject.Kind+" "+e.InvolvedObject.Name, e.Message)
	}
	h := r.history
	h.Pods, h.Nodes, h.Jobs = slices.Clone(h.Pods), slices.Clone(h.Nodes), slices.Clone(h.Jobs)
	h.Starts, h.Acts, h.Texts, h.Blind = slices.Clone(h.Starts), slices.Clone(h.Acts), slices.Clone(h.Texts), slices.Clone(h.Blind)
	r.mu.Unlock()
	for _, name := range logs {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		h.Texts = append(h.Texts, Text{"the log " + filepath.Base(name), string(text)})
	}
	h.At = time.Now()
	for _, name := range clouds {
		fleet := b.clouds[name].fleet()
		for _, e := range fleet.Record().Entries {
			bill := Bill{Cloud: name, Group: e.GroupID, UID: uidOf(e.Tags), From: e.From}
			if e.To != nil {
				bill.To = *e.To
			}
			h.Bills = append(h.Bills, bill)
		}
		for _, g := range fleet.Groups() {
			h.Left = append(h.Left, Bill{Cloud: name, Group: g.ID(), UID: uidOf(g.Tags()), From: g.Created()})
		}
	}
	return &h, nil
}

// summary counts what happened.
func (b *bed) summary(h *History, took time.Duration) string {
	var out strings.Builder
	killed, paused := 0, 0
	for _, name := range clouds {
		killed += b.agents[name].killed
		paused += b.agents[name].paused
	}
	fmt.Fprintf(&out, "%s; %d pods, %d groups billed, %d container starts, %d Jobs; agents killed or stopped %d times, paused %d times\n",
		took.Round(time.Second), len(h.podsByUID()), len(h.Bills), len(h.Starts), len(jobsOf(h)), killed, paused)
	calls := b.recorder.counted()
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		fmt.Fprintf(&out, "  calls %s: %d\n", name, calls[name])
	}
	for _, do := range slices.Sorted(maps.Keys(b.done)) {
		fmt.Fprintf(&out, "  steps %s: %d\n", do, b.done[do])
	}
	return out.String()
}

func jobsOf(h *History) map[string]bool {
	m := map[string]bool{}
	for _, j := range h.Jobs {
		m[j.UID] = true
	}
	return m
}
