package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const (
	// admissionPause is the least time between two writes of the BurstAdmission, as
	// most changes of the rules come with others.
	admissionPause = 50 * time.Millisecond
	// admissionRetry is after how long a write that failed is tried again.
	admissionRetry = time.Second
	// admissionRepeat is after how long it is written anew though nothing has
	// changed here, since others may have changed or deleted it.
	admissionRepeat = 10 * time.Second
	// fieldManager owns what is applied.
	fieldManager = "autoburst"
)

// Admission are the options where the API server admits pods by itself.
type Admission struct {
	// Name of the MutatingAdmissionPolicy, and of the BurstAdmission that its
	// expressions read.
	Name string
	// Policies reads the MutatingAdmissionPolicy, not from a cache: one object does
	// not deserve a watch.
	Policies client.Reader
}

// applier writes by server-side apply; a client.Client is one.
type applier interface {
	Apply(ctx context.Context, obj runtime.ApplyConfiguration, opts ...client.ApplyOption) error
}

// admission keeps the BurstAdmission: what the API server decides by when it
// admits pods by itself.
type admission struct {
	options Admission
	view    View
	writes  applier
	clock   clock.Clock
	bell    bell // rings when the rules changed
	// written is what was last written.
	written *v1alpha1.BurstAdmissionSpec
}

// NeedLeaderElection is true: one replica writes.
func (a *admission) NeedLeaderElection() bool { return true }

// Start keeps the object until the context ends.
func (a *admission) Start(ctx context.Context) error {
	defer a.view.Subscribe(rulesListener{a.bell})()
	ctx = log.IntoContext(ctx, log.FromContext(ctx).WithName("admission"))
	for {
		next := a.keep(ctx, a.view.Snapshot())
		rang, live := a.bell.await(ctx, a.clock, admissionPause, next)
		if !live {
			return nil
		}
		if !rang { // somebody may have changed or deleted what was written
			a.written = nil
		}
	}
}

// keep writes the rules of the snapshot unless they are written already, and
// returns when to write them next if they do not change.
func (a *admission) keep(ctx context.Context, s *policy.Snapshot) time.Duration {
	if len(s.Namespaces) == 0 { // not synced yet: unknown is not absent
		return admissionRepeat
	}
	spec := policy.Params(s)
	if a.written != nil && equality.Semantic.DeepEqual(*a.written, spec) {
		return admissionRepeat
	}
	err := a.write(ctx, &spec)
	if tooLarge(err) {
		// What is there is out of date, and may grant what the switch or a policy by
		// now forbids. Without rules all is left to the late grants.
		log.FromContext(ctx).Error(err, "The rules are more than one BurstAdmission holds, so the API server admits pods as they are,"+
			" and mode Always does not keep them off local nodes. Set the chart's value admission to Webhook, or merge policies")
		err = a.write(ctx, &v1alpha1.BurstAdmissionSpec{Stopped: s.Stopped})
	}
	if err != nil {
		log.FromContext(ctx).Error(err, "Writing what the API server admits pods by; it is tried again")
		a.written = nil
		return admissionRetry
	}
	a.written = &spec
	return admissionRepeat
}

// tooLarge tells that no retry will help: the API server or etcd finds the object
// too large, or the schema a list in it too long.
func tooLarge(err error) bool {
	return err != nil && (apierrors.IsInvalid(err) || apierrors.IsRequestEntityTooLargeError(err) ||
		strings.Contains(err.Error(), "etcdserver: request is too large"))
}

// write applies the object. The MutatingAdmissionPolicy, which the chart made, owns
// it, so that it goes with the chart, or with the mode.
func (a *admission) write(ctx context.Context, spec *v1alpha1.BurstAdmissionSpec) error {
	owner := &admissionregistrationv1.MutatingAdmissionPolicy{}
	if err := a.options.Policies.Get(ctx, client.ObjectKey{Name: a.options.Name}, owner); err != nil {
		return fmt.Errorf("reading the MutatingAdmissionPolicy %s, which the chart makes: %w", a.options.Name, err)
	}
	object := &v1alpha1.BurstAdmission{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "BurstAdmission"},
		ObjectMeta: metav1.ObjectMeta{
			Name: a.options.Name,
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "MutatingAdmissionPolicy",
				Name: owner.Name, UID: owner.UID,
			}},
			Labels: map[string]string{"app.kubernetes.io/managed-by": fieldManager},
		},
		Spec: *spec,
	}
	text, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("encoding BurstAdmission %s: %w", object.Name, err)
	}
	var applied unstructured.Unstructured
	if err := applied.UnmarshalJSON(text); err != nil {
		return fmt.Errorf("encoding BurstAdmission %s: %w", object.Name, err)
	}
	unstructured.RemoveNestedField(applied.Object, "metadata", "creationTimestamp")
	err = a.writes.Apply(ctx, client.ApplyConfigurationFromUnstructured(&applied), client.FieldOwner(fieldManager), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("writing BurstAdmission %s: %w", object.Name, err)
	}
	return nil
}
