package gcs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/googleapis/gax-go/v2"

	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/files/buckettest"
)

const root = "gs://" + buckettest.Bucket + "/run"

// bucket is a fake Cloud Storage whose client does not wait long before it tries again.
func bucket(t *testing.T) *buckettest.Server {
	t.Helper()
	before := retries
	retries.attempts, retries.backoff = 4, gax.Backoff{Initial: time.Millisecond, Max: 4 * time.Millisecond, Multiplier: 2}
	t.Cleanup(func() { retries = before })
	return buckettest.Start(t)
}

func TestObjects(t *testing.T) {
	s, ctx := bucket(t), t.Context()
	path := root + "/a file? 100%#1"
	f, err := files.Create(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, "half")
	if len(s.Objects("")) > 0 {
		t.Error("the object is there before Commit")
	}
	f.Abort()
	if len(s.Objects("")) > 0 {
		t.Error("the object is there after Abort")
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 3<<20) // 48 MiB: several chunks
	for _, content := range [][]byte{{}, []byte("whole"), big} {
		if err := files.Write(ctx, path, content, true); err != nil {
			t.Fatal(err)
		}
		raw, err := files.Read(ctx, path, int64(len(content)))
		if err != nil || !bytes.Equal(raw, content) {
			t.Fatalf("%d bytes of %d, %v", len(raw), len(content), err)
		}
		info, err := files.Stat(ctx, path)
		if err != nil || info.Size != int64(len(content)) || info.SHA256 == "" {
			t.Errorf("%+v, %v", info, err)
		}
	}
	if _, err := files.Read(ctx, path, 4); err == nil {
		t.Error("an object above the limit was read")
	}
	for i := range 250 { // several pages
		s.Put(fmt.Sprintf("run/iter-%05d/x", i), []byte("x"))
	}
	s.Put("run/iter-00000/exchange/y", []byte("y"))
	s.Put("run/iter-00000-other/z", []byte("z"))
	s.Put("run/iter-00000/", []byte("")) // a folder as consoles make it
	if found, err := files.Below(ctx, root); err != nil || len(found) != 253 {
		t.Errorf("%d files, %v", len(found), err)
	}
	if found, err := files.ListIn(ctx, root, "iter-*/x"); err != nil || len(found) != 250 || found[1] != root+"/iter-00001/x" {
		t.Errorf("%d found, %v", len(found), err)
	}
	if found, err := files.List(ctx, root+"/**/[yz]"); err != nil || len(found) != 2 {
		t.Errorf("%v, %v", found, err)
	}
	if found, err := files.List(ctx, path[:len(path)-7]+"*"); err != nil || len(found) != 1 || found[0] != path { // ? is a wildcard
		t.Errorf("%v, %v", found, err)
	}
	if err := files.RemoveAll(ctx, root+"/iter-00000", "exchange"); err != nil {
		t.Fatal(err)
	}
	left := s.Objects("run/iter-00000/")
	if _, ok := left["run/iter-00000/exchange/y"]; !ok || left["run/iter-00000/x"] != nil || s.Objects("run/iter-00000-other/z") == nil {
		t.Errorf("left: %v", left)
	}
	if err := files.RemoveAll(ctx, root); err != nil {
		t.Fatal(err)
	}
	for name := range s.Objects("") {
		if !strings.HasSuffix(name, "/") {
			t.Errorf("left: %s", name)
		}
	}
	if ok, err := files.Exists(ctx, root+"/iter-00000"); ok || err != nil {
		t.Errorf("exists: %v, %v", ok, err)
	}
}

// TestFaults: what passes is tried again, what does not is an error that names the object.
func TestFaults(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	path := root + "/f"
	read := func(ctx context.Context) error {
		raw, err := files.Read(ctx, path, 1<<21)
		if err == nil && !bytes.Equal(raw, content) {
			err = errors.New("other content")
		}
		return err
	}
	write := func(ctx context.Context) error { return files.Write(ctx, path, content, false) }
	for _, c := range []struct {
		name  string
		fault buckettest.Fault
		do    func(context.Context) error
		is    error  // nil: no error
		says  string // "" nothing in particular
	}{
		{"read, 503 twice", buckettest.Fault{Method: "GET", Path: "run/f", Times: 2, Status: 503}, read, nil, ""},
		{"read, cut in the middle", buckettest.Fault{Method: "GET", Path: "run/f", Times: 1, After: 300000}, read, nil, ""},
		{"read, no connection twice", buckettest.Fault{Method: "GET", Path: "run/f", Times: 2}, read, nil, ""},
		{"write, 503 twice", buckettest.Fault{Method: "POST", Times: 2, Status: 503}, write, nil, ""},
		{"write, the answer is lost", buckettest.Fault{Method: "POST", Times: 1, Status: 503, Done: true}, write, nil, ""},
		{"write, no connection twice", buckettest.Fault{Method: "POST", Times: 2}, write, nil, ""},
		{"list, 429", buckettest.Fault{Method: "GET", Path: "/o?", Times: 1, Status: 429},
			func(ctx context.Context) error { _, err := files.Below(ctx, root); return err }, nil, ""},
		{"remove, the answer is lost", buckettest.Fault{Method: "DELETE", Times: 1, Status: 503, Done: true},
			func(ctx context.Context) error { return files.Remove(ctx, path) }, nil, ""},
		{"read, 403", buckettest.Fault{Method: "GET", Times: -1, Status: 403}, read, fs.ErrPermission, "permission denied"},
		{"write, 403", buckettest.Fault{Method: "POST", Times: -1, Status: 403}, write, fs.ErrPermission, "permission denied: injected fault"},
		{"list, 403", buckettest.Fault{Method: "GET", Times: -1, Status: 403},
			func(ctx context.Context) error { _, err := files.Below(ctx, path); return err }, fs.ErrPermission, "permission denied"},
		{"read, always 503", buckettest.Fault{Method: "GET", Times: -1, Status: 503}, read, errAny, "503"},
		{"write, always 503", buckettest.Fault{Method: "POST", Times: -1, Status: 503}, write, errAny, "503"},
		{"write, the network is down", buckettest.Fault{Times: -1}, write, errAny, ""},
		{"stat, the network is down", buckettest.Fault{Times: -1},
			func(ctx context.Context) error { _, err := files.Stat(ctx, path); return err }, errAny, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := bucket(t)
			if err := write(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.Inject(c.fault)
			err := c.do(t.Context())
			switch {
			case c.is == nil && err != nil:
				t.Error(err)
			case c.is != nil && (err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), c.says)):
				t.Errorf("error %v, want one that names %s and says %q", err, path, c.says)
			case c.is != nil && c.is != errAny && !errors.Is(err, c.is):
				t.Errorf("error %v is not %v", err, c.is)
			}
		})
	}
}

var errAny = errors.New("any error")

// TestDamagedObjects: content that is not what was written is not taken for it.
func TestDamagedObjects(t *testing.T) {
	s, ctx := bucket(t), t.Context()
	path := root + "/f"
	if err := files.Write(ctx, path, []byte("what was written"), false); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"what was w", "what was altered", ""} {
		s.Damage("run/f", []byte(content))
		if raw, err := files.Read(ctx, path, 1<<20); err == nil || !strings.Contains(err.Error(), "SHA-256") ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("%q was read: %v", raw, err)
		}
	}
	if _, err := files.Read(ctx, root+"/none", 1); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), root+"/none") {
		t.Errorf("no object: %v", err)
	}
	if _, err := files.Read(ctx, "gs://another-bucket/f", 1); !errors.Is(err, fs.ErrNotExist) ||
		!strings.Contains(err.Error(), "gs://another-bucket/f") {
		t.Errorf("no bucket: %v", err)
	}
	for _, wrong := range []string{"gs://", "gs:///f", "gs://B/f", "gs://bucket", "gs://bucket/"} {
		if err := files.Write(ctx, wrong, nil, false); err == nil || !strings.Contains(err.Error(), "gs://bucket/path") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

func TestWriteDirectory(t *testing.T) {
	s := bucket(t)
	for _, dir := range []string{filepath.Join(t.TempDir(), "model"), root + "/model"} {
		ctx := t.Context()
		made := func(content ...string) error {
			return files.WriteDirectory(ctx, dir, []string{"config.json"}, func(local string) error {
				for _, name := range content {
					if err := os.MkdirAll(filepath.Dir(filepath.Join(local, name)), 0o755); err != nil {
						return err
					}
					if err := os.WriteFile(filepath.Join(local, name), []byte(name+fmt.Sprint(len(content))), 0o644); err != nil {
						return err
					}
				}
				return nil
			})
		}
		want := func(content ...string) {
			t.Helper()
			found, err := files.Below(ctx, dir)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, f := range found {
				names = append(names, f.Name)
				if raw, err := files.Read(ctx, f.Path, 1<<10); err != nil || string(raw) != f.Name+fmt.Sprint(len(content)) {
					t.Errorf("%s holds %q, %v", f.Path, raw, err)
				}
			}
			if !slices.Equal(names, content) {
				t.Errorf("%s holds %v, want %v", dir, names, content)
			}
		}
		for _, content := range [][]string{{"config.json", "sub/b", "weights"}, {"config.json", "weights"}, {"config.json", "weights"}} {
			s.Requests()
			if err := made(content...); err != nil {
				t.Fatal(err)
			}
			want(content...)
		}
		err := files.ReadDirectory(ctx, dir, func(local string) error {
			raw, err := os.ReadFile(filepath.Join(local, "weights"))
			if string(raw) != "weights2" {
				t.Errorf("weights are %q, %v", raw, err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		err = files.ReadDirectory(ctx, dir+"-none", func(local string) error { _, err := os.ReadDir(local); return err })
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a directory that is not there: %v", err)
		}
		boom := errors.New("boom")
		if err := files.WriteDirectory(ctx, dir, nil, func(string) error { return boom }); !errors.Is(err, boom) {
			t.Errorf("%v", err)
		}
		want("config.json", "weights")
	}
	// The same again sends nothing, and what is half replaced has no config.json.
	s.Requests()
	same := func(text string) error {
		return files.WriteDirectory(t.Context(), root+"/model", []string{"config.json"}, func(local string) error {
			return errors.Join(os.WriteFile(filepath.Join(local, "config.json"), []byte("c"), 0o644),
				os.WriteFile(filepath.Join(local, "weights"), []byte(text), 0o644))
		})
	}
	for range 2 {
		if err := same("w"); err != nil {
			t.Fatal(err)
		}
	}
	posts := 0
	for _, r := range s.Requests() {
		if strings.HasPrefix(r, "POST") {
			posts++
		}
	}
	if posts != 2 {
		t.Errorf("%d uploads for two files written twice", posts)
	}
	// What lies there besides goes, though all the rest is as it was.
	if err := files.Write(t.Context(), root+"/model/stray", []byte("s"), false); err != nil {
		t.Fatal(err)
	}
	if err := same("w"); err != nil {
		t.Fatal(err)
	}
	if there, err := files.Exists(t.Context(), root+"/model/stray"); there || err != nil {
		t.Errorf("a file of another model is still there: %v, %v", there, err)
	}
	s.Inject(buckettest.Fault{Method: "POST", Path: "weights", Times: -1, Status: 403})
	if err := same("w2"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v", err)
	}
	if ok, err := files.Exists(t.Context(), root+"/model/config.json"); ok || err != nil {
		t.Errorf("a model half replaced has its config.json: %v, %v", ok, err)
	}
}

func TestLockInABucket(t *testing.T) {
	s := bucket(t)
	first, ctx, err := files.AcquireLock(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	var locked *files.LockedError
	if _, _, err := files.AcquireLock(t.Context(), root); !errors.As(err, &locked) || locked.Left <= 0 || locked.Left > leaseTime ||
		!strings.Contains(err.Error(), "process") {
		t.Fatalf("second lock: %v", err)
	}
	if err := first.Check(ctx); err != nil {
		t.Errorf("the lock is held: %v", err)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	if len(s.Objects("")) > 0 {
		t.Errorf("left: %v", s.Objects(""))
	}
	// A process that is dead does not renew its lock.
	dead, deadCtx, err := files.AcquireLock(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	s.Advance(leaseTime - 5*time.Second)
	if _, _, err := files.AcquireLock(t.Context(), root); !errors.As(err, &locked) || locked.Left > 5*time.Second {
		t.Errorf("a lock that is not old enough was taken over: %v", err)
	}
	s.Advance(6 * time.Second)
	heir, _, err := files.AcquireLock(t.Context(), root)
	if err != nil {
		t.Fatalf("a lock that was not renewed in time: %v", err)
	}
	defer heir.Release()
	// If it is not dead after all, it learns that it has lost the lock, and leaves that of its heir alone.
	var lost *files.LockLostError
	if err := dead.Check(deadCtx); !errors.As(err, &lost) {
		t.Errorf("the lock was lost: %v", err)
	}
	if deadCtx.Err() == nil || !errors.As(context.Cause(deadCtx), &lost) {
		t.Errorf("its context goes on: %v", context.Cause(deadCtx))
	}
	if err := dead.Release(); err != nil || len(s.Objects("run/.lock")) != 1 {
		t.Errorf("%v, locks %v", err, s.Objects("run/.lock"))
	}
	if err := heir.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestLockWhoseAnswerIsLost: the write that made the lock is repeated, and refused because of itself.
func TestLockWhoseAnswerIsLost(t *testing.T) {
	s := bucket(t)
	s.Inject(buckettest.Fault{Method: "POST", Path: ".lock", Times: 1, Status: 503, Done: true})
	lock, ctx, err := files.AcquireLock(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	s.Inject(buckettest.Fault{Method: "POST", Path: ".lock", Times: 1, Done: true})
	if err := lock.Check(ctx); err != nil {
		t.Error(err)
	}
	if err := lock.Release(); err != nil {
		t.Error(err)
	}
}

// TestLocksAtOnce: of many processes that find an abandoned lock, one has it.
func TestLocksAtOnce(t *testing.T) {
	s := bucket(t)
	if _, _, err := files.AcquireLock(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	s.Advance(leaseTime + time.Second)
	results := make(chan error)
	for range 8 {
		go func() {
			_, _, err := files.AcquireLock(t.Context(), root)
			results <- err
		}()
	}
	won := 0
	for range 8 {
		var locked *files.LockedError
		if err := <-results; err == nil {
			won++
		} else if !errors.As(err, &locked) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d processes have the lock", won)
	}
}
