package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"
	"unicode/utf8"
)

// maxHeader is the reference implementation's limit on the JSON header, in bytes.
const maxHeader = 100_000_000

const metadataKey = "__metadata__"

type header struct {
	tensors map[string]Tensor
	meta    map[string]string
}

// entry is a tensor's description in the header.
type entry struct {
	DType   *DType  `json:"dtype"`
	Shape   []int64 `json:"shape"`
	Offsets []int64 `json:"data_offsets"`
}

// parse checks a whole file: the header's length and JSON, and that the tensors' byte ranges fit their types and shapes
// and cover the rest of the file without a hole or an overlap.
func parse(path string, data []byte) (header, error) {
	bad := func(tensor, format string, args ...any) (header, error) {
		return header{}, &Error{Path: path, Tensor: tensor, Problem: fmt.Sprintf(format, args...)}
	}
	if len(data) < 8 {
		return bad("", "%d bytes, too short for the 8-byte header length", len(data))
	}
	n := binary.LittleEndian.Uint64(data)
	if n > maxHeader {
		return bad("", "header of %d bytes is longer than the format's limit of %d", n, maxHeader)
	}
	if n > uint64(len(data)-8) {
		return bad("", "header of %d bytes in a file of %d: truncated", n, len(data))
	}
	text, body := data[8:8+n], data[8+n:]
	if len(text) == 0 || text[0] != '{' {
		return bad("", "header does not start with '{'")
	}
	if !utf8.Valid(text) {
		return bad("", "header is not valid UTF-8")
	}

	h := header{tensors: map[string]Tensor{}}
	type span struct {
		name       string
		begin, end int64
	}
	var spans []span
	err := eachMember(text, func(name string, raw json.RawMessage) error {
		if name == metadataKey {
			h.meta = map[string]string{}
			return eachMember(raw, func(key string, v json.RawMessage) error {
				var s *string
				if err := json.Unmarshal(v, &s); err != nil || s == nil {
					return &Error{Path: path, Problem: fmt.Sprintf("%s[%q] is not a string", metadataKey, key)}
				}
				h.meta[key] = *s
				return nil
			})
		}
		t, begin, end, problem := describe(raw, int64(len(body)))
		if problem != "" {
			return &Error{Path: path, Tensor: name, Problem: problem}
		}
		t.Name, t.Data = name, body[begin:end:end]
		h.tensors[name] = t
		spans = append(spans, span{name, begin, end})
		return nil
	})
	if err != nil {
		if _, ok := err.(*Error); ok {
			return header{}, err
		}
		return bad("", "header: %v", err)
	}

	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end), cmp.Compare(a.name, b.name))
	})
	at := int64(0)
	for _, s := range spans {
		if s.begin < at {
			return bad(s.name, "data_offsets [%d,%d] overlap the tensor before, which ends at %d", s.begin, s.end, at)
		}
		if s.begin > at {
			return bad(s.name, "bytes %d to %d before it belong to no tensor", at, s.begin)
		}
		at = s.end
	}
	if at != int64(len(body)) {
		return bad("", "%d bytes after the last tensor", int64(len(body))-at)
	}
	return h, nil
}

// describe decodes a tensor's entry; problem is empty when it is sound in itself and lies within the body.
func describe(raw json.RawMessage, body int64) (t Tensor, begin, end int64, problem string) {
	var e entry
	seen := map[string]bool{}
	err := eachMember(raw, func(key string, v json.RawMessage) error {
		seen[key] = true
		switch key {
		case "dtype":
			return json.Unmarshal(v, &e.DType)
		case "shape":
			return json.Unmarshal(v, &e.Shape)
		case "data_offsets":
			return json.Unmarshal(v, &e.Offsets)
		}
		return fmt.Errorf("unknown key %q", key)
	})
	if err != nil {
		return t, 0, 0, err.Error()
	}
	if e.DType == nil || e.Shape == nil || e.Offsets == nil {
		return t, 0, 0, "needs dtype, shape and data_offsets"
	}
	t.DType = *e.DType
	size := t.DType.Size()
	if size == 0 {
		return t, 0, 0, fmt.Sprintf("unknown dtype %q", t.DType)
	}
	if len(e.Offsets) != 2 {
		return t, 0, 0, fmt.Sprintf("data_offsets has %d entries, not 2", len(e.Offsets))
	}
	begin, end = e.Offsets[0], e.Offsets[1]
	if begin < 0 || end < begin || end > body {
		return t, 0, 0, fmt.Sprintf("data_offsets [%d,%d] are not within the %d bytes of data", begin, end, body)
	}
	count, fits := uint64(size), true
	t.Shape = make([]int, len(e.Shape))
	for i, d := range e.Shape {
		if d < 0 || d > math.MaxInt {
			return t, 0, 0, fmt.Sprintf("shape %v has a dimension out of range", e.Shape)
		}
		t.Shape[i] = int(d)
		hi, lo := bits.Mul64(count, uint64(d))
		fits = fits && hi == 0
		count = lo
	}
	if !fits {
		return t, 0, 0, fmt.Sprintf("shape %v overflows", e.Shape)
	}
	if count != uint64(end-begin) {
		return t, 0, 0, fmt.Sprintf("shape %v of %s takes %d bytes, data_offsets give %d", e.Shape, t.DType, count, end-begin)
	}
	return t, begin, end, ""
}

// eachMember calls f for the members of one JSON object in order. A key that appears twice is an error: readers that keep
// the first and readers that keep the last would see two different models.
func eachMember(text []byte, f func(key string, value json.RawMessage) error) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	if tok != json.Delim('{') {
		return fmt.Errorf("%v where an object should be", tok)
	}
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return err
		}
		key := tok.(string)
		if seen[key] {
			return fmt.Errorf("key %q appears twice", key)
		}
		seen[key] = true
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return err
		}
		if err := f(key, raw); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("text after the object")
	}
	return nil
}
