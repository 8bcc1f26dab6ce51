package runc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// console is the socket by which runc hands over the terminal that it has made.
type console struct {
	folder   *os.File // by which the path is short enough for a socket
	listener *net.UnixListener
}

// consoleFile is the name of the socket in its folder.
const consoleFile = "console"

func newConsole(dir string) (*console, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	c := &console{folder: folder}
	c.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: c.path(), Net: "unix"})
	if err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return c, nil
}

func (c *console) path() string {
	return filepath.Join("/proc", strconv.Itoa(os.Getpid()), "fd", strconv.Itoa(int(c.folder.Fd())), consoleFile)
}

// receive returns our end of the terminal, which has been sent.
func (c *console) receive() (*os.File, error) {
	deadline := time.Now().Add(10 * time.Second) // it waits in the socket
	if err := c.listener.SetDeadline(deadline); err != nil {
		return nil, err
	}
	conn, err := c.listener.AcceptUnix()
	if err != nil {
		return nil, fmt.Errorf("receiving the terminal: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	name, control := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(name, control)
	if err != nil {
		return nil, fmt.Errorf("receiving the terminal: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("receiving the terminal: %d messages, %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("receiving the terminal: %d files, %w", len(fds), err)
	}
	unix.CloseOnExec(fds[0])
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, errors.Join(err, unix.Close(fds[0]))
	}
	return os.NewFile(uintptr(fds[0]), "/dev/ptmx"), nil
}

func (c *console) close() { _ = errors.Join(c.listener.Close(), c.folder.Close()) }
