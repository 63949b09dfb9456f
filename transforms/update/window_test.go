package update

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// narrow is a model of which only the window is known.
const narrow = "narrow"

func init() {
	models.RegisterFormat(models.Format{Name: narrow, Window: func(string) (int, error) { return 6, nil },
		Match: func(path string) bool { _, err := os.Stat(filepath.Join(path, narrow)); return err == nil }})
}

// TestWindow: what is longer than the model that learns takes is set aside, of responses and of either side of pairs, and where nothing
// says what it takes, nothing is.
func TestWindow(t *testing.T) {
	wide, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, narrow), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ids := schemas.PromptID.From([]uuid.UUID{{1}, {1}, {1}})
	prompts := schemas.PromptTokens.FromRows([][]int32{{1, 2}, {1, 2}, {1, 2}})
	short, long := make([]int32, 4), make([]int32, 5)
	for name, c := range map[string]struct {
		columns []schemas.Filled
		dead    int
	}{
		"responses": {[]schemas.Filled{schemas.ResponseTokens.FromRows([][]int32{short, long, short})}, 1},
		"pairs": {[]schemas.Filled{schemas.ChosenTokens.FromRows([][]int32{short, long, short}),
			schemas.RejectedTokens.FromRows([][]int32{long, long, short})}, 2},
	} {
		in, err := schemas.NewRecord(schemas.Meta{}, append(c.columns, ids, prompts)...)
		if err != nil {
			t.Fatal(err)
		}
		for path, dead := range map[string]int{dir: c.dead, wide: 0} {
			want := make([]schemas.Reason, dead)
			for i := range want {
				want[i] = schemas.ReasonTooLong
			}
			out, letters := stagetest.Run(t, Window{Model: models.Ref{Path: path}}, in)
			if stagetest.Dead(t, letters, want...); out.NumRows() != 3-dead {
				t.Errorf("%s: %d rows are left, want %d", name, out.NumRows(), 3-dead)
			}
		}
	}
}
