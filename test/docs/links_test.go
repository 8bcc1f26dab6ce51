package docs

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/autoburst/autoburst/test/cluster"
)

// Every link leads to a file of the repository, and to a heading that is there.
func TestLinks(t *testing.T) {
	all, err := pages()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("found only %d pages", len(all))
	}
	for _, problem := range brokenLinks(t, all) {
		t.Error(problem)
	}
}

func TestBrokenLinksAreFound(t *testing.T) {
	p, err := parse("docs/x.md", []byte("# A\n[1](#a) [2](#b) [3](nowhere.md) [4](../README.md) [5](../README.md#nowhere) [6](http://example.com) [7](https://example.com)\n"))
	if err != nil {
		t.Fatal(err)
	}
	readme := page{path: "README.md", anchors: map[string]bool{"autoburst": true}}
	if got := brokenLinks(t, []page{p, readme}); len(got) != 4 {
		t.Errorf("got %q, want one each for 2, 3, 5 and 6", got)
	}
}

func brokenLinks(t *testing.T, all []page) (broken []string) {
	t.Helper()
	root, err := cluster.RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	byPath := map[string]page{}
	for _, p := range all {
		byPath[p.path] = p
	}
	for _, p := range all {
		for _, l := range p.links {
			report := func(why string) {
				broken = append(broken, block{path: p.path, line: l.line}.String()+": the link to "+l.target+" "+why)
			}
			u, err := url.Parse(l.target)
			if err != nil {
				report(err.Error())
				continue
			}
			if u.Scheme != "" {
				if u.Scheme != "https" && u.Scheme != "mailto" {
					report("is not https")
				}
				continue
			}
			file := p.path
			if u.Path != "" {
				file = path.Join(path.Dir(p.path), u.Path)
			}
			if _, err := os.Stat(filepath.Join(root, file)); err != nil && byPath[file].path == "" {
				report("leads to no file")
				continue
			}
			if u.Fragment == "" {
				continue
			}
			if target, ok := byPath[file]; !ok {
				report("has an anchor in a file that is no page")
			} else if !target.anchors[strings.ToLower(u.Fragment)] {
				report("leads to no heading")
			}
		}
	}
	return broken
}

// Every page can be reached from the README.
func TestEveryPageIsLinked(t *testing.T) {
	all, err := pages()
	if err != nil {
		t.Fatal(err)
	}
	byPath := map[string]page{}
	for _, p := range all {
		byPath[p.path] = p
	}
	seen := map[string]bool{"README.md": true}
	for queue := []string{"README.md"}; len(queue) > 0; queue = queue[1:] {
		for _, l := range byPath[queue[0]].links {
			target, _, _ := strings.Cut(l.target, "#")
			file := path.Join(path.Dir(queue[0]), target)
			if byPath[file].path != "" && !seen[file] {
				seen[file] = true
				queue = append(queue, file)
			}
		}
	}
	for _, p := range all {
		if !seen[p.path] {
			t.Errorf("no link leads to %s", p.path)
		}
	}
}
