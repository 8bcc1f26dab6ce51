package vnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/providers"
)

// follower makes a stream of a log that the cloud hands out in pieces: it asks
// again for what is not older than the last line it has, and leaves out what it
// has passed on.
type follower struct {
	clock      clock.WithTicker
	interval   time.Duration
	timestamps bool
	limit      int // bytes; zero: none
	read       func(context.Context, providers.LogOptions) (io.ReadCloser, error)
	ended      func() bool

	last  time.Time // the time of the last line
	atEnd []string  // the lines of that time, which have been passed on
	began bool
}

// start makes the first request, so that its error is the answer, and returns
// the stream. The stream ends with the container, or with ctx.
func (f *follower) start(ctx context.Context, opts providers.LogOptions) (io.ReadCloser, error) {
	opts.Timestamps, opts.LimitBytes = true, 0
	over := f.ended()
	lines, err := f.poll(ctx, opts, over)
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	go func() {
		w.CloseWithError(f.run(ctx, w, opts, lines, over))
	}()
	return r, nil
}

func (f *follower) run(ctx context.Context, w io.Writer, opts providers.LogOptions, lines []string, over bool) error {
	opts.Tail = 0
	ticker := f.clock.NewTicker(f.interval)
	defer ticker.Stop()
	left := f.limit
	for {
		var out bytes.Buffer
		for _, line := range lines {
			if !f.timestamps {
				_, line = stamp(line)
			}
			out.WriteString(line)
		}
		text := out.Bytes()
		if f.limit > 0 && len(text) >= left {
			_, err := w.Write(text[:left])
			return err
		}
		left -= len(text)
		if len(text) > 0 {
			if _, err := w.Write(text); err != nil {
				return err // the reader has gone
			}
		}
		if over {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
		// Asked before the lines are read: what the container printed last is in
		// the read that follows its end.
		over = f.ended()
		if !f.last.IsZero() {
			opts.Since = f.last
		}
		var err error
		lines, err = f.poll(ctx, opts, over)
		switch {
		case errors.Is(err, context.Canceled), providers.ClassOf(err) == providers.NotFound:
			return nil
		case err != nil && ctx.Err() == nil:
			// The cloud will answer again.
			lines, over = nil, false
		}
	}
}

// poll returns the lines that are new, with their times. A last line without an
// end is left for the next time, unless there is none.
func (f *follower) poll(ctx context.Context, opts providers.LogOptions, last bool) ([]string, error) {
	body, err := f.read(ctx, opts)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(body)
	if closed := body.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, fmt.Errorf("reading the log: %w", err)
	}
	lines := slices.Collect(strings.Lines(string(data)))
	if n := len(lines); n > 0 && !last && !strings.HasSuffix(lines[n-1], "\n") {
		lines = lines[:n-1]
	}
	return f.fresh(lines), nil
}

// fresh returns the lines after those that were passed on, and remembers where
// they end. A line without a time has that of the line before it.
func (f *follower) fresh(lines []string) []string {
	type timed struct {
		line string
		at   time.Time
	}
	var same, after []timed // as the last line that was passed on
	at := f.last
	for _, line := range lines {
		if t, _ := stamp(line); !t.IsZero() {
			at = t
		}
		switch {
		case !f.began || at.After(f.last):
			after = append(after, timed{line, at})
		case at.Equal(f.last):
			same = append(same, timed{line, at})
		}
	}
	f.began = true
	texts := make([]string, len(same))
	for i, l := range same {
		texts[i] = l.line
	}
	if i := sequence(texts, f.atEnd); i >= 0 {
		same = same[i+len(f.atEnd):]
	}
	var fresh []string
	for _, l := range append(same, after...) {
		if l.at.After(f.last) {
			f.last, f.atEnd = l.at, nil
		}
		f.atEnd = append(f.atEnd, l.line)
		fresh = append(fresh, l.line)
	}
	return fresh
}

// sequence returns where the needle begins in the lines, -1 if nowhere.
func sequence(lines, needle []string) int {
	for i := 0; i+len(needle) <= len(lines); i++ {
		if slices.Equal(lines[i:i+len(needle)], needle) {
			return i
		}
	}
	return -1
}

// stamp splits a line into its time, zero if it has none, and the rest.
func stamp(line string) (time.Time, string) {
	head, rest, ok := strings.Cut(line, " ")
	if !ok {
		head, rest = strings.TrimSuffix(line, "\n"), "\n"
	}
	t, err := time.Parse(time.RFC3339Nano, head)
	if err != nil {
		return time.Time{}, line
	}
	return t, rest
}
