package runc

import (
	"fmt"
	"os/exec"
)

// Programs are runc and busybox of this machine.
func Programs() (Options, error) {
	program, err := exec.LookPath("runc")
	if err != nil {
		return Options{}, fmt.Errorf("finding runc: %w", err)
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return Options{}, fmt.Errorf("finding busybox: %w", err)
	}
	return Options{Program: program, Busybox: busybox}, nil
}
