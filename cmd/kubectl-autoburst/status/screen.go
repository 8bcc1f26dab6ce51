package status

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// Screen shows one text after another: in place of the one before on a terminal, and
// elsewhere one below the other, where they differ.
type Screen struct {
	out io.Writer
	// between stands between two texts, where one does not take the place of another.
	between string
	// size of the terminal in columns and lines; nil where it is none.
	size  func() (width, height int)
	last  string
	drawn bool
}

// The sequences of terminals. Those of the alternate screen leave what was there
// before as it is.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[2J"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	endOfLine   = "\x1b[K"
	endOfScreen = "\x1b[J"
)

// NewScreen finds out whether the output is a terminal. Between is what stands between
// two texts elsewhere.
func NewScreen(out io.Writer, between string) *Screen {
	s := &Screen{out: out, between: between}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		s.size = func() (width, height int) {
			width, height, err := term.GetSize(int(f.Fd()))
			if err != nil {
				return 80, 24
			}
			return width, height
		}
	}
	return s
}

// Terminal tells whether texts are shown in place.
func (s *Screen) Terminal() bool { return s.size != nil }

// Show shows a text. Key tells texts apart that differ: the ages in a text change
// though nothing does.
func (s *Screen) Show(key, text string) error {
	if s.size == nil {
		if s.drawn && key == s.last {
			return nil
		}
		if s.drawn {
			text = s.between + text
		}
		s.drawn, s.last = true, key
		_, err := io.WriteString(s.out, text)
		return err
	}
	s.last = text
	// One write, over what is there: nothing is blank in between.
	var b strings.Builder
	if !s.drawn {
		b.WriteString(enterScreen)
	}
	s.drawn = true
	b.WriteString(home)
	width, height := s.size()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) > height {
		lines = append(lines[:height-1], "… enlarge the window to see more")
	}
	for i, l := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		if r := []rune(l); len(r) > width {
			l = string(r[:width-1]) + "…"
		}
		b.WriteString(l + endOfLine)
	}
	b.WriteString(endOfScreen)
	_, err := io.WriteString(s.out, b.String())
	return err
}

// Close gives the terminal back, with the last text on it.
func (s *Screen) Close() error {
	if s.size == nil || !s.drawn {
		return nil
	}
	_, err := io.WriteString(s.out, leaveScreen+s.last)
	return err
}
