package controller

import (
	"testing"

	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/policy"
)

// A pod that waits for one reason and then for another has an event for each:
// the recorder must not fold the second into the first.
func TestEachReasonIsAnEvent(t *testing.T) {
	client := fake.NewClientset()
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	if err := broadcaster.StartRecordingToSinkWithContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer broadcaster.Shutdown()
	tell := newTeller(broadcaster.NewRecorder(clientgoscheme.Scheme, "autoburst"), clock.RealClock{})
	w := newWaiting(clock.RealClock{}, newMetrics(func() bool { return false }, func() bool { return true }), newGates(clock.RealClock{}))
	p := unschedulable("web")
	w.PodPending(p)
	for _, d := range []policy.Decision{
		{Reason: policy.FitsLocally, Message: "first"}, {Reason: policy.NoVirtualNodeFits, Message: "second"},
		{Reason: policy.FitsLocally, Message: "said before"},
	} {
		tell.waits(w, p, d)
	}
	tell.stays(w, p, policy.Decision{Reason: policy.NotBurstable, Message: "third"})

	var list *eventsv1.EventList
	eventually(t, "there are three events", func() bool {
		var err error
		if list, err = client.EventsV1().Events(p.Namespace).List(t.Context(), metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
		return len(list.Items) == 3
	})
	notes := map[string]bool{}
	for _, e := range list.Items {
		notes[e.Note] = true
	}
	for _, want := range []string{"first", "second", "third"} {
		if !notes[want] {
			t.Errorf("no event says %q: %v", want, notes)
		}
	}
}
