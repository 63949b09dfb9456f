package stage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/storage"
	"github.com/gofrs/flock"
	"github.com/google/uuid"
)

// LockedError says that another process works on the run directory.
type LockedError struct {
	Path  string
	Owner string        // of a lock in a bucket
	Left  time.Duration // until it can be taken over, unless its owner renews it
}

func (e *LockedError) Error() string {
	text := fmt.Sprintf("run directory %s is in use by another process; wait for it, stop it, or choose another directory with --set run=DIR", e.Path)
	if e.Owner != "" {
		text += fmt.Sprintf(" (it is %s; if it died, its lock can be taken over in %v)", e.Owner, e.Left.Round(time.Second))
	}
	return text
}

// LockLostError says that a process could not keep its lock, so that another may have taken it over.
type LockLostError struct {
	Path string
	Err  error
}

func (e *LockLostError) Error() string {
	return fmt.Sprintf("run directory %s: the lock was lost, and another process may go on with the run: %v", e.Path, e.Err)
}

func (e *LockLostError) Unwrap() error { return e.Err }

// Lock keeps other processes off a directory. On this machine it goes with the process that holds it. In a bucket it is an
// object that the holder renews; one that was not renewed for leaseTime is free to be taken over.
type Lock struct {
	file  *flock.Flock
	lease *lease
}

const lockName = ".lock"

// AcquireLock locks a directory, making it where there are such things. The context that is returned ends with a
// LockLostError when the lock could not be kept. A lock that another process holds is a LockedError.
func AcquireLock(ctx context.Context, dir string) (*Lock, context.Context, error) {
	if IsURL(dir) {
		if _, ok := storeOf(dir).(objects); !ok {
			return nil, nil, &UnsupportedError{dir}
		}
		l, ctx, err := acquireLease(ctx, dir)
		return &Lock{lease: l}, ctx, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	file := flock.New(filepath.Join(dir, lockName))
	ok, err := file.TryLock()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: lock: %w", dir, err)
	}
	if !ok {
		return nil, nil, &LockedError{Path: dir}
	}
	return &Lock{file: file}, ctx, nil
}

// Check makes sure that the lock is still held, so that what is written next is written by its holder.
func (l *Lock) Check(ctx context.Context) error {
	if l.lease == nil {
		return nil
	}
	return l.lease.renew(ctx)
}

// Release gives the lock back.
func (l *Lock) Release() error {
	if l.lease == nil {
		return l.file.Unlock()
	}
	return l.lease.release()
}

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

func acquireLease(ctx context.Context, dir string) (*lease, context.Context, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "an unnamed machine"
	}
	l := &lease{dir: dir, path: JoinPath(dir, lockName), owner: fmt.Sprintf("process %d on %s", os.Getpid(), host),
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
	held, err := Stat(ctx, l.path)
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
		return &LockedError{Path: l.dir, Owner: orUnknown(owner.Owner), Left: leaseTime - age}
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
		return &LockedError{Path: l.dir, Owner: "one that has just begun", Left: leaseTime}
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
	return a.Updated, RemoveFile(ctx, path)
}

func (l *lease) read(ctx context.Context) (text leaseText, err error) {
	raw, err := ReadFile(ctx, l.path, 1<<16)
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
		found, statErr := Stat(ctx, l.path)
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

// renew writes the lock again.
func (l *lease) renew(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil {
		return l.lost
	}
	ctx, cancel := context.WithDeadline(ctx, l.renewed.Add(leaseTime-leaseMargin))
	defer cancel()
	err := l.write(ctx, storage.Conditions{GenerationMatch: l.generation})
	if errors.Is(err, errPrecondition) || errors.Is(err, fs.ErrNotExist) || err != nil && time.Since(l.renewed) >= leaseTime-leaseMargin {
		l.lost = &LockLostError{Path: l.dir, Err: err}
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
		var lost *LockLostError
		if err := l.renew(context.WithoutCancel(ctx)); errors.As(err, &lost) {
			return
		}
	}
}

func (l *lease) release() error {
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
