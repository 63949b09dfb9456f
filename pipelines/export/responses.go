package export

import (
	"github.com/millrace/millrace/transforms/stage"
)

// responses writes a file of lines, at most one a row.
type responses struct {
	*lines
	// of gives what a row becomes, or why it is left out.
	of func(b stage.Batch) (func(row int) (record any, left string), error)
}

// Write writes the rows that become a record.
func (w *responses) Write(b stage.Batch) (map[string]int, error) {
	record, err := w.of(b)
	if err != nil {
		return nil, err
	}
	left := map[string]int{}
	for i := range b.NumRows() {
		v, why := record(i)
		if why != "" {
			left[why]++
			continue
		}
		if err := w.value(v); err != nil {
			return nil, err
		}
	}
	return left, nil
}
