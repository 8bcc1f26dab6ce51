package startup

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilversion "k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Patience is how long an API server may take to do what is asked of it before
// the program gives up: the time that Kubernetes' own controller manager gives it
// at its start.
const Patience = 10 * time.Second

// between is the time between two tries, and perCall the bound of one.
const (
	between = 500 * time.Millisecond
	perCall = 5 * time.Second
)

// Config finds the API server: by the kubeconfig file at path or, where that is
// empty, as a pod of the cluster does. No error quotes the file.
func Config(path string) (*rest.Config, error) {
	if path == "" {
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("no way to the API server: %w; outside a cluster, set --kubeconfig (KUBECONFIG)", err)
		}
		return config, nil
	}
	name := fmt.Sprintf("--kubeconfig (KUBECONFIG) is %q", path)
	if _, err := os.ReadFile(path); err != nil {
		var bad *fs.PathError
		if errors.As(err, &bad) {
			err = bad.Err
		}
		return nil, fmt.Errorf("%s, which cannot be read: %w; name a kubeconfig file", name, err)
	}
	if _, err := clientcmd.LoadFromFile(path); err != nil {
		// The parser's message may quote what it could not read, a token even.
		return nil, fmt.Errorf("%s, which is no kubeconfig file: try it with kubectl config view --kubeconfig=%s", name, path)
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: path}, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("%s, which cannot be used: %s; see kubectl config view --kubeconfig=%s", name, oneLine(err), path)
	}
	return config, nil
}

// Needs are what a program cannot work without.
type Needs struct {
	// Minimum is the oldest Kubernetes, such as 1.30, and For what needs it.
	Minimum, For string
	// Groups are APIs that do not come with Kubernetes, and Mend what to do where
	// one is missing.
	Groups []schema.GroupVersion
	Mend   string
	// Rights are requests that must be allowed.
	Rights []authorizationv1.ResourceAttributes
}

// Check asks the API server until it has all that a program needs, Patience long
// at most, and returns its version. Nothing is changed. The error is that of ctx
// when it ends first.
func Check(ctx context.Context, config *rest.Config, needs Needs) (*version.Info, error) {
	config = rest.CopyConfig(config)
	config.Timeout = perCall
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client of the API server %s: %s", config.Host, oneLine(err))
	}
	var found *version.Info
	err = Ask(ctx, config, func(ctx context.Context) error {
		info, err := client.Discovery().ServerVersion()
		if err != nil {
			return err
		}
		found = info
		for _, group := range needs.Groups {
			if _, err := client.Discovery().ServerResourcesForGroupVersion(group.String()); apierrors.IsNotFound(err) {
				return told(fmt.Errorf("the API server %s does not know the API %s: %s", config.Host, group, needs.Mend))
			} else if err != nil {
				return err
			}
		}
		for i := range needs.Rights {
			if err := allowed(ctx, client, &needs.Rights[i]); err != nil {
				return err
			}
		}
		return nil
	}, func() error { return oldEnough(config, found, needs) })
	return found, err
}

func oldEnough(config *rest.Config, found *version.Info, needs Needs) error {
	if found == nil || needs.Minimum == "" {
		return nil
	}
	v, err := utilversion.ParseGeneric(found.GitVersion)
	if err != nil {
		return nil //nolint:nilerr // who names versions so knows better
	}
	if v.LessThan(utilversion.MustParseGeneric(needs.Minimum)) {
		return fmt.Errorf("the API server %s is Kubernetes %s: %s needs %s or newer; upgrade the cluster", config.Host, found.GitVersion, needs.For, needs.Minimum)
	}
	return nil
}

// told is an error that is as it shall be told.
func told(err error) error { return &toldError{err} }

type toldError struct{ error }

func (e *toldError) Unwrap() error { return e.error }

// Ask repeats a question to the API server until it has no error, Patience long
// at most. What certain says comes first and ends it at once, as does an API
// server that cannot be trusted; certain may be nil.
func Ask(ctx context.Context, config *rest.Config, question func(context.Context) error, certain func() error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, between, Patience, true, func(ctx context.Context) (bool, error) {
		call, cancel := context.WithTimeout(ctx, perCall)
		defer cancel()
		err := question(call)
		if certain != nil {
			if err := certain(); err != nil {
				return false, err
			}
		}
		if err == nil {
			return true, nil
		}
		if ctx.Err() == nil || last == nil {
			last = explain(config, err)
		}
		if untrusted(err) {
			return false, last
		}
		return false, nil
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case wait.Interrupted(err) && last != nil:
		return last
	}
	return err
}

func untrusted(err error) bool {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	return errors.As(err, &verification) || errors.As(err, &authority)
}

// explain says what an error of the API server means for whoever set it up.
func explain(config *rest.Config, err error) error {
	var as *toldError
	switch {
	case errors.As(err, &as):
		return as.error
	case untrusted(err):
		return fmt.Errorf("the API server %s shows a certificate that is not trusted: %s; mend certificate-authority in the kubeconfig", config.Host, oneLine(root(err)))
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("the API server %s does not accept the credentials of the kubeconfig: its token or certificate may have expired; make a new one", config.Host)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("the API server %s refuses: %s; grant what the chart grants, see docs/permissions.md", config.Host, oneLine(err))
	}
	return fmt.Errorf("the API server %s gave no answer for %s: %s; check that it runs, and server in the kubeconfig", config.Host, Patience, oneLine(root(err)))
}

// root is the innermost error: what is around it repeats the URL.
func root(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// allowed asks whether a request would be. Where that may not even be asked, it
// is taken for allowed.
func allowed(ctx context.Context, client kubernetes.Interface, a *authorizationv1.ResourceAttributes) error {
	review, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx,
		&authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: a}}, metav1.CreateOptions{})
	if apierrors.IsForbidden(err) || err == nil && review.Status.Allowed {
		return nil
	}
	if err != nil {
		return err
	}
	what := a.Resource
	if a.Subresource != "" {
		what += "/" + a.Subresource
	}
	if a.Group != "" {
		what += "." + a.Group
	}
	if a.Name != "" {
		what += " " + a.Name
	}
	where := "in all namespaces"
	if a.Namespace != "" {
		where = "in namespace " + a.Namespace
	}
	return told(fmt.Errorf("the user of this program may not %s %s %s: grant what the chart grants, see docs/permissions.md", a.Verb, what, where))
}
