package telemetry

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// queueLength is how many writes wait for a slow file or terminal; what does not fit is dropped and counted.
	queueLength = 4096
	// closeWait bounds how long the end of a run waits for what is still queued.
	closeWait = 2 * time.Second
	// maxFile bounds a file of telemetry, in bytes.
	maxFile = 256 << 20
)

var (
	errTooLarge = fmt.Errorf("the file has reached %d MiB", maxFile>>20)
	errSlow     = errors.New("it was too slow to be waited for")
)

// sink takes writes without ever blocking and passes them on from a goroutine of its own.
type sink struct {
	name    string
	queue   chan []byte
	stop    chan struct{}
	ended   chan struct{}
	once    sync.Once
	dropped atomic.Int64

	mu  sync.Mutex
	why error // the first reason of a drop
}

func newSink(name string, to func([]byte) error) *sink {
	s := &sink{name: name, queue: make(chan []byte, queueLength), stop: make(chan struct{}), ended: make(chan struct{})}
	go s.run(to)
	return s
}

// Write queues a copy. It always says that it succeeded: nobody who tells something should care whether it was heard.
func (s *sink) Write(p []byte) (int, error) {
	select {
	case <-s.stop:
		s.drop(errSlow)
	default:
		select {
		case s.queue <- append([]byte(nil), p...):
		default:
			s.drop(errSlow)
		}
	}
	return len(p), nil
}

func (s *sink) run(to func([]byte) error) {
	defer close(s.ended)
	for {
		select {
		case p := <-s.queue:
			s.pass(to, p)
			continue
		default:
		}
		select {
		case p := <-s.queue:
			s.pass(to, p)
		case <-s.stop:
			for {
				select {
				case p := <-s.queue:
					s.pass(to, p)
				default:
					return
				}
			}
		}
	}
}

func (s *sink) pass(to func([]byte) error, p []byte) {
	defer func() {
		if v := recover(); v != nil {
			s.drop(fmt.Errorf("panic: %v", v))
		}
	}()
	if err := to(p); err != nil {
		s.drop(err)
	}
}

func (s *sink) drop(why error) {
	s.dropped.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why == nil {
		s.why = why
	}
}

// close passes on what is queued, waiting for it only so long.
func (s *sink) close(wait time.Duration) {
	s.once.Do(func() { close(s.stop) })
	select {
	case <-s.ended:
	case <-time.After(wait):
		s.drop(errSlow)
	}
}

// lost is how many writes were dropped and why the first of them was.
func (s *sink) lost() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped.Load(), s.why
}

// lineFile appends lines to a file. A line that could only be written in part is ended, so that the next one stands alone.
type lineFile struct {
	file   *os.File
	size   int64
	broken bool
}

func appendTo(path string) (*lineFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	out := &lineFile{file: f}
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
		var last [1]byte
		_, err := f.ReadAt(last[:], info.Size()-1)
		out.size, out.broken = info.Size(), err != nil || last[0] != '\n' // a killed process may have left half a line
	}
	return out, nil
}

func (f *lineFile) write(p []byte) error {
	if f.size+int64(len(p)) > maxFile {
		return errTooLarge
	}
	if f.broken {
		p = append([]byte{'\n'}, p...)
	}
	n, err := f.file.Write(p)
	f.size += int64(n)
	if err != nil {
		f.broken = f.broken || n > 0
		return err
	}
	f.broken = false
	return nil
}

// recordFile writes a file in which nothing can follow half a record: after the first error it takes nothing more.
type recordFile struct {
	w   io.Writer
	err error
}

func (f *recordFile) write(p []byte) error {
	if f.err == nil {
		_, f.err = f.w.Write(p)
	}
	return f.err
}
