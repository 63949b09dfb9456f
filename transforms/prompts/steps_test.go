package prompts

import (
	"encoding/json"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

func TestStepsOfAFile(t *testing.T) {
	path := write(t, "p.json", `[
		{"id": "a", "problem": "q", "steps": ["one", "zwei ü", "drei"], "label": 1, "final_answer_correct": false, "generator": "g"},
		{"id": "b", "problem": "q", "steps": ["all right"], "label": -1, "final_answer_correct": true},
		{"id": "c", "problem": "q", "steps": [], "label": -1, "final_answer_correct": true},
		{"id": "d", "problem": "q", "steps": ["x"], "label": 1, "final_answer_correct": true},
		{"id": "e", "problem": "q", "steps": "x", "label": 0, "final_answer_correct": true},
		{"id": "f", "problem": "q", "steps": ["x", 7], "label": "0", "final_answer_correct": true},
		{"id": "g", "problem": "q", "steps": ["x"], "final_answer_correct": true},
		[],
		{"id": "a", "problem": "q", "steps": ["again"], "label": 0, "final_answer_correct": false}]`)
	rows, dead, _ := scan(t, fileConfig(path, ProcessBench()), Window{})
	stagetest.Dead(t, dead,
		schemas.ReasonEmpty, schemas.ReasonMismatch, schemas.ReasonBadType, schemas.ReasonBadType, schemas.ReasonMissingField,
		schemas.ReasonBadType, schemas.ReasonMismatch)
	if rows.NumRows() != 2 {
		t.Fatalf("%d rows", rows.NumRows())
	}
	text := schemas.Response.Of(rows).At(0)
	if text != "Step 1: one\n\nStep 2: zwei ü\n\nStep 3: drei" {
		t.Errorf("response %q", text)
	}
	var steps []string
	last := int32(0)
	for _, end := range schemas.StepBytes.Of(rows).Row(0) {
		steps, last = append(steps, text[last:end]), end
	}
	if want := []string{"Step 1: one", "\n\nStep 2: zwei ü", "\n\nStep 3: drei"}; !slices.Equal(steps, want) {
		t.Errorf("steps %q", steps)
	}
	if first := schemas.FirstError.Of(rows); !slices.Equal(first.Values, []int32{1, -1}) {
		t.Errorf("first errors %v", first.Values)
	}
	if o, ok := schemas.Outcome.Of(rows).At(0); !ok || o != 0 {
		t.Errorf("outcome %v", o)
	}
	ids := schemas.PromptID.Of(rows)
	if ids[0] == ids[1] {
		t.Error("two rows of one problem, told apart by their ids, are one prompt")
	}
	for want, change := range map[string]func(*Fields){
		"first_error": func(f *Fields) { f.FirstError = "" }, "outcome": func(f *Fields) { f.Outcome = "" },
		"steps": func(f *Fields) { f.Response = "r" },
	} {
		f := ProcessBench()
		change(&f)
		if err := setting.Check(fileConfig(path, f)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %s", err, want)
		}
	}
}

// TestProcessBenchFiles reads the published files: every item is there, with the label it has.
func TestProcessBenchFiles(t *testing.T) {
	for _, name := range []string{"gsm8k.json", "math.json"} {
		path := golden.Path(t, "data", "processbench", name)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var items []struct {
			Steps []string
			Label int32
		}
		if err := json.Unmarshal(raw, &items); err != nil {
			t.Fatal(err)
		}
		rows, dead, _ := scan(t, fileConfig(path, ProcessBench()), Window{})
		if rows.NumRows() != len(items) || dead.NumRows() != 0 {
			t.Fatalf("%s: %d rows and %d dead letters of %d items", name, rows.NumRows(), dead.NumRows(), len(items))
		}
		for i, item := range items {
			text, ends := schemas.Response.Of(rows).At(i), schemas.StepBytes.Of(rows).Row(i)
			if schemas.FirstError.Of(rows).Values[i] != item.Label || len(ends) != len(item.Steps) || int(ends[len(ends)-1]) != len(text) {
				t.Fatalf("%s, item %d: %d steps, first error %d", name, i, len(ends), schemas.FirstError.Of(rows).Values[i])
			}
			for s, end := range ends {
				if !strings.HasSuffix(text[:end], item.Steps[s]) {
					t.Fatalf("%s, item %d: step %d ends at %q", name, i, s, text[:end])
				}
			}
		}
	}
}

func TestArraysThatAreNone(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"id": 1}`, "not a JSON array"}, {``, "not a JSON array"}, {`[{"id": 1}`, "does not end"}, {`[{"id": 1}] 7`, "follows"},
		{`[{"id": 1`, "item 1"},
		{`[{"id": "` + strings.Repeat("x", 300<<10) + `"}]`, "max_line_bytes"}, {`[` + strings.Repeat("  ", 300<<10) + `{}]`, "max_line_bytes"},
	} {
		if err := readArray(strings.NewReader(c.text), 1<<10, func(rawRow) error { return nil }); err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%.20q: error %v, want one with %q", c.text, err, c.want)
		}
	}
	n := 0
	long := `[` + strings.Repeat(`{"id": "`+strings.Repeat("y", 900)+`"},`, 500) + `{}]` // many items, each within the limit
	if err := readArray(strings.NewReader(long), 1<<10, func(rawRow) error { n++; return nil }); err != nil || n != 501 {
		t.Errorf("%d items, %v", n, err)
	}
}

func FuzzArray(f *testing.F) {
	f.Add(`[{"id": 1}, 2, "x", [], null]`)
	f.Add(`[[[[[[`)
	f.Fuzz(func(t *testing.T, text string) {
		_ = readArray(io.LimitReader(strings.NewReader(text), 1<<20), 1<<10, func(row rawRow) error {
			if (row.err == nil) != (row.fields != nil) || len(row.raw()) == 0 {
				t.Fatalf("item %d: fields %v, error %v", row.number, row.fields, row.err)
			}
			return nil
		})
	})
}
