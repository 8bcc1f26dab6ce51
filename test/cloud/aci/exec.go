package aci

import (
	"cmp"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

const execOperation = "Containers_ExecuteCommand"

// The paths of the websockets. The service serves them at port 19390 of a host of
// their own.
const (
	execPath   = "/execstream/sessionId/"
	attachPath = "/attachstream/sessionId/"
)

// passwordTime bounds the wait for the first message of an exec's websocket.
const passwordTime = 10 * time.Second

// stream is an exec or an attach whose websocket is not open yet.
type stream struct {
	group     *group
	container string
	password  string
	until     time.Time
	// command and size are an exec's.
	command []string
	size    sim.TerminalSize
}

// The terminal of an exec that names no size.
const (
	usualRows    = 24
	usualColumns = 80
)

// execCommand is the POST exec: it answers where the command can be reached, also
// for a container that has ended.
func (s *Server) execCommand(c *call) (reply, *apiError) {
	object, refusal := readBody(s.specification.exec, c.body, s.Settings().RefuseUnknownMembers)
	if refusal != nil {
		return reply{}, refusal
	}
	var body struct {
		Command      string `json:"command"`
		TerminalSize struct {
			Rows int `json:"rows"`
			Cols int `json:"cols"`
		} `json:"terminalSize"`
	}
	// What satisfies the schema has this form.
	if encoded, err := json.Marshal(object); err != nil || json.Unmarshal(encoded, &body) != nil {
		return reply{}, badRequest("InvalidRequestContent", "The request content was invalid.")
	}
	command := strings.Fields(body.Command)
	if s.Settings().ExecWholeCommand && len(command) > 0 {
		command = []string{body.Command}
	}
	if len(command) == 0 {
		return reply{}, badRequest("InvalidRequestContent", "The command of the request is empty.")
	}
	size := sim.TerminalSize{
		Rows:    uint16(min(max(cmp.Or(body.TerminalSize.Rows, usualRows), 1), math.MaxUint16)),
		Columns: uint16(min(max(cmp.Or(body.TerminalSize.Cols, usualColumns), 1), math.MaxUint16)),
	}
	query := url.Values{
		"api-version": {"1.0"}, "rows": {strconv.Itoa(int(size.Rows))}, "cols": {strconv.Itoa(int(size.Columns))},
	}
	return s.offer(c, execPath, query, &stream{command: command, size: size})
}

// attach is the POST attach, to the output of a container.
func (s *Server) attach(c *call) (reply, *apiError) {
	return s.offer(c, attachPath, url.Values{"api-version": {"1.0"}}, &stream{})
}

// offer keeps a stream until its websocket is opened.
func (s *Server) offer(c *call, path string, query url.Values, st *stream) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.lookupLocked(c)
	if !ok {
		return reply{}, errGroupNotFound(c)
	}
	state, now := g.run.Snapshot(), s.clock.Now()
	if _, ok := state.Container(c.container()); !ok {
		return reply{}, errContainerNotFound(c, g)
	}
	if s.inTransitLocked(g, state, now) {
		return reply{}, errTransitioning(g)
	}
	for other, waiting := range s.streams {
		if !now.Before(waiting.until) {
			delete(s.streams, other)
		}
	}
	st.group, st.container, st.password = g, c.container(), rand.Text()
	st.until = now.Add(s.settings.streamTime())
	at := path + uuid.NewString()
	s.streams[at] = st
	return reply{http.StatusOK, map[string]any{
		"webSocketUri": "wss://" + c.request.Host + at + "?" + query.Encode(), "password": st.password,
	}}, nil
}

func errContainerNotFound(c *call, g *group) *apiError {
	return &apiError{status: http.StatusNotFound, code: "ContainerNotFound",
		message: "The container '" + c.container() + "' was not found in container group '" + g.name + "'."}
}

func isStream(path string) bool {
	return strings.HasPrefix(path, execPath) || strings.HasPrefix(path, attachPath)
}

// serveStream is the other end of webSocketUri. It knows no subprotocol.
func (s *Server) serveStream(w http.ResponseWriter, r *http.Request) {
	st := s.takeStream(r.URL.Path)
	if st == nil {
		http.Error(w, "there is no such session, or none any more", http.StatusNotFound)
		return
	}
	defer s.joined.Done()
	if st.command == nil && !st.opens(r.Header.Get("Authorization")) {
		http.Error(w, "the Authorization header is not the password of the session", http.StatusUnauthorized)
		return
	}
	var output *sim.Attachment
	if st.command == nil {
		// Before the answer, so that what comes after it is not missed. A container that
		// has ended prints nothing.
		if a, err := st.group.run.Attach(st.container); err == nil {
			output = a
			defer output.Close()
		}
	}
	// Clients are programs: there is no origin to compare.
	upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // answered
	}
	defer ws.Close()
	if st.command == nil {
		if output == nil {
			sim.Hang(ws, websocket.CloseNormalClosure, "")
			return
		}
		sim.Join(ws, output, s.closing)
		return
	}
	_ = ws.SetReadDeadline(time.Now().Add(passwordTime))
	kind, first, err := ws.ReadMessage()
	if err != nil || kind != websocket.TextMessage || !st.opens(string(first)) {
		sim.Hang(ws, websocket.ClosePolicyViolation, "the first text message must be the password")
		return
	}
	_ = ws.SetReadDeadline(time.Time{})
	run, err := st.group.run.Exec(st.container, sim.ExecOptions{Command: st.command, Terminal: &st.size})
	if err != nil {
		if errors.Is(err, sim.ErrNoProgram) {
			_ = ws.WriteMessage(websocket.BinaryMessage, []byte(sim.NotStarted(st.command, err)))
		}
		sim.Hang(ws, websocket.CloseNormalClosure, "")
		return
	}
	sim.Join(ws, run, s.closing)
}

func (st *stream) opens(password string) bool {
	return subtle.ConstantTimeCompare([]byte(password), []byte(st.password)) == 1
}

// takeStream returns what an address stands for, once, and counts it among what
// Close waits for.
func (s *Server) takeStream(path string) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[path]
	delete(s.streams, path)
	select {
	case <-s.closing:
		return nil
	default:
	}
	if st == nil || !s.clock.Now().Before(st.until) {
		return nil
	}
	s.joined.Add(1)
	return st
}
