package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	apitypes "k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/installation"
	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const enableExamples = `  # Let the pods of a namespace overflow
  kubectl autoburst enable shop

  # Run all its new pods on virtual nodes
  kubectl autoburst enable shop --mode=Always

  # See what that would do
  kubectl autoburst enable shop --dry-run=server`

const disableExamples = `  # New pods of the namespace stay on local nodes, unless a policy says otherwise
  kubectl autoburst disable shop`

// The modes that a namespace can be given. Never is what disable is not: it wins over
// policies.
var enableModes = []string{string(v1alpha1.ModeOverflow), string(v1alpha1.ModeAlways), string(v1alpha1.ModeAuto)}

// The values of --dry-run.
const (
	dryRunNone   = "none"
	dryRunClient = "client"
	dryRunServer = "server"
)

// annotateOptions are the command line of enable and disable.
type annotateOptions struct {
	streams          genericiooptions.IOStreams
	config           *genericclioptions.ConfigFlags
	mode             string // empty takes the annotation away
	dryRun           string
	releaseNamespace string
}

func newEnable(streams genericiooptions.IOStreams) *cobra.Command {
	o := &annotateOptions{streams: streams, config: genericclioptions.NewConfigFlags(true)}
	cmd := &cobra.Command{
		Use:   "enable NAMESPACE",
		Short: "Let the pods of a namespace burst",
		Long: "Let the pods of a namespace burst: set its annotation " + v1alpha1.ModeAnnotation + ", and say what that means for the pods\n" +
			"that are there and for new ones. A BurstPolicy of the namespace comes before the annotation.",
		Example:           enableExamples,
		Args:              oneNamespace,
		ValidArgsFunction: completeNamespace(o.config),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(enableModes, o.mode) {
				return usagef("--mode %q: must be %s or %s; to keep pods local, see disable", o.mode, strings.Join(enableModes[:2], ", "), enableModes[2])
			}
			return o.run(cmd.Context(), args[0])
		},
	}
	cmd.Flags().StringVar(&o.mode, "mode", string(v1alpha1.ModeOverflow), "Overflow (local first, strictly), Always (virtual nodes only) or Auto (the scheduler chooses).")
	o.addFlags(cmd)
	_ = cmd.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions(enableModes, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func newDisable(streams genericiooptions.IOStreams) *cobra.Command {
	o := &annotateOptions{streams: streams, config: genericclioptions.NewConfigFlags(true)}
	cmd := &cobra.Command{
		Use:   "disable NAMESPACE",
		Short: "Let the pods of a namespace burst no more",
		Long: "Let the pods of a namespace burst no more: take its annotation " + v1alpha1.ModeAnnotation + " away. Pods on virtual nodes\n" +
			"go on. Policies that select pods of the namespace stay in force, and are named.",
		Example:           disableExamples,
		Args:              oneNamespace,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args[0]) },
		ValidArgsFunction: completeNamespace(o.config),
	}
	o.addFlags(cmd)
	return cmd
}

func (o *annotateOptions) addFlags(cmd *cobra.Command) {
	o.config.Namespace = nil // it is the argument
	o.config.AddFlags(cmd.Flags())
	cmd.Flags().StringVar(&o.dryRun, "dry-run", dryRunNone, "client: say what would be done; server: have the API server try it, too; none: do it.")
	addReleaseNamespace(cmd.Flags(), &o.releaseNamespace)
	completeFlags(cmd, o.config, map[string][]string{"dry-run": {dryRunNone, dryRunClient, dryRunServer}})
}

func oneNamespace(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return usagef("say which namespace; see %s --help", cmd.CommandPath())
	case len(args) > 1:
		return usagef("unexpected argument %q: one namespace at a time", args[1])
	}
	return nil
}

func (o *annotateOptions) run(ctx context.Context, namespace string) error {
	if !slices.Contains([]string{dryRunNone, dryRunClient, dryRunServer}, o.dryRun) {
		return usagef("--dry-run %q: must be client, server or none", o.dryRun)
	}
	c, err := connect(o.config)
	if err != nil {
		return err
	}
	n, err := c.Kube.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading namespace %s: %w", namespace, err)
	}
	r, err := c.Find(ctx, o.releaseNamespace)
	if err != nil {
		return err
	}
	if o.mode != "" && policy.ExcludedNamespaces(r.Excluded()...)[namespace] {
		return usagef("namespace %s is never touched: pods of Kubernetes, of Autoburst and of webhook.excludedNamespaces do not burst; choose another", namespace)
	}
	if n.DeletionTimestamp != nil {
		return fmt.Errorf("namespace %s is being deleted; it has no use for an annotation", namespace)
	}
	before := n.Annotations[v1alpha1.ModeAnnotation]
	policies, err := o.policies(ctx, c, n)
	if err != nil {
		return err
	}
	if before == o.mode {
		o.say("namespace %s: nothing to do, %s", namespace, annotated(o.mode))
	} else {
		if err := o.write(ctx, c, n); err != nil {
			return err
		}
		o.say("namespace %s%s: %s; before, %s", namespace, o.dry(), annotated(o.mode), annotated(before))
	}
	o.explain(policies)
	return o.warn(ctx, c, r, n, policies)
}

func annotated(mode string) string {
	if mode == "" {
		return "it has no annotation " + v1alpha1.ModeAnnotation
	}
	return "its annotation " + v1alpha1.ModeAnnotation + " is " + mode
}

func (o *annotateOptions) dry() string {
	if o.dryRun == dryRunNone {
		return ""
	}
	return " (dry run of the " + o.dryRun + ", nothing is changed)"
}

func (o *annotateOptions) say(format string, args ...any) {
	fmt.Fprintf(o.streams.Out, format+"\n", args...)
}

// write sets or takes away the annotation of the namespace that was read.
func (o *annotateOptions) write(ctx context.Context, c *installation.Clients, n *corev1.Namespace) error {
	if o.dryRun == dryRunClient {
		return nil
	}
	var value any // null removes
	if o.mode != "" {
		value = o.mode
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": n.UID, "resourceVersion": n.ResourceVersion, "annotations": map[string]any{v1alpha1.ModeAnnotation: value},
	}})
	if err != nil {
		return fmt.Errorf("writing the patch of namespace %s: %w", n.Name, err)
	}
	options := metav1.PatchOptions{FieldManager: "kubectl-autoburst"}
	if o.dryRun == dryRunServer {
		options.DryRun = []string{metav1.DryRunAll}
	}
	_, err = c.Kube.CoreV1().Namespaces().Patch(ctx, n.Name, apitypes.MergePatchType, patch, options)
	switch {
	case apierrors.IsConflict(err):
		return fmt.Errorf("somebody else has changed namespace %s in this moment; try again", n.Name)
	case err != nil:
		return fmt.Errorf("annotating namespace %s: %w", n.Name, err)
	}
	return nil
}

// rule is a policy that may decide for pods of the namespace.
type rule struct {
	name string
	own  bool // of the namespace
	mode v1alpha1.Mode
}

func (o *annotateOptions) policies(ctx context.Context, c *installation.Clients, n *corev1.Namespace) ([]rule, error) {
	own, err := c.BurstPolicies(ctx, n.Name)
	if err != nil {
		return nil, err
	}
	cluster, err := c.ClusterBurstPolicies(ctx)
	if err != nil {
		return nil, err
	}
	var out []rule
	for i := range own {
		out = append(out, rule{"BurstPolicy " + own[i].Name, true, cmp.Or(own[i].Spec.Mode, v1alpha1.ModeOverflow)})
	}
	for i := range cluster {
		selector, err := metav1.LabelSelectorAsSelector(&cluster[i].Spec.NamespaceSelector)
		if err != nil {
			continue // it selects nothing until it is mended, and its status says so
		}
		if selector.Matches(labels.Set(n.Labels)) {
			out = append(out, rule{"ClusterBurstPolicy " + cluster[i].Name, false, cmp.Or(cluster[i].Spec.Mode, v1alpha1.ModeOverflow)})
		}
	}
	return out, nil
}

// explain says what the annotation means for pods.
func (o *annotateOptions) explain(policies []rule) {
	switch v1alpha1.Mode(o.mode) {
	case v1alpha1.ModeOverflow:
		o.say("  new pods run on local nodes while these have room, and else on virtual nodes")
	case v1alpha1.ModeAlways:
		o.say("  new pods run on virtual nodes only")
	case v1alpha1.ModeAuto:
		o.say("  new pods run where the scheduler likes, on virtual nodes as well")
	default:
		o.say("  new pods stay on local nodes, unless a policy says otherwise")
		o.say("  pods that wait keep a toleration that they were granted; the others stay local as well")
	}
	if o.mode != "" {
		o.say("  pods that the scheduler finds no local room for now may burst as well")
	}
	o.say("  running pods stay where they are")
	for _, p := range policies {
		switch {
		case p.own && o.mode != "":
			o.say("  %s comes before the annotation for the pods that it selects: mode %s", p.name, p.mode)
		case o.mode == "" && p.mode != v1alpha1.ModeNever:
			o.say("  %s goes on to let the pods that it selects burst: mode %s", p.name, p.mode)
		}
	}
}

// warn says what will keep the pods from bursting all the same.
func (o *annotateOptions) warn(ctx context.Context, c *installation.Clients, r *installation.Release, n *corev1.Namespace, policies []rule) error {
	if o.mode == "" {
		return nil
	}
	warn := func(format string, args ...any) {
		fmt.Fprintf(o.streams.ErrOut, "warning: "+format+"\n", args...)
	}
	for _, p := range policies {
		if p.mode == v1alpha1.ModeNever {
			warn("%s says Never, which wins: the pods that it selects stay local", p.name)
		}
	}
	nodes, err := c.Virtual(ctx)
	switch {
	case apierrors.IsForbidden(err):
		warn("you may not list nodes, so whether there is a virtual node is not known")
	case err != nil:
		return err
	case len(nodes) == 0:
		warn("the cluster has no virtual node, so nothing can burst; add one to virtualNodes of the chart")
	case !slices.ContainsFunc(nodes, func(v corev1.Node) bool { return policy.IsReady(&v) }):
		warn("no virtual node is ready, so nothing bursts now; see kubectl autoburst check")
	}
	stopped, err := c.Switch(ctx, r)
	switch {
	case apierrors.IsForbidden(err): // then it is not for this user to know
	case err != nil:
		return err
	case stopped:
		warn("all bursting is stopped by ConfigMap %s/%s, so nothing is granted until that is lifted", r.Namespace, r.SwitchName)
	}
	return nil
}
