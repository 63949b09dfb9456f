package schemas

import (
	"fmt"
	"slices"

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

var registry []Column

func declare(c Column) Column {
	if slices.ContainsFunc(registry, func(o Column) bool { return o.Name == c.Name }) {
		panic("schemas: column " + c.Name + " is declared twice")
	}
	registry = append(registry, c)
	return c
}

// Columns returns every declared column, by stage in the order of the chain and by name within a stage.
func Columns() []Column {
	out := slices.Clone(registry)
	slices.SortStableFunc(out, func(a, b Column) int {
		if d := slices.Index(Stages, a.Stage) - slices.Index(Stages, b.Stage); d != 0 {
			return d
		}
		return 0
	})
	return out
}

// Stages names the stages that add columns, in the order of the chain.
var Stages = []string{"prompts", "rollout", "label", "continuation", "score", "value", "advantage", "target", "pairs", "revise", "dead letters"}

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

// sameType compares types by what is in memory: the names and nullability of list elements do not count, because
// Parquet files written elsewhere name them differently.
func sameType(a, b arrow.DataType) bool {
	la, ok := a.(*arrow.ListType)
	if !ok {
		return arrow.TypeEqual(a, b)
	}
	lb, ok := b.(*arrow.ListType)
	return ok && sameType(la.Elem(), lb.Elem())
}
