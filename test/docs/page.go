// Package docs checks what the documentation says: every link and anchor, every
// piece of YAML and every command, on the real system. What it reads is Markdown
// as it is; remarks for it are HTML comments in front of a piece of code, which
// readers do not see:
//
//	<!-- not run: WHY -->      the commands are not carried out, their flags are checked
//	<!-- before: COMMANDS -->  carried out before these
//	<!-- in: KIND -->          the YAML is a part of an object of this kind, or what a case wants
package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"

	"github.com/autoburst/autoburst/test/cluster"
)

// A page is one file of the documentation.
type page struct {
	// path is relative to the root of the repository.
	path    string
	anchors map[string]bool
	links   []link
	blocks  []block
}

// A link is the target of a link or picture as it is written.
type link struct {
	line   int
	target string
}

// A block is a fenced piece of code.
type block struct {
	path     string
	line     int
	language string
	text     string
	// remarks are those in front of it, by what stands before the colon.
	remarks map[string]string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.path, b.line) }

// pages reads all Markdown files of the repository that users read.
func pages() ([]page, error) {
	root, err := cluster.RepositoryRoot()
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil {
		return nil, err
	}
	for _, tree := range []string{"docs", "charts"} {
		err := filepath.WalkDir(filepath.Join(root, tree), func(path string, _ os.DirEntry, err error) error {
			if filepath.Ext(path) == ".md" {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(files)
	var all []page
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		path, err := filepath.Rel(root, file)
		if err != nil {
			return nil, err
		}
		p, err := parse(path, source)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

func parse(path string, source []byte) (page, error) {
	p := page{path: path, anchors: map[string]bool{}}
	line := func(offset int) int { return strings.Count(string(source[:offset]), "\n") + 1 }
	// The line of an inline node is that of the paragraph around it.
	at := 1
	remarks := map[string]string{}
	tree := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser().Parse(text.NewReader(source))
	err := ast.Walk(tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		if n.Type() == ast.TypeBlock && n.Lines() != nil && n.Lines().Len() > 0 {
			at = line(n.Lines().At(0).Start)
		}
		switch n := n.(type) {
		case *ast.Heading:
			p.addAnchor(slug(textOf(n, source)))
		case *ast.Link:
			p.links = append(p.links, link{at, string(n.Destination)})
		case *ast.Image:
			p.links = append(p.links, link{at, string(n.Destination)})
		case *ast.AutoLink:
			// What is no https is an address that an example names, and leads nowhere.
			if url := string(n.URL(source)); !strings.HasPrefix(url, "http:") {
				p.links = append(p.links, link{at, url})
			}
		case *ast.HTMLBlock:
			html := string(n.Lines().Value(source))
			if n.HasClosure() {
				html += string(n.ClosureLine.Value(source))
			}
			key, value, err := remark(html)
			if err != nil {
				return ast.WalkStop, fmt.Errorf("%s:%d: %w", path, at, err)
			}
			if key != "" {
				remarks[key] = value
			}
			return ast.WalkContinue, nil
		case *ast.FencedCodeBlock:
			p.blocks = append(p.blocks, block{
				path: path, line: at, language: string(n.Language(source)), text: string(n.Lines().Value(source)), remarks: remarks,
			})
		}
		if n.Type() == ast.TypeBlock && n.Kind() != ast.KindDocument && n.Kind() != ast.KindListItem && n.Kind() != ast.KindList {
			remarks = map[string]string{}
		}
		return ast.WalkContinue, nil
	})
	return p, err
}

// remark reads an HTML comment. Comments that are no remarks, such as those for
// generators, have no key.
func remark(html string) (key, value string, err error) {
	html = strings.TrimSpace(html)
	comment, ok := strings.CutPrefix(html, "<!--")
	comment, closed := strings.CutSuffix(comment, "-->")
	if !ok || !closed {
		return "", "", fmt.Errorf("HTML that is no comment: %s", html)
	}
	key, value, found := strings.Cut(strings.TrimSpace(comment), ":")
	if value = strings.TrimSpace(value); !slices.Contains([]string{"not run", "before", "in"}, key) {
		return "", "", nil
	}
	if !found || value == "" {
		return "", "", fmt.Errorf("the remark %q has no text", key)
	}
	return key, value, nil
}

// addAnchor adds the anchor of a heading; the second of the same name gets a
// number, as on GitHub.
func (p *page) addAnchor(name string) {
	anchor := name
	for i := 1; p.anchors[anchor]; i++ {
		anchor = fmt.Sprintf("%s-%d", name, i)
	}
	p.anchors[anchor] = true
}

// slug is the anchor that GitHub gives a heading.
func slug(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		case r == ' ':
			return '-'
		}
		return -1
	}, heading)
}

func textOf(n ast.Node, source []byte) string {
	var b strings.Builder
	for child := n.FirstChild(); child != nil; child = child.NextSibling() {
		if t, ok := child.(*ast.Text); ok {
			b.Write(t.Value(source))
			continue
		}
		b.WriteString(textOf(child, source))
	}
	return b.String()
}
