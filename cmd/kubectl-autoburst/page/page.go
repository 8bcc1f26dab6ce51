// Package page writes reports for people: lines, and tables in columns.
package page

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// A Page is a report as it grows. The zero value is empty and ready.
type Page struct{ strings.Builder }

// Line adds a line.
func (p *Page) Line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// Table adds rows in columns, indented by two spaces.
func (p *Page) Table(rows [][]string) {
	var aligned strings.Builder
	w := tabwriter.NewWriter(&aligned, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, "  "+strings.Join(row, "\t"))
	}
	_ = w.Flush() // a Builder takes everything
	for l := range strings.Lines(aligned.String()) {
		p.WriteString(strings.TrimRight(l, " \n") + "\n")
	}
}
