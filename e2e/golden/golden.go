// Package golden reads the golden vectors that tests hold the mathematics against.
//
// A golden file is JSON: a topic and a list of cases, each with params, inputs and expected outputs. A tensor is
// {"shape": [...], "data": [...]} in row-major order. Files are looked for under $MILLRACE_SHARED/golden, then under
// ../shared/golden beside the repository, then in the testdata folder of the package under test.
package golden

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"runtime"
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

// Path returns where a shared file lies (elem relative to the shared folder, such as "golden", "sft.json"); the test is
// skipped when the file is neither in the shared folder nor in the package's testdata.
func Path(t testing.TB, elem ...string) string {
	t.Helper()
	rel := filepath.Join(elem...)
	tried := []string{}
	for _, root := range roots() {
		p := filepath.Join(root, rel)
		if _, err := os.Stat(p); err == nil {
			return p
		}
		tried = append(tried, p)
	}
	p := filepath.Join("testdata", filepath.Base(rel))
	if _, err := os.Stat(p); err == nil {
		return p
	}
	t.Skipf("no shared file %s (looked at %v and %s); set MILLRACE_SHARED to the shared folder", rel, tried, p)
	return ""
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

func roots() []string {
	_, here, _, ok := runtime.Caller(0)
	repo := filepath.Dir(filepath.Dir(filepath.Dir(here)))
	dir := os.Getenv("MILLRACE_SHARED")
	switch {
	case dir == "" && ok:
		return []string{filepath.Join(filepath.Dir(repo), "shared")}
	case dir == "":
		return nil
	case filepath.IsAbs(dir) || !ok:
		return []string{dir}
	}
	// A relative setting is meant from the repository's root, not from the folder of the package under test.
	return []string{filepath.Join(repo, dir)}
}
