package safetensors

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"unicode/utf8"

	"github.com/millrace/millrace/models/half"
)

// NamedTensor is a tensor to be written: float32 values, stored as DType (F32 when empty, F16 or BF16).
type NamedTensor struct {
	Name   string
	Shape  []int
	Values []float32
	DType  DType
}

// Write writes one safetensors file. The bytes depend on the arguments only, not on their order; the file appears under
// its name complete or not at all. A finite value that the DType cannot hold is an error. meta may be nil.
func Write(path string, tensors []NamedTensor, meta map[string]string) (err error) {
	ordered := slices.Clone(tensors)
	for i := range ordered {
		ordered[i].DType = cmp.Or(ordered[i].DType, F32)
	}
	// Wider types first keeps every tensor aligned to its element size, as the reference writer does.
	slices.SortStableFunc(ordered, func(a, b NamedTensor) int {
		return cmp.Or(cmp.Compare(b.DType.Size(), a.DType.Size()), cmp.Compare(a.Name, b.Name))
	})
	head, err := encodeHeader(path, ordered, meta)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("safetensors: %w", err)
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	w := bufio.NewWriterSize(tmp, 1<<20)
	if _, err := w.Write(head); err != nil {
		return fmt.Errorf("safetensors: %w", err)
	}
	for _, t := range ordered {
		if err := writeValues(w, path, t); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("safetensors: %w", err)
	}
	if err := tmp.Chmod(0o644); err != nil {
		return fmt.Errorf("safetensors: %w", err)
	}
	if err := tmp.Sync(); err != nil {
		return fmt.Errorf("safetensors: %w", err)
	}
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("safetensors: %w", err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("safetensors: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename last through a power failure. Platforms that cannot sync a directory are left to themselves.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("safetensors: %w", err)
	}
	defer d.Close()
	_ = d.Sync()
	return nil
}

// encodeHeader builds the length and the JSON header, padded with spaces to a multiple of 8.
func encodeHeader(path string, tensors []NamedTensor, meta map[string]string) ([]byte, error) {
	var b bytes.Buffer
	b.Write(make([]byte, 8))
	b.WriteByte('{')
	text := func(v any) {
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(v)       // strings, ints and slices of them always encode
		b.Truncate(b.Len() - 1) // the encoder's newline
	}
	if len(meta) > 0 {
		text(metadataKey)
		b.WriteByte(':')
		text(meta) // encoding/json sorts the keys of a map
		if len(tensors) > 0 {
			b.WriteByte(',')
		}
	}
	seen := make(map[string]bool, len(tensors))
	at := 0
	for i, t := range tensors {
		count := 1
		for _, d := range t.Shape {
			if d < 0 || d != 0 && count > math.MaxInt/d {
				return nil, &Error{Path: path, Tensor: t.Name, Problem: fmt.Sprintf("shape %v has a dimension out of range", t.Shape)}
			}
			count *= d
		}
		switch {
		case t.Name == "" || t.Name == metadataKey || seen[t.Name] || !utf8.ValidString(t.Name):
			return nil, &Error{Path: path, Tensor: t.Name, Problem: "the name is empty, reserved, used twice or not valid UTF-8"}
		case t.DType != F32 && t.DType != F16 && t.DType != BF16:
			return nil, &Error{Path: path, Tensor: t.Name, Problem: fmt.Sprintf("cannot be written as %s (F32, F16 and BF16 can)", t.DType)}
		case count != len(t.Values):
			return nil, &Error{Path: path, Tensor: t.Name, Problem: fmt.Sprintf("shape %v does not hold %d values", t.Shape, len(t.Values))}
		}
		seen[t.Name] = true
		if i > 0 {
			b.WriteByte(',')
		}
		text(t.Name)
		shape := t.Shape
		if shape == nil {
			shape = []int{}
		}
		end := at + count*t.DType.Size()
		fmt.Fprintf(&b, `:{"dtype":%q,"shape":`, t.DType)
		text(shape)
		fmt.Fprintf(&b, `,"data_offsets":[%d,%d]}`, at, end)
		at = end
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	if b.Len()-8 > maxHeader {
		return nil, &Error{Path: path, Problem: fmt.Sprintf("header of %d bytes is longer than the format's limit of %d", b.Len()-8, maxHeader)}
	}
	binary.LittleEndian.PutUint64(b.Bytes(), uint64(b.Len()-8))
	return b.Bytes(), nil
}

func writeValues(w io.Writer, path string, t NamedTensor) error {
	const chunk = 1 << 14
	size := t.DType.Size()
	buf := make([]byte, 0, chunk*size)
	for start := 0; start < len(t.Values); start += chunk {
		buf = buf[:0]
		for i, v := range t.Values[start:min(start+chunk, len(t.Values))] {
			var h uint16
			var back float32
			switch t.DType {
			case F32:
				buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
				continue
			case F16:
				h = half.ToFloat16(v)
				back = half.FromFloat16(h)
			case BF16:
				h = half.ToBFloat16(v)
				back = half.FromBFloat16(h)
			}
			if math.IsInf(float64(back), 0) && !math.IsInf(float64(v), 0) {
				return &Error{Path: path, Tensor: t.Name, Problem: fmt.Sprintf("value %g at %d is too large for %s", v, start+i, t.DType)}
			}
			buf = binary.LittleEndian.AppendUint16(buf, h)
		}
		if _, err := w.Write(buf); err != nil {
			return fmt.Errorf("safetensors: %w", err)
		}
	}
	return nil
}
