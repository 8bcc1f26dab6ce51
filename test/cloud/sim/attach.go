package sim

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// Attachment is what a container prints from some moment on. Close it.
type Attachment struct {
	mu     sync.Mutex
	more   sync.Cond // something was printed, or it is over
	text   bytes.Buffer
	over   bool
	detach func()
}

// Attach returns the output of a running container from now until it ends.
func (g *Group) Attach(name string) (*Attachment, error) {
	g.lock()
	defer g.unlock()
	c, err := g.container(name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("attach: %w", err)
	case c.current.Run != Processing:
		return nil, fmt.Errorf("attach to container %s of %s: %w", name, g.id, ErrNotRunning)
	}
	a := &Attachment{}
	a.more.L = &a.mu
	logs := c.logs
	if logs.attached == nil {
		logs.attached = map[*Attachment]bool{}
	}
	logs.attached[a] = true
	a.detach = func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(logs.attached, a)
	}
	return a, nil
}

// Read returns what the container prints, and io.EOF once it has ended.
func (a *Attachment) Read(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.text.Len() == 0 {
		if a.over {
			return 0, io.EOF
		}
		a.more.Wait()
	}
	return a.text.Read(p)
}

// Write drops what it is given: the container has no input.
func (a *Attachment) Write(p []byte) (int, error) { return len(p), nil }

// Close ends the attachment; the container does not notice.
func (a *Attachment) Close() error {
	a.detach()
	a.end()
	return nil
}

func (a *Attachment) print(line string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.text.WriteString(line)
	a.text.WriteByte('\n')
	a.more.Broadcast()
}

func (a *Attachment) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	a.more.Broadcast()
}

// detachAll ends what is attached to a run of a container. The group's lock is
// held.
func (b *logBuffer) detachAll() {
	if b == nil {
		return
	}
	for a := range b.attached {
		a.end()
	}
	b.attached = nil
}
