package recordio

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// What is sorted in memory and what is merged from files has the same bytes, groups of one key in several files included.
func TestSortedIsMerged(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	store := stage.Store{Dir: t.TempDir()}
	var in []stage.Stored
	for k := range 12 {
		var prompts, ids []uuid.UUID
		var texts []string
		var logp [][]float32
		for _, g := range r.Perm(30)[:10] { // of thirty prompts, so that files share some
			for i := range 1 + r.IntN(3) {
				p := uuid.NewSHA1(uuid.Nil, []byte{byte(g)})
				prompts, ids = append(prompts, p), append(ids, uuid.NewSHA1(p, []byte{byte(k), byte(i)}))
				texts, logp = append(texts, string(make([]byte, r.IntN(50)))), append(logp, make([]float32, r.IntN(9)))
			}
		}
		b, err := schemas.NewRecord(schemas.Meta{Run: "a", Lineage: map[string]string{"response": string(rune('a' + k))}},
			schemas.PromptID.From(prompts), schemas.ResponseID.From(ids), schemas.Response.From(texts), schemas.OldLogP.FromRows(logp))
		if err != nil {
			t.Fatal(err)
		}
		d, err := store.Put(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		in = append(in, d)
	}
	for _, format := range []string{Parquet, Arrow} {
		for _, rows := range []int{1, 7, 1000} {
			var merged, sorted bytes.Buffer
			out := Output{Format: format, RowGroupRows: rows, RowGroupBytes: 1 << 20}.withDefaults()
			w := writer{out: out, to: &merged}
			if err := merge(t.Context(), store, in, w.add); err != nil {
				t.Fatal(err)
			}
			if err := w.close(); err != nil {
				t.Fatal(err)
			}
			v := writer{out: out, to: &sorted}
			if err := v.sorted(t.Context(), store, in); err != nil {
				t.Fatal(err)
			}
			if err := v.close(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(merged.Bytes(), sorted.Bytes()) || w.rows != v.rows {
				t.Errorf("%s in row groups of %d: %d bytes and %d rows merged, %d and %d sorted", format, rows, merged.Len(), w.rows, sorted.Len(),
					v.rows)
			}
		}
	}
}

// A null that has values, as Arrow allows, shifts none of its neighbours, in a file of either format.
func TestNullsWithValues(t *testing.T) {
	known := []bool{true, false, true, false, true}
	ids := make([]uuid.UUID, len(known))
	for i := range ids {
		ids[i] = uuid.NewSHA1(uuid.Nil, []byte{byte(i)})
	}
	b, err := schemas.NewRecord(schemas.Meta{Run: "a"}, schemas.PromptID.From(ids), schemas.ResponseID.From(ids),
		schemas.Extra.From([]string{"a", "lost", "b", "lost", "c"}, known...),
		schemas.LossMask.FromRows([][]int32{{1}, {9, 9}, {0, 1}, {9}, {1, 1}}, known...),
		schemas.CandidateOldLogP.FromRows([][][]float32{{{-1}}, {{-9}, {-9, -9}}, {{-2, -3}}, {{-9}}, {{-4}, {}}}, known...))
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{Parquet, Arrow} {
		store := stage.Store{Dir: t.TempDir()}
		d, err := store.Put(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		out := Output{Dir: t.TempDir(), Name: "batch", Format: format}
		f, err := writeShard(t.Context(), out, store, 0, []stage.Stored{d})
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		err = ReadFile(t.Context(), f.Path, func(got stage.Batch) error {
			for k, id := range schemas.PromptID.Of(got) {
				seen++
				for i := range ids {
					if ids[i] != id {
						continue
					}
					x, y := schemas.LossMask.Of(b), schemas.LossMask.Of(got)
					text, said := schemas.Extra.Of(b).At(i), schemas.Extra.Of(got).At(k)
					if y.Valid(k) != known[i] || known[i] && (!slices.Equal(x.Row(i), y.Row(k)) || text != said) {
						t.Errorf("%s: row %d is %v %q", format, i, y.Row(k), said)
					}
					v, w := schemas.CandidateOldLogP.Of(b).Row(i), schemas.CandidateOldLogP.Of(got).Row(k)
					for j := range v.Len() {
						if known[i] && (w.Len() != v.Len() || !slices.Equal(v.Row(j), w.Row(j))) {
							t.Errorf("%s: row %d: lists %v", format, i, w.Row(j))
						}
					}
				}
			}
			return nil
		})
		if err != nil || seen != len(ids) {
			t.Errorf("%s: %d rows, %v", format, seen, err)
		}
	}
}
