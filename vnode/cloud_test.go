package vnode

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

const (
	testCluster = "11111111-2222-3333-4444-555555555555"
	testNode    = "virtual-kubelet"
)

// memoryCloud is a cloud in memory that keeps the contract of
// providers.Provider: idempotent creates, complete listings, deletions that take
// a while. Faults are put in through fail.
type memoryCloud struct {
	listStatus bool // whether List carries the status
	sizes      *burstable.Sizes
	usage      func() (providers.Usage, error) // nil where the cloud has no quota
	linger     int                             // how many looks a deleted group survives

	mu     sync.Mutex
	groups map[string]*providers.Group
	gone   map[string]int // looks left
	specs  map[string]*providers.GroupSpec
	logs   map[string]string // container → text
	calls  map[string]int
	// changed is when a group's state changed last, marks what a listing tells of it.
	changed map[string]time.Time
	marks   map[string]string
	births  map[string]int // how often each group was made
	// hidden are groups that exist and that no listing shows.
	hidden map[string]bool
	// fail is asked before each call; what it returns is the answer.
	fail func(op, id string, n int) error
	// after is asked once the call has had its effect: an answer that is lost.
	after func(op, id string, n int) error
	// hold, if set, is waited for in Create.
	hold chan struct{}
}

func newMemoryCloud() *memoryCloud {
	return &memoryCloud{
		groups: map[string]*providers.Group{}, gone: map[string]int{}, specs: map[string]*providers.GroupSpec{},
		logs: map[string]string{}, calls: map[string]int{}, changed: map[string]time.Time{}, marks: map[string]string{},
		births: map[string]int{}, hidden: map[string]bool{},
	}
}

// tellingCloud is a memoryCloud that tells what has changed.
type tellingCloud struct{ *memoryCloud }

var (
	_ providers.ChangeLister = tellingCloud{}
	_ providers.Finder       = tellingCloud{}
)

// Changes returns groups that changed within the window, rounded up to a minute.
func (c tellingCloud) Changes(_ context.Context, window time.Duration) ([]providers.Group, error) {
	if err := c.enter("Changes", ""); err != nil {
		c.mu.Unlock()
		return nil, err
	}
	since := time.Now().Add(-max(window, time.Minute))
	var told []providers.Group
	for id, g := range c.groups {
		if c.changed[id].After(since) && !c.hidden[id] {
			told = append(told, copyGroup(g))
		}
	}
	return told, c.leave("Changes", "")
}

func (c *memoryCloud) Name() string { return "eci" }

func (c *memoryCloud) Capabilities() burstable.Capabilities {
	return burstable.Capabilities{Provider: "eci", Features: burstable.Features, Sizes: c.sizes}
}

func (c *memoryCloud) Location() providers.Location {
	return providers.Location{Region: "cn-hangzhou", Zone: "cn-hangzhou-i"}
}

// enter counts a call and returns its fault, with the mutex held on return.
func (c *memoryCloud) enter(op, id string) error {
	c.mu.Lock()
	c.calls[op]++
	n, fail := c.calls[op], c.fail
	if fail == nil {
		return nil
	}
	c.mu.Unlock()
	err := fail(op, id, n)
	c.mu.Lock()
	return err
}

func (c *memoryCloud) leave(op, id string) error {
	n, after := c.calls[op], c.after
	c.mu.Unlock()
	if after == nil {
		return nil
	}
	return after(op, id, n)
}

func (c *memoryCloud) Check(context.Context) error {
	defer c.mu.Unlock()
	return c.enter("Check", "")
}

func (c *memoryCloud) Usage(context.Context) (providers.Usage, error) {
	err := c.enter("Usage", "")
	usage := c.usage
	c.mu.Unlock()
	if err != nil || usage == nil {
		return providers.Usage{}, err
	}
	return usage()
}

func (c *memoryCloud) Create(_ context.Context, spec *providers.GroupSpec) (string, error) {
	if c.hold != nil {
		<-c.hold
	}
	id := "g-" + spec.Owner.PodUID
	if err := c.enter("Create", id); err != nil {
		c.mu.Unlock()
		return "", err
	}
	if _, ok := c.groups[id]; !ok {
		c.groups[id] = &providers.Group{ID: id, Name: spec.Owner.PodName, Owner: spec.Owner, CreatedAt: time.Now(),
			Status: &providers.GroupStatus{Phase: providers.GroupPending}}
		c.specs[id], c.changed[id] = spec, time.Now()
		c.births[id]++
	}
	return id, c.leave("Create", id)
}

func (c *memoryCloud) Delete(_ context.Context, id string) error {
	if err := c.enter("Delete", id); err != nil {
		c.mu.Unlock()
		return err
	}
	if g, ok := c.groups[id]; ok {
		if c.linger == 0 {
			delete(c.groups, id)
		} else if !g.Deleting {
			g.Deleting = true
			c.gone[id], c.changed[id] = c.linger, time.Now()
		}
	}
	return c.leave("Delete", id)
}

// fade lets time pass for a group that is being deleted.
func (c *memoryCloud) fade(id string) {
	if g, ok := c.groups[id]; ok && g.Deleting {
		if c.gone[id]--; c.gone[id] < 0 {
			delete(c.groups, id)
		}
	}
}

func (c *memoryCloud) List(context.Context) ([]providers.Group, error) {
	if err := c.enter("List", ""); err != nil {
		c.mu.Unlock()
		return nil, err
	}
	var all []providers.Group
	for id := range c.groups {
		if c.listStatus {
			c.fade(id)
		}
	}
	for id, g := range c.groups {
		if c.hidden[id] {
			continue
		}
		item := copyGroup(g)
		item.Mark = c.marks[id]
		if !c.listStatus {
			item.Status = nil
		}
		all = append(all, item)
	}
	slices.SortFunc(all, func(a, b providers.Group) int { return cmp.Compare(a.ID, b.ID) })
	return all, c.leave("List", "")
}

func (c *memoryCloud) Get(_ context.Context, id string) (*providers.Group, error) {
	defer c.mu.Unlock()
	if err := c.enter("Get", id); err != nil {
		return nil, err
	}
	c.fade(id)
	g, ok := c.groups[id]
	if !ok {
		return nil, &providers.Error{Class: providers.NotFound, Operation: "Get", Code: "NotFound"}
	}
	item := copyGroup(g)
	return &item, nil
}

// Find is Get by the UID of which the group's ID is made.
func (c *memoryCloud) Find(_ context.Context, podUID string) (*providers.Group, error) {
	defer c.mu.Unlock()
	id := "g-" + podUID
	if err := c.enter("Find", id); err != nil {
		return nil, err
	}
	g, ok := c.groups[id]
	if !ok {
		return nil, &providers.Error{Class: providers.NotFound, Operation: "Find", Code: "NotFound"}
	}
	item := copyGroup(g)
	return &item, nil
}

func (c *memoryCloud) Logs(_ context.Context, id, container string, opts providers.LogOptions) (io.ReadCloser, error) {
	defer c.mu.Unlock()
	if err := c.enter("Logs", id); err != nil {
		return nil, err
	}
	var kept []string
	for line := range strings.Lines(c.logs[container]) {
		at, rest := stamp(line)
		if !opts.Since.IsZero() && at.Before(opts.Since) {
			continue
		}
		if !opts.Timestamps {
			line = rest
		}
		kept = append(kept, line)
	}
	if opts.Tail > 0 && len(kept) > opts.Tail {
		kept = kept[len(kept)-opts.Tail:]
	}
	text := strings.Join(kept, "")
	if opts.LimitBytes > 0 && len(text) > opts.LimitBytes {
		text = text[:opts.LimitBytes]
	}
	return io.NopCloser(strings.NewReader(text)), nil
}

func copyGroup(g *providers.Group) providers.Group {
	item := *g
	if g.Status != nil {
		s := *g.Status
		s.Events = slices.Clone(s.Events)
		item.Status = &s
	}
	return item
}

// set changes the status of a group.
func (c *memoryCloud) set(id string, status providers.GroupStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g, ok := c.groups[id]; ok {
		g.Status = &status
		c.changed[id] = time.Now()
	}
}

// mark changes what a listing tells of a group.
func (c *memoryCloud) mark(id, mark string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.marks[id] = mark
}

// put adds a group as an earlier run of the agent may have left it.
func (c *memoryCloud) put(pod *corev1.Pod, owner providers.Owner, status providers.GroupStatus) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	owner.Namespace, owner.PodName, owner.PodUID = pod.Namespace, pod.Name, string(pod.UID)
	id := "g-" + owner.PodUID
	c.groups[id] = &providers.Group{ID: id, Name: pod.Name, Owner: owner, CreatedAt: time.Now(), Status: &status}
	return id
}

// lose removes a group as somebody in the cloud's console might.
func (c *memoryCloud) lose(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.groups, id)
}

// hide keeps a group out of listings, or no longer.
func (c *memoryCloud) hide(id string, is bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hidden[id] = is
}

func (c *memoryCloud) setFail(f func(op, id string, n int) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = f
}

func (c *memoryCloud) count(op string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[op]
}

func (c *memoryCloud) made() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.births)
}

func (c *memoryCloud) ids() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return sorted(c.groups)
}

func fault(class providers.ErrorClass, code string) error {
	return &providers.Error{Class: class, Operation: "Test", Code: code, Message: "said the cloud", RequestID: fmt.Sprint(time.Now().UnixNano())}
}

// running is the status of a group whose one container runs.
func running(names ...string) providers.GroupStatus {
	s := providers.GroupStatus{Phase: providers.GroupRunning, PodIP: "10.1.2.3"}
	for _, name := range names {
		s.Containers = append(s.Containers, corev1.ContainerStatus{
			Name: name, Image: "nginx", Ready: true, ContainerID: "eci://" + name,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(time.Now()).Rfc3339Copy()}},
		})
	}
	return s
}

// exited is the status of a group whose one container has ended.
func exited(code int32, names ...string) providers.GroupStatus {
	s := running(names...)
	s.Phase = providers.GroupSucceeded
	if code != 0 {
		s.Phase = providers.GroupFailed
	}
	for i := range s.Containers {
		s.Containers[i].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: metav1.NewTime(time.Now()).Rfc3339Copy()}}
		s.Containers[i].Ready = false
	}
	return s
}
