package kinds

import (
	"context"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/pipelines/export"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Texts is a format: the right responses, a line each.
type Texts struct {
	Name string `json:"name" doc:"of the file"`
}

func init() { export.Register("texts", Texts{Name: "texts.txt"}) }

// Begin starts the file.
func (f Texts) Begin(_ context.Context, dir string) (export.Writer, error) {
	out, err := os.Create(filepath.Join(dir, f.Name))
	return &texts{out}, err
}

type texts struct{ out *os.File }

// Write keeps responses with outcome 1.
func (w *texts) Write(b stage.Batch) (map[string]int, error) {
	left := map[string]int{}
	outcome, response := schemas.Outcome.Of(b), schemas.Response.Of(b)
	for i := range b.NumRows() {
		if y, ok := outcome.At(i); !ok || y < 1 {
			left["not right"]++
			continue
		}
		if _, err := w.out.WriteString(response.At(i) + "\n"); err != nil {
			return nil, err
		}
	}
	return left, nil
}

// Close ends the file.
func (w *texts) Close() ([]string, error) { return []string{w.out.Name()}, w.out.Close() }
