package stagetest

import (
	"bytes"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// The embedded runner works in the test's own process, so a sink can leave what it gets in a variable.
var (
	sinks    sync.Map // name -> *collected
	sinkName atomic.Int64
)

type collected struct {
	name string
	mu   sync.Mutex
	got  []stage.Batch
}

type sinkFn struct{ Name string }

func (f *sinkFn) ProcessElement(b stage.Batch) {
	c, ok := sinks.Load(f.Name)
	if !ok {
		return
	}
	col := c.(*collected)
	col.mu.Lock()
	defer col.mu.Unlock()
	col.got = append(col.got, b)
}

func sink(s beam.Scope, p stage.Rows) *collected {
	c := &collected{name: strconv.FormatInt(sinkName.Add(1), 10)}
	sinks.Store(c.name, c)
	beam.ParDo0(s, &sinkFn{Name: c.name}, p.PCollection)
	return c
}

func (c *collected) drop() { sinks.Delete(c.name) }

// rows joins what was collected, in the order of the input: bundles arrive in any.
func (c *collected) rows(t testing.TB, in []stage.Batch) stage.Batch {
	t.Helper()
	order := map[string]int{}
	for _, b := range in {
		ids := b.RowIDs()
		if b.Has(schemas.PromptID) {
			ids = append(slices.Clone(ids), schemas.PromptID.Of(b)...)
		}
		for _, id := range ids {
			if _, ok := order[id.String()]; !ok {
				order[id.String()] = len(order)
			}
		}
	}
	rank := func(b stage.Batch) int {
		if b.Has(schemas.DeadRowID) {
			return order[schemas.DeadRowID.Of(b).At(0)]
		}
		var first uuid.UUID
		if b.Has(schemas.PromptID) {
			first = schemas.PromptID.Of(b)[0]
		} else if ids := b.RowIDs(); len(ids) > 0 {
			first = ids[0]
		}
		return order[first.String()]
	}
	slices.SortStableFunc(c.got, func(a, b stage.Batch) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return bytes.Compare(marshal(t, a), marshal(t, b))
	})
	return Join(t, c.got)
}
