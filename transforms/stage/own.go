package stage

import (
	"github.com/millrace/millrace/schemas"
)

// Own are the tokens of a response that the policy wrote. Between them may stand tokens of tools, environments or users (loss_mask 0),
// which models read and of which nothing is learned: what goes by the number of tokens, or from one token to the next, goes by the
// own ones alone. A nil At says that all are.
type Own struct {
	N  int   // all tokens of the response
	At []int // indices of the own ones
}

// OwnOf finds the own tokens of the rows of a batch.
func OwnOf(b Batch) func(row, tokens int) Own {
	mask, err := schemas.LossMask.Find(b)
	if err != nil {
		return func(_, tokens int) Own { return Own{N: tokens} }
	}
	return func(row, tokens int) Own {
		out := Own{N: tokens}
		if m := mask.Row(row); mask.Valid(row) && len(m) == tokens {
			out.At = make([]int, 0, tokens)
			for t, own := range m {
				if own != 0 {
					out.At = append(out.At, t)
				}
			}
		}
		return out
	}
}

// Len is the number of own tokens.
func (o Own) Len() int {
	if o.At == nil {
		return o.N
	}
	return len(o.At)
}

// Pick takes the numbers of own tokens out of one number a token.
func Pick[T any](o Own, x []T) []T {
	if o.At == nil || x == nil {
		return x
	}
	out := make([]T, len(o.At))
	for k, t := range o.At {
		out[k] = x[t]
	}
	return out
}

// Spread puts numbers of own tokens back in their places; between them stands the zero value.
func Spread[T any](o Own, x []T) []T {
	if o.At == nil || x == nil {
		return x
	}
	out := make([]T, o.N)
	for k, t := range o.At {
		out[t] = x[k]
	}
	return out
}

// Hold puts numbers of own tokens back in their places; between them stands the one before, and first before the first.
func Hold[T any](o Own, x []T, first T) []T {
	if o.At == nil || x == nil {
		return x
	}
	out := make([]T, o.N)
	k := 0
	for t := range out {
		if k < len(o.At) && o.At[k] == t {
			first = x[k]
			k++
		}
		out[t] = first
	}
	return out
}

// PickLists takes the lists of own tokens, and of flat numbers, one a listed token, those that belong to them.
func PickLists(o Own, lists schemas.Lists[int32], flat ...[]float64) (schemas.Lists[int32], [][]float64) {
	if o.At == nil {
		return lists, flat
	}
	out := schemas.Lists[int32]{Offsets: []int32{0}}
	picked := make([][]float64, len(flat))
	base := lists.Offsets[0]
	for _, t := range o.At {
		out.Values = append(out.Values, lists.Row(t)...)
		out.Offsets = append(out.Offsets, int32(len(out.Values)))
		for k, x := range flat {
			if x != nil {
				picked[k] = append(picked[k], x[lists.Offsets[t]-base:lists.Offsets[t+1]-base]...)
			}
		}
	}
	return out, picked
}
