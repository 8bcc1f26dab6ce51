package eci

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// The addresses that ExecContainerCommand hands out.
const (
	execPath     = "/exec/"
	terminalPath = "/terminal" // a page of the console, which is not emulated
)

// maxSync bounds how long a call with Sync waits for its command. The service
// publishes no bound.
const maxSync = 30 * time.Second

// execSession is a command that starts when its websocket is opened.
type execSession struct {
	group     *group
	container string
	options   sim.ExecOptions
	until     time.Time
}

// exec is ExecContainerCommand.
func (s *Server) exec(c *call) (map[string]any, *apiError) {
	req, limits := c.members, published().facts.Limits
	command, refusal := execCommand(req.str("Command"))
	if refusal != nil {
		return nil, refusal
	}
	o := sim.ExecOptions{Command: command, Stdin: !req.has("Stdin") || req.boolean("Stdin")}
	if req.boolean("TTY") {
		// The size cannot be told; this is the usual one.
		o.Terminal = &sim.TerminalSize{Rows: 24, Columns: 80}
	}
	g, refusal := s.find(c)
	if refusal != nil {
		return nil, refusal
	}
	state := g.snapshot()
	container, ok := state.Container(req.str("ContainerName"))
	switch {
	case !ok:
		return nil, invalidParameter("The container %q does not exist in the container group.", clip(req.str("ContainerName")))
	case state.Phase != sim.Running || container.Current.Run != sim.Processing:
		return nil, publishedRefusal(c.action, "IncorrectStatus", fmt.Sprintf("The container %q of the container group is not running.", clip(container.Name)))
	}
	if req.boolean("Sync") {
		if o.Terminal != nil || isShell(command) {
			return nil, invalidParameter("Sync needs TTY to be false and a command that is not an interactive shell.")
		}
		o.Stdin = false
		return s.execSync(g, container.Name, o), nil
	}
	secret := rand.Text() + rand.Text()
	now := s.fleet.Now()
	for other, e := range s.sessions {
		if !now.Before(e.until) {
			delete(s.sessions, other)
		}
	}
	s.sessions[secret] = &execSession{g, container.Name, o, now.Add(time.Duration(limits.ExecURLSeconds) * time.Second)}
	return map[string]any{
		"WebSocketUri": "wss://" + c.host + execPath + "?s=" + secret,
		"HttpUrl":      "https://" + c.host + terminalPath + "?param=" + rand.Text(),
	}, nil
}

// execCommand reads the member Command, a JSON list in text.
func execCommand(text string) ([]string, *apiError) {
	var command []string
	if err := json.Unmarshal([]byte(text), &command); err != nil || len(command) == 0 {
		return nil, invalidParameter(`Command must be a JSON list of strings, such as ["/bin/sh", "-c", "ls -a"].`)
	}
	limits := published().facts.Limits
	if len(command) > limits.ExecItems {
		return nil, publishedRefusal("ExecContainerCommand", "InvalidParameter.ValueExceeded", fmt.Sprintf("Command has %d items; at most %d are allowed.", len(command), limits.ExecItems))
	}
	for i, item := range command {
		if utf8.RuneCountInString(item) > limits.ExecItemChars {
			return nil, publishedRefusal("ExecContainerCommand", "InvalidParameter.ValueExceeded", fmt.Sprintf("Item %d of Command has more than %d characters.", i+1, limits.ExecItemChars))
		}
	}
	return command, nil
}

func isShell(command []string) bool {
	return len(command) == 1 && slices.Contains([]string{"sh", "bash", "ash", "zsh"}, path.Base(command[0]))
}

// execSync runs a command to its end. Other calls are answered meanwhile: the
// server's lock is let go.
func (s *Server) execSync(g *group, container string, o sim.ExecOptions) map[string]any {
	s.mu.Unlock()
	defer s.mu.Lock()
	run, err := g.live.Exec(container, o)
	if err != nil {
		return map[string]any{"SyncResponse": sim.NotStarted(o.Command, err)}
	}
	defer run.Close()
	ctx, cancel := context.WithTimeout(context.Background(), maxSync)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = run.Close() })()
	go func() {
		select {
		case <-s.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	output, _ := io.ReadAll(run) // what was printed until then
	return map[string]any{"SyncResponse": string(output)}
}

// serveExec is the other end of WebSocketUri: a stream of bytes each way, without
// a subprotocol, that ends with the command.
func (s *Server) serveExec(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == terminalPath {
		http.Error(w, "the console's terminal page is not emulated; use WebSocketUri", http.StatusNotImplemented)
		return
	}
	e := s.takeSession(r.URL.Query().Get("s"))
	if e == nil {
		http.Error(w, "the address was used before, or is too old", http.StatusForbidden)
		return
	}
	defer s.serving.Done()
	// Clients are programs: there is no origin to compare.
	upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // answered
	}
	defer ws.Close()
	run, err := e.group.live.Exec(e.container, e.options)
	if err != nil {
		_ = ws.WriteMessage(websocket.BinaryMessage, []byte(sim.NotStarted(e.options.Command, err)))
		sim.Hang(ws, websocket.CloseNormalClosure, "")
		return
	}
	sim.Join(ws, run, s.closing)
}

// takeSession returns what an address stands for, once and for a short while, and
// counts it among what Close waits for.
func (s *Server) takeSession(secret string) *execSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.sessions[secret]
	delete(s.sessions, secret)
	if e == nil || s.closed || !s.fleet.Now().Before(e.until) {
		return nil
	}
	s.serving.Add(1)
	return e
}
