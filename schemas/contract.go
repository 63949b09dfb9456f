package schemas

import (
	"errors"
	"fmt"
	"slices"
)

// Rows says what a stage does to the rows of a record.
type Rows int

const (
	// SameRows: every row in is a row out, with more columns. What nearly every stage does. Rows the stage marks dead or
	// filtered are taken out for it.
	SameRows Rows = iota
	// OtherRows: the stage makes other rows out of the rows in, as rollout (one prompt, n responses) and pairs do. Its
	// Contract then names, in Origin, the columns that say which rows a row was made of.
	OtherRows
)

// Contract is what a stage promises: its name, the columns it needs, the columns it adds.
type Contract struct {
	Name  string
	Needs []Descriptor
	Adds  []Descriptor
	Rows  Rows

	// Removes, with SameRows, are columns that the rows no longer have: those that the stage has put under another name.
	Removes []Descriptor

	// Origin, with OtherRows, names columns of the output holding the ids of the input rows each row was made of:
	// prompt_id for rollout, chosen_id and rejected_id for pairs. An input row named by no output row, not dead and not
	// filtered is a lost row.
	Origin []ID
	// Drops, with OtherRows, says that the output holds only the columns of Adds; otherwise it holds those of the input too.
	Drops bool

	// Reads states which definition of a log-prob column the stage needs; Writes which it adds. A model digest that is
	// only known when the pipeline runs is left empty and matches any.
	Reads, Writes map[string]LogPDefinition
}

// Check reports what is wrong with the contract itself.
func (c Contract) Check() error {
	if c.Name == "" {
		return errors.New("contract without a stage name")
	}
	seen := map[string]bool{}
	for _, d := range c.Adds {
		if n := d.Describe().Name; seen[n] {
			return fmt.Errorf("stage %s adds column %q twice", c.Name, n)
		} else {
			seen[n] = true
		}
	}
	if c.Rows == OtherRows && len(c.Origin) == 0 {
		return fmt.Errorf("stage %s makes other rows but names no Origin columns, so lost rows could not be seen", c.Name)
	}
	if c.Rows == OtherRows && len(c.Removes) > 0 {
		return fmt.Errorf("stage %s makes other rows; Removes is for stages that keep them", c.Name)
	}
	if c.Rows == SameRows && (c.Drops || len(c.Origin) > 0) {
		return fmt.Errorf("stage %s keeps its rows; Drops and Origin are for stages with OtherRows", c.Name)
	}
	return nil
}

// MissingError says that a stage needs a column that no stage before it adds.
type MissingError struct {
	Stage  string // the stage that needs it
	Column string
	Adder  string // the stage that adds it, "" when no stage declares the column
	Later  bool   // that stage is in the chain, but after the one that needs it
}

func (e *MissingError) Error() string {
	switch {
	case e.Adder == "":
		return fmt.Sprintf("stage %s needs column %q, which no stage adds", e.Stage, e.Column)
	case e.Later:
		return fmt.Sprintf("stage %s needs column %q, which stage %s adds only after it; put %s before %s",
			e.Stage, e.Column, e.Adder, e.Adder, e.Stage)
	}
	return fmt.Sprintf("stage %s needs column %q, which no stage before it adds; add stage %s before it", e.Stage, e.Column, e.Adder)
}

// DefinitionError says that a stage needs log-probs defined otherwise than they are.
type DefinitionError struct {
	Stage, Column string
	Want, Have    LogPDefinition
}

func (e *DefinitionError) Error() string {
	return fmt.Sprintf("stage %s needs column %q as %s, but it holds %s", e.Stage, e.Column, e.Want, e.Have)
}

// Known is what is known about a record when a pipeline is built: its columns and how its log-probs are defined.
type Known struct {
	Columns []Column
	LogP    map[string]LogPDefinition
}

// Has reports whether the column is among the known ones.
func (k Known) Has(name string) bool {
	return slices.ContainsFunc(k.Columns, func(c Column) bool { return c.Name == name })
}

// Then returns what is known after a stage with that contract, or an error naming the column it misses. The input is not
// changed.
func (k Known) Then(c Contract) (Known, error) {
	if err := c.Check(); err != nil {
		return Known{}, err
	}
	for _, d := range c.Needs {
		need := d.Describe()
		i := slices.IndexFunc(k.Columns, func(o Column) bool { return o.Name == need.Name })
		if i < 0 {
			return Known{}, &MissingError{Stage: c.Name, Column: need.Name, Adder: need.Stage}
		}
		if have := k.Columns[i]; !SameType(have.Type, need.Type) {
			return Known{}, fmt.Errorf("stage %s: %w", c.Name, &ColumnError{need.Name, fmt.Sprintf("has type %v, want %v", have.Type, need.Type)})
		}
		want, asks := c.Reads[need.Name]
		if have, defined := k.LogP[need.Name]; asks && defined && !want.Matches(have) {
			return Known{}, &DefinitionError{Stage: c.Name, Column: need.Name, Want: want, Have: have}
		}
	}
	out := Known{LogP: map[string]LogPDefinition{}}
	if !c.Drops {
		out.Columns = slices.Clone(k.Columns)
		for n, d := range k.LogP {
			out.LogP[n] = d
		}
	}
	removed := Names(c.Removes)
	out.Columns = slices.DeleteFunc(out.Columns, func(c Column) bool { return slices.Contains(removed, c.Name) })
	for _, name := range removed {
		delete(out.LogP, name)
	}
	for _, d := range c.Adds {
		add := d.Describe()
		if c.Rows == SameRows && out.Has(add.Name) {
			return Known{}, fmt.Errorf("stage %s adds column %q, which is there already", c.Name, add.Name)
		}
		if !out.Has(add.Name) {
			out.Columns = append(out.Columns, add)
		}
		delete(out.LogP, add.Name)
		if def, ok := c.Writes[add.Name]; ok {
			out.LogP[add.Name] = def
		}
	}
	return out, nil
}

// Chain checks that each stage finds the columns it needs among those of from (the columns of the first stage's input,
// nil when the first stage is a source) and of the stages before it, and returns what is known at the end. The error
// names the stage, the missing column and the stage that adds it.
func Chain(from []Descriptor, stages ...Contract) (Known, error) {
	var k Known
	for _, d := range from {
		k.Columns = append(k.Columns, d.Describe())
	}
	for i, c := range stages {
		next, err := k.Then(c)
		if err != nil {
			var missing *MissingError
			if errors.As(err, &missing) {
				for _, later := range stages[i+1:] {
					if slices.ContainsFunc(later.Adds, func(d Descriptor) bool { return d.Describe().Name == missing.Column }) {
						missing.Adder, missing.Later = later.Name, true
						break
					}
				}
			}
			return Known{}, err
		}
		k = next
	}
	return k, nil
}

// Names returns the names of the columns, for messages and listings.
func Names(ds []Descriptor) []string {
	out := make([]string, len(ds))
	for i, d := range ds {
		out[i] = d.Describe().Name
	}
	return out
}
