package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/autoburst/autoburst/test/cluster"
)

// A heading of the third level on the page about troubleshooting is a message that
// the programs have.
func TestMessagesExist(t *testing.T) {
	root, err := cluster.RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(root, "docs", "troubleshooting.md"))
	if err != nil {
		t.Fatal(err)
	}
	literals, err := literals(root, "cmd", "policy", "providers", "vnode", "webhook")
	if err != nil {
		t.Fatal(err)
	}
	headings := 0
	for _, line := range strings.Split(string(source), "\n") {
		if message, ok := strings.CutPrefix(line, "### "); ok {
			headings++
			if !shown(message, literals) {
				t.Errorf("no program has the message %q", message)
			}
		}
	}
	if headings < 20 {
		t.Errorf("found only %d messages", headings)
	}
	if shown("the pod has … gone to the moon", literals) {
		t.Error("a message that no program has is found")
	}
}

// literals are all texts in the Go code below the folders, without tests; texts that
// are joined by + are one.
func literals(root string, folders ...string) (all []string, err error) {
	for _, folder := range folders {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				e, ok := n.(ast.Expr)
				if !ok {
					return true
				}
				text, ok := textOfExpression(e)
				if ok {
					all = append(all, text)
				}
				return !ok
			})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// textOfExpression is the text of a literal, or of literals joined by +; what is no
// literal among them is written as %v.
func textOfExpression(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		if e.Op != token.ADD {
			return "", false
		}
		left, isLeft := textOfExpression(e.X)
		right, isRight := textOfExpression(e.Y)
		if !isLeft {
			left = "%v"
		}
		if !isRight {
			right = "%v"
		}
		return left + right, isLeft || isRight
	}
	return "", false
}

var verb = regexp.MustCompile(`%[-+#0-9.]*[a-zA-Z]`)

// shown tells whether one of the texts can become the message.
func shown(message string, texts []string) bool {
	parts := strings.Split(message, "…")
	for i, part := range parts {
		parts[i] = regexp.QuoteMeta(strings.TrimSpace(part))
	}
	pattern := regexp.MustCompile(fmt.Sprintf("(?s)^.*%s.*$", strings.Join(parts, `\s*\x00\s*`)))
	for _, text := range texts {
		if pattern.MatchString(collapse(verb.ReplaceAllString(text, "\x00"))) {
			return true
		}
	}
	return false
}

// collapse takes quotation marks from around what differs, and a gap before the end.
func collapse(text string) string { return strings.ReplaceAll(text, `"`, "") }
