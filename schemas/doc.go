// Package schemas holds the columns that stages exchange: their names, Arrow types, units and shapes, and the typed,
// zero-copy views over them.
//
// The record is the interface. A stage reads columns and adds columns; stages share column names and types, never each
// other's code. A [Record] is an Arrow record of whole prompt groups: before rollout one row a prompt, afterwards one row
// a response (or a pair), the rows of one prompt side by side.
//
// A column is declared once, in the file named after the stage that adds it, as a typed descriptor:
//
//	var Value = list[float32]("value", ...)
//
// and used through it: Value.Of(rec) is a view whose offsets and values are Go slices over Arrow's own memory,
// Value.From(offsets, values) is a filled column for [Record.With]. Nobody spells a column's name twice.
package schemas
