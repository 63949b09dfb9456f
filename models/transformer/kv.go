package transformer

import (
	"fmt"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
)

// KV is the key/value cache of one sequence.
type KV struct {
	n, capacity int         // tokens held, tokens there is room for
	groups, dim int         // G, d
	width       int         // G·d
	k, v        [][]float32 // per layer: keys as kernels.CacheKeys lays them out, values [capacity, G·d]
}

// NewKV makes an empty cache for up to capacity tokens.
func (m *Model) NewKV(capacity int) *KV {
	kv := &KV{capacity: capacity, groups: m.config.KVHeads, dim: m.config.HeadDim, width: m.config.KVHeads * m.config.HeadDim}
	keys, values := kernels.KeyRows(capacity)*kv.width, capacity*kv.width
	all := kernels.Make[float32](len(m.layers) * (keys + values))
	for range m.layers {
		kv.k, all = append(kv.k, all[:keys:keys]), all[keys:]
		kv.v, all = append(kv.v, all[:values:values]), all[values:]
	}
	return kv
}

// KVBytes is the memory of a cache of that capacity.
func (m *Model) KVBytes(capacity int) int {
	return 4 * len(m.layers) * (kernels.KeyRows(capacity) + capacity) * m.config.KVHeads * m.config.HeadDim
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
	for l := range kv.k {
		copy(kv.k[l], src.k[l][:kernels.KeyRows(src.n)*src.width])
		copy(kv.v[l], src.v[l][:src.n*src.width])
	}
	kv.n = src.n
}

// append adds rows [rows,G·d] of one layer behind the tokens held; n is advanced by the caller, after the last layer.
func (kv *KV) append(l int, k, v []float32) {
	kernels.CacheKeys(kv.k[l], k, kv.n, len(k)/kv.width, kv.groups, kv.dim)
	copy(kv.v[l][kv.n*kv.width:], v)
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
			w.rows.attention(m.config, &w.keys, a)
			kernels.Parallel(len(caches), 1, func(from, to int) {
				for b := from; b < to; b++ {
					kv := caches[b]
					lo, hi := batch.Starts[b]*kv.width, batch.Starts[b+1]*kv.width
					kv.append(l, a.k[lo:hi], a.v[lo:hi])
				}
			})
		}
	})
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
				w.caches[b] = kernels.Cache{Keys: kv.k[l], Values: kv.v[l], N: kv.n}
			}
			kernels.AttentionDecode(a.y, a.q, a.k, a.v, w.caches, c.Heads, c.KVHeads, c.HeadDim)
		}
	})
	for _, kv := range caches {
		kv.n++
	}
	return h, nil
}
