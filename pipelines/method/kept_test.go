package method_test

import (
	"slices"
	"testing"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// What an update learned from can be read afterwards: every preference pair, what revisers were trained on, and in a round of SEFT
// every label and revision beside the response.
func TestWhatIsLearnedFromIsKept(t *testing.T) {
	if testing.Short() {
		t.Skip("runs")
	}
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	type kept struct {
		iteration int
		name      string
		columns   []string
	}
	for name, all := range map[string][]kept{
		"dpo":  {{0, chain.PairsName, []string{"pair_id", "chosen_tokens", "rejected_tokens", "chosen_reference_logp"}}},
		"dckd": {{0, chain.PairsName, []string{"chosen_tokens", "rejected_tokens", "chosen_teacher_ids"}}},
		"seft": {
			{0, chain.PairsName, []string{"chosen_tokens", "rejected_tokens"}},
			{0, chain.TasksName, []string{"prompt_tokens", "response_tokens"}},
			{1, chain.PairsName, []string{"chosen_tokens", "rejected_tokens"}},
			{1, chain.TasksName, []string{"revision_label", "response_tokens"}},
			{2, chain.BatchName, []string{"response_tokens", "revision_label", "revised_tokens", "revised"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			sets := []string{"iterations=1"}
			if name == "seft" {
				sets = []string{"iterations=3", "seft.pairs=8", "seft.base.steps=2", "seft.adaptive.steps=2", "seft.base.batch_size=4",
					"seft.adaptive.batch_size=4"}
			}
			r := given(t, name, dir, sets...)
			if err := iterate(t.Context(), r, progress.Silent()); err != nil {
				t.Fatal(err)
			}
			d, err := run.Read(t.Context(), r.Run)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range all {
				holds(t, d, c.iteration, c.name, c.columns)
			}
		})
	}
}

// holds checks that files of an iteration have rows with the columns.
func holds(t *testing.T, d *run.Dir, iteration int, name string, columns []string) {
	t.Helper()
	paths, err := run.RowFiles(t.Context(), d.IterPath(iteration), name)
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	rows := 0
	err = recordio.ReadFile(t.Context(), paths[0], func(b stage.Batch) error {
		rows += b.NumRows()
		for _, column := range columns {
			if !slices.Contains(b.Columns(), column) {
				t.Errorf("iteration %d, %s: no column %s among %v", iteration, name, column, b.Columns())
			}
		}
		return nil
	})
	if err != nil || rows == 0 {
		t.Errorf("iteration %d, %s: %d rows, %v", iteration, name, rows, err)
	}
}
