package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// missingNodeError tells that there is no node of that name.
type missingNodeError struct {
	name string
	err  error
}

func (e *missingNodeError) Error() string {
	return fmt.Sprintf("there is no node %s; the virtual nodes are: kubectl get nodes -l %s", e.name, virtualNodes)
}
func (e *missingNodeError) Unwrap() error { return e.err }

// confirmGone ends a drain of a node that is gone: well, unless an agent is about to
// register it again.
func (d *drainer) confirmGone(ctx context.Context) error {
	deployments, err := d.client.AppsV1().Deployments(d.releaseNamespace).List(ctx, d.agents())
	if err != nil {
		return fmt.Errorf("listing the agents of node %s in namespace %s: %w", d.node, d.releaseNamespace, err)
	}
	for i := range deployments.Items {
		if ptr.Deref(deployments.Items[i].Spec.Replicas, 1) != 0 {
			return fmt.Errorf("there is no node %s, and Deployment %s/%s runs its agents, which register it: what its cloud holds is not known until they have; then run the same command again",
				d.node, d.releaseNamespace, deployments.Items[i].Name)
		}
	}
	d.say("there is no node %s, and none of its agents runs", d.node)
	return nil
}

// leftOutOptions are the command line of left-out.
type leftOutOptions struct {
	streams                   genericiooptions.IOStreams
	config                    *genericclioptions.ConfigFlags
	release, releaseNamespace string
	keep                      []string
}

// newLeftOut makes the command by which the chart keeps a rollback from taking away
// the agents of virtual nodes that are not drained. It is no command for people.
func newLeftOut(streams genericiooptions.IOStreams) *cobra.Command {
	o := &leftOutOptions{streams: streams, config: genericclioptions.NewConfigFlags(true)}
	cmd := &cobra.Command{
		Use:    "left-out",
		Short:  "Fail when a release has agents of other virtual nodes than those named",
		Hidden: true,
		Args:   noArguments,
		RunE:   func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.config.Namespace = nil
	fs := cmd.Flags()
	o.config.AddFlags(fs)
	fs.StringVar(&o.release, "release", "autoburst", "Name of the Helm release.")
	fs.StringVar(&o.releaseNamespace, "release-namespace", "autoburst-system", "Where Autoburst is installed.")
	fs.StringArrayVar(&o.keep, "keep", nil, "A virtual node whose agents stay; may be repeated.")
	return cmd
}

func (o *leftOutOptions) run(ctx context.Context) error {
	c, err := connect(o.config)
	if err != nil {
		return err
	}
	return o.check(ctx, c.Kube)
}

func (o *leftOutOptions) check(ctx context.Context, client kubernetes.Interface) error {
	deployments, err := client.AppsV1().Deployments(o.releaseNamespace).List(ctx, metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/instance=" + o.release + "," + v1alpha1.AgentLabel,
	})
	if err != nil {
		return fmt.Errorf("listing the agents of release %s in namespace %s: %w", o.release, o.releaseNamespace, err)
	}
	var left []string
	for i := range deployments.Items {
		d := &deployments.Items[i]
		if node := d.Labels[v1alpha1.AgentLabel]; ptr.Deref(d.Spec.Replicas, 1) != 0 && !slices.Contains(o.keep, node) {
			left = append(left, node)
		}
	}
	if len(left) == 0 {
		fmt.Fprintf(o.streams.Out, "release %s has no agent that would be taken away\n", o.release)
		return nil
	}
	slices.Sort(left)
	return fmt.Errorf("the agents of %s would be taken away, and without them nobody ends their container groups, which cost money; empty these nodes first:\n  kubectl autoburst drain %s --delete-node --release-namespace=%s",
		strings.Join(left, ", "), strings.Join(left, fmt.Sprintf(" --delete-node --release-namespace=%s\n  kubectl autoburst drain ", o.releaseNamespace)), o.releaseNamespace)
}
