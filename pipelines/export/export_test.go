package export_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"github.com/millrace/millrace/pipelines/export"
	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// written is a file of rows: three prompts of two responses.
func written(t *testing.T) []string {
	t.Helper()
	var prompts, responses []uuid.UUID
	var texts []string
	var logp [][]float32
	for i := range 6 {
		p := uuid.NewSHA1(uuid.Nil, []byte{byte(i / 2)})
		prompts, responses = append(prompts, p), append(responses, uuid.NewSHA1(p, []byte{byte(i)}))
		texts, logp = append(texts, strings.Repeat("a", i)), append(logp, []float32{-0.5, float32(-i)})
	}
	b, err := schemas.NewRecord(schemas.Meta{Run: "made"}, schemas.PromptID.From(prompts), schemas.ResponseID.From(responses),
		schemas.Response.From(texts), schemas.OldLogP.FromRows(logp).Defined(schemas.FullLogP("m")))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	runners.Init()
	p, s := beam.NewPipelineWithRoot()
	out := recordio.Output{Dir: dir, Name: "batch"}
	recordio.Write(s, out, stage.Store{Dir: filepath.Join(dir, "work")}, stagetest.Source(s, stagetest.Groups(t, b)))
	stagetest.Execute(t, p)
	return []string{out.Path(0)}
}

func TestJSONL(t *testing.T) {
	f, err := export.New("jsonl", map[string]any{"columns": []any{"prompt_id", "response", "old_logp"}})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	made, err := export.Write(t.Context(), "jsonl", f, written(t), dir)
	if err != nil || made.Rows != 6 || made.Run != "made" {
		t.Fatalf("%+v, %v", made, err)
	}
	raw, err := os.ReadFile(made.Files[0])
	if err != nil {
		t.Fatal(err)
	}
	last := ""
	for _, line := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		var row struct {
			PromptID uuid.UUID `json:"prompt_id"`
			Response *string
			OldLogP  []float32 `json:"old_logp"`
			Other    any       `json:"response_id"`
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil || row.Response == nil || len(row.OldLogP) != 2 || row.Other != nil {
			t.Errorf("%s: %v", line, err)
		}
		if row.PromptID.String() < last {
			t.Error("prompts are not in the order of their ids")
		}
		last = row.PromptID.String()
	}
	if _, err := os.Stat(filepath.Join(dir, export.SidecarName)); err != nil {
		t.Error(err)
	}
	if _, err := export.Write(t.Context(), "jsonl", f, written(t), dir); err == nil {
		t.Error("an export is written over another")
	}
	for says, settings := range map[string]map[string]any{"collumns: unknown key": {"collumns": []any{}},
		"columns[0]": {"columns": []any{3}}} {
		if _, err := export.New("jsonl", settings); err == nil || !strings.HasPrefix(err.Error(), says) {
			t.Errorf("%v: %v", settings, err)
		}
	}
	other, err := export.New("jsonl", map[string]any{"columns": []any{"verdict"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := export.Write(t.Context(), "jsonl", other, written(t), filepath.Join(t.TempDir(), "none")); err == nil ||
		!strings.Contains(err.Error(), "verdict") {
		t.Errorf("a column that is not there: %v", err)
	}
}
