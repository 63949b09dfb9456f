package stage_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// Doubler makes two responses of each prompt, and none of one named "none". It counts how often it works.
type Doubler struct{ Salt int }

var worked atomic.Int64

func (c *Doubler) Contract() schemas.Contract {
	return schemas.Contract{Name: "doubler", Needs: []schemas.Descriptor{schemas.PromptID, schemas.Prompt},
		Adds: []schemas.Descriptor{schemas.ResponseID, schemas.ResponseTokens}, Rows: schemas.OtherRows, Origin: []schemas.ID{schemas.PromptID}}
}

func (c *Doubler) Setup(context.Context) error { return nil }

func (c *Doubler) Map(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	worked.Add(1)
	prompts := schemas.Prompt.Of(b)
	var rows []int
	var ids []uuid.UUID
	var tokens [][]int32
	for i := range b.NumRows() {
		switch prompts.At(i) {
		case "none":
			dead.Rowf(i, schemas.ReasonModel, "no")
			continue
		case "skip":
			dead.Filter(i)
			continue
		}
		for k := range 2 {
			rows = append(rows, i)
			ids = append(ids, uuid.NewSHA1(schemas.PromptID.Of(b)[i], []byte{byte(k)}))
			tokens = append(tokens, make([]int32, len(prompts.At(i))+c.Salt))
		}
	}
	out, err := b.Take(rows)
	if err != nil {
		return b, err
	}
	return out.With(schemas.ResponseID.From(ids), schemas.ResponseTokens.FromRows(tokens))
}

func init() { stage.Register[Doubler]() }

func prompts(t testing.TB, texts ...string) stage.Batch {
	t.Helper()
	ids := make([]uuid.UUID, len(texts))
	for i, s := range texts {
		ids[i] = uuid.NewSHA1(uuid.Nil, []byte(s))
	}
	b, err := schemas.NewRecord(schemas.Meta{Run: "test", Seed: 1}, schemas.PromptID.From(ids), schemas.Prompt.From(texts))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestApplyOnce(t *testing.T) {
	in := prompts(t, "a", "bb", "none", "skip", "ccc")
	want, _ := stagetest.Run(t, Doubler{}, in)
	dir := t.TempDir()
	run := func(cfg Doubler) (out, dead stage.Batch, calls int64) {
		before := worked.Load()
		out, dead = stagetest.Collect(t, stagetest.Groups(t, in), func(s beam.Scope, p stage.Rows) (stage.Rows, stage.Rows) {
			return stage.ApplyOnce(s, cfg, stage.Store{Dir: dir}, p)
		})
		return out, dead, worked.Load() - before
	}
	out, dead, calls := run(Doubler{})
	stagetest.Same(t, "rows", out, want)
	stagetest.Dead(t, dead, schemas.ReasonModel)
	if calls != 5 {
		t.Errorf("worked %d times on 5 batches", calls)
	}
	again, deadAgain, calls := run(Doubler{})
	stagetest.Same(t, "rows of the second run", again, out)
	stagetest.Same(t, "dead letters of the second run", deadAgain, dead)
	if calls != 0 {
		t.Errorf("the second run worked %d times", calls)
	}
	if _, _, calls = run(Doubler{Salt: 1}); calls != 5 {
		t.Errorf("with other settings it worked %d times", calls)
	}
	// A file that was damaged is made again.
	paths, _ := filepath.Glob(filepath.Join(dir, "*.arrow"))
	for _, f := range paths {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)/2] ^= 1
		if err := os.WriteFile(f, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	again, _, calls = run(Doubler{})
	stagetest.Same(t, "rows after damage", again, out)
	if calls == 0 {
		t.Error("damaged files were believed")
	}
	left, _ := filepath.Glob(filepath.Join(dir, ".millrace-tmp-*"))
	if len(left) > 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestStore(t *testing.T) {
	ctx, store := context.Background(), stage.Store{Dir: t.TempDir()}
	in := prompts(t, "a", "bb", "ccc")
	d, err := store.Put(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	out, err := store.Get(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	ids := schemas.PromptID.Of(out)
	if len(ids) != 3 || !slices.IsSortedFunc(ids, func(a, b uuid.UUID) int { return strings.Compare(a.String(), b.String()) }) {
		t.Errorf("ids %v are not three in order", ids)
	}
	if d.ID != ids[0].String() || d.Rows != 3 || d.Groups != 3 {
		t.Errorf("descriptor %+v", d)
	}
	path := filepath.Join(store.Dir, d.File)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(raw)) != d.Bytes {
		t.Errorf("%d bytes in the file, %d in the descriptor", len(raw), d.Bytes)
	}
	for what, damaged := range map[string][]byte{"shorter": raw[:len(raw)-8], "longer": append(slices.Clone(raw), 0),
		"other": append([]byte{1}, raw[1:]...)} {
		if err := os.WriteFile(path, damaged, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Get(ctx, d); err == nil || !strings.Contains(err.Error(), d.File) {
			t.Errorf("%s file: error %v", what, err)
		}
	}
	os.Remove(path)
	if _, err := store.Get(ctx, d); err == nil {
		t.Error("a missing file was read")
	}
}

// On an object store there is no rename; Beam's filesystem in memory stands for one.
func TestStoreOnAnotherFilesystem(t *testing.T) {
	ctx, store := context.Background(), stage.Store{Dir: "memfs://run/iter-0"}
	d, err := store.Put(ctx, prompts(t, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := store.Get(ctx, d); err != nil || b.NumRows() != 1 {
		t.Errorf("%d rows, %v", b.NumRows(), err)
	}
	if paths, err := files.List(ctx, "memfs://run/iter-0/*.arrow"); err != nil || len(paths) != 1 {
		t.Errorf("files %v, %v", paths, err)
	}
}

func TestExchange(t *testing.T) {
	in := prompts(t, "a", "bb", "ccc", "dddd")
	store := stage.Store{Dir: t.TempDir()}
	out, _ := stagetest.Collect(t, stagetest.Groups(t, in), func(s beam.Scope, p stage.Rows) (stage.Rows, stage.Rows) {
		return stage.Exchange(s, store, p), stagetest.Source(s, nil)
	})
	stagetest.Same(t, "rows", out, in)
}
