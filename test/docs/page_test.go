package docs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	p, err := parse("docs/x.md", []byte(strings.ReplaceAll(`# The ''autoburst.io/mode'' annotation (v1)

See [pods](pods.md#the-end), ![picture](a.svg) and <https://example.com/>.

## Twice
## Twice

<!-- generated: nothing -->

<!-- before: kubectl create ns a
kubectl create ns b -->
<!-- not run: it costs -->
'''sh
kubectl get pods
'''

'''yaml
kind: Pod
'''
`, "'", "`")))
	if err != nil {
		t.Fatal(err)
	}
	want := page{
		path:    "docs/x.md",
		anchors: map[string]bool{"the-autoburstiomode-annotation-v1": true, "twice": true, "twice-1": true},
		links:   []link{{3, "pods.md#the-end"}, {3, "a.svg"}, {3, "https://example.com/"}},
		blocks: []block{
			{path: "docs/x.md", line: 14, language: "sh", text: "kubectl get pods\n", remarks: map[string]string{
				"before": "kubectl create ns a\nkubectl create ns b", "not run": "it costs",
			}},
			{path: "docs/x.md", line: 18, language: "yaml", text: "kind: Pod\n", remarks: map[string]string{}},
		},
	}
	if diff := cmp.Diff(want, p, cmp.AllowUnexported(page{}, link{}, block{})); diff != "" {
		t.Errorf("parsed otherwise (-want +got):\n%s", diff)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, source := range map[string]string{
		"HTML":            "<details>\nmore\n</details>\n",
		"an empty remark": "<!-- not run: -->\n",
	} {
		if _, err := parse("x.md", []byte(source)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
