package schemas

import (
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/google/uuid"
)

// Rows that are gathered are those that are cut out and put together, of every kind of column, with nulls, in slices of slices.
func TestTakeIsSlicesAppended(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		n := 1 + r.IntN(40)
		ids, texts, bytes := make([]uuid.UUID, n), make([]string, n), make([][]byte, n)
		numbers, flags, lists, nested := make([]float32, n), make([]bool, n), make([][]int32, n), make([][][]float32, n)
		known, knownLists := make([]bool, n), make([]bool, n)
		for i := range n {
			ids[i], texts[i] = uuid.NewSHA1(uuid.Nil, []byte{byte(i)}), string(make([]byte, r.IntN(5)))
			bytes[i], numbers[i], flags[i] = make([]byte, r.IntN(3)), r.Float32(), r.IntN(2) == 0
			for range r.IntN(4) {
				lists[i] = append(lists[i], r.Int32N(100))
				nested[i] = append(nested[i], make([]float32, r.IntN(3)))
			}
			known[i], knownLists[i] = r.IntN(3) > 0, r.IntN(3) > 0
		}
		b, err := NewRecord(Meta{Run: "a"}, PromptID.From(ids), Prompt.From(texts), Extra.From(texts, known...), DeadRow.From(bytes),
			Outcome.From(numbers, known...), GroupValid.From(flags), ResponseTokens.FromRows(lists), LossMask.FromRows(lists, knownLists...),
			CandidateOldLogP.FromRows(nested, knownLists...))
		if err != nil {
			t.Fatal(err)
		}
		// A time, as other programs' files may hold.
		fields := append(b.Arrow().Schema().Fields(), arrow.Field{Name: "time", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true})
		columns := append(b.Arrow().Columns(), array.MakeArrayOfNull(memory.DefaultAllocator, fields[len(fields)-1].Type, n))
		md := b.Arrow().Schema().Metadata()
		if b, err = FromArrow(array.NewRecord(arrow.NewSchema(fields, &md), columns, int64(n))); err != nil {
			t.Fatal(err)
		}
		lo := r.IntN(n)
		b = b.Slice(lo, lo+1+r.IntN(n-lo))
		take := make([]int, 2+r.IntN(2*n))
		var parts []Record
		for i := range take {
			take[i] = r.IntN(b.NumRows())
			parts = append(parts, b.Slice(take[i], take[i]+1))
		}
		got, err := b.Take(take)
		if err != nil {
			t.Fatal(err)
		}
		want, err := Append(parts...)
		if err != nil {
			t.Fatal(err)
		}
		if !array.RecordEqual(got.Arrow(), want.Arrow()) {
			t.Fatalf("rows %v of\n%v\nare\n%v\nwant\n%v", take, b.Arrow(), got.Arrow(), want.Arrow())
		}
		x, errX := got.MarshalBinary()
		y, errY := want.MarshalBinary()
		if errX != nil || errY != nil || string(x) != string(y) {
			t.Fatalf("written they are others: %v, %v", errX, errY)
		}
	}
}
