package tokenizer

import "container/heap"

// merges holds the pairs that byte-pair encoding joins, by the ids of their sides.
type merges map[[2]int32]merge

type merge struct {
	rank int32 // the lower, the earlier
	id   int32 // of the joined token
}

// shortWord is the number of symbols up to which looking at all pairs again after every merge is faster than a heap.
const shortWord = 24

// apply joins the neighbouring pair of the lowest rank (of equal ones the leftmost) until no pair can be joined, in time
// n log n. It may overwrite word.
func (m merges) apply(word []int32) []int32 {
	if len(word) <= shortWord {
		return m.applyShort(word)
	}
	return m.applyLong(word)
}

func (m merges) applyShort(word []int32) []int32 {
	for len(word) > 1 {
		best, at := merge{rank: -1}, -1
		for i := range len(word) - 1 {
			if j, ok := m[[2]int32{word[i], word[i+1]}]; ok && (at < 0 || j.rank < best.rank) {
				best, at = j, i
			}
		}
		if at < 0 {
			break
		}
		word[at] = best.id
		word = append(word[:at+1], word[at+2:]...)
	}
	return word
}

// candidate is a pair that could be joined when it was queued. It is stale when either side has changed since.
type candidate struct {
	merge
	left, right         int32 // positions
	leftSize, rightSize int32 // in original symbols
}

type candidates []candidate

func (c candidates) Len() int { return len(c) }
func (c candidates) Less(i, j int) bool {
	return c[i].rank < c[j].rank || c[i].rank == c[j].rank && c[i].left < c[j].left
}
func (c candidates) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c *candidates) Push(x any)   { *c = append(*c, x.(candidate)) }
func (c *candidates) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

func (m merges) applyLong(word []int32) []int32 {
	n := int32(len(word))
	prev, next := make([]int32, n), make([]int32, n)
	size := make([]int32, n) // 0: joined into a symbol further left
	for i := range n {
		prev[i], next[i], size[i] = i-1, i+1, 1
	}
	var queue candidates
	pair := func(left, right int32) (candidate, bool) {
		j, ok := m[[2]int32{word[left], word[right]}]
		return candidate{j, left, right, size[left], size[right]}, ok
	}
	for i := range n - 1 {
		if c, ok := pair(i, i+1); ok {
			queue = append(queue, c)
		}
	}
	heap.Init(&queue)
	for len(queue) > 0 {
		c := heap.Pop(&queue).(candidate)
		// A symbol only ever grows, so equal sizes mean that both sides are what they were.
		if size[c.left] != c.leftSize || size[c.right] != c.rightSize || next[c.left] != c.right {
			continue
		}
		word[c.left] = c.id
		size[c.left] += size[c.right]
		size[c.right] = 0
		next[c.left] = next[c.right]
		if after := next[c.left]; after < n {
			prev[after] = c.left
			if c, ok := pair(c.left, after); ok {
				heap.Push(&queue, c)
			}
		}
		if before := prev[c.left]; before >= 0 {
			if c, ok := pair(before, c.left); ok {
				heap.Push(&queue, c)
			}
		}
	}
	out := word[:0]
	for i := int32(0); i < n; i = next[i] {
		out = append(out, word[i])
	}
	return out
}
