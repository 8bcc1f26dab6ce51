package check

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/installation"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// The oldest versions of Kubernetes that do: with matchConditions of webhooks, and
// with MutatingAdmissionPolicy.
var (
	oldest         = version.MajorMinor(1, 30)
	oldestByPolicy = version.MajorMinor(1, 36)
)

func apiServer(_ context.Context, s *session) (finding, error) {
	_, err := s.Kube.Discovery().ServerVersion()
	if err != nil && !apierrors.IsForbidden(err) { // that is an answer, too
		return finding{}, installation.Reach(s.Server, err)
	}
	return ok("the API server %s answers", s.Server), nil
}

func kubernetesVersion(ctx context.Context, s *session) (finding, error) {
	info, err := s.Kube.Discovery().ServerVersion()
	if err != nil {
		return finding{}, err
	}
	v, err := version.ParseGeneric(info.GitVersion)
	if err != nil {
		return warning("the API server calls its version %q, which is none", info.GitVersion), nil //nolint:nilerr // that is the finding
	}
	if v.LessThan(oldest) {
		return failure("Kubernetes is %s; Autoburst needs %s or later", info.GitVersion, oldest), nil
	}
	if r, err := s.release.get(ctx); err == nil && r.ByPolicy && v.LessThan(oldestByPolicy) {
		return failure("Kubernetes is %s; admission by MutatingAdmissionPolicy needs %s or later", info.GitVersion, oldestByPolicy), nil
	}
	return ok("Kubernetes is %s, and %s or later is needed", info.GitVersion, oldest), nil
}

// right is one to a kind of objects, by all their names or by one.
type right struct {
	group, resource, subresource string
	verbs                        string // separated by spaces
	// namespace is empty for all, name for any.
	namespace, name string
	// purpose is what is missing without it.
	purpose string
}

func (r right) attributes(verb string) *authorizationv1.ResourceAttributes {
	return &authorizationv1.ResourceAttributes{
		Namespace: r.namespace, Verb: verb, Group: r.group, Resource: r.resource, Subresource: r.subresource, Name: r.name,
	}
}

// String is such as "patch pods" or "get secrets autoburst-webhook-ca in namespace
// autoburst-system".
func (r right) String() string {
	text := r.resource
	if r.subresource != "" {
		text += "/" + r.subresource
	}
	if r.group != "" {
		text += "." + r.group
	}
	if r.name != "" {
		text += " " + r.name
	}
	if r.namespace != "" {
		text += " in namespace " + r.namespace
	}
	return text
}

// asker asks the API server whether somebody may do something.
type asker func(ctx context.Context, a *authorizationv1.ResourceAttributes) (allowed bool, err error)

// missing asks for each right, some at a time, and returns what is refused.
func missing(ctx context.Context, rights []right, ask asker) ([]string, error) {
	var all []string
	var first error
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for _, r := range rights {
		for verb := range strings.FieldsSeq(r.verbs) {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				allowed, err := ask(ctx, r.attributes(verb))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil && first == nil:
					first = err
				case err == nil && !allowed:
					all = append(all, fmt.Sprintf("%s %s: %s", verb, r, r.purpose))
				}
			})
		}
	}
	wg.Wait()
	slices.Sort(all)
	return all, first
}

// mine asks about the user of this program.
func (s *session) mine(ctx context.Context, a *authorizationv1.ResourceAttributes) (bool, error) {
	answer, err := s.Kube.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx,
		&authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: a}}, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("asking the API server what you may do: %w", err)
	}
	return answer.Status.Allowed, nil
}

// ofAccount asks about a ServiceAccount.
func (s *session) ofAccount(namespace, name string) asker {
	user := "system:serviceaccount:" + namespace + ":" + name
	groups := []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"}
	return func(ctx context.Context, a *authorizationv1.ResourceAttributes) (bool, error) {
		answer, err := s.Kube.AuthorizationV1().SubjectAccessReviews().Create(ctx,
			&authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: user, Groups: groups, ResourceAttributes: a}}, metav1.CreateOptions{})
		if err != nil {
			return false, fmt.Errorf("asking the API server what %s may do: %w", user, err)
		}
		return answer.Status.Allowed, nil
	}
}

// checkerRights are what the checks read, by name where they know it.
func checkerRights(r *installation.Release) []right {
	ns := r.Namespace
	all := []right{
		{group: "apps", resource: "deployments", verbs: "list", namespace: ns, purpose: "Autoburst is not found"},
		{resource: "pods", verbs: "list", namespace: ns, purpose: "where the controller runs is not checked"},
		{resource: "nodes", verbs: "list", purpose: "virtual nodes are not checked"},
		{resource: "namespaces", verbs: "list", purpose: "served namespaces are not checked"},
		{group: v1alpha1.GroupName, resource: "burstpolicies", verbs: "list", purpose: "policies are not checked"},
		{group: v1alpha1.GroupName, resource: "clusterburstpolicies", verbs: "list", purpose: "policies are not checked"},
		{group: "coordination.k8s.io", resource: "leases", verbs: "get", namespace: ns, purpose: "who is elected is not checked"},
		{group: "coordination.k8s.io", resource: "leases", verbs: "get", namespace: corev1.NamespaceNodeLease, purpose: "whether agents live is not checked"},
		{group: "authorization.k8s.io", resource: "subjectaccessreviews", verbs: "create", purpose: "the rights of the programs are not checked"},
		{resource: "configmaps", verbs: "get", namespace: ns, name: r.SwitchName, purpose: "the switch is not checked"},
	}
	for _, crd := range known {
		all = append(all, right{group: "apiextensions.k8s.io", resource: "customresourcedefinitions", verbs: "get", name: crd.Name, purpose: "its version is not checked"})
	}
	if r.ByPolicy {
		return append(all,
			right{group: "admissionregistration.k8s.io", resource: "mutatingadmissionpolicies", verbs: "get", name: r.MutatingPolicyName, purpose: "admission is not checked"},
			right{group: "admissionregistration.k8s.io", resource: "mutatingadmissionpolicybindings", verbs: "get", name: r.MutatingPolicyName, purpose: "admission is not checked"},
			right{group: v1alpha1.GroupName, resource: "burstadmissions", verbs: "get", name: r.MutatingPolicyName, purpose: "admission is not checked"},
		)
	}
	return append(all,
		right{group: "admissionregistration.k8s.io", resource: "mutatingwebhookconfigurations", verbs: "get", name: r.ConfigurationName, purpose: "the webhook is not checked"},
		right{group: "discovery.k8s.io", resource: "endpointslices", verbs: "list", namespace: ns, purpose: "the webhook's endpoints are not checked"},
	)
}

func yourRights(ctx context.Context, s *session) (finding, error) {
	r, err := s.release.get(ctx)
	if err != nil { // which another check says; until then the rights are those by the usual names
		r = installation.Usual(s.namespace())
	}
	refused, err := missing(ctx, checkerRights(r), s.mine)
	if err != nil {
		return finding{}, err
	}
	for i := range refused {
		refused[i] = "you may not " + refused[i]
	}
	return of(Warning, refused, "rights to look are missing, so that some checks say less", ok("you may read all that is checked")), nil
}
