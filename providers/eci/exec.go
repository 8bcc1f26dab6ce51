package eci

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/stream"
)

const actionExec = "ExecContainerCommand"

// The bounds of ExecContainerCommand.
const (
	maxExecItems     = 20
	maxExecItemChars = 256
)

var _ providers.Executor = (*Provider)(nil)

// Exec starts a command, with a terminal or without, whose size ECI does not ask
// for. Its output comes by a websocket, which the service's Sync mode would make
// wait for the end, and no other way tells more about that end either.
func (p *Provider) Exec(ctx context.Context, id, container string, c providers.ExecCommand) (providers.Session, error) {
	if err := checkExec(c.Command); err != nil {
		return nil, err
	}
	command, err := json.Marshal(c.Command)
	if err != nil { // strings
		return nil, err
	}
	m := newMembers()
	m.set("ContainerGroupId", id)
	m.set("ContainerName", container)
	m.set("Command", string(command))
	m.boolean("TTY", c.TTY)
	m.boolean("Stdin", c.Stdin)
	for _, argument := range c.Command {
		m.hide(argument) // it may be a password
	}
	var answer struct {
		WebSocketURI string `json:"WebSocketUri"`
		RequestID    string `json:"RequestId"`
	}
	err = p.client.call(ctx, actionExec, reads, m, &answer)
	switch providers.ClassOf(err) {
	case "":
	case providers.Throttled, providers.Unauthorized, providers.Unavailable:
		return nil, err
	default:
		if _, look := p.find(ctx, id, false); providers.ClassOf(look) == providers.NotFound {
			return nil, look
		}
		return nil, err
	}
	conn, err := stream.Dial(ctx, answer.WebSocketURI, stream.Options{
		TLS: &tls.Config{RootCAs: p.cfg.RootCAs, MinVersion: tls.VersionTLS12},
	})
	if err != nil {
		return nil, &providers.Error{
			Class: providers.Unavailable, Operation: actionExec, Code: "NotConnected",
			Message: err.Error(), RequestID: answer.RequestID,
		}
	}
	return execSession{conn, c.TTY}, nil
}

// checkExec refuses what the service would refuse, in words of a command line.
func checkExec(command []string) error {
	refused := func(format string, args ...any) error {
		return &providers.Error{Class: providers.Unsupported, Operation: actionExec, Message: fmt.Sprintf(format, args...)}
	}
	if n := len(command); n > maxExecItems {
		return refused("the command has %d words, of which ECI takes %d; put it into a script, or into one word for a shell", n, maxExecItems)
	}
	for i, word := range command {
		if n := utf8.RuneCountInString(word); n > maxExecItemChars {
			return refused("word %d of the command has %d characters, of which ECI takes %d; put it into a script in the container", i+1, n, maxExecItemChars)
		}
	}
	return nil
}

// Attach is not known to the service.
func (p *Provider) Attach(context.Context, string, string) (providers.Session, error) {
	return nil, &providers.Error{
		Class: providers.Unsupported, Operation: "Attach",
		Message: "Alibaba Cloud ECI cannot attach to the input of a container; use kubectl exec",
	}
}

// execSession is a command of ECI.
type execSession struct {
	*stream.Conn
	terminal bool
}

// endOfTransmission is what a terminal takes for the end of its input.
const endOfTransmission = 0x04

// CloseWrite tells a terminal that the input has ended. A pipe cannot be told: the
// service's stream has bytes only.
func (s execSession) CloseWrite() (bool, error) {
	if !s.terminal {
		return false, nil
	}
	_, err := s.Write([]byte{endOfTransmission})
	return true, err
}
