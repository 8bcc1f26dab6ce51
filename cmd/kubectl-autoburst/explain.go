package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// release is how Autoburst is installed.
type release struct {
	// namespace is never touched, and holds the switch.
	namespace string
	// switchName is the ConfigMap that stops all bursting.
	switchName string
}

func (r *release) addFlags(fs *pflag.FlagSet) {
	fs.StringVar(&r.namespace, "release-namespace", "autoburst-system", "Where Autoburst is installed; its pods are never touched.")
	fs.StringVar(&r.switchName, "switch-name", "autoburst-switch", "ConfigMap there that stops all bursting.")
}

const explainExamples = `  # Why is this pod where it is?
  kubectl autoburst explain pod/web-7d4b9 -n shop

  # What would become of the pods of a manifest in this cluster?
  kubectl autoburst explain -f deployment.yaml

  # The same without a cluster: policies, namespaces and nodes are read from files
  kubectl get nodes -l type=virtual-kubelet -o yaml > policies/nodes.yaml
  kubectl autoburst explain -f deployment.yaml --policies policies/`

type explainOptions struct {
	streams  genericiooptions.IOStreams
	config   *genericclioptions.ConfigFlags
	now      func() time.Time
	file     string
	policies []string
	output   string
	release  release
}

// world is what decisions are made from.
type world interface {
	// admission explains what is decided when the pod is created. The notes say
	// what was not looked at.
	admission(ctx context.Context, pod *corev1.Pod) (e policy.Explanation, notes []string, err error)
	// late explains what is decided for a live pod that the scheduler has found
	// unschedulable.
	late(ctx context.Context, pod *corev1.Pod, now time.Time) (policy.LateExplanation, error)
}

func newExplain(streams genericiooptions.IOStreams, now func() time.Time) *cobra.Command {
	o := &explainOptions{streams: streams, config: genericclioptions.NewConfigFlags(true), now: now}
	cmd := &cobra.Command{
		Use:   "explain (pod|deploy|sts|job)/NAME | -f FILE",
		Short: "Say what is decided for a pod, by whom and why",
		Long: "Say what is decided for a pod, by whom and why: every policy that was considered, every virtual node,\n" +
			"and what admission writes into the pod. Nothing is changed.",
		Example: explainExamples,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args)
		},
		ValidArgsFunction: completeObject(o.config),
	}
	o.config.AddFlags(cmd.Flags())
	cmd.Flags().StringVarP(&o.file, "filename", "f", "", "Explain the pods and workloads of this file or folder; - is the standard input.")
	cmd.Flags().StringArrayVar(&o.policies, "policies", nil,
		"With -f: read policies, namespaces and nodes from this file or folder, and nothing from a cluster. May be repeated.")
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "json or yaml; a table for people by default.")
	o.release.addFlags(cmd.Flags())
	completeFlags(cmd, o.config, map[string][]string{"output": {"json", "yaml"}})
	return cmd
}

func (o *explainOptions) run(ctx context.Context, args []string) error {
	switch {
	case o.output != "" && o.output != "json" && o.output != "yaml":
		return usagef("--output %q: must be json or yaml, or left out for a table", o.output)
	case o.file == "" && len(args) == 0:
		return usagef("say what to explain: pod/NAME, deploy/NAME, sts/NAME, job/NAME, or -f FILE")
	case o.file != "" && len(args) > 0:
		return usagef("%s and -f %s: explain one or the other", args[0], o.file)
	case len(args) > 1:
		return usagef("unexpected argument %q: explain one object at a time", args[1])
	case o.file == "" && len(o.policies) > 0:
		return usagef("--policies goes with -f FILE; without it, policies are read from the cluster")
	}
	namespace, _, err := o.config.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return usagef("reading the kubeconfig: %w", err)
	}

	var subjects []subject
	var w world
	switch {
	case len(o.policies) > 0:
		subjects, w, err = o.offline(namespace)
	case o.file != "":
		var f files
		if f, err = o.read(namespace); err == nil {
			subjects = f.subjects
			w, err = o.live(ctx, f.subjects)
		}
	default:
		subjects, w, err = o.ask(ctx, namespace, args[0])
	}
	if err != nil {
		return err
	}
	reports := make([]report, len(subjects))
	for i, s := range subjects {
		if reports[i], err = explain(ctx, w, s, o.now()); err != nil {
			return err
		}
	}
	return printReports(o.streams.Out, o.output, reports)
}

// read reads what is to be explained.
func (o *explainOptions) read(namespace string) (files, error) {
	f := files{namespace: namespace, release: o.release}
	documents, err := readDocuments(o.file, o.streams.In)
	if err != nil {
		return files{}, err
	}
	for _, d := range documents {
		if err := f.add(d); err != nil {
			return files{}, err
		}
	}
	if len(f.subjects) == 0 {
		return files{}, usagef("%s has no pod without a node and no workload that makes pods", o.file)
	}
	return f, nil
}

// offline takes everything from files.
func (o *explainOptions) offline(namespace string) ([]subject, world, error) {
	f, err := o.read(namespace)
	if err != nil {
		return nil, nil, err
	}
	subjects := f.subjects
	f.Excluded = []string{o.release.namespace}
	for _, path := range o.policies {
		documents, err := readDocuments(path, o.streams.In)
		if err != nil {
			return nil, nil, err
		}
		for _, d := range documents {
			if err := f.add(d); err != nil {
				return nil, nil, err
			}
		}
	}
	return subjects, f.world(subjects), nil
}

// fileWorld is made of files alone.
type fileWorld struct {
	snapshot  *policy.Snapshot
	local     []*policy.LocalNode
	workloads policy.Workloads
	notes     []string
}

func (f *files) world(subjects []subject) *fileWorld {
	w := &fileWorld{}
	for _, s := range subjects {
		if f.assumeNamespace(s.pod.Namespace) {
			w.notes = append(w.notes, fmt.Sprintf("The files have no namespace %s; it is taken to be there without labels and annotations of its own.", s.pod.Namespace))
		}
	}
	if !slices.ContainsFunc(f.Nodes, policy.IsVirtual) {
		w.notes = append(w.notes, "The files have no virtual node; add those of your cluster: kubectl get nodes -l type=virtual-kubelet -o yaml")
	}
	w.snapshot, w.local = policy.NewSnapshot(f.Objects)
	waiting := make([]*corev1.Pod, len(f.subjects))
	for i, s := range f.subjects {
		waiting[i] = s.pod
	}
	w.workloads = policy.NewWorkloads(f.Objects, waiting...)
	return w
}

func (w *fileWorld) admission(_ context.Context, pod *corev1.Pod) (policy.Explanation, []string, error) {
	return policy.Explain(w.snapshot, pod.Namespace, pod), w.notes, nil
}

func (w *fileWorld) late(_ context.Context, pod *corev1.Pod, now time.Time) (policy.LateExplanation, error) {
	return policy.ExplainLate(w.snapshot, pod.Namespace, pod, slices.Values(w.local), w.workloads, now), nil
}

// ask takes the object from the cluster, and all the rest.
func (o *explainOptions) ask(ctx context.Context, namespace, arg string) ([]subject, world, error) {
	kind, name, ok := strings.Cut(arg, "/")
	if !ok || name == "" || strings.Contains(name, "/") {
		return nil, nil, usagef("%q: must be pod/NAME, deploy/NAME, sts/NAME or job/NAME", arg)
	}
	get, ok := getters[kind]
	if !ok {
		return nil, nil, usagef("%q: only pods, deployments, statefulsets and jobs can be explained, such as pod/NAME", arg)
	}
	clients, err := connect(o.config)
	if err != nil {
		return nil, nil, err
	}
	c := &apiServer{clients}
	s, err := get(ctx, c, namespace, name)
	if err != nil {
		return nil, nil, fmt.Errorf("reading %s of namespace %s: %w", arg, namespace, err)
	}
	w, err := c.world(ctx, []subject{s}, o.release)
	return []subject{s}, w, err
}

// live takes all but the objects from the cluster.
func (o *explainOptions) live(ctx context.Context, subjects []subject) (world, error) {
	clients, err := connect(o.config)
	if err != nil {
		return nil, fmt.Errorf("%w; for files alone, add --policies", err)
	}
	c := &apiServer{clients}
	return c.world(ctx, subjects, o.release)
}

// explain decides for one pod and reports.
func explain(ctx context.Context, w world, s subject, now time.Time) (report, error) {
	// A pod that is bound was decided on before it was.
	pod := s.pod
	if pod.Spec.NodeName != "" {
		pod = pod.DeepCopy()
		pod.Spec.NodeName = ""
	}
	e, notes, err := w.admission(ctx, pod)
	if err != nil {
		return report{}, err
	}
	r := newReport(s, &e)
	r.Notes = notes
	if r.Diff, err = diffOf(pod, policy.Inject(pod, e.Decision)); err != nil {
		return report{}, err
	}
	live := s.pod
	switch _, unschedulable := policy.Unschedulable(live); {
	case policy.Gated(live):
		r.Notes = append(r.Notes, fmt.Sprintf("The pod stands at the gate %s until the controller has decided for it, which takes some seconds at most.", v1alpha1.DecisionGate))
		live = policy.Ungated(live, now)
	case !unschedulable:
		return r, nil
	}
	late, err := w.late(ctx, live, now)
	if err != nil {
		r.Notes = append(r.Notes, fmt.Sprintf("The late decision is not known here: %v.", err))
		return r, nil
	}
	r.Late = newLateReport(&late)
	return r, nil
}
