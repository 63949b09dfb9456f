package label

import (
	"errors"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// confine puts the command into a process group of its own, so that its children are killed with it.
func confine(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

// limitMemory bounds the address space of a process that has just started. One that has ended already needs no bound.
func limitMemory(pid, mib int) error {
	if mib == 0 {
		return nil
	}
	limit := unix.Rlimit{Cur: uint64(mib) << 20, Max: uint64(mib) << 20}
	if err := unix.Prlimit(pid, unix.RLIMIT_AS, &limit, nil); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}
