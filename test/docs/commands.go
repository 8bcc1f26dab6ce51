package docs

import (
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// A command is one simple command of a piece of shell, as far as its words are
// literal: a word with an expansion in it is kept as it is written.
type command []string

// commandsOf are the simple commands in a piece of shell, those in loops and
// substitutions too.
func commandsOf(shell string) ([]command, error) {
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(shell), "")
	if err != nil {
		return nil, err
	}
	var all []command
	printer := syntax.NewPrinter()
	syntax.Walk(file, func(n syntax.Node) bool {
		call, ok := n.(*syntax.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		var c command
		for _, word := range call.Args {
			c = append(c, literal(printer, word))
		}
		all = append(all, c)
		return true
	})
	return all, nil
}

func literal(printer *syntax.Printer, word *syntax.Word) string {
	if text := word.Lit(); text != "" {
		return text
	}
	if len(word.Parts) == 1 {
		switch part := word.Parts[0].(type) {
		case *syntax.SglQuoted:
			return part.Value
		case *syntax.DblQuoted:
			if inner := (&syntax.Word{Parts: part.Parts}).Lit(); inner != "" {
				return inner
			}
		}
	}
	var b strings.Builder
	// A builder takes everything.
	_ = printer.Print(&b, word)
	return b.String()
}

// help turns a command of one of the programs whose flags are checked into one that
// only prints its help, which it does when it knows its flags. It is false for other
// programs.
func (c command) help() (command, bool) {
	if c[0] != "kubectl" && c[0] != "helm" {
		return nil, false
	}
	// What follows is for the program in the container.
	if i := slices.Index(c, "--"); i >= 0 {
		c = c[:i]
	}
	return append(slices.Clone(c), "--help"), true
}
