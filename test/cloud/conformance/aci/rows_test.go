package aci

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		reportNotRun()
		os.Exit(code)
	}))
}

// Every row has its test, and only emulator_test.go knows the emulated cloud.
func TestEveryRowHasItsTest(t *testing.T) {
	files, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]int{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, imported := range file.Imports {
			path, _ := strconv.Unquote(imported.Path.Value)
			if strings.Contains(path, "autoburst") && name != "emulator_test.go" {
				t.Errorf("%s imports %s: the rows are written from what is published", name, path)
			}
		}
		for _, declared := range file.Decls {
			if f, ok := declared.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "TestA") {
				tests[strings.TrimPrefix(f.Name.Name, "Test")[:3]]++
			}
		}
	}
	for row := 1; row <= 43; row++ {
		id := fmt.Sprintf("A%02d", row)
		// Row A42, the preview versions, is optional and left out whole.
		if want := row != 42; (tests[id] == 1) != want {
			t.Errorf("row %s has %d tests", id, tests[id])
		}
	}
}
