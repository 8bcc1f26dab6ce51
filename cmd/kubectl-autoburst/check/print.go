package check

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Formats are the values of --output; an empty one is the first.
var Formats = []string{"table", "short", "json"}

var marks = map[Outcome]string{OK: "√", Warning: "‼", Error: "×"}

// Print writes a report in a format; short leaves out what is well.
func Print(out io.Writer, format string, r Report) error {
	if format == "json" {
		b, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
		_, err = out.Write(append(b, '\n'))
		return err
	}
	var b strings.Builder
	counts := map[Outcome]int{}
	for _, c := range r.Categories {
		var lines strings.Builder
		for _, v := range c.Results {
			counts[v.Outcome]++
			if format == "short" && v.Outcome == OK {
				continue
			}
			fmt.Fprintf(&lines, "%s %s\n", marks[v.Outcome], v.Message)
			for _, d := range v.Details {
				fmt.Fprintf(&lines, "    %s\n", d)
			}
			if v.Hint != "" {
				fmt.Fprintf(&lines, "    see %s\n", v.Hint)
			}
		}
		if lines.Len() > 0 {
			fmt.Fprintf(&b, "%s\n%s\n%s\n", c.Name, strings.Repeat("-", len(c.Name)), lines.String())
		}
	}
	fmt.Fprintf(&b, "%s\n", summary(counts))
	_, err := io.WriteString(out, b.String())
	return err
}

func summary(counts map[Outcome]int) string {
	checks := counts[OK] + counts[Warning] + counts[Error]
	switch {
	case counts[Error] > 0:
		return fmt.Sprintf("%d of %d checks failed, %d with warnings", counts[Error], checks, counts[Warning])
	case counts[Warning] > 0:
		return fmt.Sprintf("no check of %d failed, %d with warnings", checks, counts[Warning])
	}
	return fmt.Sprintf("all %d checks are well", checks)
}
