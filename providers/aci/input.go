package aci

import (
	"bytes"
	"fmt"

	"github.com/autoburst/autoburst/providers"
)

const (
	// endOfTransmission is what a terminal takes for the end of its input at the
	// begin of a line; elsewhere it hands over what the line has so far.
	endOfTransmission = 0x04
	// maxLine is how many bytes of a line a terminal of Linux keeps; it drops what is
	// more (n_tty: 4096 with the line feed).
	maxLine = 4095
)

// Write passes input to the command's terminal. Of a client without a terminal of its
// own that is refused, and the session ended, which the terminal would change: Read
// then returns the reason.
func (s *execSession) Write(p []byte) (int, error) {
	s.input.Lock()
	defer s.input.Unlock()
	if !s.raw {
		if err := s.text(p); err != nil {
			s.refused.Store(err)
			_ = s.Close()
			return 0, err
		}
	} else {
		s.advance(p)
	}
	return s.Conn.Write(p)
}

// text checks that p, after what came before, is lines of text.
func (s *execSession) text(p []byte) *providers.Error {
	at := bytes.IndexFunc(p, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0x7f })
	if at >= 0 {
		return refusedInput(fmt.Sprintf("the input has the byte 0x%02x", p[at]))
	}
	for line := range bytes.Lines(p) {
		if s.line+len(bytes.TrimSuffix(line, []byte{'\n'})) > maxLine {
			return refusedInput(fmt.Sprintf("a line of the input has more than %d bytes", maxLine))
		}
		s.advance(line)
	}
	return nil
}

// advance notes how far the present line goes.
func (s *execSession) advance(p []byte) {
	if i := bytes.LastIndexAny(p, "\r\n"); i >= 0 {
		s.line = 0
		p = p[i+1:]
	}
	s.line += len(p)
}

func refusedInput(what string) *providers.Error {
	return &providers.Error{Class: providers.Unsupported, Operation: opExec.name, Message: "Azure Container Instances passes input through a terminal, which takes lines of text only, and " +
		what + "; neither this nor what follows was passed on; let the container fetch the file itself, or pass it as base64 text with line breaks"}
}

// CloseWrite tells the terminal that the input has ended.
func (s *execSession) CloseWrite() (bool, error) {
	s.input.Lock()
	defer s.input.Unlock()
	end := []byte{endOfTransmission}
	if s.line > 0 {
		end = append(end, endOfTransmission) // the first hands over the line
	}
	_, err := s.Conn.Write(end)
	return true, err
}
