package controller

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// applied keeps what is applied, unless it is told to fail.
type applied struct {
	fail    []error // of the next calls; nil lets one pass
	objects []v1alpha1.BurstAdmission
}

func (a *applied) Apply(_ context.Context, obj runtime.ApplyConfiguration, _ ...client.ApplyOption) error {
	if len(a.fail) > 0 {
		err := a.fail[0]
		a.fail = a.fail[1:]
		if err != nil {
			return err
		}
	}
	text, err := json.Marshal(obj)
	if err != nil {
		return err
	}
	var o v1alpha1.BurstAdmission
	if err := json.Unmarshal(text, &o); err != nil {
		return err
	}
	a.objects = append(a.objects, o)
	return nil
}

func TestAdmissionIsKept(t *testing.T) {
	tooLarge := apierrors.NewRequestEntityTooLargeError("limit is 3145728")
	for name, c := range map[string]struct {
		snapshots []*policy.Snapshot
		fail      []error
		noPolicy  bool // the chart's MutatingAdmissionPolicy is missing
		// want are the switch and the served namespaces of each object written.
		want []string
		next time.Duration
	}{
		"before the caches are full":    {snapshots: []*policy.Snapshot{{}}, next: admissionRepeat},
		"the rules":                     {snapshots: []*policy.Snapshot{serving("Overflow", false)}, want: []string{"shop"}, next: admissionRepeat},
		"nothing new":                   {snapshots: []*policy.Snapshot{serving("Overflow", false), serving("Overflow", false)}, want: []string{"shop"}, next: admissionRepeat},
		"stopped":                       {snapshots: []*policy.Snapshot{serving("Always", false), serving("Always", true)}, want: []string{"shop", "shop stopped"}, next: admissionRepeat},
		"nothing is served any more":    {snapshots: []*policy.Snapshot{serving("Always", false), serving("Never", false)}, want: []string{"shop", ""}, next: admissionRepeat},
		"an error is tried again":       {snapshots: []*policy.Snapshot{serving("Always", false)}, fail: []error{errors.New("gone")}, next: admissionRetry},
		"and with success":              {snapshots: []*policy.Snapshot{serving("Always", false), serving("Always", false)}, fail: []error{errors.New("gone")}, want: []string{"shop"}, next: admissionRepeat},
		"too large":                     {snapshots: []*policy.Snapshot{serving("Always", true)}, fail: []error{tooLarge}, want: []string{" stopped"}, next: admissionRepeat},
		"too large, and again an error": {snapshots: []*policy.Snapshot{serving("Always", true)}, fail: []error{tooLarge, errors.New("gone")}, next: admissionRetry},
		"no policy that owns it":        {snapshots: []*policy.Snapshot{serving("Always", true)}, noPolicy: true, next: admissionRetry},
	} {
		t.Run(name, func(t *testing.T) {
			owner := &admissionregistrationv1.MutatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "autoburst", UID: "7"}}
			if c.noPolicy {
				owner.Name = "another"
			}
			f := newFixture(t, owner)
			writes := &applied{fail: c.fail}
			a := &admission{options: Admission{Name: "autoburst", Policies: f.client}, view: f.view, writes: writes, clock: f.clock, bell: newBell()}
			var next time.Duration
			for _, s := range c.snapshots {
				next = a.keep(t.Context(), s)
			}
			if next != c.next {
				t.Errorf("the next look is in %v, want %v", next, c.next)
			}
			var got []string
			for _, o := range writes.objects {
				text := ""
				for name := range o.Spec.Namespaces {
					text += name
				}
				if o.Spec.Stopped {
					text += " stopped"
				}
				got = append(got, text)
				if refs := o.OwnerReferences; o.Name != "autoburst" || len(refs) != 1 || refs[0].UID != "7" || refs[0].Kind != "MutatingAdmissionPolicy" {
					t.Errorf("object %q is owned by %v, want by the MutatingAdmissionPolicy", o.Name, refs)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("written (-want +got):\n%s", diff)
			}
		})
	}
}

// serving is a snapshot in which one namespace is annotated.
func serving(mode v1alpha1.Mode, stopped bool) *policy.Snapshot {
	return &policy.Snapshot{Namespaces: map[string]policy.Namespace{"shop": {Mode: mode}, "other": {}}, Stopped: stopped}
}

// What is written is written anew after a while, as others may have deleted it.
func TestAdmissionIsRepeated(t *testing.T) {
	f := newFixture(t, &admissionregistrationv1.MutatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "autoburst"}})
	f.view.snapshot = serving(v1alpha1.ModeAlways, false)
	writes := &countedApplies{calls: make(chan struct{})}
	a := &admission{options: Admission{Name: "autoburst", Policies: f.client}, view: f.view, writes: writes, clock: f.clock, bell: newBell()}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Start(ctx) }()
	<-writes.calls
	for written := false; !written; {
		select {
		case <-writes.calls:
			written = true
		default:
			if f.clock.HasWaiters() {
				f.clock.Step(admissionRepeat)
			}
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type countedApplies struct{ calls chan struct{} }

func (c *countedApplies) Apply(ctx context.Context, _ runtime.ApplyConfiguration, _ ...client.ApplyOption) error {
	select {
	case c.calls <- struct{}{}:
	case <-ctx.Done():
	}
	return nil
}
