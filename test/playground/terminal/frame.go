// Package terminal shows a playground in a terminal: as a frame that is drawn in
// place, or as lines where there is no terminal.
package terminal

import (
	"fmt"
	"image/color"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/autoburst/autoburst/test/playground/live"
)

// Look is how a frame is drawn.
type Look struct {
	// Width and Height are the terminal's, in cells.
	Width, Height int
	// ASCII draws without characters that need more than ASCII.
	ASCII bool
	// Help shows the commands in the place of the events.
	Help bool
	// Notes are for the foot of the frame, such as where the web page is; Commands
	// are for the help.
	Notes, Commands []string
}

// The colours read well on dark and on light grounds. Each says nothing that the
// words beside it do not say, too.
var (
	green  = lipgloss.Color("#2e9e5b")
	orange = lipgloss.Color("#e07b00")
	blue   = lipgloss.Color("#2f81f7")
	red    = lipgloss.Color("#d9403a")
	yellow = lipgloss.Color("#b58900")
	grey   = lipgloss.Color("#808080")
)

func placeColour(place string) color.Color {
	switch place {
	case "eci":
		return orange
	case "aci":
		return blue
	case "local":
		return green
	case "waiting":
		return yellow
	default:
		return grey
	}
}

func paint(c color.Color, text string) string {
	return lipgloss.NewStyle().Foreground(c).Render(text)
}

func bold(text string) string { return lipgloss.NewStyle().Bold(true).Render(text) }

func dim(text string) string { return paint(grey, text) }

// glyphs are the characters of bars.
type glyphs struct {
	full, starting, empty, dot, rule string
	// parts are of a cell, from the smallest.
	parts []string
}

var (
	blocks = glyphs{full: "█", starting: "▒", empty: "·", dot: "•", rule: "─", parts: []string{"▏", "▎", "▍", "▌", "▋", "▊", "▉"}}
	plain  = glyphs{full: "#", starting: "=", empty: ".", dot: "*", rule: "-"}
)

const (
	nameWidth = 14
	// leastBar and mostBar bound the bars.
	leastBar, mostBar = 8, 60
	// figuresWidth is kept for what stands behind a bar.
	figuresWidth = 38
)

// Frame draws a state. It has Height lines at most, and none is wider than Width.
func Frame(s live.State, l Look) string {
	g := blocks
	if l.ASCII {
		g = plain
	}
	width := min(mostBar, max(leastBar, l.Width-nameWidth-figuresWidth-1))
	lines := slices.Concat(head(s, l), nodes(s, g, width, max(2, l.Height/2-4)), limits(s, g, width))
	foot := feet(s, l)
	// Whatever is left belongs to the events.
	room := l.Height - len(lines) - len(foot)
	if l.Help {
		lines = append(lines, section("In another terminal", g, l.Width, room, l.Commands, true)...)
	} else {
		lines = append(lines, section("Events", g, l.Width, room, events(s, l.Width), false)...)
	}
	lines = lines[:min(len(lines), max(0, l.Height-len(foot)))]
	for len(lines) < l.Height-len(foot) {
		lines = append(lines, "")
	}
	lines = append(lines, foot...)
	lines = lines[:min(len(lines), l.Height)]
	for i, line := range lines {
		lines[i] = ansi.Truncate(line, l.Width, "")
	}
	frame := strings.Join(lines, "\n")
	if l.ASCII {
		frame = strings.ReplaceAll(frame, more, "~")
	}
	return frame
}

// more stands for what is cut off.
const more = "…"

// clean makes a text that comes from elsewhere harmless to a terminal.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

func head(s live.State, l Look) []string {
	left := bold("Autoburst playground")
	switch {
	case s.Trouble != "":
		left += "  " + paint(red, "not live: "+clean(firstLine(s.Trouble)))
	case s.Stopped:
		left += "  " + paint(red, "ALL BURSTING IS STOPPED")
	}
	right := dim(s.Time.Format(time.TimeOnly) + "  up " + span(s.Time.Sub(s.Since)))
	return []string{spread(left, right, l.Width), ""}
}

// spread puts one text at the left and one at the right.
func spread(left, right string, width int) string {
	gap := width - ansi.StringWidth(left) - ansi.StringWidth(right)
	if gap < 2 {
		return left
	}
	return left + strings.Repeat(" ", gap) + right
}

// nodes are the lines of nodes and of what waits. More local nodes than most are
// not shown each.
func nodes(s live.State, g glyphs, width, most int) []string {
	var lines []string
	local := s.Local
	if len(local) > most {
		local = local[:most-1]
	}
	for _, n := range local {
		lines = append(lines, row(n.Name, "local", localBar(n, g, width), fmt.Sprintf("%5.1f of %s CPU  %3d %s", n.RequestedCPU, number(n.AllocatableCPU), n.Pods(), plural(n.Pods(), "pod")), flags(n)))
	}
	if hidden := len(s.Local) - len(local); hidden > 0 {
		lines = append(lines, dim(fmt.Sprintf(more+" and %d more local nodes", hidden)))
	}
	scale := 1.0
	for _, n := range append(slices.Clone(s.Virtual), live.Node{Running: s.Waiting.Pods}) {
		scale = max(scale, float64(n.Pods())/float64(width))
	}
	for _, n := range s.Virtual {
		lines = append(lines, row(n.Name, n.Provider, podBar(n.Running, n.Starting, n.Provider, g, width, scale), fmt.Sprintf("%4d %-4s  %s", n.Pods(), plural(n.Pods(), "pod"), bill(n.Bill)), flags(n)))
	}
	waiting := dim("   0 pods")
	if s.Waiting.Pods > 0 {
		waiting = fmt.Sprintf("%4d %-4s  oldest %s", s.Waiting.Pods, plural(s.Waiting.Pods, "pod"), span(time.Duration(s.Waiting.OldestSeconds)*time.Second))
	}
	return append(lines, row("waiting", "waiting", podBar(0, s.Waiting.Pods, "waiting", g, width, scale), waiting, ""))
}

// row is a line of a node. Flags stand in the part of the bar that is empty, or at
// the end.
func row(name, place string, bar bar, figures, flags string) string {
	begin := paint(placeColour(place), fixed(name, nameWidth))
	if flags == "" {
		return begin + bar.filled + dim(bar.empty) + " " + figures
	}
	if rest := ansi.StringWidth(bar.empty) - len(flags) - 2; rest >= 0 {
		return begin + bar.filled + dim(ansi.Truncate(bar.empty, rest, "")) + " " + paint(red, flags) + "  " + figures
	}
	return begin + bar.filled + dim(bar.empty) + " " + figures + "  " + paint(red, flags)
}

// bar is a bar: what is drawn of it, and the rest.
type bar struct{ filled, empty string }

func flags(n live.Node) string {
	var out []string
	if !n.Ready {
		out = append(out, "not ready")
	}
	if n.Cordoned {
		out = append(out, "cordoned")
	}
	if n.NoCapacity {
		out = append(out, "no capacity")
	}
	return strings.Join(out, ", ")
}

// localBar fills with the CPU that is asked for.
func localBar(n live.Node, g glyphs, width int) bar {
	if n.AllocatableCPU <= 0 || n.Pods() == 0 {
		return bar{empty: strings.Repeat(g.empty, width)}
	}
	used := min(1, n.RequestedCPU/n.AllocatableCPU) * float64(width)
	running := used * float64(n.Running) / float64(n.Pods())
	return fill(running, used-running, "local", g, width)
}

// podBar has a cell for each pod, or for each scale pods where there are many.
func podBar(running, starting int, place string, g glyphs, width int, scale float64) bar {
	return fill(float64(running)/scale, float64(starting)/scale, place, g, width)
}

// fill draws a bar of that many cells that are full, those that begin, and the rest.
func fill(full, starting float64, place string, g glyphs, width int) bar {
	colour := placeColour(place)
	whole := min(width, int(full))
	part := ""
	if i := int(math.Floor((full - float64(whole)) * float64(len(g.parts)+1))); i > 0 && whole < width && len(g.parts) > 0 && starting == 0 {
		part = g.parts[i-1]
	}
	begun := 0
	if starting > 0 {
		begun = min(width, int(math.Round(full+starting))) - whole
	}
	rest := max(0, width-whole-ansi.StringWidth(part)-begun)
	return bar{paint(colour, strings.Repeat(g.full, whole)+part+strings.Repeat(g.starting, begun)), strings.Repeat(g.empty, rest)}
}

func bill(b *live.Bill) string {
	if b == nil || b.Currency == "" {
		return dim("nothing billed yet")
	}
	text := fmt.Sprintf("%s %.4f", b.Currency, b.Spent)
	if b.PerHour == 0 {
		return text + dim("  +0/h")
	}
	return text + bold(fmt.Sprintf("  +%.2f/h", b.PerHour))
}

func limits(s live.State, g glyphs, width int) []string {
	if len(s.Limits) == 0 {
		return nil
	}
	lines := []string{"", bold("Limits")}
	for _, l := range s.Limits {
		name := l.Policy[strings.LastIndex(l.Policy, " ")+1:]
		if l.Target != "" {
			name += " " + l.Target
		}
		place := "limit"
		if l.Share >= 1 {
			place = "waiting"
		}
		full := min(1, l.Share) * float64(width)
		lines = append(lines, row(name, "limit", fill(full, 0, place, g, width), fmt.Sprintf("%s of %s %s", l.Used, l.Max, l.Resource), ""))
	}
	return lines
}

// section is a title and as many lines as there is room for: the first ones, or the
// last.
func section(title string, g glyphs, width, room int, lines []string, first bool) []string {
	if room < 3 {
		return nil
	}
	shown := lines
	if most := room - 2; len(shown) > most {
		if first {
			shown = shown[:most]
		} else {
			shown = shown[len(shown)-most:]
		}
	}
	rule := strings.Repeat(g.rule, max(0, min(width, nameWidth+mostBar+figuresWidth)-ansi.StringWidth(title)-1))
	return append([]string{"", bold(title) + " " + dim(rule)}, shown...)
}

func events(s live.State, width int) []string {
	if len(s.Events) == 0 {
		return []string{dim("none yet")}
	}
	var lines []string
	for _, e := range s.Events {
		text := clean(e.Object + "  " + e.Message)
		switch {
		case e.Warning:
			text = paint(red, text)
		case e.Place != "":
			text = paint(placeColour(e.Place), text)
		}
		lines = append(lines, ansi.Truncate(dim(e.Time.In(s.Time.Location()).Format(time.TimeOnly))+"  "+text, width, more))
	}
	return lines
}

func feet(s live.State, l Look) []string {
	if l.Height < 12 {
		return nil
	}
	keys := "q end the playground   h commands"
	if l.Help {
		keys = "q end the playground   h events"
	}
	return []string{"", spread(dim(strings.Join(l.Notes, "   ")), dim(keys), l.Width)}
}

// Line tells a state in one line.
func Line(s live.State) string {
	p := s.Places()
	line := fmt.Sprintf("local %d  eci %d  aci %d  waiting %d", p.Local, p.ECI, p.ACI, p.Waiting)
	bills := s.Bills()
	for _, currency := range slices.Sorted(maps.Keys(bills)) {
		line += fmt.Sprintf("  %s %.4f (+%.2f/h)", currency, bills[currency].Spent, bills[currency].PerHour)
	}
	if s.Stopped {
		line += "  ALL BURSTING IS STOPPED"
	}
	return line
}

// fixed cuts or fills a text to a width.
func fixed(text string, width int) string {
	text = ansi.Truncate(clean(text), width-1, more)
	return text + strings.Repeat(" ", max(0, width-ansi.StringWidth(text)))
}

func plural(n int, what string) string {
	if n == 1 {
		return what
	}
	return what + "s"
}

func number(f float64) string {
	if f == math.Trunc(f) {
		return fmt.Sprintf("%.0f", f)
	}
	return fmt.Sprintf("%.1f", f)
}

func span(d time.Duration) string {
	d = d.Truncate(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
