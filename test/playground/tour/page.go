package tour

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
	"text/tabwriter"
	"text/template"
)

//go:embed playground.md.tmpl
var pageText string

// Page is docs/playground.md: the tour with what it printed, and a frame of the live
// view.
func Page(results []Result, frame string) (string, error) {
	page, err := template.New("playground.md").Funcs(template.FuncMap{
		"mask": Mask,
		"next": func(i int) int { return i + 1 },
	}).Parse(pageText)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = page.Execute(&b, map[string]any{"Results": results, "Frame": frame})
	return b.String(), err
}

// what differs from run to run, and what stands for it.
var masks = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "…"},
	{regexp.MustCompile(`\b[\w.-]+_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`), "…"}, // who leads
	{regexp.MustCompile(`\b(web)-[a-z0-9]{8,10}-[a-z0-9]{5}\b`), "$1-…"},
	{regexp.MustCompile(`^(\d+[dhms])+$`), "1m"}, // an age
	{regexp.MustCompile(`-autoburst-\S+`), "-autoburst-…"},
	{regexp.MustCompile(`^Autoburst \d\S*`), "Autoburst …"},
	{regexp.MustCompile(`\ball \d+ checks`), "all checks"},
}

var header = regexp.MustCompile(`^[A-Z]+( {2,}[A-Z]+)+ *$`)

// Mask makes the output of a command the same in every run: what is random or about
// time is replaced, and tables are aligned anew after that.
func Mask(output string) string {
	lines := strings.Split(strings.TrimRight(output, "\n "), "\n")
	cells := make([][]string, len(lines))
	if starts := columns(lines[0]); starts != nil {
		for i, line := range lines {
			cells[i] = cut(line, starts)
		}
	} else {
		for i, line := range lines {
			cells[i] = []string{line}
		}
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	for _, row := range cells {
		for i, cell := range row {
			for _, m := range masks {
				cell = m.what.ReplaceAllString(cell, m.by)
			}
			row[i] = cell
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush() // a builder takes everything
	aligned := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	for i, line := range aligned {
		aligned[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(aligned, "\n")
}

// columns are where the columns of a table begin, nil where the line is no header.
func columns(line string) []int {
	if !header.MatchString(line) {
		return nil
	}
	var starts []int
	for i := range line {
		if line[i] != ' ' && (i == 0 || line[i-1] == ' ') {
			starts = append(starts, i)
		}
	}
	return starts
}

func cut(line string, starts []int) []string {
	var out []string
	for i, start := range starts {
		end := len(line)
		if i+1 < len(starts) {
			end = min(end, starts[i+1])
		}
		out = append(out, strings.TrimSpace(line[min(start, end):end]))
	}
	return out
}
