package recordio

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// inMemoryBytes is how much is sorted in memory. Beyond it stored batches are merged, which holds a message of each and handles every
// prompt group by itself.
const inMemoryBytes = 96 << 20

// all writes the rows of stored batches in the order of their prompts. The bytes are the same either way.
func (w *writer) all(ctx context.Context, store stage.Store, in []stage.Stored) error {
	bytes := int64(0)
	for _, d := range in {
		bytes += d.Bytes
	}
	if bytes > inMemoryBytes {
		return merge(ctx, store, in, w.add)
	}
	return w.sorted(ctx, store, in)
}

// placed is a prompt group of one of the batches.
type placed struct {
	key string
	at  int // of its batch
	schemas.Group
	first int // row among those of all batches
}

// sorted reads everything, and takes row groups of it.
func (w *writer) sorted(ctx context.Context, store stage.Store, in []stage.Stored) error {
	var batches []stage.Batch
	var metas []schemas.Meta
	var groups []placed
	rows := 0
	for _, d := range in {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := store.Get(ctx, d)
		if err != nil {
			return err
		}
		if b.NumRows() == 0 {
			continue
		}
		key := stage.RowKeys(b)
		for _, g := range stage.SortedGroups(b) {
			groups = append(groups, placed{key(g.Lo), len(batches), g, rows + g.Lo})
		}
		batches, metas, rows = append(batches, b), append(metas, b.Meta()), rows+b.NumRows()
	}
	if len(batches) == 0 {
		return nil
	}
	raw := func(p placed) []byte { // tells groups of one key apart, as a merge does
		b, _ := batches[p.at].Slice(p.Lo, p.Hi).WithMeta(schemas.Meta{}).MarshalBinary()
		return b
	}
	slices.SortStableFunc(groups, func(a, b placed) int {
		if c := cmp.Compare(a.key, b.key); c != 0 {
			return c
		}
		return bytes.Compare(raw(a), raw(b))
	})
	meta := schemas.MergeMeta(metas...)
	// The first group gives the order of the columns.
	all, err := schemas.Append(append([]stage.Batch{batches[groups[0].at].Slice(0, 0)}, batches...)...)
	if err != nil {
		return err
	}
	all = all.WithMeta(meta)
	var take []int
	size := 0
	flush := func() error {
		if len(take) == 0 {
			return nil
		}
		b, err := all.Take(take)
		if err != nil {
			return err
		}
		take, size = take[:0], 0
		return w.write(b)
	}
	for _, g := range groups {
		size += all.SizeOf(g.first, g.first+g.Hi-g.Lo)
		for i := range g.Hi - g.Lo {
			take = append(take, g.first+i)
		}
		if len(take) >= w.out.RowGroupRows || size >= w.out.RowGroupBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}
