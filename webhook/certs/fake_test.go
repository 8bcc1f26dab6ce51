package certs

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	secretName        = "autoburst-webhook-ca"
	configurationName = "autoburst"
)

// api is one Secret and one configuration, with the optimistic locking of an API
// server, which client-go's fake clientset lacks.
type api struct {
	mu            sync.Mutex
	version       int
	secret        *corev1.Secret
	configuration *admissionregistrationv1.MutatingWebhookConfiguration
	// writes counts what was written, by kind.
	writes map[string]int
	// down makes every call fail; denied only those on the Secret.
	down, denied bool
	// watches are told of every change.
	watches []*watch.RaceFreeFakeWatcher
	// beforePatch runs before the next patch of the configuration.
	beforePatch func()
}

var errDown = errors.New("connection refused")

func newAPI() *api {
	a := &api{writes: map[string]int{}}
	a.configuration = &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{
			Name: configurationName, ResourceVersion: "1",
			Annotations: map[string]string{"admissions.enforcer/disabled": "true"},
		},
		Webhooks: []admissionregistrationv1.MutatingWebhook{
			hook("pods.autoburst.io", "/mutate-pods"),
			hook("namespaces.autoburst.io", "/mutate-namespaces"),
		},
	}
	a.version = 1
	return a
}

func hook(name, path string) admissionregistrationv1.MutatingWebhook {
	return admissionregistrationv1.MutatingWebhook{
		Name: name,
		ClientConfig: admissionregistrationv1.WebhookClientConfig{
			Service: &admissionregistrationv1.ServiceReference{Namespace: "autoburst", Name: "autoburst", Path: new(path)},
		},
		FailurePolicy:           new(admissionregistrationv1.Ignore),
		SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
		TimeoutSeconds:          new(int32(2)),
		AdmissionReviewVersions: []string{"v1"},
	}
}

func (a *api) nextVersion() string {
	a.version++
	for _, w := range a.watches {
		w.Modify(&corev1.Secret{})
	}
	return strconv.Itoa(a.version)
}

// Watch tells of the changes of both objects.
func (a *api) Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.down {
		return nil, errDown
	}
	if o.FieldSelector == "" {
		return nil, apierrors.NewForbidden(secretResource, "", errors.New("a watch of all objects"))
	}
	w := watch.NewRaceFreeFake()
	a.watches = append(a.watches, w)
	context.AfterFunc(ctx, w.Stop)
	return w, nil
}

func (a *api) wrote(kind string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.writes[kind]++
}

func (a *api) written() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.writes["secret"] + a.writes["configuration"]
}

// change edits the stored objects as a third party would.
func (a *api) change(edit func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	edit()
	v := a.nextVersion()
	if a.secret != nil {
		a.secret.ResourceVersion = v
	}
	if a.configuration != nil {
		a.configuration.ResourceVersion = v
	}
}

func (a *api) bundles(t *testing.T) [][]byte {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	var all [][]byte
	for _, w := range a.configuration.Webhooks {
		all = append(all, w.ClientConfig.CABundle)
	}
	return all
}

// secrets is the api as a Secrets.
type secrets struct{ *api }

var secretResource = schema.GroupResource{Resource: "secrets"}

func (s secrets) unavailable() error {
	if s.down || s.denied {
		return errDown
	}
	return nil
}

func (s secrets) Get(_ context.Context, name string, _ metav1.GetOptions) (*corev1.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.unavailable(); err != nil {
		return nil, err
	}
	if s.secret == nil || s.secret.Name != name {
		return nil, apierrors.NewNotFound(secretResource, name)
	}
	return s.secret.DeepCopy(), nil
}

func (s secrets) Create(_ context.Context, secret *corev1.Secret, _ metav1.CreateOptions) (*corev1.Secret, error) {
	stored, err := s.create(secret)
	if err == nil {
		s.wrote("secret")
	}
	return stored, err
}

func (s secrets) create(secret *corev1.Secret) (*corev1.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.unavailable(); err != nil {
		return nil, err
	}
	if s.secret != nil {
		return nil, apierrors.NewAlreadyExists(secretResource, secret.Name)
	}
	s.secret = secret.DeepCopy()
	s.secret.ResourceVersion = s.nextVersion()
	return s.secret.DeepCopy(), nil
}

func (s secrets) Update(_ context.Context, secret *corev1.Secret, _ metav1.UpdateOptions) (*corev1.Secret, error) {
	stored, err := s.update(secret)
	if err == nil {
		s.wrote("secret")
	}
	return stored, err
}

func (s secrets) update(secret *corev1.Secret) (*corev1.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.unavailable(); err != nil {
		return nil, err
	}
	if s.secret == nil {
		return nil, apierrors.NewNotFound(secretResource, secret.Name)
	}
	if s.secret.ResourceVersion != secret.ResourceVersion {
		return nil, apierrors.NewConflict(secretResource, secret.Name, errors.New("modified"))
	}
	s.secret = secret.DeepCopy()
	s.secret.ResourceVersion = s.nextVersion()
	return s.secret.DeepCopy(), nil
}

// configurations is the api as a Configurations.
type configurations struct{ *api }

var configurationResource = schema.GroupResource{Group: "admissionregistration.k8s.io", Resource: "mutatingwebhookconfigurations"}

func (c configurations) Get(_ context.Context, name string, _ metav1.GetOptions) (*admissionregistrationv1.MutatingWebhookConfiguration, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return nil, errDown
	}
	if c.configuration == nil || c.configuration.Name != name {
		return nil, apierrors.NewNotFound(configurationResource, name)
	}
	return c.configuration.DeepCopy(), nil
}

func (c configurations) Patch(_ context.Context, name string, t types.PatchType, data []byte, _ metav1.PatchOptions, subresources ...string) (*admissionregistrationv1.MutatingWebhookConfiguration, error) {
	c.mu.Lock()
	before := c.beforePatch
	c.beforePatch = nil
	c.mu.Unlock()
	if before != nil {
		before()
	}
	stored, err := c.patch(name, t, data, subresources)
	if err == nil {
		c.wrote("configuration")
	}
	return stored, err
}

func (c configurations) patch(name string, t types.PatchType, data []byte, subresources []string) (*admissionregistrationv1.MutatingWebhookConfiguration, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return nil, errDown
	}
	if t != types.JSONPatchType || len(subresources) > 0 {
		return nil, apierrors.NewBadRequest("unsupported patch")
	}
	if c.configuration == nil {
		return nil, apierrors.NewNotFound(configurationResource, name)
	}
	p, err := jsonpatch.DecodePatch(data)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	raw, err := json.Marshal(c.configuration)
	if err != nil {
		return nil, err
	}
	if raw, err = p.Apply(raw); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	patched := new(admissionregistrationv1.MutatingWebhookConfiguration)
	if err := json.Unmarshal(raw, patched); err != nil {
		return nil, err
	}
	if patched.ResourceVersion != c.configuration.ResourceVersion {
		return nil, apierrors.NewConflict(configurationResource, name, errors.New("modified"))
	}
	patched.ResourceVersion = c.nextVersion()
	c.configuration = patched
	return patched.DeepCopy(), nil
}
