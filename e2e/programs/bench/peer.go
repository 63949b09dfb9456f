package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// peer is the other implementation, in a process that answers names of cases with seconds.
type peer struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startPeer(program string, args ...string) (*peer, error) {
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = ownGroup()
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	return &peer{cmd: cmd, in: in, out: bufio.NewReader(out)}, nil
}

func (p *peer) measure(name string) (seconds float64, err error) {
	if _, err := fmt.Fprintln(p.in, name); err != nil {
		return 0, fmt.Errorf("asking the peer for %s: %w", name, err)
	}
	if _, err := fmt.Fscanln(p.out, &seconds); err != nil {
		return 0, fmt.Errorf("the peer's answer to %s: %w", name, err)
	}
	return seconds, nil
}

func (p *peer) close() {
	p.in.Close()
	p.cmd.Wait()
}

// peakMemory is the most memory the process has held, as Linux tells it; 0 elsewhere.
func (p *peer) peakMemory() (mib float64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &mib); n == 1 {
			return mib / 1024
		}
	}
	return 0
}

// processorTime is the user and system time of the process so far, as Linux tells it; 0 elsewhere.
func (p *peer) processorTime() (seconds float64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, fields, _ := strings.Cut(string(text), ") ")
	if f := strings.Fields(fields); len(f) > 12 {
		var user, system float64
		fmt.Sscan(f[11], &user)
		fmt.Sscan(f[12], &system)
		return (user + system) / 100
	}
	return 0
}
