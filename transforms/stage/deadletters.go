package stage

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/schemas"
)

// maxMessage bounds the message of a dead letter, in bytes.
const maxMessage = 2000

// DeadLetters collects the rows of one batch that a stage sets aside. Rows are named by their index in the batch that
// Map was given. A row's first mark counts.
type DeadLetters struct {
	rows     map[int]mark
	filtered map[int]bool
}

type mark struct {
	reason  schemas.Reason
	message string
}

// Row sets row i aside: the row's fault, with the reason it is counted under and an error saying what would be right.
func (d *DeadLetters) Row(i int, reason schemas.Reason, err error) {
	if d.Marked(i) {
		return
	}
	if d.rows == nil {
		d.rows = map[int]mark{}
	}
	d.rows[i] = mark{reason, clip(err.Error())}
}

// Rowf is Row with a formatted message.
func (d *DeadLetters) Rowf(i int, reason schemas.Reason, format string, args ...any) {
	d.Row(i, reason, fmt.Errorf(format, args...))
}

// Filter takes row i out on purpose, as a stage that keeps only mixed groups does. It is counted, not kept.
func (d *DeadLetters) Filter(i int) {
	if d.Marked(i) {
		return
	}
	if d.filtered == nil {
		d.filtered = map[int]bool{}
	}
	d.filtered[i] = true
}

// Marked reports whether row i is dead or filtered, so that group statistics can leave it out.
func (d *DeadLetters) Marked(i int) bool {
	_, dead := d.rows[i]
	return dead || d.filtered[i]
}

// merge moves the marks of a part of a batch to the rows it was cut from.
func (d *DeadLetters) merge(part *DeadLetters, lo int) {
	for i, m := range part.rows {
		d.Row(lo+i, m.reason, fmt.Errorf("%s", m.message))
	}
	for i := range part.filtered {
		d.Filter(lo + i)
	}
}

func clip(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	return s[:maxMessage] + "..."
}

// letters returns the dead letters of a stage in the order of the rows.
func (d *DeadLetters) letters(name string, b Batch) ([]Letter, error) {
	out := make([]Letter, 0, len(d.rows))
	for _, i := range slices.Sorted(maps.Keys(d.rows)) {
		l, err := letterOf(b, i, name, d.rows[i].reason, d.rows[i].message)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

func letterOf(b Batch, row int, stage string, reason schemas.Reason, message string) (Letter, error) {
	raw, err := b.Slice(row, row+1).MarshalBinary()
	if err != nil {
		return Letter{}, fmt.Errorf("dead letter of row %d: %w", row, err)
	}
	l := Letter{Stage: stage, Reason: reason, Message: message, Attempts: b.Meta().Attempts + 1, Row: raw}
	if ids := b.RowIDs(); ids != nil {
		l.RowID = ids[row].String()
	}
	return l, nil
}

// Letter is one row set aside.
type Letter struct {
	Stage    string
	Reason   schemas.Reason
	Message  string
	RowID    string // id of the row; file and line of a row that never had one
	Attempts int    // how often it has been tried
	Row      []byte // the row as an Arrow IPC stream
}

// Letters makes a batch of dead letters. Text that is not UTF-8 is repaired, since a message may quote bad input.
func Letters(m schemas.Meta, ls []Letter) (Batch, error) {
	n := len(ls)
	stages, reasons, messages, ids := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	attempts, rows := make([]int32, n), make([][]byte, n)
	for i, l := range ls {
		stages[i], reasons[i] = l.Stage, string(l.Reason)
		messages[i], ids[i] = strings.ToValidUTF8(clip(l.Message), "\uFFFD"), strings.ToValidUTF8(clip(l.RowID), "\uFFFD")
		attempts[i], rows[i] = int32(l.Attempts), l.Row
	}
	m.Lineage = nil
	return schemas.NewRecord(m, schemas.DeadStage.From(stages), schemas.DeadReason.From(reasons), schemas.DeadMessage.From(messages),
		schemas.DeadRowID.From(ids), schemas.DeadAttempts.From(attempts), schemas.DeadRow.From(rows))
}

// packLetters makes batches of dead letters, each below the limit as far as single rows allow.
func packLetters(m schemas.Meta, ls []Letter, limit int) ([]Batch, error) {
	var out []Batch
	for lo := 0; lo < len(ls); {
		hi, size := lo, 0
		for hi < len(ls) && (hi == lo || size+len(ls[hi].Row) <= orDefault(limit)) {
			size += len(ls[hi].Row)
			hi++
		}
		b, err := Letters(m, ls[lo:hi])
		if err != nil {
			return nil, err
		}
		out, lo = append(out, b), hi
	}
	return out, nil
}

// Revive turns dead letters back into the rows they hold, so that they can be fed to the stage again. Rows are put
// together where they hold the same columns, belong side by side and have been tried equally often; a letter whose row was never
// readable is an error.
func Revive(letters Batch) ([]Batch, error) {
	rows, err := schemas.DeadRow.Find(letters)
	if err != nil {
		return nil, err
	}
	attempts, err := schemas.DeadAttempts.Find(letters)
	if err != nil {
		return nil, err
	}
	var out []Batch
	for i := range rows.Len() {
		var b Batch
		if err := b.UnmarshalBinary(rows.At(i)); err != nil {
			return nil, fmt.Errorf("dead letter %d: %w", i, err)
		}
		if b.Has(schemas.DeadRaw) {
			return nil, fmt.Errorf("dead letter %d holds raw input that could not be read; mend the input file and read it again", i)
		}
		m := b.Meta()
		m.Attempts = int(attempts.Values[i])
		b = b.WithMeta(m)
		if n := len(out); n > 0 && out[n-1].Meta().Attempts == m.Attempts {
			if joined, err := schemas.Append(out[n-1], b); err == nil {
				if _, err := joined.Groups(); err == nil {
					out[n-1] = joined
					continue
				}
			}
		}
		out = append(out, b)
	}
	return out, nil
}
