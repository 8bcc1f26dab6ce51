package providertest

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/autoburst/autoburst/providers"
)

// testFind asks for the groups of pods by their UIDs alone.
func testFind(t *testing.T, h *Harness) {
	f, ok := h.Provider.(providers.Finder)
	if !ok {
		return // the cloud cannot be asked for one pod
	}
	ctx := within(t)
	spec := h.spec("sought", forever)
	_, err := f.Find(ctx, spec.Owner.PodUID)
	wantClass(t, "Find of a pod that has no group", err, providers.NotFound)

	id := h.create(t, spec)
	h.create(t, h.spec("beside", forever))
	h.running(t, id)
	g, err := f.Find(ctx, spec.Owner.PodUID)
	if err != nil {
		t.Fatalf("Find: %v", err)
	}
	if diff := cmp.Diff(spec.Owner, g.Owner); diff != "" || g.ID != id || g.Deleting {
		t.Errorf("Find = group %s, deleting %v, want %s; owner (-want +got):\n%s", g.ID, g.Deleting, id, diff)
	}
	if g.Status == nil || g.Status.Phase != providers.GroupRunning || len(g.Status.Containers) != 1 || g.Status.Containers[0].State.Running == nil {
		t.Errorf("Find has the status %+v of a group that runs", g.Status)
	}

	h.findForeign(t, f)
	h.findWithFaults(t, f, spec.Owner.PodUID)

	if err := h.Provider.Delete(within(t), id); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	h.gone(t, id)
	_, err = f.Find(within(t), spec.Owner.PodUID)
	wantClass(t, "Find of a pod whose group is gone", err, providers.NotFound)
}

// findForeign looks for pods of others. Whether there is nothing for this node, or a
// name is taken, depends on the cloud; no group of theirs is shown.
func (h *Harness) findForeign(t *testing.T, f providers.Finder) {
	t.Helper()
	for name, owner := range map[string][2]string{
		"another cluster": {"other-cluster", h.NodeName},
		"another node":    {h.ClusterUID, "other-node"},
	} {
		theirs := h.spec("theirs", forever)
		theirs.Owner.ClusterUID, theirs.Owner.NodeName, theirs.Owner.PodUID = owner[0], owner[1], uid(name)
		if _, err := h.Sibling(t, owner[0], owner[1]).Create(within(t), theirs); err != nil {
			t.Fatalf("%s: Create: %v", name, err)
		}
		g, err := f.Find(within(t), theirs.Owner.PodUID)
		wantClass(t, "Find of a pod of "+name, err, providers.NotFound, providers.Conflict)
		if g != nil {
			t.Errorf("Find shows the group %s of %s", g.ID, name)
		}
	}
}

// findWithFaults looks for pods, of which one has a group and one has none, while the
// cloud fails in every way: it is never told that there is none.
func (h *Harness) findWithFaults(t *testing.T, f providers.Finder, withGroup string) {
	t.Helper()
	for name, podUID := range map[string]string{"a group": withGroup, "no group": uid("never made")} {
		for _, kind := range []FaultKind{Throttle, Unavailable, Cut, Garbage, LoseAnswer, Hang} {
			ctx, cancel := within(t), context.CancelFunc(func() {})
			if kind == Hang {
				ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
			}
			h.Inject(Fault{Operation: Any, Kind: kind})
			g, err := f.Find(ctx, podUID)
			h.Heal()
			cancel()
			what := "Find of a pod with " + name + ", " + string(kind)
			wantClass(t, what, err, providers.Throttled, providers.Unavailable, providers.Unknown)
			h.wantNoSecret(t, what, err)
			if g != nil {
				t.Errorf("%s: the group %s beside the error", what, g.ID)
			}
		}
		h.Revoke()
		_, err := f.Find(within(t), podUID)
		h.Restore()
		wantClass(t, "Find of a pod with "+name+" without credentials", err, providers.Unauthorized)
		if err := h.Provider.Check(within(t)); err != nil {
			t.Errorf("Check with the credentials restored: %v", err)
		}
	}
}
