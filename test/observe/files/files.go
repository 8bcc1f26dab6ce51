// Package files reads the alert rules and dashboards that the chart brings, for
// tests of them alone and for those that run them against the whole system.
package files

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"sigs.k8s.io/yaml"

	"github.com/autoburst/autoburst/test/cluster"
)

// RuleFile is a file of rules as Prometheus reads it.
type RuleFile struct {
	Groups []RuleGroup `json:"groups"`
}

// RuleGroup is one of its groups.
type RuleGroup struct {
	Name     string `json:"name"`
	Interval string `json:"interval,omitempty"`
	Rules    []Rule `json:"rules"`
}

// Rule is one alert.
type Rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// RulePaths are the chart's files of rules.
func RulePaths() ([]string, error) { return inChart("files/rules/*.yaml") }

// Rules are the groups of all files.
func Rules() (RuleFile, error) {
	var all RuleFile
	paths, err := RulePaths()
	if err != nil {
		return all, err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return all, err
		}
		var f RuleFile
		if err := yaml.UnmarshalStrict(text, &f); err != nil {
			return all, fmt.Errorf("%s: %w", path, err)
		}
		all.Groups = append(all.Groups, f.Groups...)
	}
	return all, nil
}

// Alerts are the rules of all groups.
func (f RuleFile) Alerts() []Rule {
	var all []Rule
	for _, g := range f.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

var ours = regexp.MustCompile(`\bautoburst_[a-z0-9_]+`)

// Metrics are those of ours that a query names, each once.
func Metrics(query string) []string {
	names := ours.FindAllString(query, -1)
	slices.Sort(names)
	return slices.Compact(names)
}

func inChart(pattern string) ([]string, error) {
	root, err := cluster.RepositoryRoot()
	if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(root, "charts/autoburst", pattern))
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("the chart has no %s", pattern)
	}
	return paths, err
}
