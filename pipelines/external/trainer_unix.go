//go:build unix

package external

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// isolate puts the trainer into a process group of its own, so that what it started ends with it, and gives it the lock, which is held as
// long as it lives.
func isolate(cmd *exec.Cmd, lock *os.File) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.ExtraFiles = []*os.File{lock}
}

func killGroup(cmd *exec.Cmd) { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

// hold takes the lock; false where a process that lives has it.
func hold(lock *os.File) (bool, error) {
	err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
