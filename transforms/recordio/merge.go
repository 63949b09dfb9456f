package recordio

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// maxOpen is how many sorted files are merged at once; more are merged in rounds.
const maxOpen = 256

// source gives prompt groups in the order of their keys, io.EOF after the last.
type source interface {
	Next() (stage.Batch, error)
	Close() error
}

// merge gives the prompt groups of all stored batches in the order of their keys. Each call of emit gets one group; meta
// is that of all rows together.
func merge(ctx context.Context, store stage.Store, in []stage.Stored, emit func(meta schemas.Meta, group stage.Batch) error) error {
	opens := make([]func() (source, error), len(in))
	for i, d := range in {
		opens[i] = func() (source, error) {
			r, err := store.Open(ctx, d)
			if err != nil {
				return nil, err
			}
			return r, nil
		}
	}
	for len(opens) > maxOpen {
		var next []func() (source, error)
		for lo := 0; lo < len(opens); lo += maxOpen {
			spill, err := spillMerged(ctx, opens[lo:min(lo+maxOpen, len(opens))])
			if err != nil {
				return err
			}
			defer spill.remove()
			next = append(next, spill.open)
		}
		opens = next
	}
	return mergeOpen(ctx, opens, emit)
}

func mergeOpen(ctx context.Context, opens []func() (source, error), emit func(schemas.Meta, stage.Batch) error) (err error) {
	var h groups
	defer func() {
		for _, g := range h {
			err = errors.Join(err, g.from.Close())
		}
	}()
	var metas []schemas.Meta
	for _, open := range opens {
		src, err := open()
		if err != nil {
			return err
		}
		g := &group{from: src}
		if err := g.next(); err == io.EOF {
			src.Close()
			continue
		} else if err != nil {
			return errors.Join(err, src.Close())
		}
		metas = append(metas, g.batch.Meta())
		h = append(h, g)
	}
	meta := schemas.MergeMeta(metas...)
	heap.Init(&h)
	for len(h) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		g := h[0]
		if err := emit(meta, g.batch.WithMeta(meta)); err != nil {
			return err
		}
		switch err := g.next(); err {
		case nil:
			heap.Fix(&h, 0)
		case io.EOF:
			heap.Pop(&h)
			if err := g.from.Close(); err != nil {
				return err
			}
		default:
			return err
		}
	}
	return nil
}

// group is the next prompt group of one source.
type group struct {
	from  source
	batch stage.Batch
	key   string
	raw   []byte // encoded, when it was needed to tell groups of one key apart
}

func (g *group) next() (err error) {
	if g.batch, err = g.from.Next(); err != nil {
		return err
	}
	g.key, g.raw = stage.RowKey(g.batch, 0), nil
	return nil
}

func (g *group) bytes() []byte {
	if g.raw == nil {
		g.raw, _ = g.batch.WithMeta(schemas.Meta{}).MarshalBinary() // a group that cannot be encoded fails when it is written
	}
	return g.raw
}

// groups is a heap by key. Groups of one key, as of a prompt that a stage split, lie in the order of their bytes, so
// that the order does not depend on the files they came from.
type groups []*group

func (h groups) Len() int { return len(h) }
func (h groups) Less(i, j int) bool {
	if h[i].key != h[j].key {
		return h[i].key < h[j].key
	}
	return bytes.Compare(h[i].bytes(), h[j].bytes()) < 0
}
func (h groups) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *groups) Push(x any)   { *h = append(*h, x.(*group)) }
func (h *groups) Pop() any {
	old := *h
	g := old[len(old)-1]
	*h = old[:len(old)-1]
	return g
}

// spill is a merged round in a temporary file of this machine.
type spill struct{ path string }

func spillMerged(ctx context.Context, opens []func() (source, error)) (*spill, error) {
	f, err := os.CreateTemp("", "millrace-merge-")
	if err != nil {
		return nil, err
	}
	s := &spill{f.Name()}
	w := schemas.NewStreamWriter(f)
	err = mergeOpen(ctx, opens, func(_ schemas.Meta, g stage.Batch) error { return w.Write(g) })
	if err == nil {
		err = w.Close()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		s.remove()
		return nil, fmt.Errorf("merge: %w", err)
	}
	return s, nil
}

func (s *spill) open() (source, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &spillReader{schemas.NewStreamReader(f, info.Size()), f}, nil
}

func (s *spill) remove() { os.Remove(s.path) }

type spillReader struct {
	*schemas.StreamReader
	file *os.File
}

func (r *spillReader) Close() error { return r.file.Close() }
