package gcs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/storage"
	"github.com/google/uuid"
	"github.com/millrace/millrace/transforms/files"
)

const (
	// leaseTime is how long a lock holds that is not renewed.
	leaseTime = time.Minute
	// renewEvery leaves room for several attempts.
	renewEvery = leaseTime / 4
	// leaseMargin is how long before the end of the lease its holder gives up.
	leaseMargin = leaseTime / 6
)

// lease is a lock in a bucket: an object that is made only where there is none, and written again only over what its writer
// wrote before, so of two processes one succeeds. Whether a lease has run out is decided by the clock of the store alone:
// the age of the lock is what lies between its time and that of an object written now. Its holder gives up by its own clock,
// counting from before the last renewal was sent.
type lease struct {
	dir, path string
	owner     string

	mu         sync.Mutex
	generation int64
	renewed    time.Time // by the monotonic clock
	lost       error

	cancel  context.CancelCauseFunc
	stop    chan struct{}
	stopped chan struct{}
}

// leaseText is the content of a lock.
type leaseText struct {
	Owner string `json:"owner"`
	Nonce string `json:"nonce"` // tells one writing from another
}

// AcquireLock locks a directory of a bucket. One that was not renewed for leaseTime is free to be taken over.
func (objects) AcquireLock(ctx context.Context, dir string) (files.Lock, context.Context, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "an unnamed machine"
	}
	l := &lease{dir: dir, path: files.Join(dir, files.LockName), owner: fmt.Sprintf("process %d on %s", os.Getpid(), host),
		stop: make(chan struct{}), stopped: make(chan struct{})}
	err = l.write(ctx, storage.Conditions{DoesNotExist: true})
	if errors.Is(err, errPrecondition) {
		err = l.takeOver(ctx)
	}
	if err != nil {
		return nil, nil, err
	}
	ctx, l.cancel = context.WithCancelCause(ctx)
	go l.keep(ctx)
	return l, ctx, nil
}

// takeOver takes a lock whose lease has run out.
func (l *lease) takeOver(ctx context.Context) error {
	held, err := files.Stat(ctx, l.path)
	if errors.Is(err, fs.ErrNotExist) { // given back since
		return l.mine(l.write(ctx, storage.Conditions{DoesNotExist: true}))
	}
	if err != nil {
		return err
	}
	owner, _ := l.read(ctx)
	now, err := storeTime(ctx, l.path+"-"+uuid.NewString())
	if err != nil {
		return err
	}
	if age := now.Sub(held.Modified); age < leaseTime {
		return &files.LockedError{Path: l.dir, Owner: orUnknown(owner.Owner), Left: leaseTime - age}
	}
	var generation int64
	if _, err := fmt.Sscan(held.Version, &generation); err != nil {
		return fmt.Errorf("%s: generation %q: %w", l.path, held.Version, err)
	}
	return l.mine(l.write(ctx, storage.Conditions{GenerationMatch: generation}))
}

// mine turns the refusal of a write into the news that another process was faster.
func (l *lease) mine(err error) error {
	if errors.Is(err, errPrecondition) {
		return &files.LockedError{Path: l.dir, Owner: "one that has just begun", Left: leaseTime}
	}
	return err
}

func orUnknown(owner string) string {
	if owner == "" {
		return "unknown"
	}
	return owner
}

// storeTime is the time by the clock of the store, which tells it of every object that is written.
func storeTime(ctx context.Context, path string) (time.Time, error) {
	s := newSums()
	a, err := upload(ctx, path, strings.NewReader(""), s, nil)
	if err != nil {
		return time.Time{}, err
	}
	return a.Updated, files.Remove(ctx, path)
}

func (l *lease) read(ctx context.Context) (text leaseText, err error) {
	raw, err := files.Read(ctx, l.path, 1<<16)
	if err != nil {
		return text, err
	}
	return text, json.Unmarshal(raw, &text)
}

// write writes the lock under a condition. A refusal may be of a repetition of a write that went through and whose answer
// was lost; the nonce tells.
func (l *lease) write(ctx context.Context, only storage.Conditions) error {
	sent := time.Now()
	text := leaseText{Owner: l.owner, Nonce: uuid.NewString()}
	raw, err := json.Marshal(text)
	if err != nil {
		return err
	}
	s := newSums()
	s.Write(raw)
	var generation int64
	a, err := upload(ctx, l.path, bytes.NewReader(raw), s, &only)
	if errors.Is(err, errPrecondition) {
		found, statErr := files.Stat(ctx, l.path)
		if statErr != nil || found.SHA256 != s.hex() {
			return err
		}
		if _, err := fmt.Sscan(found.Version, &generation); err != nil {
			return fmt.Errorf("%s: generation %q: %w", l.path, found.Version, err)
		}
	} else if err != nil {
		return err
	} else {
		generation = a.Generation
	}
	l.generation, l.renewed = generation, sent
	return nil
}

// Check writes the lock again.
func (l *lease) Check(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil {
		return l.lost
	}
	ctx, cancel := context.WithDeadline(ctx, l.renewed.Add(leaseTime-leaseMargin))
	defer cancel()
	err := l.write(ctx, storage.Conditions{GenerationMatch: l.generation})
	if errors.Is(err, errPrecondition) || errors.Is(err, fs.ErrNotExist) || err != nil && time.Since(l.renewed) >= leaseTime-leaseMargin {
		l.lost = &files.LockLostError{Path: l.dir, Err: err}
		l.cancel(l.lost)
		return l.lost
	}
	return err
}

// keep renews the lock until it is given back or lost.
func (l *lease) keep(ctx context.Context) {
	defer close(l.stopped)
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
		var lost *files.LockLostError
		if err := l.Check(context.WithoutCancel(ctx)); errors.As(err, &lost) {
			return
		}
	}
}

// Release removes the lock.
func (l *lease) Release() error {
	close(l.stop)
	<-l.stopped
	defer l.cancel(nil)
	if l.lost != nil {
		return nil
	}
	c, object, err := objects{}.at(l.path)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaseTime)
	defer cancel()
	err = object.If(storage.Conditions{GenerationMatch: l.generation}).Delete(ctx)
	if errors.Is(err, storage.ErrObjectNotExist) {
		return nil
	}
	return c.objectError("remove", l.path, err)
}
