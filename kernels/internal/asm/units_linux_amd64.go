//go:build !noasm

package asm

import "syscall"

// permitUnits asks the system to keep the tiles of this process, which it does from Linux 5.16 on; threads to come have them too.
func permitUnits() bool {
	const requestPermission, tileData = 0x1023, 18
	_, _, failed := syscall.RawSyscall(syscall.SYS_ARCH_PRCTL, requestPermission, tileData, 0)
	return failed == 0
}
