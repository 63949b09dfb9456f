package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/kernels"
)

// shelf is a place of models in memory, of which it is counted how often their files are fetched.
type shelf struct {
	mu      sync.Mutex
	files   map[string]string // by path
	sums    bool              // whether the store knows digests
	fetched int
	broken  error
}

var shelves = map[string]*shelf{}

func init() {
	RegisterElsewhere(Elsewhere{Scheme: "shelf",
		List: func(_ context.Context, path string) ([]RemoteFile, error) {
			s := shelfOf(path)
			s.mu.Lock()
			defer s.mu.Unlock()
			var out []RemoteFile
			for at, content := range s.files {
				name, in := strings.CutPrefix(at, path+"/")
				if at == path {
					name, in = filepath.Base(at), true
				}
				if !in {
					continue
				}
				sum := sha256.Sum256([]byte(content))
				f := RemoteFile{Path: at, Name: name, Size: int64(len(content)), Version: hex.EncodeToString(sum[:4])}
				if s.sums {
					f.SHA256 = hex.EncodeToString(sum[:])
				}
				out = append(out, f)
			}
			return out, nil
		},
		Fetch: func(_ context.Context, files []RemoteFile, to string) error {
			s := shelfOf(files[0].Path)
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.broken != nil {
				return s.broken
			}
			for _, f := range files {
				s.fetched++
				if err := os.WriteFile(filepath.Join(to, f.Name), []byte(s.files[f.Path]), 0o644); err != nil {
					return err
				}
			}
			return nil
		}})
}

func shelfOf(path string) *shelf {
	name, _, _ := strings.Cut(strings.TrimPrefix(path, "shelf://"), "/")
	return shelves[name]
}

// stock puts a model of three files on a shelf, and gives copies a directory of the test's own.
func stock(t *testing.T, sums bool) (*shelf, string) {
	t.Helper()
	t.Setenv(CopiesVariable, filepath.Join(t.TempDir(), "models"))
	name := fmt.Sprintf("s%d", len(shelves))
	s := &shelf{files: map[string]string{}, sums: sums}
	shelves[name] = s
	path := "shelf://" + name + "/model"
	for _, f := range []string{"config.json", "model.safetensors", "tokenizer.json", ".hidden", "sub/other"} {
		s.files[path+"/"+f] = f + " of " + path
	}
	return s, path
}

// here writes the same model into a directory.
func here(t *testing.T, s *shelf, path string) string {
	t.Helper()
	dir := t.TempDir()
	for at, content := range s.files {
		name := strings.TrimPrefix(at, path+"/")
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755),
			os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFetch(t *testing.T) {
	for _, sums := range []bool{true, false} {
		t.Run(fmt.Sprintf("digests known %v", sums), func(t *testing.T) {
			s, path := stock(t, sums)
			want, err := Digest(here(t, s, path))
			if err != nil {
				t.Fatal(err)
			}
			half := Ref{Path: path, Precision: kernels.BFloat16}
			ref, err := Identify(t.Context(), half)
			if err != nil || ref.Digest != want || ref.Precision != half.Precision || sums && s.fetched > 0 {
				t.Fatalf("%+v, %v after %d files; want digest %s", ref, err, s.fetched, want)
			}
			described, err := FetchDescription(t.Context(), Ref{Path: path})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(described.Path, "model.safetensors")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a description has weights: %v", err)
			}
			described.Release()
			var all sync.WaitGroup
			for range 8 { // at once
				all.Go(func() {
					c, err := Fetch(context.Background(), ref)
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Release()
					if got, err := Digest(c.Path); got != want || err != nil || c.Ref != ref {
						t.Errorf("the copy has digest %s, %v", got, err)
					}
				})
			}
			all.Wait()
			if s.fetched != 3+2 {
				t.Errorf("%d files were fetched, want each of the model's 3 once, and 2 for its description", s.fetched)
			}
			again, err := Identify(t.Context(), half)
			if err != nil || again != ref || s.fetched != 5 {
				t.Errorf("again %+v, %v, %d files", again, err, s.fetched)
			}
		})
	}
}

func TestFetchRefuses(t *testing.T) {
	s, path := stock(t, true)
	var other *DigestError
	if _, err := Fetch(t.Context(), Ref{Path: path, Digest: strings.Repeat("0", 64)}); !errors.As(err, &other) || other.Path != path {
		t.Errorf("another digest: %v", err)
	}
	ref, err := Identify(t.Context(), Ref{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	s.broken = errors.New("the network is down")
	if _, err := Fetch(t.Context(), ref); !errors.Is(err, s.broken) || !strings.Contains(err.Error(), path) {
		t.Errorf("no network: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(os.Getenv(CopiesVariable), fillingName+"*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	s.broken = nil
	if _, err := Fetch(t.Context(), Ref{Path: path + "-none"}); !errors.Is(err, fs.ErrNotExist) ||
		!strings.Contains(err.Error(), path+"-none") {
		t.Errorf("no model: %v", err)
	}
	t.Setenv(CopiesLimitVariable, "much")
	if _, err := Fetch(t.Context(), ref); err == nil || !strings.Contains(err.Error(), CopiesLimitVariable) {
		t.Errorf("a limit that is no number: %v", err)
	}
}

// TestDamagedCopy: a copy that another program has changed is fetched again.
func TestDamagedCopy(t *testing.T) {
	s, path := stock(t, true)
	ref, err := Identify(t.Context(), Ref{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c, err := Fetch(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Digest(c.Path); err != nil || got != ref.Digest {
			t.Errorf("digest %s, %v", got, err)
		}
		if err := os.WriteFile(filepath.Join(c.Path, "model.safetensors"), []byte("noise"), 0o644); err != nil {
			t.Fatal(err)
		}
		c.Release()
		checked.Clear() // as in another process
	}
	if s.fetched != 6 {
		t.Errorf("%d files were fetched", s.fetched)
	}
}

// TestCopiesAreBounded: the least recently used copy goes that nobody holds, and no other.
func TestCopiesAreBounded(t *testing.T) {
	s, path := stock(t, true)
	size := 0
	for at, content := range s.files {
		if !strings.Contains(at, "/.") && !strings.Contains(at, "sub/") {
			size += len(content)
		}
	}
	t.Setenv(CopiesLimitVariable, fmt.Sprint(2.5*float64(size)/(1<<30)))
	var refs []Ref
	fetch := func(i int) *Copy {
		t.Helper()
		for name, content := range map[string]string{"config.json": "config", "model.safetensors": strings.Repeat(fmt.Sprint(i), size-6)} {
			s.files[fmt.Sprintf("%s-%d/%s", path, i, name)] = content
		}
		ref, err := Identify(t.Context(), Ref{Path: fmt.Sprintf("%s-%d", path, i)})
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ref)
		c, err := Fetch(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	held := fetch(0)
	fetch(1).Release()
	fetch(2).Release()
	for i, want := range []bool{true, false, true} {
		if _, err := os.Stat(filepath.Join(os.Getenv(CopiesVariable), refs[i].Digest)); (err == nil) != want {
			t.Errorf("copy %d is there: %v, want %v", i, err == nil, want)
		}
	}
	held.Release()
	fetch(3).Release()
	if _, err := os.Stat(filepath.Join(os.Getenv(CopiesVariable), refs[0].Digest)); err == nil {
		t.Error("a copy that was given up stays beyond the limit")
	}
}

func TestFetchFile(t *testing.T) {
	s, path := stock(t, true)
	file := path + "/tokenizer.json"
	c, err := Fetch(t.Context(), Ref{Path: file})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	raw, err := os.ReadFile(c.Path)
	if err != nil || string(raw) != s.files[file] || filepath.Base(c.Path) != "tokenizer.json" {
		t.Errorf("%s holds %q, %v", c.Path, raw, err)
	}
	want, err := Digest(c.Path)
	if ref, idErr := Identify(t.Context(), Ref{Path: file}); err != nil || idErr != nil || ref.Digest != want || c.Ref.Digest != want {
		t.Errorf("%+v, %+v, want %s (%v, %v)", ref, c.Ref, want, err, idErr)
	}
}
