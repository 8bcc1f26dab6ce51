package status

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/installation"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// Pace is how often Watch looks.
type Pace struct {
	// Least is the time between two looks, and Most the time after which it looks
	// though nothing has been heard of. A watch that ended is opened again after Least.
	Least, Most time.Duration
}

// DefaultPace is what people can follow.
func DefaultPace() Pace { return Pace{Least: time.Second, Most: 10 * time.Second} }

// Watch calls look at once, and again when a policy, a virtual node or the switch has
// changed, until the context ends or look fails.
func Watch(ctx context.Context, c *installation.Clients, r *installation.Release, pace Pace, look func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var watches sync.WaitGroup
	defer watches.Wait()
	defer cancel()
	heard := make(chan struct{}, 1)
	for _, open := range sources(c, r) {
		watches.Go(func() {
			for {
				listen(ctx, open, heard)
				if !pause(ctx, pace.Least) {
					return
				}
			}
		})
	}
	for {
		if err := look(ctx); err != nil {
			return err
		}
		if !pause(ctx, pace.Least) {
			return nil
		}
		timer := time.NewTimer(pace.Most - pace.Least)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-heard:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

type source func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error)

// sources are what a status is made of that can be watched at little cost.
func sources(c *installation.Clients, r *installation.Release) []source {
	policies := func(resource string) source {
		return func(ctx context.Context, _ metav1.ListOptions) (watch.Interface, error) {
			return c.Policies.Get().Resource(resource).Param("watch", "true").Watch(ctx)
		}
	}
	return []source{
		policies("burstpolicies"), policies("clusterburstpolicies"),
		func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = installation.VirtualNodes
			return c.Kube.CoreV1().Nodes().Watch(ctx, o)
		},
		func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, r.SwitchName).String()
			return c.Kube.CoreV1().ConfigMaps(r.Namespace).Watch(ctx, o)
		},
	}
}

// listen tells of changes until the watch ends. What the user may not watch is looked
// at by time alone.
func listen(ctx context.Context, open source, heard chan<- struct{}) {
	w, err := open(ctx, metav1.ListOptions{})
	if err != nil {
		return
	}
	defer w.Stop()
	last := map[string]string{}
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-w.ResultChan():
			if !ok {
				return
			}
			if !news(last, e) {
				continue
			}
			select {
			case heard <- struct{}{}:
			default: // it is about to look
			}
		}
	}
}

// news tells whether an event is about something that a status shows. The heartbeats
// of nodes are not.
func news(last map[string]string, e watch.Event) bool {
	n, ok := e.Object.(*corev1.Node)
	if !ok {
		return true
	}
	shown := fingerprint(n)
	before, known := last[n.Name]
	last[n.Name] = shown
	return e.Type != watch.Modified || !known || before != shown
}

// fingerprint is what a status shows of a node.
func fingerprint(n *corev1.Node) string {
	state, message := stateOf(n)
	text := state + "\n" + message
	for _, name := range []corev1.ResourceName{corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory} {
		q := n.Status.Allocatable[name]
		text += "\n" + q.String()
	}
	if c := installation.Condition(n, v1alpha1.CapacityAvailableCondition); c != nil {
		text += "\n" + string(c.Status) + c.Reason + c.Message
	}
	return text
}

// pause lets time pass, or tells that the context ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
