package schemas

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
)

// Column describes one column: all a reader needs to know to use it, and all docs/columns.md says about it.
type Column struct {
	Name     string
	Type     arrow.DataType
	Nullable bool     // a row may be null; the elements of a list never are
	Shape    string   // of one record, such as "[N, T]": N rows, T response tokens, P prompt tokens, K listed tokens
	Unit     string   // "nats", "token id", "" for pure numbers and text
	Stage    string   // the stage that adds it
	Doc      string   // one sentence
	Enum     []string // the closed set of values of a text column; nil: free text
	LogProb  bool     // the column's field metadata carries a LogPDefinition
}

// Descriptor is anything that stands for one column; every typed descriptor of this package is one.
type Descriptor interface{ Describe() Column }

// Describe returns the column itself.
func (c Column) Describe() Column { return c }

// Field returns the Arrow field of the column, without metadata.
func (c Column) Field() arrow.Field {
	return arrow.Field{Name: c.Name, Type: c.Type, Nullable: c.Nullable}
}

var (
	registry []Column
	own      int // how many of them this package declares
)

func init() { own = len(registry) }

// declare adds the column to the registry. Names are shared by all stages of a program, so a second column of a name is a
// mistake whoever declares it.
func declare(c Column, t arrow.DataType) Column {
	if c.Name == "" || c.Stage == "" {
		panic(fmt.Sprintf("schemas: column %q of stage %q: a column has a name and a stage", c.Name, c.Stage))
	}
	if o, ok := ByName(c.Name); ok {
		panic(fmt.Sprintf("schemas: column %q of stage %q has the name of a column of stage %q", c.Name, c.Stage, o.Stage))
	}
	c.Type = t
	registry = append(registry, c)
	return c
}

// Columns returns every declared column by stage. The stages of this package come first and their columns as they are
// declared here, in the order of the chain; what other packages declare follows by name, as their order of
// initialisation depends on what a program imports.
func Columns() []Column {
	var stages []string
	for _, c := range registry[:own] {
		if !slices.Contains(stages, c.Stage) {
			stages = append(stages, c.Stage)
		}
	}
	rank := func(c Column) int {
		if i := slices.Index(stages, c.Stage); i >= 0 {
			return i
		}
		return len(stages)
	}
	others := slices.SortedFunc(slices.Values(registry[own:]), func(a, b Column) int {
		return cmp.Or(strings.Compare(a.Stage, b.Stage), strings.Compare(a.Name, b.Name))
	})
	out := slices.Concat(registry[:own], others)
	slices.SortStableFunc(out, func(a, b Column) int { return rank(a) - rank(b) })
	return out
}

// ByName returns the declared column of that name.
func ByName(name string) (Column, bool) {
	i := slices.IndexFunc(registry, func(c Column) bool { return c.Name == name })
	if i < 0 {
		return Column{}, false
	}
	return registry[i], true
}

// ColumnError says that a record does not hold a column as it was asked for.
type ColumnError struct {
	Column string
	Reason string // "is missing", "has type ..., want ..."
}

func (e *ColumnError) Error() string { return fmt.Sprintf("column %q %s", e.Column, e.Reason) }

// uuidType is how ids are stored: 16 bytes.
var uuidType = &arrow.FixedSizeBinaryType{ByteWidth: 16}

// SameType compares types by what is in memory: the names and nullability of list elements do not count, because
// Parquet files written elsewhere name them differently.
func SameType(a, b arrow.DataType) bool {
	la, ok := a.(*arrow.ListType)
	if !ok {
		return arrow.TypeEqual(a, b)
	}
	lb, ok := b.(*arrow.ListType)
	return ok && SameType(la.Elem(), lb.Elem())
}
