package prompts

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files/parquetrows"
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
	v, err := decode(line)
	if err != nil {
		marked, found := markNotFinite(line)
		if !found {
			return nil, err
		}
		if v, err = decode(marked); err != nil {
			return nil, err
		}
		v = unmark(v)
	}
	if at := loneSurrogate(line); at >= 0 {
		return nil, bad(schemas.ReasonBadUTF8, "byte %d of the line: %s is half of a character", at+1, line[at:at+6])
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, bad(schemas.ReasonBadType, "the line is %s, want an object", kindOf(v))
	}
	if countedKeys(line) != keysOf(v) {
		return nil, bad(schemas.ReasonUnreadable, "key %q is there twice in one object, and which of its values counts is not said", twice(line))
	}
	return m, nil
}

// countedKeys is the number of keys that a line of JSON has, as it is written.
func countedKeys(line []byte) (n int) {
	inText := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case c == ':' && !inText:
			n++
		}
	}
	return n
}

// keysOf is the number of keys that were read, in all objects of a value: one that is there twice in an object counts once.
func keysOf(v any) (n int) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			n += keysOf(item)
		}
	case map[string]any:
		n = len(v)
		for _, item := range v {
			n += keysOf(item)
		}
	}
	return n
}

// twice is the first key that an object of a line has again.
func twice(line []byte) string {
	if marked, found := markNotFinite(line); found {
		line = marked
	}
	d := json.NewDecoder(bytes.NewReader(line))
	var open []map[string]bool // of each object and list that is open, the keys so far; nil of a list
	value := true              // a text is a value, not a key
	for {
		t, err := d.Token()
		if err != nil {
			return ""
		}
		switch t := t.(type) {
		case json.Delim:
			switch t {
			case '{':
				open, value = append(open, map[string]bool{}), false
				continue
			case '[':
				open, value = append(open, nil), true
				continue
			}
			open = open[:len(open)-1]
		case string:
			if keys := open[len(open)-1]; !value && keys != nil {
				if keys[t] {
					return t
				}
				keys[t], value = true, true
				continue
			}
		}
		value = len(open) == 0 || open[len(open)-1] == nil
	}
}

func decode(line []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, bad(schemas.ReasonUnreadable, "the line is not JSON: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, bad(schemas.ReasonUnreadable, "the line holds more than one JSON value")
	}
	return v, nil
}

// notFinite is the only key of an object that stands for a number JSON does not have.
const notFinite = "\x00not finite"

// markNotFinite puts such an object in the place of NaN, Infinity and -Infinity, which Python writes and JSON does not know.
func markNotFinite(line []byte) (out []byte, found bool) {
	inText := false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case inText && c == '\\' && i+1 < len(line):
			out = append(out, c, line[i+1])
			i++
			continue
		case c == '"':
			inText = !inText
		case !inText:
			for _, word := range []string{"NaN", "-Infinity", "Infinity"} {
				if bytes.HasPrefix(line[i:], []byte(word)) {
					out = append(out, `{"\u0000not finite":"`+word+`"}`...)
					i += len(word) - 1
					found, c = true, 0
					break
				}
			}
		}
		if c != 0 {
			out = append(out, c)
		}
	}
	return out, found
}

// unmark puts numbers in the place of the objects that stand for them.
func unmark(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = unmark(v[i])
		}
	case map[string]any:
		if word, ok := v[notFinite].(string); ok && len(v) == 1 {
			return parquetrows.NotFinite(word)
		}
		for k := range v {
			v[k] = unmark(v[k])
		}
	}
	return v
}

// loneSurrogate is where a line escapes half of a character, which the decoder would replace without a word; -1: nowhere. The line is
// JSON.
func loneSurrogate(line []byte) int {
	at := func(i int) (rune, bool) {
		if i+6 > len(line) || line[i] != '\\' || line[i+1] != 'u' {
			return 0, false
		}
		n, err := strconv.ParseUint(string(line[i+2:i+6]), 16, 32)
		return rune(n), err == nil
	}
	for i := 0; i < len(line); i++ {
		if line[i] != '\\' {
			continue
		}
		r, ok := at(i)
		if !ok {
			i++ // what is escaped
			continue
		}
		if !utf16.IsSurrogate(r) {
			continue
		}
		next, _ := at(i + 6)
		if utf16.DecodeRune(r, next) == utf8.RuneError {
			return i
		}
		i += 11
	}
	return -1
}
