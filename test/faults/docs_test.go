package faults

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// docs/faults.md has a line for each scenario, and each line a test.
func TestEveryScenarioIsListed(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "faults.md"))
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	line, name := regexp.MustCompile(`(?m)^\| (\d+) \| .* \|$`), regexp.MustCompile("`(TestC(\\d\\d)\\w+)`")
	lines := line.FindAllStringSubmatch(string(text), -1)
	if len(lines) != 37 {
		t.Errorf("%d scenarios are listed, want 37", len(lines))
	}
	for i, l := range lines {
		if l[1] != strconv.Itoa(i+1) {
			t.Errorf("line %d has the number %s", i+1, l[1])
		}
		for _, test := range name.FindAllStringSubmatch(l[0], -1) {
			if n, _ := strconv.Atoi(test[2]); n != i+1 {
				t.Errorf("scenario %d names the test %s", i+1, test[1])
			}
			listed = append(listed, test[1])
		}
	}
	var written []string
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "TestC") {
				written = append(written, f.Name.Name)
			}
		}
	}
	slices.Sort(listed)
	slices.Sort(written)
	if !slices.Equal(listed, written) {
		t.Errorf("listed are %q,\nwritten are %q", listed, written)
	}
}
