package update

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// sidesOf says what a row is to the loss. Rows that are pairs give both sides where the loss reads rejected responses, else
// the chosen one alone; other rows are responses.
func sidesOf(spec losses.Spec, pairs bool, temperature float64) []side {
	switch {
	case slices.Contains(spec.Roles, losses.Rejected):
		return pairSides
	case pairs && slices.Contains(spec.Roles, losses.Chosen):
		return pairSides[:1]
	case temperature != 0:
		return []side{{role: losses.Sample, temperature: temperature}}
	}
	return responseSides
}

// unitsOf lists the rows that can enter the loss (no column it reads is null: a response that no policy loss learns from
// has null advantages), sorted by id, so that the order in which records arrived does not
// matter, and counts those that cannot by the column that they miss.
func unitsOf(batches []stage.Batch, spec losses.Spec, temperature float64) (units []unit, left map[string]int, err error) {
	left = map[string]int{}
	type keyed struct {
		prompt, row uuid.UUID
		unit        unit
	}
	var all []keyed
	for _, b := range batches {
		sides := sidesOf(spec, b.Has(schemas.ChosenTokens), temperature)
		tab, err := newTable(b, spec, sides)
		if err != nil {
			return nil, nil, err
		}
		prompts, rows := schemas.PromptID.Of(b), b.RowIDs()
		for i := range b.NumRows() {
			tokens, missing := tab.usable(i, spec, sides)
			if missing != "" {
				left[missing]++
				continue
			}
			all = append(all, keyed{prompts[i], rows[i], unit{table: tab, row: i, responses: sides, tokens: tokens}})
		}
	}
	slices.SortFunc(all, func(a, b keyed) int {
		return cmp.Or(bytes.Compare(a.prompt[:], b.prompt[:]), bytes.Compare(a.row[:], b.row[:]))
	})
	for i, k := range all {
		if i > 0 && all[i-1].row == k.row {
			return nil, nil, fmt.Errorf("row %s arrives twice", k.row)
		}
		units = append(units, k.unit)
	}
	return units, left, nil
}

// steps cuts the units into the minibatches of optimiser steps. Every pass over the units is in an order of its own, drawn
// from the seed and the number of the pass.
func (c Config) steps(units []unit, seed uint64) [][]unit { return cut(c, units, seed) }

// Order is the places, in the order of ids, of the rows of every step that an update takes with n rows.
func (c Config) Order(n int, seed uint64) [][]int {
	places := make([]int, n)
	for i := range places {
		places[i] = i
	}
	return cut(c, places, seed)
}

func cut[T any](c Config, units []T, seed uint64) [][]T {
	n := len(units)
	if n == 0 {
		return nil
	}
	if c.BatchSize > 0 {
		size := min(c.BatchSize, n)
		total := c.Steps
		if total == 0 {
			total = c.Epochs * ((n + size - 1) / size)
		}
		return stream(units, seed, size, total)
	}
	parts := min(c.Minibatches, n)
	total := c.Epochs * parts
	if c.Steps > 0 {
		total = c.Steps
	}
	var out [][]T
	for pass := 0; len(out) < total; pass++ {
		order := shuffled(units, seed, pass)
		for k := 0; k < parts && len(out) < total; k++ {
			out = append(out, order[k*n/parts:(k+1)*n/parts])
		}
	}
	return out
}

// stream gives steps of one size, going on with the next pass in the middle of a step.
func stream[T any](units []T, seed uint64, size, total int) [][]T {
	var out [][]T
	var order []T
	for pass := 0; len(out) < total; {
		step := make([]T, 0, size)
		for len(step) < size {
			if len(order) == 0 {
				order = shuffled(units, seed, pass)
				pass++
			}
			take := min(size-len(step), len(order))
			step, order = append(step, order[:take]...), order[take:]
		}
		out = append(out, step)
	}
	return out
}

// shuffled is a permutation of the units that depends on seed and pass only (Fisher and Yates).
func shuffled[T any](units []T, seed uint64, pass int) []T {
	key := keyed.New(seed).With(uint64(pass))
	out := slices.Clone(units)
	for i := len(out) - 1; i > 0; i-- {
		j := int(key.With(uint64(i)).Uniform() * float64(i+1))
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// repeated is how many times the limit of a microbatch its tokens may be when each repeats its prompt: what is held of a
// repeated token is a small part of what is held of a computed one.
const repeated = 4

// microbatches cuts a step so that at most limit tokens are held as activations; a unit is never cut. Responses to a prompt are
// kept together, as the trainer computes the prompt once for all of a microbatch, and it is counted once.
func microbatches(step []unit, limit int) [][]unit {
	step = slices.Clone(step)
	slices.SortStableFunc(step, func(a, b unit) int { return slices.Compare(a.prompt(), b.prompt()) })
	var out [][]unit
	for lo := 0; lo < len(step); {
		hi, tokens, all := lo, 0, 0
		for ; hi < len(step); hi++ {
			u := step[hi]
			add := u.tokens - len(u.responses)*len(u.prompt())
			if hi == lo || !slices.Equal(u.prompt(), step[hi-1].prompt()) {
				add += len(u.prompt())
			}
			if hi > lo && (tokens+add > limit || all+u.tokens > repeated*limit) {
				break
			}
			tokens, all = tokens+add, all+u.tokens
		}
		out = append(out, step[lo:hi])
		lo = hi
	}
	return out
}

// prompt is the tokens that the responses of the unit begin with.
func (u unit) prompt() []int32 { return u.table.prompt.Row(u.row) }
