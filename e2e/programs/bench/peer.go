package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// peer is the other implementation, in a process that answers names of cases with seconds.
type peer struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	said  tail // on standard error
	ended bool
}

// tail keeps the end of what is written to it, for the message of a peer that dies, and passes it on.
type tail struct {
	mu   sync.Mutex
	last []byte
}

// maxTail is how much of a peer's words a message holds.
const maxTail = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, b...)
	t.last = t.last[max(0, len(t.last)-maxTail):]
	return os.Stderr.Write(b)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.last))
}

func startPeer(program string, args ...string) (*peer, error) {
	cmd := exec.Command(program, args...)
	p := &peer{cmd: cmd}
	cmd.Stderr = &p.said
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
	p.in, p.out = in, bufio.NewReader(out)
	return p, nil
}

func (p *peer) measure(name string) (seconds float64, err error) {
	if _, err := fmt.Fprintln(p.in, name); err != nil {
		return 0, p.died(fmt.Errorf("asking the peer for %s: %w", name, err))
	}
	if _, err := fmt.Fscanln(p.out, &seconds); err != nil {
		return 0, p.died(fmt.Errorf("the peer's answer to %s: %w", name, err))
	}
	return seconds, nil
}

// died says with an error how the peer ended, such as by a signal, and what it said last.
func (p *peer) died(err error) error {
	p.close()
	said := p.said.String()
	if said == "" {
		said = "nothing"
	}
	return fmt.Errorf("%w; %s ended with %v and said on standard error:\n%s", err, p.cmd.Path, p.cmd.ProcessState, said)
}

func (p *peer) close() {
	if p.ended {
		return
	}
	p.ended = true
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
