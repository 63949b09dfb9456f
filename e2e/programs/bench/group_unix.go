//go:build unix

package main

import "syscall"

// ownGroup keeps an interrupt at the terminal from the peer, which is still to answer.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
