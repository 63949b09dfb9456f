package command

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
)

// TestDoctor: findings are no failure, but with --strict; a file that is not there is a mistake of the caller.
// TestDoctorOfArrow: rows that a run has left are read in either form.
func TestDoctorOfArrow(t *testing.T) {
	ids := []uuid.UUID{uuid.NewSHA1(uuid.Nil, []byte("a"))}
	b, err := schemas.NewRecord(schemas.Meta{}, schemas.PromptID.From(ids), schemas.Prompt.From([]string{"1+1?"}),
		schemas.Answer.From([]string{"2"}, true), schemas.Response.From([]string{`\\boxed{2}`}), schemas.Outcome.From([]float32{0}, true),
		schemas.OldLogP.FromRows([][]float32{nil}, false))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "batch-rows.arrow")
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	var out, said bytes.Buffer
	if code := Main([]string{"doctor", path}, &out, &said); code != exitOK ||
		!strings.Contains(out.String(), "score_wrong_verifier_right: 1 of 1") {
		t.Errorf("exit code %d: %s%s", code, out.String(), said.String())
	}
}

func TestDoctor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	line := `{"input": "1+1?", "output": "\\boxed{2}", "gts": "2", "score": 0}` + "\n"
	if err := os.WriteFile(path, []byte(strings.Repeat(line, 2)), 0o644); err != nil {
		t.Fatal(err)
	}
	var out, said bytes.Buffer
	code := Main([]string{"doctor", path}, &out, &said)
	if code != exitOK || !strings.Contains(out.String(), "score_wrong_verifier_right: 2 of 2") {
		t.Errorf("exit code %d: %s%s", code, out.String(), said.String())
	}
	out.Reset()
	if code := Main([]string{"doctor", path, "--json", "--strict"}, &out, &said); code != exitDead {
		t.Errorf("exit code %d with --strict: %s", code, said.String())
	}
	var report struct {
		Responses int
		Findings  []struct{ Kind, Severity string }
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil || report.Responses != 2 || len(report.Findings) == 0 {
		t.Errorf("%v: %s", err, out.String())
	}
	for name, args := range map[string][]string{"there is no such file": {path + ".jsonl"}, "want field=column": {path, "--field", "x"},
		"is not one of": {path, "--verifier", "nobody"}, "no row has a score": {path, "--field", "outcome=points"}} {
		said.Reset()
		if code := Main(append([]string{"doctor"}, args...), &out, &said); code != exitUsage || !strings.Contains(said.String(), name) {
			t.Errorf("%v: exit code %d: %s", args, code, said.String())
		}
	}
}
