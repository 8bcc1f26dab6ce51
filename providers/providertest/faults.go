package providertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/autoburst/autoburst/providers"
)

func parseTime(s string) (time.Time, error) { return time.Parse(time.RFC3339Nano, s) }

// calls are one call of each method against a group that runs.
func (h *Harness) calls(id string, spec *providers.GroupSpec) map[Operation]func(context.Context) error {
	return map[Operation]func(context.Context) error{
		Any:    h.Provider.Check,
		Create: func(ctx context.Context) error { _, err := h.Provider.Create(ctx, spec); return err },
		List: func(ctx context.Context) error {
			list, err := h.Provider.List(ctx)
			if err != nil && list != nil {
				return fmt.Errorf("List returned %d groups beside its error: %w", len(list), err)
			}
			return err
		},
		Get: func(ctx context.Context) error { _, err := h.Provider.Get(ctx, id); return err },
		Logs: func(ctx context.Context) error {
			r, err := h.Provider.Logs(ctx, id, "main", providers.LogOptions{})
			if err == nil {
				return r.Close()
			}
			return err
		},
		Delete: func(ctx context.Context) error { return h.Provider.Delete(ctx, id) },
	}
}

// order is the order in which a test goes through calls: Delete ends it.
var order = []Operation{Any, Create, List, Get, Logs, Delete}

func testFaultClasses(t *testing.T, h *Harness) {
	id := h.create(t, h.spec("healthy", forever))
	h.running(t, id)
	unknown := []providers.ErrorClass{providers.Unknown, providers.Unavailable}
	tests := map[FaultKind]struct{ reads, writes []providers.ErrorClass }{
		Throttle:    {[]providers.ErrorClass{providers.Throttled}, []providers.ErrorClass{providers.Throttled}},
		Unavailable: {[]providers.ErrorClass{providers.Unavailable}, unknown},
		Cut:         {unknown, []providers.ErrorClass{providers.Unknown}},
		Garbage:     {unknown, unknown},
	}
	for kind, want := range tests {
		for _, op := range order {
			t.Run(string(kind)+string(op), func(t *testing.T) {
				spec := h.spec("fault-"+string(kind), forever)
				h.Inject(Fault{Operation: Any, Kind: kind})
				err := h.calls(id, spec)[op](within(t))
				h.Heal()
				classes := want.reads
				if op == Create || op == Delete {
					classes = want.writes
				}
				wantClass(t, string(op)+" with "+string(kind), err, classes...)
				h.wantNoSecret(t, string(op)+" with "+string(kind), err)
			})
		}
	}
	if s := h.running(t, id); s.Containers[0].RestartCount != 0 {
		t.Errorf("the group was touched: %+v", s.Containers[0])
	}
}

func testPartialList(t *testing.T, h *Harness) {
	for i := range 45 {
		h.create(t, h.spec(fmt.Sprintf("page-%d", i), forever))
	}
	for _, kind := range []FaultKind{Unavailable, Garbage, Cut} {
		h.Inject(Fault{Operation: List, Kind: kind, Skip: 1})
		list, err := h.Provider.List(within(t))
		h.Heal()
		if err == nil || list != nil {
			t.Errorf("%s at the second page: %d groups, error %v; want an error and nothing else", kind, len(list), err)
		}
	}
}

func testCredentials(t *testing.T, h *Harness) {
	id := h.create(t, h.spec("before", forever))
	h.running(t, id)
	h.Revoke()
	for _, op := range order {
		err := h.calls(id, h.spec("revoked", forever))[op](within(t))
		wantClass(t, string(op)+" without credentials", err, providers.Unauthorized)
		h.wantNoSecret(t, string(op)+" without credentials", err)
	}
	h.Restore()
	if err := h.Provider.Check(within(t)); err != nil {
		t.Errorf("Check with the credentials restored: %v", err)
	}
	h.running(t, id)
}

func testCancellation(t *testing.T, h *Harness) {
	id := h.create(t, h.spec("before", forever))
	h.running(t, id)
	h.Inject(Fault{Operation: Any, Kind: Hang})
	for _, op := range order {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		done := make(chan error, 1)
		go func() { done <- h.calls(id, h.spec("hanging", forever))[op](ctx) }()
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("%s: no error, though the call was given up", op)
			} else if c := providers.ClassOf(err); c != providers.Unknown && c != providers.Unavailable {
				t.Errorf("%s: class %s (%v), want Unknown or Unavailable", op, c, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: still under way long after its context ended", op)
		}
		cancel()
	}
	h.Heal()
	h.running(t, id)
}

// testNoSecretInErrors makes creation fail in every way and looks at what the
// errors say of a pod that is full of secrets.
func testNoSecretInErrors(t *testing.T, h *Harness) {
	secrets := []string{"env-hush-4711", "file-hush-4712", "registry-hush-4713"}
	fill := func(spec *providers.GroupSpec) *providers.GroupSpec {
		spec.Containers[0].Env = []providers.EnvVar{{Name: "PASSWORD", Value: secrets[0], Secret: true}}
		spec.Volumes = []providers.Volume{{Name: "secret-volume", Files: &providers.Files{Secret: true, Items: []providers.File{{Path: "key", Data: []byte(secrets[1]), Mode: 0o644}}}}}
		spec.RegistryCredentials = []providers.RegistryCredential{{Server: "registry.example.com", Username: "robot", Password: secrets[2]}}
		return spec
	}
	for _, kind := range []FaultKind{Throttle, Unavailable, Cut, LoseAnswer, Garbage} {
		h.Inject(Fault{Operation: Create, Kind: kind})
		_, err := h.Provider.Create(within(t), fill(h.spec("full-of-secrets-"+string(kind), forever)))
		h.Heal()
		h.wantNoSecret(t, string(kind), err, secrets...)
	}
	h.Revoke()
	_, err := h.Provider.Create(within(t), fill(h.spec("full-of-secrets", forever)))
	h.Restore()
	if err == nil {
		t.Error("Create without credentials: no error")
	}
	h.wantNoSecret(t, "without credentials", err, secrets...)
}

// testPermit makes calls whose permit ends while they are on their way: they read
// and change nothing.
func testPermit(t *testing.T, h *Harness) {
	spec := h.spec("kept", forever)
	id := h.create(t, spec)
	h.running(t, id)
	denied := h.spec("denied", forever)
	asked := 0
	ctx := providers.WithPermit(within(t), func() error {
		asked++
		return errors.New("another agent leads")
	})
	for op, call := range h.calls(id, denied) {
		asked = 0
		err := call(ctx)
		switch op {
		case Create, Delete:
			wantClass(t, string(op)+" without a permit", err, providers.Unavailable)
			if err != nil && !strings.Contains(err.Error(), "another agent leads") {
				t.Errorf("%s without a permit: %v, want the permit's own words", op, err)
			}
			if asked == 0 {
				t.Errorf("%s did not ask for the permit", op)
			}
		default:
			if err != nil || asked != 0 {
				t.Errorf("%q without a permit: %v, which it asked for %d times; it is no change", op, err, asked)
			}
		}
	}
	if made := h.Made(denied.Owner.PodUID); len(made) != 0 {
		t.Errorf("the cloud made %q without a permit", made)
	}
	h.running(t, id)
}
