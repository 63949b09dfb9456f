package prompts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// readArray reads a file that is one JSON array of objects. Memory is bounded by the longest item allowed; a longer one
// ends the reading, since what follows it cannot be found.
func readArray(r io.Reader, maxItem int, emit func(rawRow) error) error {
	bounded := &boundedReader{in: r}
	d := json.NewDecoder(bounded)
	open := func() { bounded.end = d.InputOffset() + int64(maxItem) + arraySlack }
	open()
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return errors.Join(errors.New("the file is not a JSON array of objects; a file of one object a line is of format jsonl"), err)
	}
	for number := 1; ; number++ {
		open()
		if !d.More() {
			break
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return fmt.Errorf("item %d: %w", number, err)
		}
		text := bytes.Clone(raw)
		row := rawRow{number: number, raw: func() []byte { return text }}
		row.fields, row.err = parseLine(text)
		if err := emit(row); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("the array does not end: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the array")
	}
	return nil
}

// arraySlack is what the decoder may read ahead of an item, white space between items included.
const arraySlack = 64 << 10

// boundedReader stops a decoder that reads beyond end for one item.
type boundedReader struct {
	in      io.Reader
	at, end int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.at >= b.end {
		return 0, errors.New("longer than file.max_line_bytes allows")
	}
	n, err := b.in.Read(p[:min(int64(len(p)), b.end-b.at)])
	b.at += int64(n)
	return n, err
}
