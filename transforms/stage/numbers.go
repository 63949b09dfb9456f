package stage

import (
	"math"

	"github.com/millrace/millrace/schemas"
)

// PerToken reads row i of a column with one number a response token. The row is set aside, and ok is false, when it is
// null, has another length than the response, or holds a number that is not finite.
func PerToken(c schemas.List[float32], v schemas.Lists[float32], i, tokens int, dead *DeadLetters) (x []float64, ok bool) {
	if !v.Valid(i) {
		dead.Rowf(i, schemas.ReasonMissingField, "column %s is null", c.Name)
		return nil, false
	}
	row := v.Row(i)
	if len(row) != tokens {
		dead.Rowf(i, schemas.ReasonMismatch, "column %s has %d numbers for %d response tokens", c.Name, len(row), tokens)
		return nil, false
	}
	return widen(c.Name, row, i, dead)
}

// PerListed reads row i of a column with one number a listed token, flat; ids are the listed tokens, a list for each of
// the response's tokens. The row is set aside, and ok is false, when it is null, does not match ids in its lengths, or
// holds a number that is not finite.
func PerListed(c schemas.Nested[float32], v schemas.NestedLists[float32], i int, ids schemas.Lists[int32],
	dead *DeadLetters) (x []float64, ok bool) {
	if !v.Valid(i) {
		dead.Rowf(i, schemas.ReasonMissingField, "column %s is null", c.Name)
		return nil, false
	}
	row := v.Row(i)
	if row.Len() != ids.Len() {
		dead.Rowf(i, schemas.ReasonMismatch, "column %s has %d lists for %d response tokens", c.Name, row.Len(), ids.Len())
		return nil, false
	}
	for t := range row.Len() {
		if got, want := len(row.Row(t)), len(ids.Row(t)); got != want {
			dead.Rowf(i, schemas.ReasonMismatch, "column %s has %d numbers for the %d listed tokens at token %d", c.Name, got, want, t)
			return nil, false
		}
	}
	return widen(c.Name, row.Values[row.Offsets[0]:row.Offsets[row.Len()]], i, dead)
}

func widen(name string, row []float32, i int, dead *DeadLetters) ([]float64, bool) {
	x := make([]float64, len(row))
	for t, v := range row {
		if x[t] = float64(v); !isFinite(x[t]) {
			dead.Rowf(i, schemas.ReasonNotFinite, "column %s holds %v at place %d", name, v, t)
			return nil, false
		}
	}
	return x, true
}

// Narrow rounds what a stage computed for row i to a column's float32; a row with a number that is not finite then is set
// aside, so that none ever leaves a stage.
func Narrow(name string, x []float64, i int, dead *DeadLetters) []float32 {
	out := make([]float32, len(x))
	for t, v := range x {
		if out[t] = float32(v); !isFinite(float64(out[t])) {
			dead.Rowf(i, schemas.ReasonNotFinite, "column %s would hold %v at place %d", name, out[t], t)
		}
	}
	return out
}

func isFinite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
