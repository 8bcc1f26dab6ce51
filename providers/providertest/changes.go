package providertest

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/providers"
)

// changed asks for changes until one of the group satisfies ok.
func (h *Harness) changed(t *testing.T, c providers.ChangeLister, id, what string, ok func(*providers.Group) bool) *providers.Group {
	t.Helper()
	var found *providers.Group
	eventually(t, what, func(ctx context.Context) (any, bool) {
		list, err := c.Changes(ctx, time.Minute)
		if err != nil {
			t.Fatalf("%s: Changes: %v", what, err)
		}
		for i := range list {
			if list[i].ID == id && ok(&list[i]) {
				found = &list[i]
				return list, true
			}
		}
		return list, false
	})
	return found
}

func testChanges(t *testing.T, h *Harness) {
	c, ok := h.Provider.(providers.ChangeLister)
	if !ok {
		return // the cloud does not tell what has changed
	}
	ctx := within(t)
	sibling := h.Sibling(t, h.ClusterUID, "other-node")
	theirs := h.spec("theirs", forever)
	theirs.Owner.NodeName = "other-node"
	if _, err := sibling.Create(ctx, theirs); err != nil {
		t.Fatal(err)
	}
	spec := h.spec("mine", forever)
	id := h.create(t, spec)
	g := h.changed(t, c, id, "the group is shown to run", func(g *providers.Group) bool {
		return g.Status != nil && g.Status.Phase == providers.GroupRunning
	})
	if g.Owner != spec.Owner {
		t.Errorf("owner %+v, want %+v", g.Owner, spec.Owner)
	}
	for _, window := range []time.Duration{0, time.Second, time.Hour, 48 * time.Hour} {
		list, err := c.Changes(ctx, window)
		if err != nil || len(list) != 1 || list[0].ID != id {
			t.Errorf("Changes(%s) = %+v, %v, want the own group %s alone", window, list, err, id)
		}
	}
	if err := c.Delete(ctx, id); err != nil {
		t.Fatal(err)
	}
	h.gone(t, id)
	if list, err := c.Changes(ctx, time.Hour); err != nil || len(list) != 0 {
		t.Errorf("after the group is gone: Changes = %+v, %v, want nothing", list, err)
	}
}

// testChangesAgreeWithGet: a status is the same by whichever way it comes, or the
// pod's would be written to and fro.
func testChangesAgreeWithGet(t *testing.T, h *Harness) {
	c, ok := h.Provider.(providers.ChangeLister)
	if !ok {
		return // the cloud does not tell what has changed
	}
	initialized := h.spec("initialized", forever)
	initialized.InitContainers = []providers.Container{shell("prepare", "sleep 0.1"), shell("migrate", "exit 0")}
	uninitialized := h.spec("uninitialized", forever)
	uninitialized.InitContainers = []providers.Container{shell("prepare", "exit 4")}
	uninitialized.RestartPolicy = corev1.RestartPolicyNever
	failed := h.spec("failed", "exit 3")
	failed.RestartPolicy = corev1.RestartPolicyNever
	done := h.spec("done", "exit 0")
	done.RestartPolicy = corev1.RestartPolicyNever
	ended := func(s *providers.GroupStatus) bool {
		return s.Phase == providers.GroupSucceeded || s.Phase == providers.GroupFailed
	}
	runs := func(s *providers.GroupStatus) bool {
		return s.Phase == providers.GroupRunning && s.Containers[0].State.Running != nil
	}
	tests := map[string]struct {
		spec *providers.GroupSpec
		ok   func(*providers.GroupStatus) bool
	}{
		"running":              {h.spec("running", forever), runs},
		"with init containers": {initialized, runs},
		"init container fails": {uninitialized, ended},
		"failed":               {failed, ended},
		"succeeded":            {done, ended},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			id := h.create(t, tt.spec)
			g := h.changed(t, c, id, "the changes show the state", func(g *providers.Group) bool { return g.Status != nil && tt.ok(g.Status) })
			want := h.status(t, id, "the group is in the state", tt.ok)
			options := cmp.Options{cmpopts.IgnoreFields(providers.GroupStatus{}, "Events"), cmpopts.EquateEmpty()}
			if diff := cmp.Diff(want, g.Status, options); diff != "" {
				t.Errorf("status of Changes (-Get +Changes):\n%s", diff)
			}
			list, err := h.Provider.List(within(t))
			if err != nil {
				t.Fatal(err)
			}
			for i := range list {
				if list[i].ID == id {
					if diff := cmp.Diff(want, list[i].Status, options); diff != "" {
						t.Errorf("status of List (-Get +List):\n%s", diff)
					}
				}
			}
		})
	}
	t.Run("restarted", func(t *testing.T) {
		id := h.create(t, h.spec("restarted", "exit 7"))
		h.changed(t, c, id, "the changes show two restarts", func(g *providers.Group) bool {
			if g.Status == nil || len(g.Status.Containers) != 1 {
				return false
			}
			s := g.Status.Containers[0]
			return s.RestartCount >= 2 && s.LastTerminationState.Terminated != nil && s.LastTerminationState.Terminated.ExitCode == 7
		})
	})
}
