package command

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// TestScoreSteps: steps are those that the rows bring, or lines of the response, or whatever --steps says.
func TestScoreSteps(t *testing.T) {
	given := lineFile(t, "given.jsonl",
		`{"problem": "1+1?", "steps": ["1+1=\n2", "So 2."], "label": -1, "final_answer_correct": true, "id": "a"}`)
	texts := lineFile(t, "texts.jsonl", `{"question": "5a+2b+6c-6=", "answer": "7", "response": "a5+2=8\nb8+6=4\nc4-6=8\n#8"}`)
	m, err := chain.Open(t.Context(), recipe.Model{Tokenizer: "bytes", New: map[string]any{"model_type": "llama", "hidden_size": 16,
		"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 300}},
		filepath.Join(t.TempDir(), "model"), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		file string
		args []string
		ends []int32
		none bool
	}{
		{file: given, ends: []int32{14, 30}},
		{file: texts, ends: []int32{7, 14, 21, 24}},
		{file: texts, args: []string{"--steps", "blocks"}, ends: []int32{24}},
		{file: texts, args: []string{"--steps", "given", "--set", "label.verifier.kind=proving_ground"}, ends: []int32{7, 14, 21, 24}},
		{file: texts, args: []string{"--steps", "none"}, none: true},
	} {
		out := filepath.Join(t.TempDir(), "out")
		var done jobResult
		runJob(t, &done, append([]string{"score", c.file, "--reward", m.Path, "--reference", m.Path,
			"--out", out}, c.args...)...)
		if len(done.Files) != 1 || done.Rows != 1 {
			t.Fatalf("%s %v: %+v", c.file, c.args, done)
		}
		err := recordio.ReadFile(t.Context(), done.Files[0], func(b stage.Batch) error {
			if b.Has(schemas.ValueStepEnds) == c.none {
				t.Fatalf("%s %v: columns %v", c.file, c.args, b.Columns())
			} else if c.none {
				return nil
			}
			p, tokens := schemas.StepPCorrect.Of(b).Row(0), schemas.PCorrect.Of(b).Row(0)
			if got := schemas.ValueStepEnds.Of(b).Row(0); !slices.Equal(got, c.ends) || len(p) != len(got) || p[0] != tokens[got[0]-1] {
				t.Errorf("%s %v: steps end at %v, want %v; p_correct %v", c.file, c.args, got, c.ends, p)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestScoreLabelled: a run of texts is scored and judged again as it is, chat prompts as chat prompts.
func TestScoreLabelled(t *testing.T) {
	m, err := chain.Open(t.Context(), recipe.Model{Tokenizer: "bytes", New: map[string]any{"model_type": "llama", "hidden_size": 16,
		"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 300}},
		filepath.Join(t.TempDir(), "model"), 1)
	if err != nil {
		t.Fatal(err)
	}
	texts := lineFile(t, "texts.jsonl", `{"question": "1+1", "answer": "2", "response": "so 2"}`, `{"question": "1+2", "answer": "3", `+
		`"response": "so 2"}`)
	chat := lineFile(t, "chat.jsonl", `{"prompt": [{"role": "user", "content": "1+1"}], "answer": "2", "response": "so 2"}`,
		`{"prompt": [{"role": "user", "content": "1+2"}], "answer": "3", "response": "so 2"}`)
	for _, file := range []string{texts, chat} {
		labelled := filepath.Join(t.TempDir(), "labelled")
		var done jobResult
		runJob(t, &done, "label", file, "--out", labelled, "--count", "1")
		runJob(t, &done, "label", labelled, "--out", filepath.Join(t.TempDir(), "again"))
		if done.Rows != 2 || done.Metrics["train_accuracy"] != 0.5 {
			t.Errorf("%s, judged again: %+v", file, done)
		}
		runJob(t, &done, "score", labelled, "--reward", m.Path, "--reference", m.Path, "--out", filepath.Join(t.TempDir(), "scored"))
		if done.Rows != 2 || done.Dead != 0 {
			t.Fatalf("%s: %+v", file, done)
		}
		err := recordio.ReadFile(t.Context(), done.Files[0], func(b stage.Batch) error {
			if !b.Has(schemas.PCorrect) || (schemas.Messages.Of(b).At(0) != "") != (file == chat) {
				t.Errorf("%s: columns %v", file, b.Columns())
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
