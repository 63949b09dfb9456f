package prompts

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"

	"github.com/millrace/millrace/schemas"
)

// keptOfTooLong is how much of a line above the limit its dead letter holds.
const keptOfTooLong = 64 << 10

// rawRow is one row of a file before its fields are read. Err is what kept it from being one.
type rawRow struct {
	number int // from 1: line of a JSONL file, row of a Parquet file
	fields map[string]any
	raw    func() []byte // the row as bytes, for a dead letter
	err    error
}

// readLines reads a file of one JSON object a line. Blank lines are passed over; memory is bounded by the longest line
// allowed.
func readLines(r io.Reader, maxLine int, emit func(rawRow) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	var line []byte
	for number := 1; ; number++ {
		long := false
		var err error
		for line = line[:0]; ; {
			var part []byte
			part, err = in.ReadSlice('\n')
			if room := maxLine + 2 - len(line); len(part) > room { // 2: CR LF
				part, long = part[:max(0, room)], true
			}
			line = append(line, part...)
			if !errors.Is(err, bufio.ErrBufferFull) {
				break
			}
		}
		if err != nil && err != io.EOF {
			return err
		}
		text := line
		if number == 1 {
			text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
		}
		text = bytes.TrimRight(text, "\r\n")
		if len(bytes.TrimSpace(text)) > 0 {
			row := rawRow{number: number, raw: func() []byte { return bytes.Clone(text[:min(len(text), keptOfTooLong)]) }}
			if long || len(text) > maxLine {
				row.err = bad(schemas.ReasonTooLong, "line of more than %d bytes (file.max_line_bytes)", maxLine)
			} else {
				row.raw = func() []byte { return bytes.Clone(text) }
				row.fields, row.err = parseLine(text)
			}
			if err := emit(row); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

func parseLine(line []byte) (map[string]any, error) {
	if !utf8.Valid(line) {
		return nil, bad(schemas.ReasonBadUTF8, "the line is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, bad(schemas.ReasonUnreadable, "the line is not JSON: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, bad(schemas.ReasonUnreadable, "the line holds more than one JSON value")
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, bad(schemas.ReasonBadType, "the line is %s, want an object", kindOf(v))
	}
	return m, nil
}
