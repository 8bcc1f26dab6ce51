package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// screen prints lines, and below them a table that is drawn anew in place on a
// terminal, or printed when it has changed elsewhere.
type screen struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
	begin    time.Time
	height   int // lines of the table that stand on the terminal now
	last     string
}

func newScreen(out *os.File) *screen {
	info, err := out.Stat()
	return &screen{out: out, begin: time.Now(), terminal: err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"}
}

// Write prints progress, each line behind the seconds since the start.
func (s *screen) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		s.progress("%s", strings.TrimRight(line, "\n"))
	}
	return len(b), nil
}

func (s *screen) progress(format string, args ...any) {
	s.print("%4.0f s  %s", time.Since(s.begin).Seconds(), fmt.Sprintf(format, args...))
}

func (s *screen) print(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	s.last = ""
	fmt.Fprintf(s.out, format+"\n", args...)
}

// table shows lines that replace those shown before.
func (s *screen) table(lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := strings.Join(lines, "\n")
	if text == s.last {
		return
	}
	s.last = text
	if !s.terminal {
		fmt.Fprintln(s.out, "  "+strings.Join(lines, " | "))
		return
	}
	s.clear()
	for _, l := range lines {
		fmt.Fprintln(s.out, "  "+l)
	}
	s.height = len(lines)
}

// keep leaves the table where it stands.
func (s *screen) keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.height, s.last = 0, ""
}

func (s *screen) clear() {
	if s.terminal && s.height > 0 {
		fmt.Fprintf(s.out, "\x1b[%dA\x1b[J", s.height)
		s.height = 0
	}
}
