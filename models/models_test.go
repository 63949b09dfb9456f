package models

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/schemas/setting"
)

func TestSamplingValidate(t *testing.T) {
	if err := setting.Check(Sampling{MaxNewTokens: 1}); err != nil {
		t.Error(err)
	}
	if err := setting.Check(Sampling{MaxNewTokens: 1, Temperature: LeastTemperature}); err != nil {
		t.Error(err)
	}
	for _, temperature := range []float32{math.SmallestNonzeroFloat32, 1e-38, LeastTemperature / 2} {
		err := setting.Check(Sampling{MaxNewTokens: 1, Temperature: temperature})
		var e *setting.Error
		if !errors.As(err, &e) || e.Path != "temperature" {
			t.Errorf("temperature %v: %v", temperature, err)
		}
	}
	nan := float32(math.NaN())
	for field, s := range map[string]Sampling{
		"temperature":     {MaxNewTokens: 1, Temperature: nan},
		"top_p":           {MaxNewTokens: 1, TopP: 1.1},
		"top_k":           {MaxNewTokens: 1, TopK: -1},
		"max_new_tokens":  {},
		"min_new_tokens":  {MaxNewTokens: 3, MinNewTokens: 4},
		"stop_strings":    {MaxNewTokens: 1, StopStrings: []string{"a", ""}},
		"candidate_k":     {MaxNewTokens: 1, CandidateK: -1},
		"candidate_min_p": {MaxNewTokens: 1, CandidateMinP: nan},
	} {
		if err := setting.Check(s); err == nil || !strings.HasPrefix(err.Error(), field+":") {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestPack(t *testing.T) {
	got := Pack([]Sequence{{Prompt: []int32{1, 2}, Response: []int32{3}}, {}, {Response: []int32{4}}})
	if want := (Packed{Tokens: []int32{1, 2, 3, 4}, Starts: []int{0, 3, 3, 4}}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// The digest follows names and content, not times or hidden files.
func TestDigest(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	digest := func() string {
		t.Helper()
		d, err := Digest(dir)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if _, err := Digest(dir); err == nil {
		t.Error("an empty directory has a digest")
	}
	write("a", "1")
	first := digest()
	write("a", "1")
	write(".hidden", "x")
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o777); err != nil {
		t.Fatal(err)
	}
	if digest() != first {
		t.Error("the digest changed though nothing did")
	}
	seen := map[string]bool{first: true}
	for _, change := range []func(){
		func() { write("a", "2") }, func() { write("b", "") },
		func() { os.Rename(filepath.Join(dir, "b"), filepath.Join(dir, "c")) },
		func() { write("a", "2c"); write("c", "") },
	} {
		change()
		if d := digest(); seen[d] {
			t.Error("a change is not in the digest")
		} else {
			seen[d] = true
		}
	}
	if d, err := Digest(filepath.Join(dir, "a")); err != nil || seen[d] {
		t.Errorf("a single file: %s, %v", d, err)
	}
	if _, err := Digest(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing path: %v", err)
	}
}

func TestIdentity(t *testing.T) {
	for want, ref := range map[string]Ref{
		"ab":          {Path: "x", Digest: "ab"},
		"ab+bfloat16": {Path: "x", Digest: "ab", Precision: kernels.BFloat16},

		"ab+bfloat16-tiles": {Path: "x", Digest: "ab", Precision: kernels.BFloat16Tiles},
	} {
		if got := ref.Identity(); got != want {
			t.Errorf("%+v is %s, want %s", ref, got, want)
		}
	}
	raw, err := json.Marshal([]Ref{{Path: "x"}, {Path: "x", Precision: kernels.BFloat16}})
	if want := `[{"path":"x"},{"path":"x","precision":"bfloat16"}]`; err != nil || string(raw) != want {
		t.Errorf("%s, %v; want %s", raw, err, want)
	}
}

// TestMissingImportIsNamed: no package that opens models is imported here.
func TestMissingImportIsNamed(t *testing.T) {
	for path, want := range map[string]string{
		t.TempDir():             `import _ "github.com/millrace/millrace/models/local"`,
		"http://localhost:1/v1": `import _ "github.com/millrace/millrace/models/remote"`,
		"gs://bucket/model":     "RegisterElsewhere",
	} {
		if _, err := Acquire(t.Context(), Ref{Path: path}); !errors.Is(err, ErrNoFormat) || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want one that names %s", path, err, want)
		}
		if _, err := Identify(t.Context(), Ref{Path: path}); !errors.Is(err, ErrNoFormat) {
			t.Errorf("%s: %v", path, err)
		}
	}
	none := filepath.Join(t.TempDir(), "none")
	if _, err := Acquire(t.Context(), Ref{Path: none}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), none) {
		t.Errorf("nothing there: %v", err)
	}
}

type counted struct {
	Model
	open *atomic.Int32
}

func (c counted) Close() error { c.open.Add(-1); return nil }

// Many goroutines that come and go share one model, and none stays open; a failed load is tried again.
func TestAcquireTurnover(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.turnover")
	if err := os.WriteFile(path, []byte("content"), 0o666); err != nil {
		t.Fatal(err)
	}
	var open, most, loads atomic.Int32
	var fail atomic.Bool
	fail.Store(true)
	RegisterFormat(Format{Name: "turnover", Match: func(p string) bool { return p == path },
		Open: func(context.Context, Ref) (Model, error) {
			if fail.Load() {
				return nil, errors.New("not now")
			}
			loads.Add(1)
			if n := open.Add(1); n > most.Load() {
				most.Store(n)
			}
			return counted{open: &open}, nil
		}})
	for range 2 {
		if _, err := Acquire(context.Background(), Ref{Path: path}); err == nil || !strings.Contains(err.Error(), "not now") {
			t.Fatal(err)
		}
	}
	fail.Store(false)
	keep, err := Acquire(context.Background(), Ref{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 50 {
				h, err := Acquire(context.Background(), keep.Ref)
				if err != nil {
					t.Error(err)
					return
				}
				h.Release()
			}
		})
	}
	wg.Wait()
	if loads.Load() != 1 || most.Load() != 1 {
		t.Errorf("%d loads, up to %d open at once, want 1", loads.Load(), most.Load())
	}
	keep.Release()
	if open.Load() != 0 {
		t.Errorf("%d models stay open", open.Load())
	}
}

// TestScope: what a pipeline's stages have not released is released with it, and what outlives the pipeline gets nothing.
func TestScope(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.scoped")
	if err := os.WriteFile(path, []byte("content"), 0o666); err != nil {
		t.Fatal(err)
	}
	var open atomic.Int32
	RegisterFormat(Format{Name: "scoped", Match: func(p string) bool { return p == path },
		Open: func(context.Context, Ref) (Model, error) { open.Add(1); return counted{open: &open}, nil }})
	acquire := func(ctx context.Context) *Handle {
		t.Helper()
		h, err := Acquire(ctx, Ref{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	want := func(n int32) {
		t.Helper()
		if got := open.Load(); got != n {
			t.Errorf("%d models are open, want %d", got, n)
		}
	}
	pipeline, end := Scope(t.Context())
	worker, endWorker := Scope(pipeline)
	acquire(pipeline)
	acquire(worker)
	released := acquire(worker)
	released.Release()
	endWorker()
	want(1)
	another, _ := Scope(pipeline) // a worker that does not come to its end
	acquire(another)
	end()
	end()
	want(0)
	released.Release()
	for name, ctx := range map[string]context.Context{"pipeline": pipeline, "worker": another} {
		if h, err := Acquire(ctx, Ref{Path: path}); err == nil {
			t.Errorf("a stage of a %s that has ended is given %v", name, h.Ref)
		}
	}
	late, endLate := Scope(pipeline)
	if _, err := Acquire(late, Ref{Path: path}); err == nil {
		t.Error("so is one of a worker that began after that")
	}
	endLate()
	want(0)
	outside := acquire(t.Context())
	want(1)
	outside.Release()
	want(0)
}
