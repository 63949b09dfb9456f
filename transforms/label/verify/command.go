package verify

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/millrace/millrace/schemas/setting"
)

// CommandConfig configures an external verifier program. It is started directly, without a shell, with an environment
// that holds PATH alone, in an empty working directory, and lives on: it reads a question a line on its standard input
// and writes an answer a line on its standard output.
type CommandConfig struct {
	Command   []string `json:"command" doc:"the program and its arguments"`
	Processes int      `json:"processes" range:"[1,1024]" doc:"how many of the program run at a time"`
	Batch     int      `json:"batch" range:"[1,4096]" doc:"rows that a process is given before its answers are awaited"`
	Seconds   float64  `json:"seconds" range:"(0,3600]" doc:"seconds for one row, from the answer before it on"`
	Attempts  int      `json:"attempts" range:"[1,20]" doc:"how often a row is tried whose process dies"`
	MaxOutput int      `json:"max_output" range:"[1,inf)" doc:"bytes of one answer, at most"`
	Gold      string   `json:"gold" enum:"text,json" doc:"the reference answer is sent as a text, or as the JSON value that its text is"`
	Rules     string   `json:"version" doc:"the program's version, which lineage names"`
}

var defaultCommand = CommandConfig{Processes: 2, Batch: 16, Seconds: 10, Attempts: 2, MaxOutput: 1 << 20, Gold: GoldText}

// Command asks a pool of processes. One that takes too long or writes too much is killed with everything it started, and
// the verdict of the row is Budget; one that dies is started again, and the row that it died of a second time is a
// RowError.
type Command struct {
	cfg  CommandConfig
	pool *dispatcher
}

func init() { Register("command", defaultCommand) }

// Validate checks that there is a program.
func (c CommandConfig) Validate() error {
	if len(c.Command) == 0 || c.Command[0] == "" {
		return setting.Errorf("command", "is empty; give the program and its arguments as a list")
	}
	return nil
}

// New makes the verifier. No process is started before there is a row.
func (c CommandConfig) New() (Verifier, error) {
	return &Command{c, newDispatcher(c.Processes, c.Batch, c.Attempts, func() carrier { return &process{cfg: c} })}, nil
}

// Version names the program and the configuration. How many processes there are and how rows are batched changes no verdict.
func (c *Command) Version() string {
	cfg := c.cfg
	cfg.Processes, cfg.Batch = 0, 0
	return version("command-2", CommandConfig{}, cfg)
}

// Close ends the processes; a later row starts new ones.
func (c *Command) Close() error {
	c.pool.close()
	return nil
}

// Verify asks about one row.
func (c *Command) Verify(ctx context.Context, gold Gold, response Response) (Result, error) {
	q, err := newQuestion(gold, response, c.cfg.Gold)
	if err != nil {
		return Result{}, err
	}
	return c.pool.do(ctx, q)
}

// process is one of the pool; it is started when it is first needed and again after it died.
type process struct {
	cfg    CommandConfig
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *os.File
	lines  chan []byte
	errors *lastBytes
	dir    string
	ended  chan struct{}
	status error
	over   bool // an answer was longer than it may be
	asked  int
}

func (p *process) start() error {
	dir, err := os.MkdirTemp("", "verify-*")
	if err != nil {
		return err
	}
	cmd := exec.Command(p.cfg.Command[0], p.cfg.Command[1:]...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	p.errors = &lastBytes{max: 4 << 10}
	cmd.Stderr = p.errors
	cmd.WaitDelay = time.Second
	isolate(cmd)
	in, err := cmd.StdinPipe()
	if err == nil {
		// a pipe of our own: Wait would close one of the command's before its last line was read
		var r, w *os.File
		if r, w, err = os.Pipe(); err == nil {
			cmd.Stdout = w
			err = cmd.Start()
			w.Close()
			if err == nil {
				p.cmd, p.in, p.out, p.dir, p.asked, p.over = cmd, in, r, dir, 0, false
				p.lines, p.ended = make(chan []byte), make(chan struct{})
				go p.read()
				go p.wait()
				return nil
			}
			r.Close()
		}
	}
	os.RemoveAll(dir)
	return err
}

// read passes the lines of standard output on until it ends.
func (p *process) read() {
	defer close(p.lines)
	sc := bufio.NewScanner(p.out)
	sc.Buffer(make([]byte, 0, min(4<<10, p.cfg.MaxOutput)), p.cfg.MaxOutput)
	for sc.Scan() {
		if line := bytes.TrimSpace(sc.Bytes()); len(line) > 0 {
			p.lines <- bytes.Clone(line)
		}
	}
	p.over = errors.Is(sc.Err(), bufio.ErrTooLong)
}

// wait sees the program end; what it started ends with it.
func (p *process) wait() {
	p.status = p.cmd.Wait()
	killGroup(p.cmd)
	close(p.ended)
}

func (p *process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// carry writes the rows and reads an answer for each. Answers may come in any order when they name the row's id. A process that ended
// after the answers before is no failure of these rows: they are written to a new one.
func (p *process) carry(ctx context.Context, rows []*ask, settle func(*ask, told)) failure {
	fresh, any := !p.running(), false
	if fresh {
		p.kill()
		if err := p.start(); err != nil {
			return failure{err: fmt.Errorf("verify: command %s: %w", p.cfg.Command[0], err), world: true}
		}
	}
	f := p.exchange(ctx, rows, func(a *ask, t told) {
		any = true
		settle(a, t)
	})
	if f.err != nil && f.ended && !fresh && !any {
		return p.carry(ctx, rows, settle)
	}
	return f
}

func (p *process) exchange(ctx context.Context, rows []*ask, settle func(*ask, told)) failure {
	var lines bytes.Buffer
	open := map[int]*ask{}
	first := p.asked
	for i, a := range rows {
		a.row.ID = first + i
		line, err := json.Marshal(a.row)
		if err != nil {
			return failure{err: fmt.Errorf("verify: command: %w", err), world: true}
		}
		lines.Write(line)
		lines.WriteByte('\n')
		open[a.row.ID] = a
	}
	p.asked += len(rows)
	go p.in.Write(lines.Bytes()) // while it is being read: neither side waits for the other's pipe
	slow := time.Duration(p.cfg.Seconds * float64(time.Second))
	timer := time.NewTimer(slow)
	defer timer.Stop()
	next := first
	for len(open) > 0 {
		select {
		case line, ok := <-p.lines:
			if !ok {
				return p.died(rows, settle)
			}
			answer, err := readReply(line)
			for open[next] == nil && next < p.asked {
				next++
			}
			id := next
			if answer.ID != nil {
				id = *answer.ID
			}
			a := open[id]
			if err == nil && a == nil {
				err = fmt.Errorf("an answer has the id %d, which no open question has", id)
			}
			if err != nil {
				p.kill()
				return failure{err: &RowError{Fault: FaultVerifier, Message: err.Error()}}
			}
			delete(open, id)
			var t told
			t.result, t.err = answer.result("command")
			settle(a, t)
			timer.Reset(slow)
		case <-timer.C:
			p.kill()
			return p.spent(rows, settle, fmt.Sprintf("the program took more than %v s", p.cfg.Seconds))
		case <-ctx.Done():
			p.kill()
			return failure{err: ctx.Err(), world: true}
		}
	}
	return failure{}
}

// died says what became of a process that answers no more.
func (p *process) died(rows []*ask, settle func(*ask, told)) failure {
	p.kill()
	if p.over {
		return p.spent(rows, settle, fmt.Sprintf("the program wrote an answer of more than %d bytes", p.cfg.MaxOutput))
	}
	text := "the program ended before it answered"
	if p.status != nil {
		text += ": " + p.status.Error()
	}
	if said := p.errors.String(); said != "" {
		text += ": " + short(said)
	}
	return failure{err: &RowError{Fault: FaultVerifier, Message: text}, again: true, ended: true}
}

// spent is the end of a row that costs too much; rows in company are asked again alone, so that only the one that does pays for it.
func (p *process) spent(rows []*ask, settle func(*ask, told), why string) failure {
	if len(rows) == 1 {
		settle(rows[0], told{result: Result{Verdict: Budget, Rule: "command", Reason: why}})
		return failure{}
	}
	return failure{err: errors.New(why), again: true}
}

// kill ends the process and everything it started.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	if p.running() {
		killGroup(p.cmd)
	}
	p.in.Close()
	p.out.Close() // whoever left the group may hold the other end
	for range p.lines {
	}
	<-p.ended
	os.RemoveAll(p.dir)
	p.cmd = nil
}

// close lets the process end by itself at the end of its input, for a second, and then kills it.
func (p *process) close() {
	if p.cmd == nil {
		return
	}
	p.in.Close()
	late := time.NewTimer(time.Second)
	defer late.Stop()
	lines := p.lines
	for lines != nil {
		select {
		case _, ok := <-lines:
			if !ok {
				lines = nil
			}
		case <-late.C:
			lines = nil
		}
	}
	p.kill()
}

// lastBytes keeps the end of what is written to it.
type lastBytes struct {
	mu  sync.Mutex
	buf []byte
	max int
}

func (l *lastBytes) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, b[max(0, len(b)-l.max):]...)
	l.buf = l.buf[max(0, len(l.buf)-l.max):]
	return len(b), nil
}

func (l *lastBytes) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(bytes.TrimSpace(l.buf))
}
