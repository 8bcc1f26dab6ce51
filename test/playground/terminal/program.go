package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/term"

	"github.com/autoburst/autoburst/test/playground/live"
)

// Source is what is shown.
type Source interface {
	// Subscribe returns states, closed when there are no more.
	Subscribe(ctx context.Context) <-chan live.State
}

// Is tells whether a file is a terminal on which frames can be drawn.
func Is(f *os.File) bool { return term.IsTerminal(f.Fd()) && os.Getenv("TERM") != "dumb" }

// ASCII tells whether the locale of the environment has no more than ASCII.
func ASCII(environ func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := environ(name); v != "" {
			upper := strings.ToUpper(v)
			return !strings.Contains(upper, "UTF-8") && !strings.Contains(upper, "UTF8")
		}
	}
	return false // nothing is said: containers seldom set a locale, and their terminals can
}

// Show draws frames on the whole terminal until the context ends, there are no more
// states, or whoever watches presses q or Ctrl-C.
func Show(ctx context.Context, in io.Reader, out io.Writer, source Source, l Look) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := tea.NewProgram(model{look: l, states: source.Subscribe(ctx)},
		tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithoutSignalHandler(), tea.WithFPS(20))
	_, err := p.Run()
	if ctx.Err() != nil || errors.Is(err, tea.ErrInterrupted) {
		return nil
	}
	return err
}

type model struct {
	look   Look
	states <-chan live.State
	state  live.State
}

type ended struct{}

func (m model) next() tea.Msg {
	s, ok := <-m.states
	if !ok {
		return ended{}
	}
	return s
}

// Init is part of tea.Model.
func (m model) Init() tea.Cmd { return m.next }

// Update is part of tea.Model.
func (m model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case live.State:
		m.state = msg
		return m, m.next
	case ended:
		return m, tea.Quit
	case tea.WindowSizeMsg:
		m.look.Width, m.look.Height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		switch msg.String() {
		case "q", "ctrl+c":
			return m, tea.Quit
		case "h", "?":
			m.look.Help = !m.look.Help
		case "esc":
			m.look.Help = false
		}
	}
	return m, nil
}

// View is part of tea.Model.
func (m model) View() tea.View {
	v := tea.NewView("")
	if !m.state.Time.IsZero() && m.look.Width > 0 {
		v.Content = Frame(m.state, m.look)
	}
	v.AltScreen = true
	v.WindowTitle = "Autoburst playground: " + Line(m.state)
	return v
}

// Tell prints a line when something has changed, at most one each second, and each
// event, until the context ends or there are no more states.
func Tell(ctx context.Context, out io.Writer, source Source) {
	var told live.Places
	var at, newest time.Time
	first := true
	for s := range source.Subscribe(ctx) {
		for _, e := range s.Events {
			// Moves of the second that is not over yet may still grow.
			if e.Time.After(newest) && s.Time.Sub(e.Time.Truncate(time.Second)) >= time.Second {
				newest = e.Time
				fmt.Fprintf(out, "%s  %s  %s\n", e.Time.In(s.Time.Location()).Format(time.TimeOnly), e.Object, e.Message)
			}
		}
		if p := s.Places(); first || (p != told && s.Time.Sub(at) >= time.Second) {
			first, told, at = false, p, s.Time
			fmt.Fprintf(out, "%s  %s\n", s.Time.Format(time.TimeOnly), Line(s))
		}
	}
}
