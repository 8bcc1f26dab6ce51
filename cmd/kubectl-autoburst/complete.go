package main

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/installation"
)

const (
	// completionTime is how long a shell waits for names.
	completionTime = 3 * time.Second
	// mostNames is how many names of one kind are offered.
	mostNames = 500
)

// completer offers what an argument or the value of a flag may be.
type completer = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective)

// names offers the names of objects in the cluster. What cannot be read is not
// offered, and nothing is said of it.
func names(config *genericclioptions.ConfigFlags, most int, resource schema.GroupVersionResource, namespaced bool, options metav1.ListOptions) completer {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return list(cmd.Context(), config, resource, namespaced, options, "", typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// list is the names, each after a prefix, that begin with what was typed.
func list(ctx context.Context, config *genericclioptions.ConfigFlags, resource schema.GroupVersionResource, namespaced bool, options metav1.ListOptions, prefix, typed string) []string {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	c, err := connect(config)
	if err != nil {
		return nil
	}
	namespace := ""
	if namespaced {
		if namespace, _, err = config.ToRawKubeConfigLoader().Namespace(); err != nil {
			return nil
		}
	}
	options.Limit = mostNames
	found, err := c.Metadata.Resource(resource).Namespace(namespace).List(ctx, options)
	if err != nil {
		return nil
	}
	var out []string
	for i := range found.Items {
		if name := prefix + found.Items[i].Name; strings.HasPrefix(name, typed) {
			out = append(out, name)
		}
	}
	return out
}

var (
	namespacesResource = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	nodesResource      = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	explainable        = map[string]schema.GroupVersionResource{
		"pod":    {Version: "v1", Resource: "pods"},
		"deploy": {Group: "apps", Version: "v1", Resource: "deployments"},
		"sts":    {Group: "apps", Version: "v1", Resource: "statefulsets"},
		"job":    {Group: "batch", Version: "v1", Resource: "jobs"},
	}
)

func completeNamespace(config *genericclioptions.ConfigFlags) completer {
	return names(config, 1, namespacesResource, false, metav1.ListOptions{})
}

func completeVirtualNode(config *genericclioptions.ConfigFlags) completer {
	return names(config, 1, nodesResource, false, metav1.ListOptions{LabelSelector: installation.VirtualNodes})
}

// completeObject offers kinds, and after one the names of its objects.
func completeObject(config *genericclioptions.ConfigFlags) completer {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		kind, _, named := strings.Cut(typed, "/")
		if resource, ok := explainable[kind]; ok && named {
			return list(cmd.Context(), config, resource, true, metav1.ListOptions{}, kind+"/", typed), cobra.ShellCompDirectiveNoFileComp
		}
		return []string{"pod/", "deploy/", "sts/", "job/"}, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// completeFlags offers the values of the flags that a command has.
func completeFlags(cmd *cobra.Command, config *genericclioptions.ConfigFlags, values map[string][]string) {
	for flag, list := range values {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)) // it fails for a flag that is not there, which a test finds
	}
	for _, flag := range []string{"namespace", "release-namespace"} {
		if cmd.Flags().Lookup(flag) != nil {
			_ = cmd.RegisterFlagCompletionFunc(flag, names(config, math.MaxInt, namespacesResource, false, metav1.ListOptions{}))
		}
	}
	_ = cmd.RegisterFlagCompletionFunc("context", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		raw, err := config.ToRawKubeConfigLoader().RawConfig()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return slices.Sorted(maps.Keys(raw.Contexts)), cobra.ShellCompDirectiveNoFileComp
	})
}
