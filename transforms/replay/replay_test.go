package replay

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/stage"
)

// written writes files of prompts, so many in each, two rows a prompt.
func written(t *testing.T, counts ...int) (dir string, all []string) {
	t.Helper()
	dir = t.TempDir()
	for k, n := range counts {
		var ids, responseIDs []uuid.UUID
		var texts []string
		for i := range n {
			for s := range 2 {
				text := fmt.Sprintf("%d.%d", k, i)
				id := uuid.NewSHA1(uuid.Nil, []byte(text))
				ids, responseIDs, texts = append(ids, id), append(responseIDs, uuid.NewSHA1(id, []byte{byte(s)})), append(texts, text)
			}
			all = append(all, texts[len(texts)-1])
		}
		rows := len(ids)
		b, err := schemas.NewRecord(schemas.Meta{}, schemas.PromptID.From(ids), schemas.Prompt.From(texts), schemas.Source.From(texts),
			schemas.ResponseID.From(responseIDs), schemas.Sample.From(make([]int32, rows)), schemas.Response.From(texts),
			schemas.PromptTokens.FromRows(slices.Repeat([][]int32{{1}}, rows)), schemas.ResponseTokens.FromRows(slices.Repeat([][]int32{{2}}, rows)),
			schemas.FinishReason.From(slices.Repeat([]string{"stop"}, rows)))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := b.MarshalBinary()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, fmt.Sprintf("batch-%d.arrow", k)), raw, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir, all
}

// TestWindows: windows follow on each other over the files, and begin in any of them.
func TestWindows(t *testing.T) {
	dir, all := written(t, 2, 3, 1, 2)
	for _, exhausted := range []string{"wrap", "stop"} {
		for first := range 2 * len(all) {
			c := Batch{Path: prompts.Paths{dir}, Exhausted: exhausted}
			var got, want []string
			rows, short, err := c.window(t.Context(), prompts.Window{First: first, Count: 3, PerRecord: 2}, func(b stage.Batch) {
				for i := range b.NumRows() {
					if text := schemas.Prompt.Of(b).At(i); i%2 == 0 {
						got = append(got, text)
					}
				}
			})
			for k := range 3 {
				if at := first + k; exhausted == "wrap" || at < len(all) {
					want = append(want, all[at%len(all)])
				}
			}
			if err != nil || !slices.Equal(got, want) || rows != 2*len(want) || short != 3-len(want) {
				t.Errorf("%s, from %d: %v (%d rows, short of %d), %v; want %v", exhausted, first, got, rows, short, err, want)
			}
		}
	}
}

// TestOnlyTheFilesOfAWindow: a window does not read the files before it again.
func TestOnlyTheFilesOfAWindow(t *testing.T) {
	dir, all := written(t, 2, 3)
	c := Batch{Path: prompts.Paths{dir}}
	paths, err := c.Paths(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := summaryOf(t.Context(), paths); err != nil {
		t.Fatal(err)
	}
	// Other bytes of the same size and time are not noticed by who does not read them.
	info, err := os.Stat(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(paths[0], bytes.Repeat([]byte{7}, int(info.Size())), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(paths[0], info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	n, _, err := c.window(t.Context(), prompts.Window{First: 2, Count: 3}, func(stage.Batch) {})
	if err != nil || n != 6 {
		t.Errorf("%d rows, %v; want those of the second file, of %v", n, err, all)
	}
}
