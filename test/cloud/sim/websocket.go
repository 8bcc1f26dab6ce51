package sim

import (
	"io"
	"time"

	"github.com/gorilla/websocket"
)

// Join connects a websocket and a stream, such as a Session, as the clouds do:
// every message is a piece of the input, every piece of the output a binary
// message. It returns, with both closed, when the stream or the websocket has
// ended, or stop is closed.
func Join(ws *websocket.Conn, stream io.ReadWriteCloser, stop <-chan struct{}) {
	over, input := make(chan struct{}), make(chan struct{})
	go func() {
		select {
		case <-stop:
			ws.Close()
			_ = stream.Close()
		case <-over:
		}
	}()
	go func() {
		defer close(input)
		defer stream.Close() // nobody listens any more
		for {
			_, message, err := ws.ReadMessage()
			if err != nil {
				return
			}
			// A command that has closed its input goes on.
			_, _ = stream.Write(message)
		}
	}()
	buffer := make([]byte, 32<<10)
	for {
		n, err := stream.Read(buffer)
		if n > 0 && ws.WriteMessage(websocket.BinaryMessage, buffer[:n]) != nil {
			break
		}
		if err != nil {
			Hang(ws, websocket.CloseNormalClosure, "")
			break
		}
	}
	close(over)
	ws.Close()
	_ = stream.Close()
	<-input
}

// Hang ends a websocket in order, with a code and a reason.
func Hang(ws *websocket.Conn, code int, reason string) {
	// A failed write means that the client has gone.
	_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(time.Second))
}
