package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// LogLine is one line of a container's output, stdout and stderr merged.
type LogLine struct {
	Time time.Time
	Text string // without the line feed
}

// LogOptions selects lines. The zero value selects all of the present run.
type LogOptions struct {
	// Previous asks for the run before the present one.
	Previous bool
	// Since drops lines before it, unless zero.
	Since time.Time
	// Tail keeps the last so many lines, unless zero.
	Tail int
}

// Logs returns the output of a container. A container that has not run yet has
// none and is no error.
func (g *Group) Logs(name string, o LogOptions) ([]LogLine, error) {
	g.lock()
	defer g.unlock()
	c, err := g.container(name)
	if err != nil {
		return nil, fmt.Errorf("logs: %w", err)
	}
	b := c.logs
	if o.Previous {
		b = c.prevLogs
	}
	if b == nil {
		return nil, nil
	}
	lines := slices.Clone(b.lines)
	lines = slices.DeleteFunc(lines, func(l LogLine) bool { return l.Time.Before(o.Since) })
	if o.Tail > 0 && len(lines) > o.Tail {
		lines = lines[len(lines)-o.Tail:]
	}
	return lines, nil
}

// Print adds lines to the output of a running container, as its process would.
func (g *Group) Print(name string, lines ...string) error {
	g.lock()
	defer g.unlock()
	c, err := g.container(name)
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	if c.current.Run != Processing {
		return fmt.Errorf("print to container %s of %s: %w", name, g.id, ErrNotRunning)
	}
	for _, l := range lines {
		c.logs.add(g.fleet.clock.Now(), l)
	}
	return nil
}

// JoinLines is the text of lines, each ended by a line feed; timestamps puts
// its time in RFC 3339 with nanoseconds before each.
func JoinLines(lines []LogLine, timestamps bool) string {
	var b strings.Builder
	for _, l := range lines {
		if timestamps {
			b.WriteString(l.Time.UTC().Format(time.RFC3339Nano))
			b.WriteByte(' ')
		}
		b.WriteString(l.Text)
		b.WriteByte('\n')
	}
	return b.String()
}

// logBuffer keeps the newest lines of one run.
type logBuffer struct {
	lines    []LogLine
	bytes    int
	maxBytes int
	attached map[*Attachment]bool
}

func newLogBuffer(maxBytes int) *logBuffer { return &logBuffer{maxBytes: maxBytes} }

func (b *logBuffer) add(now time.Time, text string) {
	b.lines = append(b.lines, LogLine{now, text})
	b.bytes += len(text) + 1
	for a := range b.attached {
		a.print(text)
	}
	drop := 0
	for b.bytes > b.maxBytes && drop < len(b.lines)-1 {
		b.bytes -= len(b.lines[drop].Text) + 1
		drop++
	}
	b.lines = b.lines[drop:]
}
