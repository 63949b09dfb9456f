package stage

import (
	"fmt"

	"github.com/millrace/millrace/schemas"
)

// Split cuts a batch into batches of whole prompt groups, none above limit bytes (0: MaxRecordBytes). The rows of a group
// that is larger by itself become dead letters of the named stage.
func Split(b Batch, name string, limit int) ([]Batch, []Letter, error) {
	limit = orDefault(limit)
	if b.NumRows() == 0 {
		return nil, nil, nil
	}
	if encodedSize(b) <= limit {
		return []Batch{b}, nil, nil
	}
	var out []Batch
	var dead []Letter
	lo, hi := 0, 0 // rows gathered so far
	flush := func() {
		if hi > lo {
			out = append(out, b.Slice(lo, hi))
		}
	}
	for _, g := range groupsOrRows(b) {
		size := encodedSize(b.Slice(g.Lo, g.Hi))
		if size > limit {
			flush()
			for i := g.Lo; i < g.Hi; i++ {
				l, err := letterOf(b, i, name, schemas.ReasonTooLarge, fmt.Sprintf(
					"the group of prompt %s takes %d bytes in %d rows, above max_record_bytes (%d)", g.ID, size, g.Len(), limit))
				if err != nil {
					return nil, nil, err
				}
				dead = append(dead, l)
			}
			lo, hi = g.Hi, g.Hi
			continue
		}
		if hi > lo && encodedSize(b.Slice(lo, g.Hi)) > limit {
			flush()
			lo = g.Lo
		}
		hi = g.Hi
	}
	flush()
	return out, dead, nil
}

// encodedSize is an upper estimate of what the batch takes encoded: its values, and per column the padding of its
// buffers and its part of the schema.
func encodedSize(b Batch) int { return b.Size() + 512*(len(b.Columns())+1) }
