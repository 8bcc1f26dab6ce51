package main

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// diffOf is what changes from one pod to another, as a diff of their YAML with
// all unchanged lines; "" when nothing does. It is of the members that the rules
// write to.
func diffOf(before, after *corev1.Pod) (string, error) {
	b, err := writtenLines(before)
	if err != nil {
		return "", err
	}
	a, err := writtenLines(after)
	if err != nil {
		return "", err
	}
	if slices.Equal(b, a) {
		return "", nil
	}
	return diffLines(b, a), nil
}

// writtenLines is the part of a pod that rules write to, in YAML.
func writtenLines(p *corev1.Pod) ([]string, error) {
	type metadata struct {
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	type spec struct {
		Affinity                  *corev1.Affinity                  `json:"affinity,omitempty"`
		Tolerations               []corev1.Toleration               `json:"tolerations,omitempty"`
		SchedulingGates           []corev1.PodSchedulingGate        `json:"schedulingGates,omitempty"`
		TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`
	}
	y, err := yaml.Marshal(struct {
		Metadata metadata `json:"metadata,omitzero"`
		Spec     spec     `json:"spec,omitzero"`
	}{metadata{p.Annotations}, spec{p.Spec.Affinity, p.Spec.Tolerations, p.Spec.SchedulingGates, p.Spec.TopologySpreadConstraints}})
	if err != nil {
		return nil, fmt.Errorf("writing pod %s as YAML: %w", p.Name, err)
	}
	if string(y) == "{}\n" {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(string(y), "\n"), "\n"), nil
}

// diffLines marks the lines that go with "-", those that come with "+", and
// keeps as many as it can: a longest common subsequence.
func diffLines(before, after []string) string {
	// kept[i][j] is how many lines before[i:] and after[j:] can have in common.
	kept := make([][]int, len(before)+1)
	for i := range kept {
		kept[i] = make([]int, len(after)+1)
	}
	for i := len(before) - 1; i >= 0; i-- {
		for j := len(after) - 1; j >= 0; j-- {
			if before[i] == after[j] {
				kept[i][j] = kept[i+1][j+1] + 1
			} else {
				kept[i][j] = max(kept[i+1][j], kept[i][j+1])
			}
		}
	}
	var out strings.Builder
	write := func(mark, line string) { out.WriteString(mark + line + "\n") }
	i, j := 0, 0
	for i < len(before) || j < len(after) {
		switch {
		case i < len(before) && j < len(after) && before[i] == after[j]:
			write("  ", before[i])
			i, j = i+1, j+1
		case j == len(after) || i < len(before) && kept[i+1][j] >= kept[i][j+1]:
			write("- ", before[i])
			i++
		default:
			write("+ ", after[j])
			j++
		}
	}
	return out.String()
}
