package recordio

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// Files that pandas wrote have large strings and lists, ids as bytes or text, and any codec; the rows are the same.
func TestForeignFiles(t *testing.T) {
	var first stage.Batch
	for _, name := range []string{"pandas-bytes", "pandas-text", "pandas-lz4"} {
		var got []stage.Batch
		err := ReadFile(t.Context(), filepath.Join("testdata", name+".parquet"), func(b stage.Batch) error { got = append(got, b); return nil })
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		b := stagetest.Join(t, got)
		tokens, err := schemas.ResponseTokens.Find(b)
		if err != nil || b.NumRows() != 3 || len(tokens.Row(1)) != 2 || tokens.Row(1)[1] != 3 {
			t.Errorf("%s: %d rows, %v", name, b.NumRows(), err)
		}
		if id := schemas.ResponseID.Of(b)[2].String(); id != "00000000-0000-0000-0000-00000000000c" {
			t.Errorf("%s: id %s", name, id)
		}
		if first.Arrow() == nil {
			first = b
		}
		stagetest.Same(t, name, b, first)
	}
}

// A file that says little and unpacks to much is refused for rows as for prompts.
func TestBombs(t *testing.T) {
	for _, name := range []string{"bomb", "bomb2", "cell"} {
		path := filepath.Join("..", "prompts", "testdata", "cases", name+".parquet")
		err := ReadFile(t.Context(), path, func(stage.Batch) error { return nil })
		var b *files.BoundError
		var p *files.ParquetError
		if !errors.As(err, &b) || !errors.As(err, &p) || p.Column != "q" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
