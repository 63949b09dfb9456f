package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// TestRelabelShowsWhatChanged labels rows by exact match, then again as mathematics: 1/2 and 0.5 become equal.
func TestRelabelShowsWhatChanged(t *testing.T) {
	prompt := uuid.NewSHA1(uuid.NameSpaceOID, []byte("prompt"))
	answers, responses := []string{"1/2", "1/2", "1/2"}, []string{"1/2", "0.5", "3"}
	ids, prompts, finish := make([]uuid.UUID, 3), make([]uuid.UUID, 3), make([]string, 3)
	for i := range ids {
		ids[i], prompts[i], finish[i] = uuid.NewSHA1(prompt, []byte{byte(i)}), prompt, "stop"
	}
	b, err := schemas.NewRecord(schemas.Meta{Run: "test"}, schemas.PromptID.From(prompts), schemas.Prompt.From([]string{"x", "x", "x"}),
		schemas.Answer.From(answers), schemas.ResponseID.From(ids), schemas.Response.From(responses),
		schemas.ResponseTokens.FromRows([][]int32{{1}, {2}, {3}}), schemas.FinishReason.From(finish))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p, s := beam.NewPipelineWithRoot()
	labeled, _ := label.Outcome(s, label.Default("exact"), stagetest.Source(s, []stage.Batch{b}))
	labeled, _ = label.Reward(s, label.Rewards{Parts: []label.Part{{Name: "right", Weight: 1, Outcome: &label.OutcomePart{}}}}, labeled)
	recordio.Write(s, recordio.Output{Dir: dir, Name: "batch"}, stage.Store{Dir: filepath.Join(dir, "work")}, labeled)
	stagetest.Execute(t, p)
	files, err := filepath.Glob(filepath.Join(dir, "batch-*.parquet"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}

	out := filepath.Join(dir, "again")
	got, err := look.Relabel(context.Background(), files, label.Default("math"), out, runners.Default())
	if err != nil {
		t.Fatal(err)
	}
	if got.Rows != 3 || got.Dead != 0 || len(got.Changes) != 1 || got.Changes["incorrect -> correct"] != 1 {
		t.Errorf("%+v, want one of three rows to change from incorrect to correct", got)
	}
	again, err := filepath.Glob(filepath.Join(out, "*.parquet"))
	if err != nil || len(again) == 0 {
		t.Fatal(again, err)
	}
	err = recordio.ReadFile(t.Context(), again[0], func(b stage.Batch) error {
		for _, name := range b.Columns() {
			if strings.HasPrefix(name, "reward") { // of the old outcomes
				t.Errorf("column %s is still there", name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Before == got.After || got.Before == "" || got.After == "" {
		t.Errorf("lineage before %q, after %q; want two verifiers", got.Before, got.After)
	}
	if _, err := look.Relabel(context.Background(), files, label.Default("math"), out, runners.Default()); err == nil {
		t.Error("a second relabelling overwrote the first")
	}
}

// Rows that went through pandas are judged again as well.
func TestRelabelReadsPandas(t *testing.T) {
	for _, name := range []string{"pandas-bytes", "pandas-text"} {
		file := filepath.Join("..", "transforms", "recordio", "testdata", name+".parquet")
		got, err := look.Relabel(context.Background(), []string{file}, label.Default("math"), t.TempDir(), runners.Default())
		if err != nil || got.Rows != 3 || got.Dead != 0 || got.Changes["incorrect -> correct"] != 1 {
			t.Errorf("%s: %+v, %v; want one of three rows to change from incorrect to correct", name, got, err)
		}
	}
}
