package files

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

const (
	scratchName = "millrace-scratch-"
	scratchLock = ".lock"
)

// ScratchDirectory makes a temporary directory of this machine and a function that removes it. Those of processes that were
// killed are removed too: a lock beside a directory goes with its process.
func ScratchDirectory() (dir string, remove func() error, err error) {
	if err := sweepScratch(); err != nil {
		return "", nil, err
	}
	f, err := os.CreateTemp("", scratchName+"*"+scratchLock)
	if err != nil {
		return "", nil, err
	}
	name := f.Name()
	lock := flock.New(name)
	_, err = lock.TryLock() // which fails only if another process is sweeping just now, and finds no directory
	dir = strings.TrimSuffix(name, scratchLock)
	if err = errors.Join(err, f.Close(), os.Mkdir(dir, 0o755)); err != nil {
		return "", nil, errors.Join(err, lock.Close(), os.Remove(name))
	}
	return dir, func() error {
		return errors.Join(os.RemoveAll(dir), ignoreMissing(os.Remove(name)), lock.Close())
	}, nil
}

func sweepScratch() error {
	locks, err := filepath.Glob(filepath.Join(os.TempDir(), scratchName+"*"+scratchLock))
	if err != nil {
		return err
	}
	for _, name := range locks {
		lock := flock.New(name, flock.SetFlag(os.O_RDWR)) // one that is gone is not made again
		if ok, err := lock.TryLock(); err != nil || !ok {
			continue // in use, or another user's
		}
		err := errors.Join(os.RemoveAll(strings.TrimSuffix(name, scratchLock)), ignoreMissing(os.Remove(name)), lock.Close())
		if err != nil {
			return err
		}
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
