package installation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const (
	// DefaultNamespace is where the documentation installs Autoburst.
	DefaultNamespace = "autoburst-system"
	// LeaseName is the Lease by which the controllers elect one.
	LeaseName = "autoburst-controller"

	instanceLabel  = "app.kubernetes.io/instance"
	componentLabel = "app.kubernetes.io/component"
	versionLabel   = "app.kubernetes.io/version"
	chartLabel     = "helm.sh/chart"
	ours           = "app.kubernetes.io/part-of=autoburst"

	controllerComponent = "controller"
	agentComponent      = "vnode"
)

// ErrNotInstalled is returned where a cluster, or the namespace that was named, has
// no controller of Autoburst.
var ErrNotInstalled = errors.New("no installation of Autoburst is found")

// Release is one installation of the chart.
type Release struct {
	// Namespace is where it is, Name what Helm calls it.
	Namespace, Name string
	// Controller is the Deployment of the webhook and policy controller.
	Controller *appsv1.Deployment
	// Agents are the Deployments of the agents, by name.
	Agents []appsv1.Deployment
	// ByPolicy tells that the API server admits pods itself, by a
	// MutatingAdmissionPolicy, in place of a webhook.
	ByPolicy bool
	// Names of objects, as the controller's arguments have them.
	SwitchName, ConfigurationName, CASecretName, MutatingPolicyName string
}

// Usual is a release with the names that the controller's arguments have by default. It
// has no Deployment.
func Usual(namespace string) *Release {
	return &Release{
		Namespace: namespace, Name: "autoburst", SwitchName: "autoburst-switch", ConfigurationName: "autoburst",
		CASecretName: "autoburst-webhook-ca", MutatingPolicyName: "autoburst",
	}
}

// Find finds the release in a namespace, or in any where that is empty. Without the
// right to look everywhere, it looks in DefaultNamespace.
func (c *Clients) Find(ctx context.Context, namespace string) (*Release, error) {
	options := metav1.ListOptions{LabelSelector: ours}
	list, err := c.Kube.AppsV1().Deployments(namespace).List(ctx, options)
	if apierrors.IsForbidden(err) && namespace == "" {
		namespace = DefaultNamespace
		list, err = c.Kube.AppsV1().Deployments(namespace).List(ctx, options)
	}
	where := "no namespace has its controller"
	if namespace != "" {
		where = "namespace " + namespace + " does not have its controller"
	}
	if err != nil {
		return nil, fmt.Errorf("listing the Deployments of Autoburst: %w", err)
	}
	r := &Release{}
	var found []string
	for i := range list.Items {
		if d := &list.Items[i]; d.Labels[componentLabel] == controllerComponent {
			found = append(found, d.Namespace+"/"+d.Name)
			r.Controller = d
		}
	}
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("%w: %s; install the chart, or say where it is with --release-namespace", ErrNotInstalled, where)
	case len(found) > 1:
		return nil, fmt.Errorf("there are %d controllers (%s): say which with --release-namespace", len(found), strings.Join(found, ", "))
	}
	r.Namespace, r.Name = r.Controller.Namespace, r.Controller.Labels[instanceLabel]
	for _, d := range list.Items {
		if d.Namespace == r.Namespace && d.Labels[instanceLabel] == r.Name && d.Labels[componentLabel] == agentComponent {
			r.Agents = append(r.Agents, d)
		}
	}
	slices.SortFunc(r.Agents, func(a, b appsv1.Deployment) int { return cmp.Compare(a.Name, b.Name) })
	usual := Usual(r.Namespace)
	r.SwitchName = cmp.Or(r.Argument("switch-name"), usual.SwitchName)
	r.ConfigurationName = cmp.Or(r.Argument("webhook-configuration-name"), usual.ConfigurationName)
	r.CASecretName = cmp.Or(r.Argument("ca-secret-name"), usual.CASecretName)
	r.MutatingPolicyName = cmp.Or(r.Argument("mutating-admission-policy-name"), usual.MutatingPolicyName)
	r.ByPolicy = r.Argument("admission") == "mutating-admission-policy"
	return r, nil
}

// Argument is the value of a flag of the controller, empty where it is not set.
func (r *Release) Argument(flag string) string {
	var value string
	for _, c := range r.Controller.Spec.Template.Spec.Containers {
		for _, a := range c.Args {
			if v, ok := strings.CutPrefix(a, "--"+flag+"="); ok {
				value = v
			}
		}
	}
	return value
}

// Excluded are the namespaces that are never touched, beside those of Kubernetes.
func (r *Release) Excluded() []string {
	return append([]string{r.Namespace}, strings.FieldsFunc(r.Argument("excluded-namespaces"), func(c rune) bool { return c == ',' })...)
}

// Node is the virtual node of the Deployment of an agent.
func Node(agent *appsv1.Deployment) string { return agent.Labels[v1alpha1.AgentLabel] }

// Version is that of the programs of a Deployment, as the chart labels it.
func Version(d *appsv1.Deployment) string { return d.Labels[versionLabel] }

// ChartVersion is that of the chart which made a Deployment.
func ChartVersion(d *appsv1.Deployment) string {
	return strings.TrimPrefix(d.Labels[chartLabel], cmp.Or(d.Labels["app.kubernetes.io/name"], "autoburst")+"-")
}

// Wanted is how many replicas a Deployment is to have.
func Wanted(d *appsv1.Deployment) int32 { return ptr.Deref(d.Spec.Replicas, 1) }

// AgentVersion is what an agent says of itself on its node, empty for nodes of
// others: the part behind the version of Kubernetes.
func AgentVersion(n *corev1.Node) string {
	_, v, _ := strings.Cut(n.Status.NodeInfo.KubeletVersion, "-autoburst-")
	return v
}

// Switch reads the switch that stops all bursting, which nobody has to have made.
func (c *Clients) Switch(ctx context.Context, r *Release) (stopped bool, err error) {
	m, err := c.Kube.CoreV1().ConfigMaps(r.Namespace).Get(ctx, r.SwitchName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("reading the switch, ConfigMap %s/%s: %w", r.Namespace, r.SwitchName, err)
	}
	return policy.IsStopped(m), nil
}

// Leader is who holds a Lease, and since when it was not renewed.
type Leader struct {
	// Holder is empty where nobody does.
	Holder string
	// Quiet is the time since the last renewal.
	Quiet time.Duration
	// Expired tells that it was not renewed for longer than it lasts.
	Expired bool
}

// LeaderOf reads a Lease.
func (c *Clients) LeaderOf(ctx context.Context, namespace, name string) (Leader, error) {
	lease, err := c.Kube.CoordinationV1().Leases(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return Leader{}, nil
	case err != nil:
		return Leader{}, fmt.Errorf("reading Lease %s/%s: %w", namespace, name, err)
	}
	return leader(lease, c.Now()), nil
}

func leader(lease *coordinationv1.Lease, now time.Time) Leader {
	l := Leader{Holder: ptr.Deref(lease.Spec.HolderIdentity, "")}
	if lease.Spec.RenewTime != nil {
		l.Quiet = max(0, now.Sub(lease.Spec.RenewTime.Time))
	}
	l.Expired = l.Quiet > time.Duration(ptr.Deref(lease.Spec.LeaseDurationSeconds, 40))*time.Second
	return l
}
