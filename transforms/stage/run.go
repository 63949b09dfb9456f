package stage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/google/uuid"
	"github.com/millrace/millrace/schemas"
)

type mapFunc func(ctx context.Context, b Batch, dead *DeadLetters) (Batch, error)

// Result is what became of one batch.
type Result struct {
	Out      []Batch // rows kept, with the added columns; more than one batch when one would be too large
	Dead     []Batch // dead letters
	In       int     // rows in
	Kept     int     // rows in that are rows out, or that rows out were made of
	Filtered int
	Reasons  map[schemas.Reason]int // dead rows by reason
}

// Run does with one batch what Apply does in a pipeline, for tests and for callers without one. Setup must have run.
func Run(ctx context.Context, m Mapper, b Batch) (Result, error) {
	return run(ctx, m.Contract(), newRunner(m.Contract(), m, m, 0).lineage, 0, b, m.Map)
}

// RunWith is Run for a stage with a side input.
func RunWith[S any](ctx context.Context, m SideMapper[S], b Batch, side S) (Result, error) {
	return run(ctx, m.Contract(), newRunner(m.Contract(), m, m, 0).lineage, 0, b,
		func(ctx context.Context, b Batch, d *DeadLetters) (Batch, error) {
			return m.MapWith(ctx, b, side, d)
		})
}

func run(ctx context.Context, c schemas.Contract, lineage func() string, limit int, b Batch, f mapFunc) (Result, error) {
	fail := func(err error) (Result, error) { return Result{}, fmt.Errorf("stage %s: %w", c.Name, err) }
	if b.NumRows() == 0 {
		return Result{}, nil
	}
	if err := b.Check(c.Needs...); err != nil {
		return fail(fmt.Errorf("its input: %w", err))
	}
	for _, d := range c.Needs {
		want, asks := c.Reads[d.Describe().Name]
		if have, ok := schemas.LogPOf(b, d); asks && (!ok || !want.Matches(have)) {
			return Result{}, &schemas.DefinitionError{Stage: c.Name, Column: d.Describe().Name, Want: want, Have: have}
		}
	}
	var dead DeadLetters
	out, kept, err := mapRows(ctx, c, b, f, &dead)
	if err != nil {
		return fail(err)
	}
	if out.NumRows() > 0 {
		out = out.WithLineage(lineage(), c.Adds...)
	}
	res := Result{In: b.NumRows(), Kept: kept}
	var tooLarge []Letter
	if res.Out, tooLarge, err = Split(out, c.Name, limit); err != nil {
		return fail(err)
	}
	if c.Rows == schemas.OtherRows && len(tooLarge) > 0 {
		// What is set aside is a row that was given, not one that was made of it.
		kept := make([]bool, b.NumRows())
		for _, o := range res.Out {
			if err := origins(c, b, o, kept); err != nil {
				return fail(err)
			}
		}
		before := make([]bool, b.NumRows())
		if err := origins(c, b, out, before); err != nil {
			return fail(err)
		}
		for i := range kept {
			if before[i] && !kept[i] && !dead.Marked(i) {
				dead.Rowf(i, schemas.ReasonTooLarge, "what was made of this row: %s", tooLarge[0].Message)
				res.Kept--
			}
		}
		tooLarge = nil
	}
	letters, err := dead.letters(c.Name, b)
	if err != nil {
		return fail(err)
	}
	letters = append(letters, tooLarge...)
	if res.Dead, err = packLetters(b.Meta(), letters, limit); err != nil {
		return fail(err)
	}
	res.Kept -= len(tooLarge)
	res.Filtered = len(dead.filtered)
	res.Reasons = map[schemas.Reason]int{}
	for _, l := range letters {
		res.Reasons[l.Reason]++
	}
	if res.In != res.Kept+len(letters)+res.Filtered {
		return Result{}, &LostRowsError{Stage: c.Name, In: int64(res.In), Kept: int64(res.Kept), Dead: int64(len(letters)),
			Filtered: int64(res.Filtered)}
	}
	return res, nil
}

// mapRows runs f on the batch and returns the rows it kept and how many input rows they stand for. When f panics it runs
// on each prompt group apart, so that the panic costs only the rows of its group.
func mapRows(ctx context.Context, c schemas.Contract, b Batch, f mapFunc, dead *DeadLetters) (out Batch, kept int, err error) {
	var own DeadLetters
	out, err = protected(ctx, b, f, &own)
	var p *panicError
	if !errors.As(err, &p) {
		dead.merge(&own, 0)
		if err != nil {
			return Batch{}, 0, err
		}
		return keep(c, b, out, dead)
	}
	var unnamed *schemas.ColumnError
	if cause, ok := p.value.(error); ok && errors.As(cause, &unnamed) {
		return Batch{}, 0, fmt.Errorf("%w (a stage names every column it reads in its Contract)", unnamed)
	}
	groups := groupsOrRows(b)
	if len(groups) == 1 {
		for i := range b.NumRows() {
			dead.Row(i, schemas.ReasonPanic, p)
		}
		return Batch{}, 0, nil
	}
	var parts []Batch
	for _, g := range groups {
		var own DeadLetters
		part, n, err := mapRows(ctx, c, b.Slice(g.Lo, g.Hi), f, &own)
		if err != nil {
			return Batch{}, 0, err
		}
		dead.merge(&own, g.Lo)
		kept += n
		if part.NumRows() > 0 {
			parts = append(parts, part)
		}
	}
	out, err = schemas.Append(parts...)
	return out, kept, err
}

// keep holds a stage to its contract and takes the marked rows out of what it returned.
func keep(c schemas.Contract, in, out Batch, dead *DeadLetters) (Batch, int, error) {
	if c.Rows == schemas.OtherRows {
		if out.NumRows() > 0 {
			if err := out.Check(c.Adds...); err != nil {
				return Batch{}, 0, fmt.Errorf("its output: %w", err)
			}
		}
		named := make([]bool, in.NumRows())
		if err := origins(c, in, out, named); err != nil {
			return Batch{}, 0, fmt.Errorf("its output: %w", err)
		}
		n := 0
		for i := range named {
			if named[i] && !dead.Marked(i) {
				n++
			}
		}
		return out, n, nil
	}
	if out.NumRows() != in.NumRows() {
		return Batch{}, 0, fmt.Errorf("returned %d rows for %d; mark rows dead or filtered instead of leaving them out",
			out.NumRows(), in.NumRows())
	}
	if !slices.Equal(in.RowIDs(), out.RowIDs()) {
		return Batch{}, 0, errors.New("returned other rows, or in another order, than it was given")
	}
	out, err := out.Filter(func(i int) bool { return !dead.Marked(i) })
	if err != nil {
		return Batch{}, 0, err
	}
	if err := out.Check(c.Adds...); err != nil {
		return Batch{}, 0, fmt.Errorf("its output: %w", err)
	}
	return out, out.NumRows(), nil
}

// groupsOrRows returns the prompt groups, or every row by itself when the batch has none.
func groupsOrRows(b Batch) []schemas.Group {
	groups, err := b.Groups()
	if err == nil {
		return groups
	}
	for i := range b.NumRows() {
		groups = append(groups, schemas.Group{Lo: i, Hi: i + 1})
	}
	return groups
}

type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", p.value, p.stack) }

func protected(ctx context.Context, b Batch, f mapFunc, dead *DeadLetters) (out Batch, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v, debug.Stack()}
		}
	}()
	return f(ctx, b, dead)
}

// origins marks the input rows that rows of the output were made of.
func origins(c schemas.Contract, in, out Batch, named []bool) error {
	if out.NumRows() == 0 {
		return nil
	}
	for _, o := range c.Origin {
		made, err := o.Find(out)
		if err != nil {
			return err
		}
		ids := make(map[uuid.UUID]bool, len(made))
		for _, id := range made {
			ids[id] = true
		}
		// prompt_id names rows of the input that hold it; chosen_id and rejected_id name rows by their own id.
		given, err := o.Find(in)
		if err != nil {
			given = in.RowIDs()
		}
		for i, id := range given {
			named[i] = named[i] || ids[id]
		}
	}
	return nil
}

// Digest returns the SHA-256 of a value's JSON in hexadecimal: the name of a Config.
func Digest(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		raw = []byte(fmt.Sprintf("%#v", v))
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
