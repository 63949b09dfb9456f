package telemetry

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/millrace/millrace/transforms/files"
)

const (
	// sendEvery is how often the files of a run in a bucket are written there, as far as they have grown.
	sendEvery = 30 * time.Second
	// sendWait bounds one writing, also that at the end of a run.
	sendWait = 30 * time.Second
)

// spool keeps the telemetry of a run that lies in a bucket, where nothing can be appended to, in a directory of this
// machine, and writes the files that have grown to the bucket from time to time. A process that is killed loses what it told
// since.
type spool struct {
	local, remote string
	remove        func() error     // local
	sent          map[string]int64 // bytes, by name
	stop, ended   chan struct{}
	once          sync.Once
	failed        error // the first time
}

// openSpool goes on with the files of lines that are there.
func openSpool(ctx context.Context, remote string) (*spool, error) {
	local, remove, err := files.ScratchDirectory()
	if err != nil {
		return nil, err
	}
	s := &spool{local: local, remove: remove, remote: remote, sent: map[string]int64{}, stop: make(chan struct{}), ended: make(chan struct{})}
	for _, name := range []string{logName, countersName} {
		if err := s.fetch(ctx, name); err != nil {
			return nil, errors.Join(err, remove())
		}
	}
	go s.run(context.WithoutCancel(ctx))
	return s, nil
}

func (s *spool) fetch(ctx context.Context, name string) error {
	from, err := files.Open(ctx, files.Join(s.remote, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Create(filepath.Join(s.local, name))
	if err != nil {
		return err
	}
	s.sent[name], err = io.Copy(to, io.LimitReader(from, maxFile))
	return errors.Join(err, to.Close())
}

func (s *spool) run(ctx context.Context) {
	defer close(s.ended)
	tick := time.NewTicker(sendEvery)
	defer tick.Stop()
	for done := false; !done; {
		select {
		case <-tick.C:
		case <-s.stop:
			done = true
		}
		limited, cancel := context.WithTimeout(ctx, sendWait)
		err := s.send(limited)
		cancel()
		if s.failed == nil {
			s.failed = err
		}
	}
}

// send writes the files that have grown.
func (s *spool) send(ctx context.Context) error {
	entries, err := os.ReadDir(s.local)
	for _, e := range entries {
		info, statErr := e.Info()
		if statErr != nil || info.Size() == s.sent[e.Name()] {
			continue
		}
		if sendErr := s.sendFile(ctx, e.Name(), info.Size()); sendErr != nil {
			err = errors.Join(err, sendErr)
			continue
		}
		s.sent[e.Name()] = info.Size()
	}
	return err
}

// sendFile writes the first so many bytes of a file, which may be growing.
func (s *spool) sendFile(ctx context.Context, name string, size int64) error {
	from, err := os.Open(filepath.Join(s.local, name))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := files.Create(ctx, files.Join(s.remote, name))
	if err != nil {
		return err
	}
	defer to.Abort()
	if _, err := io.Copy(to, io.LimitReader(from, size)); err != nil {
		return err
	}
	return to.Commit(false)
}

// close writes what is outstanding. The error is why something was not written.
func (s *spool) close() error {
	if s == nil {
		return nil
	}
	s.once.Do(func() { close(s.stop) })
	<-s.ended
	return errors.Join(s.failed, s.remove())
}
