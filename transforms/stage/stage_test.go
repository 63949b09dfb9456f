package stage

import (
	"context"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/io/filesystem/memfs"
	"github.com/google/uuid"
	"github.com/millrace/millrace/schemas"
)

func sample(t testing.TB, groups, rows, tokens int) Batch {
	t.Helper()
	var prompts, ids []uuid.UUID
	var lists [][]int32
	for g := range groups {
		p := uuid.NewSHA1(uuid.Nil, []byte{byte(g)})
		for r := range rows {
			prompts, ids = append(prompts, p), append(ids, uuid.NewSHA1(p, []byte{byte(r)}))
			lists = append(lists, make([]int32, tokens*(g+1)))
		}
	}
	b, err := schemas.NewRecord(schemas.Meta{}, schemas.PromptID.From(prompts), schemas.ResponseID.From(ids),
		schemas.ResponseTokens.FromRows(lists))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSplit(t *testing.T) {
	b := sample(t, 4, 2, 1000) // groups of 8, 16, 24 and 32 KB
	parts, dead, err := Split(b, "x", 30_000)
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, p := range parts {
		raw, err := p.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if len(raw) > 30_000 {
			t.Errorf("a part takes %d bytes", len(raw))
		}
		if gs, err := p.Groups(); err != nil || gs[0].Len() != 2 {
			t.Errorf("a group was cut: %v, %v", gs, err)
		}
		rows += p.NumRows()
	}
	if rows != 6 || len(dead) != 2 || dead[0].Reason != schemas.ReasonTooLarge {
		t.Errorf("%d rows kept, dead letters %+v", rows, dead)
	}
	if !strings.Contains(dead[0].Message, "max_record_bytes (30000)") {
		t.Errorf("message %q", dead[0].Message)
	}
}

// grow makes 100 rows of each row.
func TestTooLargeOutput(t *testing.T) {
	b := sample(t, 3, 1, 10)
	c := schemas.Contract{Name: "grow", Rows: schemas.OtherRows, Origin: []schemas.ID{schemas.PromptID}}
	res, err := run(context.Background(), c, func() string { return "" }, 4000, b,
		func(_ context.Context, b Batch, _ *DeadLetters) (Batch, error) {
			var rows []int
			for i := range b.NumRows() {
				for range 1 + 100*(i%2) {
					rows = append(rows, i)
				}
			}
			return b.Take(rows)
		})
	if err != nil {
		t.Fatal(err)
	}
	if res.In != 3 || res.Kept != 2 || res.Reasons[schemas.ReasonTooLarge] != 1 || len(res.Out) == 0 {
		t.Errorf("%+v", res)
	}
}

func TestLostRows(t *testing.T) {
	b := sample(t, 3, 1, 10)
	c := schemas.Contract{Name: "sieve", Rows: schemas.OtherRows, Origin: []schemas.ID{schemas.PromptID}}
	_, err := run(context.Background(), c, func() string { return "" }, 0, b, func(_ context.Context, b Batch, _ *DeadLetters) (Batch, error) {
		return b.Slice(1, 3), nil
	})
	if err == nil || err.Error() != "stage sieve loses 1 rows: 3 in, 2 kept, 0 dead, 0 filtered" {
		t.Errorf("error %v", err)
	}
}

func TestConserved(t *testing.T) {
	counter := func(stage, name string, n int64) metrics.CounterResult {
		return metrics.CounterResult{Committed: n, Attempted: n, Key: metrics.StepKey{Namespace: namespace + stage, Name: name}}
	}
	good := []metrics.CounterResult{counter("label", "rows_in", 10), counter("label", "rows_kept", 7), counter("label", "rows_dead", 2),
		counter("label", "rows_dead.empty", 2), counter("label", "rows_filtered", 1), counter("label", "abstained", 4)}
	counts := gather(good)
	if err := conserved(counts); err != nil {
		t.Error(err)
	}
	if c := counts[0]; c.Reasons[schemas.ReasonEmpty] != 2 || c.Other["abstained"] != 4 || c.Stage != "label" {
		t.Errorf("%+v", c)
	}
	err := conserved(gather(append(good, counter("pairs", "rows_in", 5), counter("pairs", "rows_kept", 3))))
	if err == nil || err.Error() != "stage pairs loses 2 rows: 5 in, 3 kept, 0 dead, 0 filtered" {
		t.Errorf("error %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	raw, err := encode(sample(f, 2, 2, 3))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(raw[:len(raw)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := decode(data)
		if err != nil {
			return
		}
		again, err := encode(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(again); err != nil {
			t.Fatal(err)
		}
	})
}

// Every single-bit error and every truncation is seen.
func TestDecodeSeesDamage(t *testing.T) {
	raw, err := encode(sample(t, 1, 1, 3))
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		raw[i] ^= 1 << (i % 8)
		if _, err := decode(raw); err == nil {
			t.Fatalf("bit error in byte %d was not seen", i)
		}
		raw[i] ^= 1 << (i % 8)
		if _, err := decode(raw[:i]); err == nil {
			t.Fatalf("truncation to %d bytes was not seen", i)
		}
	}
}

func TestConfigThatCannotTravel(t *testing.T) {
	if err := travels(struct{ F func() }{}); err == nil {
		t.Error("a function travels")
	}
	if err := travels(struct{ A any }{A: map[string]int{"x": 1}}); err != nil {
		t.Error(err)
	}
	if err := travels(struct {
		A map[string]float64 `json:"-"`
		B int
	}{B: 1}); err != nil {
		t.Error(err)
	}
}
