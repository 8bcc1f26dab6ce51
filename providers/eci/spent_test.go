package eci_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/autoburst/autoburst/providers"
	emulator "github.com/autoburst/autoburst/test/cloud/eci"
)

// TestSpentToken: what is known of a pod's first group when ECI refuses a second one,
// because the members that go with the ClientToken have changed.
func TestSpentToken(t *testing.T) {
	tests := map[string]struct {
		gone  bool // the first group, before the second is asked for
		fault *emulator.Fault
		class providers.ErrorClass
		spent bool
	}{
		"the first group is there": {},
		"it is gone":               {gone: true, class: providers.Conflict, spent: true},
		"it cannot be looked for": {
			fault: &emulator.Fault{Action: "DescribeContainerGroups", Calls: -1, Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable"},
			class: providers.Unknown,
		},
		"it is gone, and cannot be looked for": {
			gone:  true,
			fault: &emulator.Fault{Action: "DescribeContainerGroups", Calls: -1, Status: http.StatusBadRequest, Code: "Throttling.User"},
			class: providers.Unknown,
		},
		"it is gone, and the answer is none": {
			gone:  true,
			fault: &emulator.Fault{Action: "DescribeContainerGroups", Calls: -1, Status: http.StatusOK, RawBody: `{"RequestId":"R"}`},
			class: providers.Unknown,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			p := c.provider(t)
			spec := pod("web")
			first, err := p.Create(within(t), spec)
			if err != nil {
				t.Fatal(err)
			}
			waitFor(t, p, first, "the group runs", running)
			if tt.gone {
				for _, g := range c.Fleet().Groups() {
					g.Remove()
				}
			}
			if tt.fault != nil {
				c.Inject(*tt.fault)
			}
			spec.Containers[0].Env = []providers.EnvVar{{Name: "TOKEN", Value: "a fresh one"}}
			id, err := p.Create(within(t), spec)
			if got := providers.ClassOf(err); got != tt.class || (err == nil) != (id == first) {
				t.Errorf("group %q, class %q (%v), want class %q or the first group %s", id, got, err, tt.class, first)
			}
			if e := (*providers.Error)(nil); errors.As(err, &e) && e.Spent != tt.spent {
				t.Errorf("spent is %v (%v), want %v", e.Spent, err, tt.spent)
			}
			if made := c.made(spec.Owner.PodUID); len(made) != 1 {
				t.Errorf("the cloud made %q, want the first group alone", made)
			}
		})
	}
}

// A pod that has not changed gets the answer to its first create again, whatever has
// become of that group: the caller must look.
func TestTokenAnswersForAGroupThatIsGone(t *testing.T) {
	c := newCloud(t)
	p := c.provider(t)
	first, err := p.Create(within(t), pod("web"))
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, p, first, "the group runs", running)
	for _, g := range c.Fleet().Groups() {
		g.Remove()
	}
	again, err := p.Create(within(t), pod("web"))
	if err != nil || again != first {
		t.Errorf("created again as %q, %v, want the answer of the first time, %s", again, err, first)
	}
	if _, err := p.Get(within(t), again); providers.ClassOf(err) != providers.NotFound {
		t.Errorf("Get: %v, want NotFound", err)
	}
	if made := c.made("uid-web"); len(made) != 1 {
		t.Errorf("the cloud made %q, want one group", made)
	}
}
