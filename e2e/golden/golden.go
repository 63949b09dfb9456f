// Package golden reads the golden vectors that tests hold the mathematics against.
//
// A golden file is JSON: a topic and a list of cases, each with params, inputs and expected outputs. A tensor is
// {"shape": [...], "data": [...]} in row-major order; vectors/README.md says what each file holds. The files lie beside this
// one: vectors/, tokenizers/ and data/. With MILLRACE_SHARED set they come from golden/, tokenizers/ and data/ of that folder
// instead, so that the code can be held against other numbers of the same form. A file that is not there fails the test.
package golden

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Tensor is a dense row-major array of float64.
type Tensor struct {
	Shape []int     `json:"shape"`
	Data  []float64 `json:"data"`
}

// Float32 returns the data rounded to single precision.
func (t Tensor) Float32() []float32 {
	out := make([]float32, len(t.Data))
	for i, v := range t.Data {
		out[i] = float32(v)
	}
	return out
}

// Int32 returns the data as token ids.
func (t Tensor) Int32() []int32 {
	out := make([]int32, len(t.Data))
	for i, v := range t.Data {
		out[i] = int32(v)
	}
	return out
}

// Values is one of the params, in or out objects of a case.
type Values map[string]json.RawMessage

// Case is one entry of a golden file.
type Case struct {
	Name   string `json:"name"`
	Params Values `json:"params"`
	In     Values `json:"in"`
	Out    Values `json:"out"`
}

// File is a whole golden file.
type File struct {
	Topic string `json:"topic"`
	Cases []Case `json:"cases"`
}

// Has reports whether the key is present and not null.
func (v Values) Has(key string) bool {
	raw, ok := v[key]
	return ok && string(raw) != "null"
}

// Get decodes the value under key, failing the test when it is missing or of another type.
func Get[T any](t testing.TB, v Values, key string) T {
	t.Helper()
	var out T
	raw, ok := v[key]
	if !ok {
		t.Fatalf("golden: no value %q", key)
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatalf("golden: %q: %v", key, err)
	}
	return out
}

// GetOr decodes the value under key, or returns fallback when it is missing or null.
func GetOr[T any](t testing.TB, v Values, key string, fallback T) T {
	t.Helper()
	if !v.Has(key) {
		return fallback
	}
	return Get[T](t, v, key)
}

// Path returns where an input of tests lies, such as "golden", "sft.json", or "tokenizers", "qwen3" for a whole folder. A
// folder may hold compressed files (NAME.gz); it is unpacked for the test then.
func Path(t testing.TB, elem ...string) string {
	t.Helper()
	path := filepath.Join(append([]string{root(t)}, elem...)...)
	if os.Getenv(variable) == "" && elem[0] == "golden" {
		path = filepath.Join(append([]string{root(t), "vectors"}, elem[1:]...)...)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatalf("golden: %v", err)
	}
	if packed, _ := filepath.Glob(filepath.Join(path, "*.gz")); info.IsDir() && len(packed) > 0 {
		return unpacked(t, path)
	}
	return path
}

// unpacked copies a folder, its compressed files decompressed, into one of the test's own.
func unpacked(t testing.TB, dir string) string {
	t.Helper()
	to := t.TempDir()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		name, compressed := strings.CutSuffix(f.Name(), ".gz")
		if compressed {
			r, err := gzip.NewReader(bytes.NewReader(raw))
			if err == nil {
				raw, err = io.ReadAll(r)
			}
			if err != nil {
				t.Fatalf("golden: %s: %v", f.Name(), err)
			}
		}
		if err := os.WriteFile(filepath.Join(to, name), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// Load reads the golden file of that name, such as "sft.json".
func Load(t testing.TB, name string) File {
	t.Helper()
	raw, err := os.ReadFile(Path(t, "golden", name))
	if err != nil {
		t.Fatal(err)
	}
	var f File
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatalf("golden: %s: %v", name, err)
	}
	if len(f.Cases) == 0 {
		t.Fatalf("golden: %s has no cases", name)
	}
	return f
}

// Close fails the test unless got and want agree to tol: absolute below 1, relative above.
func Close(t testing.TB, what string, got, want []float64, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d values, want %d", what, len(got), len(want))
		return
	}
	worst, at := 0.0, -1
	for i := range got {
		d := math.Abs(got[i]-want[i]) / math.Max(1, math.Abs(want[i]))
		if math.IsNaN(d) || d > tol && d > worst {
			worst, at = d, i
			if math.IsNaN(d) {
				break
			}
		}
	}
	if at >= 0 {
		t.Errorf("%s[%d] = %.17g, want %.17g (off by %.3g, allowed %.3g)", what, at, got[at], want[at], worst, tol)
	}
}

// CloseTo is Close for one number.
func CloseTo(t testing.TB, what string, got, want, tol float64) {
	t.Helper()
	Close(t, what, []float64{got}, []float64{want}, tol)
}

// variable names the folder that takes the place of the files in the repository.
const variable = "MILLRACE_SHARED"

// root is the folder of all inputs.
func root(t testing.TB) string {
	t.Helper()
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("golden: where the repository lies is not known")
	}
	beside := filepath.Dir(here)
	switch dir := os.Getenv(variable); {
	case dir == "":
		return beside
	case filepath.IsAbs(dir):
		return dir
	default: // meant from the repository's root, not from the folder of the package under test
		return filepath.Join(filepath.Dir(filepath.Dir(beside)), dir)
	}
}
