package files

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// LockedError says that another process works on the run directory.
type LockedError struct {
	Path  string
	Owner string        // of a lock in a bucket
	Left  time.Duration // until it can be taken over, unless its owner renews it
}

func (e *LockedError) Error() string {
	text := fmt.Sprintf("run directory %s is in use by another process; wait for it, stop it, or choose another directory with --set run=DIR",
		e.Path)
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

// Lock keeps other processes off a directory.
type Lock interface {
	// Check makes sure that the lock is still held, so that what is written next is written by its holder.
	Check(ctx context.Context) error
	// Release gives the lock back.
	Release() error
}

// Locker is a Store in which a directory can be locked; runs lie in no other.
type Locker interface {
	AcquireLock(ctx context.Context, dir string) (Lock, context.Context, error)
}

// LockName is the name of a lock in its directory.
const LockName = ".lock"

// AcquireLock locks a directory, making it where there are such things. The context that is returned ends with a
// LockLostError when the lock could not be kept. A lock that another process holds is a LockedError.
func AcquireLock(ctx context.Context, dir string) (Lock, context.Context, error) {
	s, err := storeOf(dir)
	if err != nil {
		return nil, nil, err
	}
	l, ok := s.(Locker)
	if !ok {
		return nil, nil, &UnsupportedError{dir}
	}
	return l.AcquireLock(ctx, dir)
}

// localLock is a lock on this machine, which goes with the process that holds it.
type localLock struct{ file *flock.Flock }

func (localFiles) AcquireLock(ctx context.Context, dir string) (Lock, context.Context, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	file := flock.New(filepath.Join(dir, LockName))
	ok, err := file.TryLock()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: lock: %w", dir, err)
	}
	if !ok {
		return nil, nil, &LockedError{Path: dir}
	}
	return localLock{file}, ctx, nil
}

func (localLock) Check(context.Context) error { return nil }

func (l localLock) Release() error { return l.file.Unlock() }
