package eci

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/autoburst/autoburst/providers"
)

// TestFindIsSure: only an answer that is whole says that there is no group.
func TestFindIsSure(t *testing.T) {
	group := func(id, uid, status, created string) string {
		return fmt.Sprintf(`{"ContainerGroupId":%q,"Status":%q,"CreationTime":%q,"Tags":[{"Key":"autoburst.io/cluster","Value":"cluster-uid"},{"Key":"autoburst.io/node","Value":"burst-eci"},{"Key":"autoburst.io/pod-uid","Value":%q}]}`,
			id, status, created, uid)
	}
	list := func(next string, groups ...string) string {
		return fmt.Sprintf(`{"ContainerGroups":[%s],"NextToken":%q}`, strings.Join(groups, ","), next)
	}
	const older, newer = "2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z"
	tests := map[string]struct {
		pages []string // by the order of the calls; the last one is repeated
		want  string   // the group's ID
		class providers.ErrorClass
	}{
		"none":                      {pages: []string{list("")}, class: providers.NotFound},
		"one":                       {pages: []string{list("", group("eci-1", "uid-1", "Running", older))}, want: "eci-1"},
		"on the second page":        {pages: []string{list("more"), list("", group("eci-1", "uid-1", "Running", older))}, want: "eci-1"},
		"on no page":                {pages: []string{list("more"), list("")}, class: providers.NotFound},
		"another pod's":             {pages: []string{list("", group("eci-1", "uid-2", "Running", older))}, class: providers.NotFound},
		"nobody's":                  {pages: []string{list("", `{"ContainerGroupId":"eci-1","Status":"Running"}`)}, class: providers.NotFound},
		"two":                       {pages: []string{list("", group("eci-2", "uid-1", "Running", newer), group("eci-1", "uid-1", "Running", older))}, want: "eci-1"},
		"two, and the older ends":   {pages: []string{list("", group("eci-1", "uid-1", "Terminating", older), group("eci-2", "uid-1", "Running", newer))}, want: "eci-2"},
		"a status that is unknown":  {pages: []string{list("", group("eci-1", "uid-1", "Dreaming", older))}, class: providers.Unavailable},
		"no list":                   {pages: []string{`{"RequestId":"R"}`}, class: providers.Unavailable},
		"a null list":               {pages: []string{`{"ContainerGroups":null}`}, class: providers.Unavailable},
		"half an answer":            {pages: []string{`{"ContainerGroups":[`}, class: providers.Unavailable},
		"a circle":                  {pages: []string{list("again")}, class: providers.Unavailable},
		"half an answer after one":  {pages: []string{list("more"), `{"ContainerGroups":[`}, class: providers.Unavailable},
		"a group that has no ID":    {pages: []string{list("", `{"Status":"Running"}`)}, class: providers.Unavailable},
		"a page of a proxy":         {pages: []string{"<html>maintenance</html>"}, class: providers.Unavailable},
		"an error's words, but 200": {pages: []string{`{"Code":"InternalError"}`}, class: providers.Unavailable},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			calls := 0
			p := served(t, func(w http.ResponseWriter, r *http.Request) {
				if err := r.ParseForm(); err != nil {
					t.Error(err)
				}
				if got := r.Form.Get("Tag.3.Key") + "=" + r.Form.Get("Tag.3.Value"); r.Form.Get("Action") != actionDescribe || got != "autoburst.io/pod-uid=uid-1" {
					t.Errorf("asked %s with the tag %s", r.Form.Get("Action"), got)
				}
				_, _ = w.Write([]byte(tt.pages[min(calls, len(tt.pages)-1)]))
				calls++
			})
			g, err := p.Find(t.Context(), "uid-1")
			if got := providers.ClassOf(err); got != tt.class {
				t.Errorf("class %q (%v), want %q", got, err, tt.class)
			}
			switch {
			case tt.want == "" && g != nil:
				t.Errorf("found %s", g.ID)
			case tt.want != "" && (g == nil || g.ID != tt.want || g.Status == nil):
				t.Errorf("found %+v, want %s with its status", g, tt.want)
			}
		})
	}
}

// A group that was found stays listed although the short answer does not show it, until
// it is gone.
func TestFoundGroupIsListed(t *testing.T) {
	there := true
	p := served(t, func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		switch {
		case r.Form.Get("Action") == actionStatus:
			_, _ = w.Write([]byte(`{"Data":[]}`))
		case there:
			_, _ = w.Write([]byte(`{"ContainerGroups":[{"ContainerGroupId":"eci-1","Status":"Running","Tags":[{"Key":"autoburst.io/cluster","Value":"cluster-uid"},{"Key":"autoburst.io/node","Value":"burst-eci"},{"Key":"autoburst.io/pod-uid","Value":"uid-1"}]}]}`))
		default:
			_, _ = w.Write([]byte(`{"ContainerGroups":[]}`))
		}
	})
	list := func(want int) {
		t.Helper()
		if groups, err := p.List(t.Context()); err != nil || len(groups) != want {
			t.Errorf("List = %+v, %v, want %d groups", groups, err, want)
		}
	}
	list(0)
	if _, err := p.Find(t.Context(), "uid-1"); err != nil {
		t.Fatal(err)
	}
	list(1)
	list(1)
	there = false
	list(0)
}
