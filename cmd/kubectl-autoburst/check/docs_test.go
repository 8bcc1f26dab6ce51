package check

import (
	"os"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each check has its section in the documentation, in the order in which they are
// made, and each section its check.
func TestSections(t *testing.T) {
	page, err := os.ReadFile("../../../docs/checks.md")
	if err != nil {
		t.Fatal(err)
	}
	var sections []string
	for _, m := range regexp.MustCompile(`(?m)^## (\S+)$`).FindAllSubmatch(page, -1) {
		sections = append(sections, string(m[1]))
	}
	if diff := cmp.Diff(IDs(), sections); diff != "" {
		t.Errorf("docs/checks.md (-checks +sections):\n%s", diff)
	}
}
