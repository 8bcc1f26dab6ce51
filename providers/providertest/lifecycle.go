package providertest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

func testIdentity(t *testing.T, h *Harness) {
	p := h.Provider
	if p.Name() == "" || p.Location().Region == "" {
		t.Errorf("name %q, location %+v: a provider has a name and a region", p.Name(), p.Location())
	}
	caps := p.Capabilities()
	if caps.Provider != p.Name() {
		t.Errorf("capabilities are of %q, the provider is %q", caps.Provider, p.Name())
	}
	for _, f := range caps.Features {
		if !slices.Contains(burstable.Features, f) {
			t.Errorf("the feature %q is not one of package burstable", f)
		}
	}
	got, err := burstable.ParseCapabilities(caps.String())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(caps, got); diff != "" {
		t.Errorf("capabilities after publishing (-want +got):\n%s", diff)
	}
	if err := p.Check(within(t)); err != nil {
		t.Errorf("Check: %v", err)
	}
}

func testLifecycle(t *testing.T, h *Harness) {
	ctx := within(t)
	spec := h.spec("web-1.with-dots", forever)
	spec.Containers = append(spec.Containers, shell("second", forever))
	before := time.Now().Add(-time.Minute)
	id := h.create(t, spec)

	g, err := h.Provider.Get(ctx, id)
	if err != nil {
		t.Fatalf("Get right after Create: %v", err)
	}
	if diff := cmp.Diff(spec.Owner, g.Owner); diff != "" {
		t.Errorf("owner (-want +got):\n%s", diff)
	}
	if g.ID != id || g.Name == "" || g.Deleting {
		t.Errorf("Get(%s) = ID %q, name %q, deleting %v", id, g.ID, g.Name, g.Deleting)
	}
	if !g.CreatedAt.IsZero() && (g.CreatedAt.Before(before) || g.CreatedAt.After(time.Now().Add(time.Minute))) {
		t.Errorf("created at %s, want about now", g.CreatedAt)
	}

	s := h.running(t, id)
	var names []string
	for _, c := range s.Containers {
		names = append(names, c.Name)
		if c.State.Running.StartedAt.IsZero() {
			t.Errorf("container %s runs since no time", c.Name)
		}
	}
	if diff := cmp.Diff([]string{"main", "second"}, names); diff != "" {
		t.Errorf("containers (-want +got):\n%s", diff)
	}
	if s.PodIP == "" && !h.NoPodIP {
		t.Error("a running group has no address")
	}
	if s.CPUMillis <= 0 || s.MemoryBytes <= 0 {
		t.Errorf("size %dm and %d bytes, want what the cloud bills", s.CPUMillis, s.MemoryBytes)
	}

	list, err := h.Provider.List(ctx)
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	if len(list) != 1 || list[0].ID != id || list[0].Owner != spec.Owner {
		t.Errorf("List = %+v, want the one group %s", list, id)
	}
	if st := list[0].Status; st != nil && st.Phase != providers.GroupRunning {
		t.Errorf("the list says %s of a running group", st.Phase)
	}

	if err := h.Provider.Delete(ctx, id); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	h.gone(t, id)
}

// gone waits until a group is neither listed nor to be had.
func (h *Harness) gone(t *testing.T, id string) {
	t.Helper()
	eventually(t, "group "+id+" is gone", func(ctx context.Context) (any, bool) {
		list, err := h.Provider.List(ctx)
		if err != nil {
			t.Fatalf("List: %v", err)
		}
		if slices.ContainsFunc(list, func(g providers.Group) bool { return g.ID == id }) {
			return list, false
		}
		_, err = h.Provider.Get(ctx, id)
		return err, providers.ClassOf(err) == providers.NotFound
	})
}

func (h *Harness) wantMadeOnce(t *testing.T, spec *providers.GroupSpec, id string) {
	t.Helper()
	if got := h.Made(spec.Owner.PodUID); len(got) != 1 || got[0] != id {
		t.Errorf("the cloud made the groups %q for the pod, want %s alone", got, id)
	}
}

func testCreateIsIdempotent(t *testing.T, h *Harness) {
	spec := h.spec("idempotent", forever)
	id := h.create(t, spec)
	if again := h.create(t, spec); again != id {
		t.Errorf("created again as %s, want %s", again, id)
	}
	h.running(t, id)
	if again := h.create(t, spec); again != id {
		t.Errorf("created again while running as %s, want %s", again, id)
	}
	s := h.running(t, id)
	if n := s.Containers[0].RestartCount; n != 0 {
		t.Errorf("creating again restarted the container %d times", n)
	}
	h.wantMadeOnce(t, spec, id)

	if other := h.create(t, h.spec("another", forever)); other == id {
		t.Errorf("another pod got the same group %s", id)
	}
}

func testLostAnswer(t *testing.T, h *Harness) {
	spec := h.spec("lost", forever)
	h.Inject(Fault{Operation: Create, Kind: LoseAnswer, Calls: 1})
	first, err := h.Provider.Create(within(t), spec)
	h.Heal()
	if err != nil { // a provider that repeats by itself may have succeeded
		wantClass(t, "Create with a lost answer", err, providers.Unknown)
	}
	id := h.create(t, spec)
	if first != "" && first != id {
		t.Errorf("created as %s, then as %s", first, id)
	}
	h.running(t, id)
	h.wantMadeOnce(t, spec, id)
}

// testFreshSecrets creates again with what the agent resolved anew meanwhile:
// a ServiceAccount token is never the same twice.
func testFreshSecrets(t *testing.T, h *Harness) {
	spec := h.spec("token", forever)
	token := func(value string) []providers.Volume {
		return []providers.Volume{{Name: "token-volume", Files: &providers.Files{Secret: true, Items: []providers.File{{Path: "token", Data: []byte(value), Mode: 0o644}}}}}
	}
	spec.Volumes = token("first")
	spec.Containers[0].Mounts = []corev1.VolumeMount{{Name: "token-volume", MountPath: "/var/run/token", ReadOnly: true}}
	id := h.create(t, spec)
	spec.Volumes = token("second")
	if again := h.create(t, spec); again != id {
		t.Errorf("created again as %s, want %s", again, id)
	}
	h.wantMadeOnce(t, spec, id)
}

func testListIsComplete(t *testing.T, h *Harness) {
	const n = 45 // three pages of the smallest page size
	want := map[string]providers.Owner{}
	for i := range n {
		spec := h.spec(fmt.Sprintf("many-%d", i), forever)
		want[h.create(t, spec)] = spec.Owner
	}
	list, err := h.Provider.List(within(t))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]providers.Owner{}
	for _, g := range list {
		got[g.ID] = g.Owner
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("listed groups (-want +got):\n%s", diff)
	}
	if len(list) != n {
		t.Errorf("%d entries for %d groups", len(list), n)
	}
}

func testForeignGroups(t *testing.T, h *Harness) {
	ctx := within(t)
	mine := h.create(t, h.spec("mine", forever))
	for name, owner := range map[string][2]string{
		"another cluster": {"other-cluster", h.NodeName},
		"another node":    {h.ClusterUID, "other-node"},
	} {
		sibling := h.Sibling(t, owner[0], owner[1])
		spec := h.spec("theirs", forever)
		spec.Owner.ClusterUID, spec.Owner.NodeName = owner[0], owner[1]
		spec.Owner.PodUID = uid(name)
		theirs, err := sibling.Create(ctx, spec)
		if err != nil {
			t.Fatalf("%s: Create: %v", name, err)
		}
		list, err := sibling.List(ctx)
		if err != nil || len(list) != 1 || list[0].ID != theirs {
			t.Errorf("%s lists %+v, %v, want its own group %s", name, list, err, theirs)
		}
		if _, err := h.Provider.Get(ctx, theirs); providers.ClassOf(err) != providers.NotFound {
			t.Errorf("Get of a group of %s: %v, want NotFound", name, err)
		}
	}
	list, err := h.Provider.List(ctx)
	if err != nil || len(list) != 1 || list[0].ID != mine {
		t.Errorf("List = %+v, %v, want the own group %s alone", list, err, mine)
	}
}

func testMissing(t *testing.T, h *Harness) {
	ctx := within(t)
	_, err := h.Provider.Get(ctx, h.MissingID)
	wantClass(t, "Get", err, providers.NotFound)
	if err := h.Provider.Delete(ctx, h.MissingID); err != nil {
		t.Errorf("Delete: %v, want none for a group that does not exist", err)
	}
	_, err = h.Provider.Logs(ctx, h.MissingID, "main", providers.LogOptions{})
	wantClass(t, "Logs", err, providers.NotFound)
	list, err := h.Provider.List(ctx)
	if err != nil || len(list) != 0 {
		t.Errorf("List = %+v, %v, want an empty list", list, err)
	}
}

func testDeleteTwice(t *testing.T, h *Harness) {
	id := h.create(t, h.spec("twice", forever))
	h.running(t, id)
	if err := h.Provider.Delete(within(t), id); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	eventually(t, "the group is gone, while Delete is repeated", func(ctx context.Context) (any, bool) {
		err := h.Provider.Delete(ctx, id)
		switch {
		case err != nil && h.DeleteConflicts:
			wantClass(t, "Delete while the first is at work", err, providers.Conflict)
		case err != nil:
			t.Errorf("Delete while the first is at work: %v", err)
		}
		_, look := h.Provider.Get(ctx, id)
		return err, providers.ClassOf(look) == providers.NotFound
	})
	h.gone(t, id)
	if err := h.Provider.Delete(within(t), id); err != nil {
		t.Errorf("Delete of a group that is gone: %v", err)
	}
}

func testInvalidPod(t *testing.T, h *Harness) {
	spec := h.spec("huge", forever)
	spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10000")}
	_, err := h.Provider.Create(within(t), spec)
	wantClass(t, "Create of a pod larger than any machine", err, providers.InvalidPod)
	if !providers.Permanent(err) {
		t.Errorf("%v is not permanent", err)
	}
	if made := h.Made(spec.Owner.PodUID); len(made) != 0 {
		t.Errorf("the cloud made %q", made)
	}
}

func testConcurrency(t *testing.T, h *Harness) {
	ctx := within(t)
	var wg sync.WaitGroup
	for i := range 8 {
		spec := h.spec(fmt.Sprintf("parallel-%d", i), forever)
		for range 2 { // each pod twice at once
			wg.Go(func() {
				id, err := h.Provider.Create(ctx, spec)
				for err != nil && !providers.Permanent(err) && ctx.Err() == nil {
					id, err = h.Provider.Create(ctx, spec)
				}
				if err != nil {
					t.Errorf("Create(%s): %v", spec.Owner.PodName, err)
					return
				}
				if _, err := h.Provider.Get(ctx, id); err != nil {
					t.Errorf("Get(%s): %v", id, err)
				}
				if _, err := h.Provider.List(ctx); err != nil {
					t.Errorf("List: %v", err)
				}
			})
		}
	}
	wg.Wait()
	list, err := h.Provider.List(ctx)
	if err != nil || len(list) != 8 {
		t.Fatalf("List has %d groups, %v, want 8", len(list), err)
	}
	for _, g := range list {
		if made := h.Made(g.Owner.PodUID); len(made) != 1 {
			t.Errorf("the cloud made %q for %s", made, g.Owner.PodName)
		}
		wg.Go(func() {
			err := h.Provider.Delete(ctx, g.ID)
			for err != nil && ctx.Err() == nil {
				err = h.Provider.Delete(ctx, g.ID)
			}
			if err != nil {
				t.Errorf("Delete(%s): %v", g.ID, err)
			}
		})
	}
	wg.Wait()
	eventually(t, "all groups are gone", func(ctx context.Context) (any, bool) {
		list, err := h.Provider.List(ctx)
		return list, err == nil && len(list) == 0
	})
}
