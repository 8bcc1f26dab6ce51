package aci

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	sdk "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerinstance/armcontainerinstance/v2"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
	"github.com/autoburst/autoburst/providers/stream"
)

var (
	opExec   = operation{name: "ExecuteCommand", priority: quota.Logging}
	opAttach = operation{name: "Attach", priority: quota.Logging}
)

// The size of a terminal that nobody has told. The service gives every command a
// terminal.
const (
	usualRows    = 24
	usualColumns = 80
)

var _ providers.Executor = (*Provider)(nil)

// Exec starts a command. The service takes one string, of which the first word is
// the program; words that it could split otherwise are refused. Every command has
// a terminal: what it prints for somebody who has none gets the line ends of the
// program back.
func (p *Provider) Exec(ctx context.Context, id, container string, c providers.ExecCommand) (providers.Session, error) {
	line, err := commandLine(c.Command)
	if err != nil {
		return nil, err
	}
	size := c.Size
	if size.Rows == 0 || size.Columns == 0 {
		size = providers.TerminalSize{Rows: usualRows, Columns: usualColumns}
	}
	request := sdk.ContainerExecRequest{
		Command:      &line,
		TerminalSize: &sdk.ContainerExecRequestTerminalSize{Rows: to.Ptr(int32(size.Rows)), Cols: to.Ptr(int32(size.Columns))},
	}
	var answer sdk.ContainerExecResponse
	err = p.do(ctx, opExec, redactor(c.Command[1:]), func(ctx context.Context, s *session) error {
		resp, err := s.containers.ExecuteCommand(ctx, p.config.ResourceGroup, id, container, request, nil)
		answer = resp.ContainerExecResponse
		return err
	})
	if err != nil {
		return nil, err
	}
	conn, err := stream.Dial(ctx, value(answer.WebSocketURI), stream.Options{TLS: p.tls(), First: value(answer.Password)})
	if err != nil {
		return nil, opExec.notConnected(err)
	}
	return &execSession{Conn: conn, raw: c.TTY}, nil
}

// plainWord has nothing that whoever takes a line apart could read otherwise.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// commandLine makes the one string that the service takes.
func commandLine(command []string) (string, error) {
	refused := func(format string, args ...any) error {
		return &providers.Error{Class: providers.Unsupported, Operation: opExec.name, Message: fmt.Sprintf(format, args...)}
	}
	if len(command) == 0 || command[0] == "" {
		return "", refused("there is no command")
	}
	for i, word := range command {
		if !plainWord.MatchString(word) {
			return "", refused("Azure Container Instances takes a command as one line and knows no quotes, so word %d cannot be passed on: "+
				"it is empty or has a space, a quote or another special character; start a shell with kubectl exec -it, and type the command there", i+1)
		}
	}
	return strings.Join(command, " "), nil
}

// Attach connects to the output of a container. Its input cannot be had: the
// service gives containers none.
func (p *Provider) Attach(ctx context.Context, id, container string) (providers.Session, error) {
	var answer sdk.ContainerAttachResponse
	err := p.do(ctx, opAttach, nil, func(ctx context.Context, s *session) error {
		resp, err := s.containers.Attach(ctx, p.config.ResourceGroup, id, container, nil)
		answer = resp.ContainerAttachResponse
		return err
	})
	if err != nil {
		return nil, err
	}
	conn, err := stream.Dial(ctx, value(answer.WebSocketURI), stream.Options{
		TLS: p.tls(), Header: http.Header{"Authorization": {value(answer.Password)}},
	})
	if err != nil {
		return nil, opAttach.notConnected(err)
	}
	return attachSession{conn}, nil
}

func (o operation) notConnected(err error) error {
	return &providers.Error{Operation: o.name, Class: providers.Unavailable, Code: "NotConnected", Message: redactor(nil).text(err.Error())}
}

// tls verifies websockets as the client's requests are.
func (p *Provider) tls() *tls.Config {
	if transport, ok := p.client.Transport.(*http.Transport); ok && transport.TLSClientConfig != nil {
		config := transport.TLSClientConfig.Clone()
		config.NextProtos = nil // a websocket is HTTP/1.1
		return config
	}
	return &tls.Config{RootCAs: p.config.RootCAs, MinVersion: tls.VersionTLS12}
}

// execSession is a command with a terminal.
type execSession struct {
	*stream.Conn
	// raw is whether whoever reads has a terminal too.
	raw bool

	mu   sync.Mutex
	held bool // a carriage return, which a line feed may follow

	input   sync.Mutex // of what follows
	line    int        // bytes of input since the last line end
	refused atomic.Pointer[providers.Error]
}

// Read returns the output. A terminal sends every line feed with a carriage return
// before it; for a reader without a terminal that one is taken out again. After input
// that was refused it returns why.
func (s *execSession) Read(p []byte) (int, error) {
	n, err := s.read(p)
	if refused := s.refused.Load(); err != nil && refused != nil {
		err = refused
	}
	return n, err
}

func (s *execSession) read(p []byte) (int, error) {
	if s.raw || len(p) < 2 {
		return s.Conn.Read(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		at := 0
		if s.held {
			p[0], at = '\r', 1
		}
		n, err := s.Conn.Read(p[at:])
		text := p[:at+n]
		s.held = false
		if err == nil && bytes.HasSuffix(text, []byte{'\r'}) {
			text, s.held = text[:len(text)-1], true
		}
		n = copy(p, bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")))
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// attachSession is the output of a container.
type attachSession struct{ *stream.Conn }

// Write drops what it is given, as the containers have no input.
func (attachSession) Write(p []byte) (int, error) { return len(p), nil }

// CloseWrite is true: nobody waits for input.
func (attachSession) CloseWrite() (bool, error) { return true, nil }
