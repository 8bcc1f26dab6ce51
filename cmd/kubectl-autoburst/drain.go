package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apitypes "k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const drainExamples = `  # Empty a virtual node, and prove that its cloud holds nothing of it any more
  kubectl autoburst drain virtual-eci

  # See what that would do
  kubectl autoburst drain virtual-eci --dry-run

  # Pods that nobody makes anew as well, each with 30 s to end, and no longer than 10 minutes
  kubectl autoburst drain virtual-eci --force --grace-period=30 --timeout=10m

  # The same, then stop the node's agents and delete the Node object
  kubectl autoburst drain virtual-eci --delete-node`

// The pace at which the cluster is looked at.
const (
	// lookAgain is the time between two looks at what is left.
	lookAgain = 2 * time.Second
	// evictAgain is how long after a refusal a pod's eviction is asked for again, as
	// kubectl drain does.
	evictAgain = 5 * time.Second
	// agentSilence is when an agent that has not answered is missed. It has to list
	// the cloud, and one that has just begun to lead waits 30 s before.
	agentSilence = time.Minute
)

// drainOptions are the command line of drain.
type drainOptions struct {
	streams          genericiooptions.IOStreams
	config           *genericclioptions.ConfigFlags
	gracePeriod      int
	timeout          time.Duration
	force            bool
	deleteEmptyDir   bool
	ignoreDaemonSets bool
	dryRun           bool
	deleteNode       bool
	ignoreNotFound   bool
	releaseNamespace string
}

func newDrain(streams genericiooptions.IOStreams) *cobra.Command {
	o := &drainOptions{streams: streams, config: genericclioptions.NewConfigFlags(true)}
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Empty a virtual node, and prove that its cloud holds nothing of it",
		Long: "Empty a virtual node, for example before Autoburst is uninstalled: cordon it, evict its pods as kubectl drain\n" +
			"does, wait until they are gone, and have its agent list the cloud until no container group is left.\n" +
			"Every step looks at what is: interrupted at any point, the same command goes on.",
		Example: drainExamples,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("say which virtual node to drain: kubectl get nodes -l %s; see %s --help", virtualNodes, cmd.CommandPath())
			}
			return nil
		},
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args[0]) },
		ValidArgsFunction: completeVirtualNode(o.config),
	}
	o.config.Namespace = nil // pods of all namespaces are on a node
	fs := cmd.Flags()
	o.config.AddFlags(fs)
	fs.IntVar(&o.gracePeriod, "grace-period", -1, "Seconds that each pod has to end; its own by default.")
	fs.DurationVar(&o.timeout, "timeout", 0, "How long to go on before giving up; 0 is as long as it takes.")
	fs.BoolVar(&o.force, "force", false, "Evict pods, too, that no controller makes anew.")
	fs.BoolVar(&o.deleteEmptyDir, "delete-emptydir-data", false, "Evict pods, too, whose emptyDir volumes are lost with them.")
	fs.BoolVar(&o.ignoreDaemonSets, "ignore-daemonsets", false, "Leave pods of DaemonSets, which would come back at once, where they are, if they have no container groups.")
	fs.BoolVar(&o.dryRun, "dry-run", false, "Say what would be done, and change nothing.")
	fs.BoolVar(&o.deleteNode, "delete-node", false,
		"When the node is empty, scale the Deployment of its agents to 0, wait until they have stopped, and delete the Node.")
	fs.BoolVar(&o.ignoreNotFound, "ignore-not-found", false, "End well when there is no such node and none of its agents runs.")
	fs.StringVar(&o.releaseNamespace, "release-namespace", "autoburst-system", "Where Autoburst is installed, and with it the node's agents.")
	completeFlags(cmd, o.config, nil)
	return cmd
}

func (o *drainOptions) run(ctx context.Context, node string) error {
	switch {
	case o.timeout < 0:
		return usagef("--timeout is %s: must not be negative", o.timeout)
	case o.gracePeriod < -1:
		return usagef("--grace-period is %d: must be 0 or more, or left out", o.gracePeriod)
	}
	c, err := connect(o.config)
	if err != nil {
		return err
	}
	return newDrainer(o, c.Kube, node).drain(ctx)
}

// drainer empties one node. What it remembers is what it has said; what it does
// follows from what the cluster holds.
type drainer struct {
	*drainOptions
	client kubernetes.Interface
	node   string

	leaving map[apitypes.UID]string    // pods whose eviction was accepted
	refused map[apitypes.UID]time.Time // when an eviction was refused
	why     map[apitypes.UID]string    // and why
	renewed map[string]renewal         // of Leases, by namespace and name
	said    map[string]bool
}

func newDrainer(o *drainOptions, client kubernetes.Interface, node string) *drainer {
	return &drainer{
		drainOptions: o, client: client, node: node,
		leaving: map[apitypes.UID]string{}, refused: map[apitypes.UID]time.Time{}, why: map[apitypes.UID]string{},
		renewed: map[string]renewal{}, said: map[string]bool{},
	}
}

// say prints one line of progress.
func (d *drainer) say(format string, args ...any) { fmt.Fprintf(d.streams.Out, format+"\n", args...) }

// sayOnce prints a line unless it was printed already.
func (d *drainer) sayOnce(format string, args ...any) {
	if line := fmt.Sprintf(format, args...); !d.said[line] {
		d.said[line] = true
		d.say("%s", line)
	}
}

func (d *drainer) drain(ctx context.Context) error {
	node, err := d.read(ctx)
	if d.ignoreNotFound && apierrors.IsNotFound(err) {
		return d.confirmGone(ctx)
	}
	if err != nil {
		return err
	}
	pods, err := d.podsThere(ctx)
	if err != nil {
		return err
	}
	if err := d.check(pods); err != nil {
		return err
	}
	if d.dryRun {
		d.plan(node, pods)
		return nil
	}
	stopped := ctx
	if d.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.timeout)
		defer cancel()
	}
	if err := d.steps(ctx, node); err != nil {
		switch {
		case stopped.Err() != nil:
			return fmt.Errorf("interrupted; run the same command again to go on: node %s stays cordoned (kubectl uncordon %s takes that back)", d.node, d.node)
		case ctx.Err() != nil:
			return fmt.Errorf("node %s is not drained after %s: %s\nrun the same command again to go on", d.node, d.timeout, d.left(stopped))
		}
		return err
	}
	return nil
}

// steps does all that is to be done, in an order in which each step proves what the
// next relies on.
func (d *drainer) steps(ctx context.Context, node *corev1.Node) error {
	if err := d.cordon(ctx, node); err != nil {
		return err
	}
	for {
		if err := d.evictAll(ctx); err != nil {
			return err
		}
		count, err := d.countGroups(ctx)
		if err != nil {
			return err
		}
		// A pod that was bound by hand meanwhile is drained as well.
		pods, err := d.podsThere(ctx)
		if err != nil {
			return err
		}
		if len(pods) == 0 {
			d.say("node %s is empty: it has no pod, and its cloud held no container group at %s", d.node, count.Listed)
			break
		}
	}
	if d.deleteNode {
		return d.retire(ctx)
	}
	d.say("its agents still run; to remove the node as well:\n"+
		"  kubectl autoburst drain %s --delete-node --release-namespace=%s\n"+
		"or uninstall Autoburst (helm uninstall), and then: kubectl delete node %s", d.node, d.releaseNamespace, d.node)
	return nil
}

// read gets the node, which must be one whose agent can be asked.
func (d *drainer) read(ctx context.Context) (*corev1.Node, error) {
	node, err := d.client.CoreV1().Nodes().Get(ctx, d.node, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, &missingNodeError{name: d.node, err: err}
	case err != nil:
		return nil, fmt.Errorf("reading node %s: %w", d.node, err)
	case node.Labels[v1alpha1.VirtualNodeLabel] != v1alpha1.VirtualNodeValue || node.Annotations[v1alpha1.CapabilitiesAnnotation] == "":
		return nil, fmt.Errorf("node %s is not a virtual node of Autoburst, so nobody can say what its cloud holds: use kubectl drain", d.node)
	}
	return node, nil
}

// cordon keeps new pods away: the scheduler's, and with them all that policies might
// grant.
func (d *drainer) cordon(ctx context.Context, node *corev1.Node) error {
	if node.Spec.Unschedulable {
		d.say("node %s is cordoned already", d.node)
		return nil
	}
	if err := d.patchNode(ctx, node.UID, map[string]any{"spec": map[string]any{"unschedulable": true}}); err != nil {
		return fmt.Errorf("cordoning node %s: %w", d.node, err)
	}
	d.say("node %s is cordoned", d.node)
	return nil
}

// patchNode changes the node of that UID.
func (d *drainer) patchNode(ctx context.Context, uid apitypes.UID, change map[string]any) error {
	metadata, ok := change["metadata"].(map[string]any)
	if !ok {
		metadata = map[string]any{}
	}
	metadata["uid"] = uid
	change["metadata"] = metadata
	patch, err := json.Marshal(change)
	if err != nil {
		return err
	}
	_, err = d.client.CoreV1().Nodes().Patch(ctx, d.node, apitypes.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// plan says what would be done.
func (d *drainer) plan(node *corev1.Node, pods []corev1.Pod) {
	if !node.Spec.Unschedulable {
		d.say("would cordon node %s", d.node)
	}
	for i := range pods {
		if pods[i].DeletionTimestamp == nil {
			d.say("would evict pod %s", nameOf(&pods[i]))
		} else {
			d.say("would wait for pod %s, which is being deleted", nameOf(&pods[i]))
		}
	}
	d.say("would ask the agent of node %s until its cloud holds no container group", d.node)
	if d.deleteNode {
		d.say("would scale the Deployment of the node's agents in namespace %s to 0, and delete node %s", d.releaseNamespace, d.node)
	}
}

// left says what stands in the way, for the end of a drain that did not succeed.
func (d *drainer) left(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	pods, err := d.podsThere(ctx)
	if err != nil {
		return err.Error()
	}
	if len(pods) == 0 {
		if obstacle := d.groupsLeft(ctx); obstacle != nil {
			return obstacle.Error()
		}
		return "its agents have not stopped"
	}
	text := fmt.Sprintf("pods left: %d\n  %s\n", len(pods), strings.Join(d.obstacles(pods), "\n  "))
	if trouble := d.trouble(ctx); trouble != nil {
		text += trouble.Error() + "\n"
	}
	return strings.TrimSuffix(text, "\n")
}

// wait lets time pass, or returns why not.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func nameOf(pod *corev1.Pod) string { return pod.Namespace + "/" + pod.Name }

// passing tells errors of the API server that another try may not meet from those
// that it will.
func passing(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true // it was not reached
	}
	return apierrors.IsTooManyRequests(err) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err)
}
