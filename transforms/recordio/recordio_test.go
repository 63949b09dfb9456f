package recordio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// rollouts makes groups with every kind of column, nulls and empty lists among them.
func rollouts(t testing.TB, groups int) stage.Batch {
	t.Helper()
	var prompts, ids []uuid.UUID
	var texts []string
	var tokens [][]int32
	var logp [][]float32
	var candidates [][][]int32
	var outcomes []float32
	var known, scored, flags []bool
	for g := range groups {
		p := uuid.NewSHA1(uuid.Nil, fmt.Append(nil, g))
		for k := range 1 + g%3 {
			n := (g*7 + k) % 5
			prompts, ids = append(prompts, p), append(ids, uuid.NewSHA1(p, []byte{byte(k)}))
			texts = append(texts, strings.Repeat("é", n))
			tokens = append(tokens, make([]int32, n))
			row, lists := make([]float32, n), make([][]int32, n)
			for i := range n {
				tokens[len(tokens)-1][i] = int32(g + i)
				row[i], lists[i] = -float32(i+g), make([]int32, i)
			}
			logp, candidates = append(logp, row), append(candidates, lists)
			scored = append(scored, g%4 != 1)
			if g%4 == 1 {
				logp[len(logp)-1] = nil
			}
			outcomes, known = append(outcomes, float32(k%2)), append(known, g%5 != 2)
			flags = append(flags, k == 1)
		}
	}
	b, err := schemas.NewRecord(schemas.Meta{Run: "r", Iteration: 2, Seed: 5, Lineage: map[string]string{"old_logp": "policy@1"}},
		schemas.PromptID.From(prompts), schemas.ResponseID.From(ids), schemas.Response.From(texts), schemas.ResponseTokens.FromRows(tokens),
		schemas.OldLogP.FromRows(logp, scored...).Defined(schemas.FullLogP("m")), schemas.CandidateIDs.FromRows(candidates),
		schemas.Outcome.From(outcomes, known...), schemas.GroupValid.From(flags))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// writeAll writes the batches on the embedded runner and returns the files' contents by name.
func writeAll(t testing.TB, out recordio.Output, in []stage.Batch) map[string][]byte {
	t.Helper()
	out.Dir = t.TempDir()
	p, s := beam.NewPipelineWithRoot()
	recordio.Write(s, out, stage.Store{Dir: t.TempDir()}, stagetest.Source(s, in))
	stagetest.Execute(t, p)
	files := map[string][]byte{}
	entries, err := os.ReadDir(out.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(out.Dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = raw
	}
	return files
}

func read(t testing.TB, name string, raw []byte) stage.Batch {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	var parts []stage.Batch
	err := recordio.ReadFile(context.Background(), path, func(b stage.Batch) error {
		if _, err := b.Groups(); err != nil {
			t.Error(err)
		}
		parts = append(parts, b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return stagetest.Join(t, parts)
}

func TestRoundTrip(t *testing.T) {
	in := rollouts(t, 40)
	var rows []int
	for _, g := range stage.SortedGroups(in) {
		for i := g.Lo; i < g.Hi; i++ {
			rows = append(rows, i)
		}
	}
	want, err := in.Take(rows)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{recordio.Parquet, recordio.Arrow} {
		for _, rowGroup := range []int{0, 7} {
			files := writeAll(t, recordio.Output{Name: "batch", Format: format, RowGroupRows: rowGroup}, []stage.Batch{in})
			name := "batch-00000-of-00001." + format
			if len(files) != 1 || files[name] == nil {
				t.Fatalf("%s: files %d", format, len(files))
			}
			stagetest.Same(t, format, read(t, name, files[name]), want)
		}
	}
}

// Writing lists of lists, such as the candidates of every token, takes memory in proportion to them: Arrow's writer would copy
// all levels of a page at every run of theirs.
func TestListsOfListsInLinearSpace(t *testing.T) {
	const rows, tokens, listed = 400, 40, 26
	p := uuid.NewSHA1(uuid.Nil, nil)
	var prompts, ids []uuid.UUID
	var candidates [][][]int32
	for i := range rows {
		lists := make([][]int32, tokens)
		for t := range lists {
			lists[t] = make([]int32, listed)
		}
		prompts, ids = append(prompts, p), append(ids, uuid.NewSHA1(p, fmt.Append(nil, i)))
		candidates = append(candidates, lists)
	}
	b, err := schemas.NewRecord(schemas.Meta{}, schemas.PromptID.From(prompts), schemas.ResponseID.From(ids),
		schemas.CandidateIDs.FromRows(candidates))
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	writeAll(t, recordio.Output{Name: "batch"}, []stage.Batch{b})
	runtime.ReadMemStats(&after)
	const size = 4 * rows * tokens * listed
	if got := after.TotalAlloc - before.TotalAlloc; got > 500*size {
		t.Errorf("writing %d bytes allocated %d times as much", size, got/size)
	} else {
		t.Logf("allocated %d times the %d bytes written", got/size, size)
	}
}

// The bytes must not depend on how rows came in.
func TestBytesDependOnRowsAlone(t *testing.T) {
	in := rollouts(t, 30)
	groups := stagetest.Groups(t, in)
	backwards := slices.Clone(groups)
	slices.Reverse(backwards)
	for _, out := range []recordio.Output{
		{Name: "one", RowGroupRows: 10}, {Name: "three", Shards: 3}, {Name: "arrow", Format: recordio.Arrow, RowGroupRows: 10},
	} {
		want := writeAll(t, out, []stage.Batch{in})
		for what, split := range map[string][]stage.Batch{
			"group by group": groups, "backwards": backwards,
			"in two":                {in.Slice(0, groups[0].NumRows()), in.Slice(groups[0].NumRows(), in.NumRows())},
			"twice the same bundle": append(slices.Clone(groups), groups[3]),
		} {
			got := writeAll(t, out, split)
			if len(got) != len(want) {
				t.Errorf("%s, %s: %d files, want %d", out.Name, what, len(got), len(want))
			}
			for name := range want {
				if !bytes.Equal(got[name], want[name]) {
					t.Errorf("%s, %s: %s has other bytes", out.Name, what, name)
				}
			}
		}
	}
}

func TestManyFilesAreMergedInRounds(t *testing.T) {
	in := rollouts(t, 600) // one stored file each, above what is merged at once
	want := writeAll(t, recordio.Output{Name: "x"}, []stage.Batch{in})
	got := writeAll(t, recordio.Output{Name: "x"}, stagetest.Groups(t, in))
	for name := range want {
		if !bytes.Equal(got[name], want[name]) {
			t.Errorf("%s has other bytes", name)
		}
	}
}

// Files of shards, merged, are the rows of one file in its order.
func TestReadMerged(t *testing.T) {
	in := rollouts(t, 40)
	merged := func(shards int) (string, []string) {
		out := recordio.Output{Dir: t.TempDir(), Name: "x", Shards: shards, RowGroupRows: 10}
		p, s := beam.NewPipelineWithRoot()
		recordio.Write(s, out, stage.Store{Dir: t.TempDir()}, stagetest.Source(s, stagetest.Groups(t, in)))
		stagetest.Execute(t, p)
		paths, err := out.Files(context.Background())
		if err != nil || len(paths) != shards {
			t.Fatalf("%d shards: %v, %v", shards, paths, err)
		}
		var ids strings.Builder
		err = recordio.ReadMerged(context.Background(), paths, func(b stage.Batch) error {
			for _, id := range b.RowIDs() {
				ids.WriteString(id.String())
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return ids.String(), paths
	}
	want, _ := merged(1)
	got, paths := merged(3)
	if got != want {
		t.Error("three files have other rows than one, or in another order")
	}
	stop := errors.New("enough")
	if err := recordio.ReadMerged(context.Background(), paths, func(stage.Batch) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("reading went on: %v", err)
	}
	os.Truncate(paths[1], 100)
	if err := recordio.ReadMerged(context.Background(), paths, func(stage.Batch) error { return nil }); err == nil ||
		!strings.Contains(err.Error(), paths[1]) {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestReadInPipeline(t *testing.T) {
	in := rollouts(t, 20)
	files := writeAll(t, recordio.Output{Name: "x", Shards: 2}, []stage.Batch{in})
	dir := t.TempDir()
	var paths []string
	for name, raw := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	slices.Sort(paths)
	out, _ := stagetest.Collect(t, stagetest.Groups(t, in), func(s beam.Scope, _ stage.Rows) (stage.Rows, stage.Rows) {
		return recordio.Read(s, paths), stagetest.Source(s, nil)
	})
	if out.NumRows() != in.NumRows() {
		t.Errorf("%d rows, want %d", out.NumRows(), in.NumRows())
	}
}

func TestDamagedFiles(t *testing.T) {
	files := writeAll(t, recordio.Output{Name: "x"}, []stage.Batch{rollouts(t, 5)})
	maps.Copy(files, writeAll(t, recordio.Output{Name: "y", Format: recordio.Arrow}, []stage.Batch{rollouts(t, 2)}))
	dir := t.TempDir()
	for name, raw := range files {
		cuts := []int{0, 1, 10, len(raw) / 2, len(raw) - 1}
		if strings.HasSuffix(name, recordio.Arrow) { // nothing at its end says how much there is
			cuts = nil
			for cut := range len(raw) {
				cuts = append(cuts, cut)
			}
		}
		for _, cut := range cuts {
			path := filepath.Join(dir, name)
			os.WriteFile(path, raw[:cut], 0o644)
			if err := recordio.ReadFile(context.Background(), path, func(stage.Batch) error { return nil }); err == nil ||
				!strings.Contains(err.Error(), name) {
				t.Errorf("%s cut to %d bytes: %v", name, cut, err)
			}
		}
		for i := 0; i < len(raw); i += 37 {
			damaged := slices.Clone(raw)
			damaged[i] ^= 0x55
			path := filepath.Join(dir, name)
			os.WriteFile(path, damaged, 0o644)
			recordio.ReadFile(context.Background(), path, func(b stage.Batch) error { return nil }) // any error, no panic
		}
	}
}

func TestValidate(t *testing.T) {
	for want, o := range map[string]recordio.Output{
		"dir": {Name: "x"}, "name": {Dir: "d", Name: "a/b"}, "format": {Dir: "d", Name: "x", Format: "csv"},
		"shards": {Dir: "d", Name: "x", Shards: -1},
	} {
		if err := o.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
