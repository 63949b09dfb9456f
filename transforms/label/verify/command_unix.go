//go:build unix

package verify

import (
	"os/exec"
	"syscall"
)

// isolate puts the program into a process group of its own, so that what it started dies with it.
func isolate(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func killGroup(cmd *exec.Cmd) { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
