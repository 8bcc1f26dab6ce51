package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	chartReadme = "charts/autoburst/README.md"
	chartValues = "charts/autoburst/values.yaml"
	valuesBegin = "<!-- The values, by docs/generate. -->\n"
	valuesEnd   = "<!-- The end of the values. -->\n"
)

// readmeWithValues is the chart's README with the table of values as they are.
func readmeWithValues() (string, error) {
	readme, err := os.ReadFile(chartReadme)
	if err != nil {
		return "", err
	}
	values, err := os.ReadFile(chartValues)
	if err != nil {
		return "", err
	}
	table, err := valuesTable(string(values))
	if err != nil {
		return "", fmt.Errorf("%s: %w", chartValues, err)
	}
	before, rest, begun := strings.Cut(string(readme), valuesBegin)
	_, after, ended := strings.Cut(rest, valuesEnd)
	if !begun || !ended {
		return "", fmt.Errorf("%s has no place for the values", chartReadme)
	}
	return before + valuesBegin + table + valuesEnd + after, nil
}

// valuesTable is a table for each section of values.yaml, from the comments above its
// keys. What an entry of virtualNodes may hold is written as a comment there.
func valuesTable(values string) (string, error) {
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(values), &document); err != nil {
		return "", err
	}
	_, example, ok := strings.Cut(values, "\nvirtualNodes: []\n")
	if !ok {
		return "", errors.New("virtualNodes is not the last key")
	}
	var entries strings.Builder
	for line := range strings.Lines(example) {
		entries.WriteString(strings.TrimPrefix(strings.TrimPrefix(line, "#"), " "))
	}
	var nodes yaml.Node
	if err := yaml.Unmarshal([]byte(entries.String()), &nodes); err != nil {
		return "", fmt.Errorf("the comment below virtualNodes: %w", err)
	}

	var b strings.Builder
	table := func(title, text string, rows []string) {
		fmt.Fprintf(&b, "\n### %s\n\n", title)
		if text != "" {
			fmt.Fprintf(&b, "%s\n\n", text)
		}
		b.WriteString("| key | what it is | default |\n|---|---|---|\n" + strings.Join(rows, ""))
	}
	root := document.Content[0]
	var general []string
	for i := 0; i < len(root.Content); i += 2 {
		if key, value := root.Content[i], root.Content[i+1]; !isSection(value) && key.Value != "virtualNodes" {
			general = append(general, row(key.Value, comment(key), value))
		}
	}
	table("General", "", general)
	for i := 0; i < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if isSection(value) {
			table(key.Value, comment(key), rows("", value))
		}
	}
	for _, entry := range nodes.Content[0].Content {
		provider := ""
		for i := 0; i < len(entry.Content); i += 2 {
			if entry.Content[i].Value == "provider" {
				provider = entry.Content[i+1].Value
			}
		}
		title, text := "virtualNodes[]: "+provider, "One entry for each virtual node; the last column shows an example."
		if provider == "aci" {
			text = "What an entry for ACI has instead."
		}
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n| key | what it is | example |\n|---|---|---|\n%s", title, text, strings.Join(rows("", entry), ""))
	}
	b.WriteString("\n")
	return b.String(), nil
}

// isSection tells a mapping of settings from a value that is a mapping: the keys of a
// section are described one by one.
func isSection(value *yaml.Node) bool {
	if value.Kind != yaml.MappingNode || len(value.Content) == 0 {
		return false
	}
	for i := 0; i < len(value.Content); i += 2 {
		if comment(value.Content[i]) == "" && !isSection(value.Content[i+1]) {
			return false
		}
	}
	return true
}

func rows(prefix string, section *yaml.Node) []string {
	var all []string
	for i := 0; i < len(section.Content); i += 2 {
		key, value := section.Content[i], section.Content[i+1]
		switch {
		case isSection(value) || value.Kind == yaml.MappingNode && value.Style != yaml.FlowStyle && value.Content[0].HeadComment != "":
			all = append(all, rows(prefix+key.Value+".", value)...)
		case i == 0 && comment(key) == "": // of an entry of a list, the text is above its dash
			all = append(all, row(prefix+key.Value, comment(section), value))
		default:
			all = append(all, row(prefix+key.Value, comment(key), value))
		}
	}
	return all
}

func row(key, text string, value *yaml.Node) string {
	return fmt.Sprintf("| `%s` | %s | %s |\n", key, strings.ReplaceAll(text, "|", "\\|"), shown(value))
}

// shown is a value in one line.
func shown(value *yaml.Node) string {
	flow := *value
	var inline func(n *yaml.Node)
	inline = func(n *yaml.Node) {
		n.HeadComment, n.LineComment, n.FootComment = "", "", ""
		if n.Kind != yaml.ScalarNode {
			n.Style = yaml.FlowStyle
		}
		for i, child := range n.Content {
			c := *child
			inline(&c)
			n.Content[i] = &c
		}
	}
	flow.Content = append([]*yaml.Node{}, value.Content...)
	inline(&flow)
	text, err := yaml.Marshal(&flow)
	if err != nil { // it was read from YAML
		panic(err)
	}
	return "`" + strings.ReplaceAll(strings.Join(strings.Fields(string(text)), " "), "|", "\\|") + "`"
}

// comment is the text above a key, in one line.
func comment(key *yaml.Node) string {
	var words []string
	for line := range strings.Lines(key.HeadComment) {
		words = append(words, strings.Fields(strings.TrimLeft(line, "# "))...)
	}
	return strings.Join(words, " ")
}
