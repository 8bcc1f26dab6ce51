package files

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	columns    = 24
	datasource = "${datasource}"
)

var (
	variable = regexp.MustCompile(`\$\{?([a-z_]+)`)
	legend   = regexp.MustCompile(`\{\{([a-z_]+)\}\}`)
)

// TestDashboards checks what Grafana takes without a word and shows wrong, or not at
// all.
func TestDashboards(t *testing.T) {
	all, err := Dashboards()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		known := []string{"__rate_interval"}
		for _, v := range d.Templating.List {
			known = append(known, v.Name)
			checkMetrics(t, "variable "+v.Name, v.Definition)
		}
		if d.UID == "" || !slices.ContainsFunc(d.Templating.List, func(v Variable) bool {
			return v.Name == "datasource" && v.Type == "datasource" && v.Query == "prometheus"
		}) {
			t.Errorf("dashboard %s has the uid %q and the variables %v, want one for the data source", d.Title, d.UID, known)
		}
		ids, taken := map[int]bool{}, map[[2]int]string{}
		for _, p := range d.Panels {
			if ids[p.ID] || p.ID == 0 {
				t.Errorf("panel %q has the id %d, as another one", p.Title, p.ID)
			}
			ids[p.ID] = true
			for y := p.Place.Y; y < p.Place.Y+p.Place.H; y++ {
				for x := p.Place.X; x < p.Place.X+p.Place.W; x++ {
					if other, ok := taken[[2]int{x, y}]; ok {
						t.Fatalf("panels %q and %q overlap at %d, %d", other, p.Title, x, y)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
			if p.Place.X+p.Place.W > columns || p.Place.W*p.Place.H == 0 || p.Title == "" {
				t.Errorf("panel %q is at %+v", p.Title, p.Place)
			}
			if p.Type == "row" {
				continue
			}
			if len(p.Description) < 15 || !strings.HasSuffix(p.Description, ".") || p.FieldConfig.Defaults.Unit == "" || p.Datasource.UID != datasource || len(p.Targets) == 0 {
				t.Errorf("panel %q: description %q, unit %q, data source %q, %d queries",
					p.Title, p.Description, p.FieldConfig.Defaults.Unit, p.Datasource.UID, len(p.Targets))
			}
			refs := map[string]bool{}
			for _, q := range p.Targets {
				if refs[q.RefID] || q.Datasource.UID != datasource {
					t.Errorf("panel %q: query %s is twice there, or of the data source %q", p.Title, q.RefID, q.Datasource.UID)
				}
				refs[q.RefID] = true
				for _, v := range variable.FindAllStringSubmatch(q.Expr, -1) {
					if !slices.Contains(known, v[1]) {
						t.Errorf("panel %q: there is no variable %s", p.Title, v[1])
					}
				}
				for _, l := range legend.FindAllStringSubmatch(q.Legend, -1) {
					if !regexp.MustCompile(`(by|on) \([a-z_, ]*\b` + l[1] + `\b`).MatchString(q.Expr) {
						t.Errorf("panel %q: its legend names %s, which %s does not have", p.Title, l[1], q.Expr)
					}
				}
				checkMetrics(t, "panel "+p.Title, q.Expr)
			}
		}
	}
}
