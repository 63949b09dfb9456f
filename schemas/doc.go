// Package schemas holds the columns that stages exchange: their names, Arrow types, units and shapes, and the typed,
// zero-copy views over them.
//
// The record is the interface. A stage reads columns and adds columns; stages share column names and types, never each
// other's code. A [Record] is an Arrow record of whole prompt groups: before rollout one row a prompt, afterwards one row
// a response (or a pair), the rows of one prompt side by side.
//
// A column is declared once, under the stage that adds it, as a typed descriptor: those of the stages that come with
// Millrace in columns.go, those of any other stage in its own package:
//
//	var Doubt = schemas.NewList[float32](schemas.Column{Name: "doubt", Stage: "doubt", Shape: "[N, T]", Doc: "..."})
//
// and used through it: Doubt.Of(rec) is a view whose offsets and values are Go slices over Arrow's own memory,
// Doubt.From(offsets, values) is a filled column for [Record.With]. Nobody spells a column's name twice.
package schemas
