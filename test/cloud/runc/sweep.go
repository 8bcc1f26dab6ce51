package runc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// owner is a process that made containers, as their cgroups and folders are named
// after it. The number of a process is used again, its number and start are not; and
// what another namespace calls a process is none of ours.
type owner struct {
	namespace  string
	pid, start int64
}

func self() (owner, error) {
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return owner{}, err
	}
	start, err := started(int64(os.Getpid()))
	if err != nil {
		return owner{}, err
	}
	return owner{strings.Trim(space, "pid:[]"), int64(os.Getpid()), start}, nil
}

// started is when a process started, in ticks since boot (proc_pid_stat(5)).
func started(pid int64) (int64, error) {
	text, err := os.ReadFile("/proc/" + strconv.FormatInt(pid, 10) + "/stat")
	if err != nil {
		return 0, err
	}
	// The name of the program, in parentheses, may contain anything. From the state,
	// the third field, on, this is the twentieth.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	return strconv.ParseInt(string(fields[19]), 10, 64)
}

func (o owner) name() string { return fmt.Sprintf("%s-%d-%d", o.namespace, o.pid, o.start) }

// ownerOf reads the name of a folder.
func ownerOf(name string) (owner, bool) {
	parts := strings.Split(name, "-")
	if len(parts) != 4 {
		return owner{}, false
	}
	pid, errPid := strconv.ParseInt(parts[1], 10, 64)
	start, errStart := strconv.ParseInt(parts[2], 10, 64)
	return owner{parts[0], pid, start}, errPid == nil && errStart == nil
}

func (o owner) gone() bool {
	start, err := started(o.pid)
	return errors.Is(err, fs.ErrNotExist) || err == nil && start != o.start
}

// sweep ends what processes that are gone have left: their containers, by the
// cgroups, and their files.
func sweep(dir string, groups cgroups) error {
	me, err := self()
	if err != nil {
		return err
	}
	var errs []error
	for _, at := range append(groups.folders("/"+parent), dir) {
		entries, err := os.ReadDir(at)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			o, ok := ownerOf(e.Name())
			if !ok || !e.IsDir() || o.namespace != me.namespace || !o.gone() {
				continue
			}
			errs = append(errs, groups.end("/"+parent+"/"+e.Name()), os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("ending what is left of earlier containers: %w", err)
	}
	return nil
}
