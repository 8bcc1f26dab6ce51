package files

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// Dashboard is what the tests look at of a dashboard of Grafana.
type Dashboard struct {
	UID        string  `json:"uid"`
	Title      string  `json:"title"`
	Panels     []Panel `json:"panels"`
	Templating struct {
		List []Variable `json:"list"`
	} `json:"templating"`
}

// Variable is one that the reader chooses.
type Variable struct {
	Name       string `json:"name"`
	Type       string `json:"type"`
	Query      any    `json:"query"`
	Definition string `json:"definition"`
}

// Panel is a row or a panel with queries.
type Panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Datasource  struct {
		UID string `json:"uid"`
	} `json:"datasource"`
	Place struct {
		H, W, X, Y int
	} `json:"gridPos"`
	Targets     []Target `json:"targets"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
}

// Target is one query of a panel.
type Target struct {
	RefID      string `json:"refId"`
	Expr       string `json:"expr"`
	Legend     string `json:"legendFormat"`
	Datasource struct {
		UID string `json:"uid"`
	} `json:"datasource"`
}

// Dashboards are those of the chart.
func Dashboards() ([]Dashboard, error) {
	paths, err := inChart("files/dashboards/*.json")
	if err != nil {
		return nil, err
	}
	var all []Dashboard
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var d Dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, d)
	}
	return all, nil
}

// Query is the target's query as Grafana sends it when nothing is chosen: all virtual
// nodes, the given text in place of the interval of rates, and a price of one.
func (t Target) Query(interval string) string {
	return strings.NewReplacer("$__rate_interval", interval, "$virtual_node", ".*", "$vcpu_hour", "1", "$gib_hour", "1").Replace(t.Expr)
}
