package check

import (
	"context"
	"errors"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/installation"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// session is one run of the checks: what several of them look at is read once.
type session struct {
	Options
	*installation.Clients

	release  once[*installation.Release]
	nodes    once[[]corev1.Node]
	policies once[[]v1alpha1.BurstPolicy]
	clusters once[[]v1alpha1.ClusterBurstPolicy]
	served   once[[]corev1.Namespace]
	pods     once[[]corev1.Pod]
	webhook  once[*admissionregistrationv1.MutatingWebhookConfiguration]
}

func newSession(o Options) *session {
	s := &session{Options: o, Clients: o.Clients}
	s.release.read = func(ctx context.Context) (*installation.Release, error) { return s.Find(ctx, o.Namespace) }
	s.nodes.read = s.Virtual
	s.policies.read = func(ctx context.Context) ([]v1alpha1.BurstPolicy, error) { return s.BurstPolicies(ctx, "") }
	s.clusters.read = s.ClusterBurstPolicies
	s.served.read = s.Served
	s.pods.read = func(ctx context.Context) ([]corev1.Pod, error) {
		r, err := s.release.get(ctx)
		if err != nil {
			return nil, err
		}
		list, err := s.Kube.CoreV1().Pods(r.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=" + r.Name})
		if err != nil {
			return nil, err
		}
		return list.Items, nil
	}
	s.webhook.read = func(ctx context.Context) (*admissionregistrationv1.MutatingWebhookConfiguration, error) {
		r, err := s.release.get(ctx)
		if err != nil {
			return nil, err
		}
		if r.ByPolicy {
			return nil, errDoesNotApply
		}
		return s.Kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, r.ConfigurationName, metav1.GetOptions{})
	}
	return s
}

// namespace is where Autoburst is to be installed.
func (s *session) namespace() string {
	if s.Namespace == "" {
		return installation.DefaultNamespace
	}
	return s.Namespace
}

// once is something that is read at most once, when somebody asks. An error is kept,
// too.
type once[T any] struct {
	read func(context.Context) (T, error)
	done bool
	v    T
	err  error
}

func (o *once[T]) get(ctx context.Context) (T, error) {
	if !o.done {
		o.v, o.err = o.read(ctx)
		o.done = !errors.Is(o.err, context.Canceled)
	}
	return o.v, o.err
}
