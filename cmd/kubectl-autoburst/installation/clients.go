// Package installation finds what of Autoburst is installed in a cluster, and has
// the clients by which its parts are read.
package installation

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// codecs read and write policies.
var codecs = func() serializer.CodecFactory {
	s := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(s); err != nil { // the types are compiled in: cannot fail
		panic(err)
	}
	return serializer.NewCodecFactory(s)
}()

// Clients speak to the API server of one cluster, and to nothing else.
type Clients struct {
	Kube kubernetes.Interface
	// Policies is for the API group autoburst.io.
	Policies rest.Interface
	// Metadata reads objects without their spec and status.
	Metadata metadata.Interface
	// Extensions is for CustomResourceDefinitions.
	Extensions apiextensions.Interface
	// Server is the URL of the API server.
	Server string

	clock *clock
}

// Connect makes the clients; it asks the API server for nothing. User agent is
// what requests are told apart by in audit logs.
func Connect(cfg *rest.Config, userAgent string) (*Clients, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.UserAgent = userAgent
	cfg.QPS = -1 // there are few requests; the API server's own fairness is the judge
	c := &Clients{Server: cfg.Host, clock: &clock{}}
	cfg.Wrap(c.clock.listen)

	ours := rest.CopyConfig(cfg)
	ours.GroupVersion, ours.APIPath = &v1alpha1.GroupVersion, "/apis"
	ours.NegotiatedSerializer = codecs.WithoutConversion()
	extensions := rest.CopyConfig(cfg)
	cfg.ContentType, cfg.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON

	var err error
	if c.Kube, err = kubernetes.NewForConfig(cfg); err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	if c.Policies, err = rest.RESTClientFor(ours); err != nil {
		return nil, fmt.Errorf("making a client for policies: %w", err)
	}
	if c.Metadata, err = metadata.NewForConfig(cfg); err != nil {
		return nil, fmt.Errorf("making a client for metadata: %w", err)
	}
	if c.Extensions, err = apiextensions.NewForConfig(extensions); err != nil {
		return nil, fmt.Errorf("making a client for CustomResourceDefinitions: %w", err)
	}
	return c, nil
}

// Now is the time by the API server's clock, to within a second, by which the
// times in objects are measured; that of this machine before the first answer.
func (c *Clients) Now() time.Time { return time.Now().Add(time.Duration(c.clock.ahead.Load())) }

// clock learns from answers by how much the API server's clock is ahead.
type clock struct{ ahead atomic.Int64 }

func (c *clock) listen(next http.RoundTripper) http.RoundTripper { return &listener{next, c} }

// listener hears the time in answers.
type listener struct {
	next  http.RoundTripper
	clock *clock
}

// WrappedRoundTripper lets client-go cancel what is under way.
func (l *listener) WrappedRoundTripper() http.RoundTripper { return l.next }

// RoundTrip sends a request.
func (l *listener) RoundTrip(r *http.Request) (*http.Response, error) {
	asked := time.Now()
	resp, err := l.next.RoundTrip(r)
	if err != nil {
		return resp, err
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		// The header has whole seconds, and was written between question and answer.
		ahead := date.Sub(asked)
		if date.Add(time.Second).After(asked) && date.Before(time.Now()) {
			ahead = 0
		}
		l.clock.ahead.Store(int64(ahead))
	}
	return resp, nil
}
