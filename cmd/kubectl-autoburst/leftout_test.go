package main

import (
	"bytes"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// agentsOf is the Deployment of the agents of a node.
func agentsOf(release, node string, replicas *int32) runtime.Object {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{
			Name: release + "-vnode-" + node, Namespace: "autoburst-system",
			Labels: map[string]string{"app.kubernetes.io/instance": release, v1alpha1.AgentLabel: node},
		},
		Spec: appsv1.DeploymentSpec{Replicas: replicas},
	}
}

func TestLeftOut(t *testing.T) {
	for name, tt := range map[string]struct {
		agents []runtime.Object
		keep   []string
		want   []string // in the error, none if empty
	}{
		"nothing is there":        {},
		"all stay":                {agents: []runtime.Object{agentsOf("autoburst", "eci", ptr.To[int32](2))}, keep: []string{"eci", "aci"}},
		"stopped agents may go":   {agents: []runtime.Object{agentsOf("autoburst", "eci", ptr.To[int32](0))}},
		"another release's":       {agents: []runtime.Object{agentsOf("other", "eci", ptr.To[int32](2))}},
		"one would go":            {agents: []runtime.Object{agentsOf("autoburst", "eci", ptr.To[int32](2)), agentsOf("autoburst", "aci", ptr.To[int32](2))}, keep: []string{"aci"}, want: []string{"drain eci --delete-node"}},
		"replicas by default: 1":  {agents: []runtime.Object{agentsOf("autoburst", "eci", nil)}, want: []string{"drain eci"}},
		"each is named with what": {agents: []runtime.Object{agentsOf("autoburst", "eci", nil), agentsOf("autoburst", "aci", nil)}, want: []string{"of aci, eci", "drain aci --delete-node", "drain eci --delete-node"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := &leftOutOptions{streams: genericiooptions.IOStreams{Out: &bytes.Buffer{}}, release: "autoburst", releaseNamespace: "autoburst-system", keep: tt.keep}
			err := o.check(t.Context(), fake.NewClientset(tt.agents...))
			if (err != nil) != (len(tt.want) > 0) {
				t.Fatalf("error %v, want one with %q", err, tt.want)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

// A node that is gone is drained, unless its agents run, which would register it.
func TestDrainOfMissingNode(t *testing.T) {
	for name, tt := range map[string]struct {
		agents []runtime.Object
		ignore bool
		want   string // in the error, none if empty
	}{
		"not ignored":         {want: "there is no node gone"},
		"ignored":             {ignore: true},
		"its agents stopped":  {agents: []runtime.Object{agentsOf("autoburst", "gone", ptr.To[int32](0))}, ignore: true},
		"its agents run":      {agents: []runtime.Object{agentsOf("autoburst", "gone", ptr.To[int32](1))}, ignore: true, want: "autoburst-vnode-gone runs its agents"},
		"another node's does": {agents: []runtime.Object{agentsOf("autoburst", "eci", ptr.To[int32](1))}, ignore: true},
	} {
		t.Run(name, func(t *testing.T) {
			o := &drainOptions{streams: genericiooptions.IOStreams{Out: &bytes.Buffer{}}, deleteNode: true, ignoreNotFound: tt.ignore, releaseNamespace: "autoburst-system"}
			err := newDrainer(o, fake.NewClientset(tt.agents...), "gone").drain(t.Context())
			if (err != nil) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
