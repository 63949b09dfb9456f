package prompts

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Part is one source of a mixture. Its name is the source of its prompts. The mixture's split, count and curriculum are
// those of every part.
type Part struct {
	Name   string `json:"name"`
	Weight int    `json:"weight"` // its share of the prompts is its weight over the sum of all
	Source string `json:"source"` // chain or file
	Chain  Chain  `json:"chain"`
	File   File   `json:"file"`
}

const (
	mixtureSource = "mixture"
	// maxWeights bounds the sum of the weights, which is the length of a block.
	maxWeights = 10_000
)

// of is the configuration of the source that the part names.
func (p Part) of(c Config) Config {
	c.Source, c.Chain, c.File, c.Mixture = p.Source, p.Chain, p.File, nil
	c.Chain.Name, c.File.Name = p.Name, p.Name
	return c
}

func init() {
	sources[mixtureSource] = source{readMixture, validateMixture, mixtureColumns}
	beam.RegisterDoFn(&fillFn{})
}

func validateMixture(c Config) error {
	if len(c.Mixture) == 0 {
		return fmt.Errorf("mixture: is empty; list sources, such as {name: easy, weight: 3, source: chain}")
	}
	sum := 0
	names := map[string]bool{}
	for i, p := range c.Mixture {
		at := fmt.Sprintf("mixture[%d]", i)
		switch {
		case p.Name == "" || strings.ContainsAny(p.Name, "/ \t\n"):
			return fmt.Errorf("%s.name: %q; want a name without slashes and spaces", at, p.Name)
		case names[p.Name]:
			return fmt.Errorf("%s.name: %q is the name of an earlier part", at, p.Name)
		case p.Weight < 1 || p.Weight > maxWeights:
			return fmt.Errorf("%s.weight: %d is not a whole number in 1..%d", at, p.Weight, maxWeights)
		case p.Source == mixtureSource:
			return fmt.Errorf("%s.source: a part cannot be a mixture; list its parts beside the others", at)
		}
		names[p.Name] = true
		sum += p.Weight
		own, ok := sources[p.Source]
		if !ok {
			return fmt.Errorf("%s.source: %q is not chain or file", at, p.Source)
		}
		if err := own.validate(p.of(c)); err != nil {
			return fmt.Errorf("%s.%w", at, err)
		}
		if missing := missingColumns(own.adds(p.of(c)), mixtureColumns(c)); len(missing.needed) > 0 {
			return fmt.Errorf("%s.source: brings no %s, which another part brings; parts bring prompts alone, or all bring responses, or all outcomes", at, missing.needed[0])
		}
	}
	if sum > maxWeights {
		return fmt.Errorf("mixture: the weights sum to %d; want at most %d", sum, maxWeights)
	}
	return nil
}

// mixtureColumns are the columns that any part brings.
func mixtureColumns(c Config) []schemas.Descriptor {
	var out []schemas.Descriptor
	seen := map[string]bool{}
	for _, p := range c.Mixture {
		own, ok := sources[p.Source]
		if !ok || p.Source == mixtureSource {
			continue // Validate says so
		}
		for _, d := range own.adds(p.of(c)) {
			if name := d.Describe().Name; !seen[name] {
				seen[name] = true
				out = append(out, d)
			}
		}
	}
	return out
}

// missing are columns that a part does not bring: texts that may be null, and others.
type missing struct{ nullable, needed []string }

func missingColumns(have, want []schemas.Descriptor) (m missing) {
	names := schemas.Names(have)
	for _, d := range want {
		c := d.Describe()
		_, isText := d.(schemas.Text)
		switch {
		case slices.Contains(names, c.Name):
		case c.Nullable && isText:
			m.nullable = append(m.nullable, c.Name)
		default:
			m.needed = append(m.needed, c.Name)
		}
	}
	return m
}

// readMixture reads of every part what falls to it: which positions of the mixture do is the same in every run of a seed.
func readMixture(s beam.Scope, c Config, w Window) (prompts, dead beam.PCollection) {
	columns := mixtureColumns(c)
	known := schemas.Known{}
	for _, d := range columns {
		known.Columns = append(known.Columns, d.Describe())
	}
	var rows, letters []beam.PCollection
	for k, part := range shares(c, w) {
		if part.Count == 0 {
			continue
		}
		own := c.Mixture[k].of(c)
		s := s.Scope(c.Mixture[k].Name)
		out, bad := sources[own.Source].read(s, own, part)
		if lacks := missingColumns(sources[own.Source].adds(own), columns).nullable; len(lacks) > 0 {
			out = beam.ParDo(s, &fillFn{Columns: lacks}, out)
		}
		rows = append(rows, out)
		if bad.IsValid() {
			letters = append(letters, bad)
		}
	}
	prompts = beam.Flatten(s, rows...)
	stage.Describe(prompts, stage.Description{Known: &known, MaxRecordBytes: w.MaxRecordBytes})
	if len(letters) > 0 {
		dead = beam.Flatten(s, letters...)
	}
	return prompts, dead
}

// shares are the parts' windows: position p of the mixture is the next prompt of the part that p falls to.
func shares(c Config, w Window) []Window {
	at := func(position int) []int { return before(c.Mixture, w.Seed, position) }
	first, from, to := at(w.First), at(w.First+w.Drawn), at(w.First+w.Drawn+w.Count)
	out := make([]Window, len(c.Mixture))
	for k := range out {
		out[k] = w
		out[k].First, out[k].Drawn, out[k].Count = first[k], from[k]-first[k], to[k]-from[k]
	}
	return out
}

// before counts the positions below one that fall to each part. Positions come in blocks as long as the sum of the
// weights, in each of which every part has as many as its weight, in an order that seed and block give.
func before(parts []Part, seed uint64, position int) []int {
	var slots []int
	for k, p := range parts {
		slots = append(slots, slices.Repeat([]int{k}, p.Weight)...)
	}
	block := position / len(slots)
	key := keyed.New(seed).With(mixtureKey).With(uint64(block))
	for i := len(slots) - 1; i > 0; i-- { // Fisher and Yates
		j := int(key.With(uint64(i)).Uniform() * float64(i+1))
		slots[i], slots[j] = slots[j], slots[i]
	}
	out := make([]int, len(parts))
	for k, p := range parts {
		out[k] = block * p.Weight
	}
	for _, k := range slots[:position%len(slots)] {
		out[k]++
	}
	return out
}

// mixtureKey keeps the order of the parts apart from everything else that the seed decides.
const mixtureKey = 1 << 61

// fillFn adds texts that are null in every row.
type fillFn struct{ Columns []string }

// ProcessElement adds the columns.
func (f *fillFn) ProcessElement(_ context.Context, b stage.Batch, emit func(stage.Batch)) error {
	for _, name := range f.Columns {
		c, ok := schemas.ByName(name)
		if !ok {
			return &schemas.ColumnError{Column: name, Reason: "is not a column of any stage"}
		}
		var err error
		if b, err = b.With(schemas.Text{Column: c}.From(make([]string, b.NumRows()), make([]bool, b.NumRows())...)); err != nil {
			return err
		}
	}
	emit(b)
	return nil
}
