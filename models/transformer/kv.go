package transformer

import (
	"fmt"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
)

// KV is the key/value cache of one sequence.
type KV struct {
	n, capacity int // tokens held, tokens there is room for
	groups, dim int // G, d
	precision   kernels.Precision
	layers      []kernels.Cache
}

// NewKV makes an empty cache for up to capacity tokens.
func (m *Model) NewKV(capacity int) *KV {
	kv := &KV{capacity: capacity, groups: m.config.KVHeads, dim: m.config.HeadDim, precision: m.precision}
	keys, values := kv.size(capacity)
	all := kernels.Make[float32](len(m.layers) * (keys + values))
	for range m.layers {
		kv.layers = append(kv.layers, kernels.Cache{Keys: all[:keys:keys], Values: all[keys : keys+values : keys+values]})
		all = all[keys+values:]
	}
	return kv
}

// size is what the keys and values of n tokens take in a layer.
func (kv *KV) size(n int) (keys, values int) { return kv.precision.CacheSize(n, kv.groups, kv.dim) }

// KVBytes is the memory of a cache of that capacity.
func (m *Model) KVBytes(capacity int) int {
	return int(CacheBytes(m.config, m.precision, capacity))
}

// Len is the number of tokens held, Capacity the number there is room for.
func (kv *KV) Len() int      { return kv.n }
func (kv *KV) Capacity() int { return kv.capacity }

// Reset empties the cache.
func (kv *KV) Reset() { kv.n = 0 }

// CopyFrom makes the cache hold what src of the same model holds, so that the prompt of a group is computed once.
func (kv *KV) CopyFrom(src *KV) {
	if src.n > kv.capacity {
		panic("transformer: cache too small for the copy")
	}
	keys, values := kv.size(src.n)
	for l, from := range src.layers {
		copy(kv.layers[l].Keys, from.Keys[:keys])
		copy(kv.layers[l].Values, from.Values[:values])
	}
	kv.n = src.n
}

// append adds rows [rows,G·d] of one layer behind the tokens held; n is advanced by the caller, after the last layer.
func (kv *KV) append(l int, k, v []float32) {
	kv.precision.CacheRows(kv.layers[l], k, v, kv.n, len(k)/(kv.groups*kv.dim), kv.groups, kv.dim)
}

// Prefill runs the packed sequences and fills one empty cache for each. It returns the hidden rows [B,D] of their last
// tokens, valid until the workspace is used again.
func (m *Model) Prefill(w *Workspace, batch models.Packed, caches []*KV) ([]float32, error) {
	if err := m.check(batch); err != nil {
		return nil, err
	}
	if len(caches) != len(batch.Starts)-1 {
		return nil, fmt.Errorf("transformer: %d caches for %d sequences", len(caches), len(batch.Starts)-1)
	}
	for b, kv := range caches {
		if n := batch.Starts[b+1] - batch.Starts[b]; kv.n != 0 || n > kv.capacity {
			return nil, fmt.Errorf("transformer: cache %d holds %d of %d tokens, %d are to be added", b, kv.n, kv.capacity, n)
		}
	}
	w.rows.set(batch, false)
	h := m.run(w, w.rows.tokens, w.rows.pos, func(l int) attend {
		return func(a *activations) {
			w.rows.attention(m.shape(), &w.keys, a)
			kernels.Parallel(len(caches), 1, func(from, to int) {
				for b := from; b < to; b++ {
					kv := caches[b]
					width := kv.groups * kv.dim
					lo, hi := batch.Starts[b]*width, batch.Starts[b+1]*width
					kv.append(l, a.k[lo:hi], a.v[lo:hi])
				}
			})
		}
	})
	if h == nil {
		return nil, ErrStopped
	}
	d := m.config.Hidden
	for b, kv := range caches {
		end := batch.Starts[b+1]
		kv.n = end - batch.Starts[b]
		copy(h[b*d:(b+1)*d], h[(end-1)*d:end*d]) // never overwrites a row that is still to be read: end-1 >= b
	}
	return h[:len(caches)*d], nil
}

// Decode runs one more token of every cached sequence and adds it to its cache. It returns the hidden rows [B,D], valid
// until the workspace is used again: the same bits as a forward pass over the whole sequences.
func (m *Model) Decode(w *Workspace, tokens []int32, caches []*KV) ([]float32, error) {
	if len(caches) != len(tokens) {
		return nil, fmt.Errorf("transformer: %d caches for %d tokens", len(caches), len(tokens))
	}
	fit(&w.rows.pos, len(tokens))
	for b, kv := range caches {
		switch {
		case kv.n >= kv.capacity || kv.n >= m.config.maxPositions():
			return nil, &SequenceError{b, fmt.Sprintf("no room for token %d", kv.n)}
		case tokens[b] < 0 || int(tokens[b]) >= m.config.Vocab:
			return nil, &SequenceError{b, fmt.Sprintf("token %d is not in the vocabulary [0, %d)", tokens[b], m.config.Vocab)}
		}
		w.rows.pos[b] = int32(kv.n)
	}
	c := m.config
	fit(&w.caches, len(caches))
	h := m.run(w, tokens, w.rows.pos, func(l int) attend {
		return func(a *activations) {
			for b, kv := range caches {
				w.caches[b] = kv.layers[l]
				w.caches[b].N = kv.n
			}
			m.precision.AttentionDecode(a.y, a.q, a.k, a.v, w.caches, c.Heads, c.KVHeads, c.HeadDim)
		}
	})
	if h == nil {
		return nil, ErrStopped
	}
	for _, kv := range caches {
		kv.n++
	}
	return h, nil
}
