package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/files/parquetrows"
)

// TestFilter: every prompt is kept as it was or removed with a reason, other bounds sample nothing again, and the same command leaves the
// same bytes.
func TestFilter(t *testing.T) {
	var lines []string
	for i := range 24 {
		a, b := i%10, i/10+2
		lines = append(lines, fmt.Sprintf(
			`{"question": "%da+%db*%dc-%d=", "gold": "%d", "meta": {"i": %d, "big": 9007199254740993}, "pass_rate": "old"}`, a, b, i%7+2, b, ((a+b)*(i%7+2)-b)%10, i))
	}
	lines = append(lines, "no JSON", `{"question": "not a chain", "gold": "1", "meta": null}`, lines[0])
	path, dir := lineFile(t, "prompts.jsonl", lines...), filepath.Join(t.TempDir(), "out")
	filter := func(more ...string) (out filtered) {
		t.Helper()
		runJob(t, &out, append([]string{"filter", path, "--policy", "../quickstart/policy", "--verifier", "proving_ground", "--samples", "4",
			"--max-new-tokens", "64", "--count", "8", "--out", dir, "--set", "limits.dead_share=1"}, more...)...)
		return out
	}
	read := func(name string) []byte {
		t.Helper()
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	first := filter("--min", "0.25", "--max", "0.75")
	if sum := first.Kept + first.Removed[tooHard] + first.Removed[tooEasy] + first.Removed[notThere]; sum != 25 || first.Prompts != 25 ||
		first.Kept == 0 || first.Removed[tooHard] == 0 || first.Removed[notThere] != 1 || first.Dead != 3 {
		t.Errorf("%+v, want 25 prompts in all, one of which has no tokens, and 3 dead rows: it, a broken line and a repetition", first)
	}
	kept, removed := read("prompts.jsonl"), read("removed.jsonl")
	if bytes.Count(kept, []byte("\n")) != first.Kept || bytes.Count(removed, []byte("\n")) != 25-first.Kept {
		t.Errorf("%d prompts are kept: %s", first.Kept, kept)
	}
	for line := range strings.Lines(string(kept) + string(removed)) {
		var row struct {
			Question, Gold, Removed string
			Meta                    *struct{ Big json.Number }
			Rate                    *float64 `json:"pass_rate"`
			Right, Samples          float64
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil || row.Question == "" || row.Gold == "" {
			t.Fatalf("%v: %s", err, line)
		}
		if row.Meta != nil && row.Meta.Big != "9007199254740993" {
			t.Errorf("another number: %s", line)
		}
		if out := row.Rate == nil || *row.Rate < 0.25 || *row.Rate > 0.75; out != (row.Removed != "") {
			t.Errorf("%s", line)
		}
	}
	manifest := filepath.Join("rollouts", "iter-00000", "manifest.json")
	before := read(manifest)
	if again := filter("--min", "0.25", "--max", "0.75"); again.Kept != first.Kept || !bytes.Equal(read("prompts.jsonl"), kept) {
		t.Errorf("the same command again: %+v", again)
	}
	all := filter("--min", "0", "--max", "1", "--format", "parquet")
	if all.Kept != 24 || !bytes.Equal(read(manifest), before) {
		t.Errorf("%+v, want all that were sampled", all)
	}
	if _, err := os.Stat(filepath.Join(dir, "prompts.jsonl")); err == nil {
		t.Error("the prompts of other bounds are still there")
	}
	n := 0
	err := files.ReadParquet(t.Context(), filepath.Join(dir, "prompts.parquet"), func(f *files.ParquetFile) error {
		return parquetrows.Reader{}.Rows(f, func(row map[string]any) error {
			if meta := row["meta"].(map[string]any); fmt.Sprint(meta["big"]) != "9007199254740993" || fmt.Sprint(meta["i"]) != fmt.Sprint(n) {
				t.Errorf("row %d: %v", n, row)
			}
			n++
			return nil
		})
	})
	if err != nil || n != 24 {
		t.Errorf("%d rows, %v", n, err)
	}
	var out, said bytes.Buffer
	for want, args := range map[string][]string{"--min 1": {"--policy", "x", "--min", "1", "--max", "0"},
		"--format": {"--policy", "x", "--format", "csv"}, "--policy": nil, "--out": {"--policy", "x"}} {
		said.Reset()
		if code := Main(append([]string{"filter", path}, args...), &out, &said); code != exitUsage || !strings.Contains(said.String(), want) {
			t.Errorf("%v: exit code %d: %s", args, code, said.String())
		}
	}
}

// TestKeptTypes: values of several types in one column are written as the JSON they are.
func TestKeptTypes(t *testing.T) {
	dir := t.TempDir()
	k, err := newKept(t.Context(), dir, formatParquet)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{`{"a": 1, "b": {}, "c": [], "d": null, "e": [1, "x"], "f": 1, "g": true}`,
		`{"a": 1.5, "b": {}, "c": [null, {"y": 2}], "d": null, "e": null, "f": "1"}`, `{}`} {
		if err := k.Write([]byte(row)); err != nil {
			t.Fatal(err)
		}
	}
	path, err := k.Commit()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = files.ReadParquet(t.Context(), path, func(f *files.ParquetFile) error {
		return parquetrows.Reader{}.Rows(f, func(row map[string]any) error {
			raw, err := json.Marshal(row)
			got = append(got, string(raw))
			return err
		})
	})
	want := `{"a":1,"b":"{}","c":[],"d":null,"e":["1","\"x\""],"f":"1","g":true}
{"a":1.5,"b":"{}","c":[null,{"y":2}],"d":null,"e":null,"f":"\"1\"","g":null}
{"a":null,"b":null,"c":null,"d":null,"e":null,"f":null,"g":null}`
	if err != nil || strings.Join(got, "\n") != want {
		t.Errorf("%v:\n%s\nwant\n%s", err, strings.Join(got, "\n"), want)
	}
	bad, err := newKept(t.Context(), dir, formatParquet)
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Abort()
	if err := bad.Write([]byte(`{"a": NaN}`)); err == nil || !strings.Contains(err.Error(), "--format jsonl") {
		t.Errorf("%v", err)
	}
}
