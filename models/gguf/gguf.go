// Package gguf reads GGUF files, the format in which llama.cpp and its relatives keep a model: metadata, tokenizer and
// tensors, often quantised, in one file. Tensors are given as float32 under the names, and in the row order, of a Hugging
// Face checkpoint. Files are untrusted: everything is checked when a file is opened.
//
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
package gguf

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"unicode/utf8"

	"github.com/millrace/millrace/models/mapped"
)

// Error says what is wrong with a file, and with which of its metadata keys or tensors.
type Error struct {
	Path    string
	Item    string // a metadata key or a tensor; empty when it is about the file as a whole
	Problem string
}

func (e *Error) Error() string {
	if e.Item == "" {
		return fmt.Sprintf("gguf: %s: %s", e.Path, e.Problem)
	}
	return fmt.Sprintf("gguf: %s: %s: %s", e.Path, e.Item, e.Problem)
}

// Tensor is one stored tensor, as it is in the file. Data aliases the file and is valid until it is closed.
type Tensor struct {
	Name  string
	Type  Type
	Shape []int // row-major: the last dimension is contiguous
	Data  []byte
}

// File is an open file. Its methods are safe for concurrent use, Close excepted.
type File struct {
	path    string
	values  map[string]any // string, bool, int64, uint64, float64, []string, []int64, []float64 or []bool
	tensors map[string]Tensor
	names   []string
	release func() error
}

// Limits on what a file may hold. Published ones have a few thousand tensors, a hundred keys and arrays of a few hundred
// thousand tokens and merges.
const (
	maxTensors  = 1 << 17
	maxKeys     = 1 << 16
	maxElements = 1 << 24 // of all metadata arrays together
	maxName     = 1 << 10
	maxDims     = 4
)

// Open opens a file.
func Open(path string) (*File, error) {
	data, release, err := mapped.Open(path)
	if err != nil {
		return nil, fmt.Errorf("gguf: %w", err)
	}
	f, err := parse(path, data)
	if err != nil {
		release()
		return nil, err
	}
	f.release = release
	return f, nil
}

// Close releases the file; no Tensor's Data may be used afterwards.
func (f *File) Close() error {
	release := f.release
	f.release, f.tensors, f.names = nil, nil, nil
	if release == nil {
		return nil
	}
	return release()
}

// Path is the file's.
func (f *File) Path() string { return f.path }

// Names are the tensors' names, sorted.
func (f *File) Names() []string { return slices.Clone(f.names) }

// Tensor returns the tensor of that name.
func (f *File) Tensor(name string) (Tensor, error) {
	t, ok := f.tensors[name]
	if !ok {
		return Tensor{}, &Error{f.path, name, "no such tensor"}
	}
	return t, nil
}

// Text returns a metadata string.
func (f *File) Text(key string) (string, bool) { v, ok := f.values[key].(string); return v, ok }

// Texts returns a metadata array of strings.
func (f *File) Texts(key string) ([]string, bool) { v, ok := f.values[key].([]string); return v, ok }

// Ints returns a metadata array of integers.
func (f *File) Ints(key string) ([]int64, bool) { v, ok := f.values[key].([]int64); return v, ok }

// Flag returns a metadata boolean.
func (f *File) Flag(key string) (value, ok bool) { value, ok = f.values[key].(bool); return value, ok }

// Int returns a metadata integer of any width.
func (f *File) Int(key string) (int64, bool) {
	switch v := f.values[key].(type) {
	case int64:
		return v, true
	case uint64:
		return int64(v), v <= math.MaxInt64
	}
	return 0, false
}

// Float returns a metadata number.
func (f *File) Float(key string) (float64, bool) {
	if v, ok := f.values[key].(float64); ok {
		return v, true
	}
	i, ok := f.Int(key)
	return float64(i), ok
}

// reader takes values off the front of a file. After an error it gives zeros.
type reader struct {
	data     []byte
	at       int
	elements int // of arrays, so far
	err      error
}

var errTruncated = errors.New("truncated")

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *reader) take(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.data)-r.at {
		r.err = errTruncated
		return nil
	}
	b := r.data[r.at : r.at+n]
	r.at += n
	return b
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// count reads a number of things that take at least size bytes each.
func (r *reader) count(size, limit int, what string) int {
	n := r.u64()
	if r.err == nil && n > uint64(limit) {
		r.fail("%d %s are more than the limit of %d", n, what, limit)
	}
	if r.err == nil && n > uint64((len(r.data)-r.at)/size) {
		r.err = errTruncated
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

func (r *reader) text() string {
	n := r.count(1, math.MaxInt32, "bytes of text")
	return string(r.take(n))
}

func (r *reader) name() string {
	n := r.count(1, maxName, "bytes of a name")
	s := string(r.take(n))
	if r.err == nil && (s == "" || !utf8.ValidString(s)) {
		r.fail("name %q is empty or not UTF-8", s)
	}
	return s
}

// Metadata value types.
const (
	typeUint8 = iota
	typeInt8
	typeUint16
	typeInt16
	typeUint32
	typeInt32
	typeFloat32
	typeBool
	typeString
	typeArray
	typeUint64
	typeInt64
	typeFloat64
)

var valueSizes = map[uint32]int{typeUint8: 1, typeInt8: 1, typeUint16: 2, typeInt16: 2, typeUint32: 4, typeInt32: 4, typeFloat32: 4,
	typeBool: 1, typeString: 8, typeUint64: 8, typeInt64: 8, typeFloat64: 8}

// integer reads an integer; values above the largest int64 stay uint64.
func (r *reader) integer(kind uint32) any {
	b := r.take(valueSizes[kind])
	if b == nil {
		return int64(0)
	}
	switch kind {
	case typeUint8:
		return int64(b[0])
	case typeInt8:
		return int64(int8(b[0]))
	case typeUint16:
		return int64(binary.LittleEndian.Uint16(b))
	case typeInt16:
		return int64(int16(binary.LittleEndian.Uint16(b)))
	case typeUint32:
		return int64(binary.LittleEndian.Uint32(b))
	case typeInt32:
		return int64(int32(binary.LittleEndian.Uint32(b)))
	}
	v := binary.LittleEndian.Uint64(b)
	if kind == typeUint64 && v > math.MaxInt64 {
		return v
	}
	return int64(v)
}

func (r *reader) float(kind uint32) float64 {
	if kind == typeFloat32 {
		return float64(math.Float32frombits(r.u32()))
	}
	return math.Float64frombits(r.u64())
}

func (r *reader) flag() bool {
	b := r.take(1)
	if b != nil && b[0] > 1 {
		r.fail("a boolean of %d", b[0])
	}
	return b != nil && b[0] == 1
}

func (r *reader) value() any {
	switch kind := r.u32(); kind {
	case typeString:
		return r.text()
	case typeBool:
		return r.flag()
	case typeFloat32, typeFloat64:
		return r.float(kind)
	case typeArray:
		return r.array()
	default:
		if valueSizes[kind] == 0 {
			r.fail("unknown value type %d", kind)
			return nil
		}
		return r.integer(kind)
	}
}

func (r *reader) array() any {
	kind := r.u32()
	size := valueSizes[kind]
	if r.err == nil && size == 0 {
		r.fail("arrays of value type %d are not supported", kind)
	}
	if r.err != nil {
		return nil
	}
	n := r.count(size, maxElements-r.elements, "array elements")
	r.elements += n
	switch kind {
	case typeString:
		out := make([]string, 0, n)
		for i := 0; i < n && r.err == nil; i++ {
			out = append(out, r.text())
		}
		return out
	case typeBool:
		out := make([]bool, n)
		for i := range out {
			out[i] = r.flag()
		}
		return out
	case typeFloat32, typeFloat64:
		out := make([]float64, n)
		for i := range out {
			out[i] = r.float(kind)
		}
		return out
	}
	out := make([]int64, n)
	for i := range out {
		v, ok := r.integer(kind).(int64)
		if !ok {
			r.fail("array element %d is too large", i)
		}
		out[i] = v
	}
	return out
}

// parse checks a whole file: header, metadata, and that every tensor's bytes lie within the file and belong to no other.
func parse(path string, data []byte) (*File, error) {
	r := &reader{data: data}
	bad := func(item string, format string, args ...any) (*File, error) {
		return nil, &Error{path, item, fmt.Sprintf(format, args...)}
	}
	if magic := r.take(4); string(magic) != "GGUF" {
		return bad("", "does not begin with GGUF")
	}
	if version := r.u32(); r.err == nil && version != 2 && version != 3 {
		return bad("", "version %d is not supported (2 and 3 are)", version)
	}
	tensors := r.count(24, maxTensors, "tensors")
	keys := r.count(13, maxKeys, "metadata keys")
	f := &File{path: path, values: make(map[string]any), tensors: make(map[string]Tensor)}
	for range keys {
		key := r.name()
		if r.err != nil {
			return bad("", "metadata: %v", r.err)
		}
		if _, twice := f.values[key]; twice {
			return bad(key, "appears twice")
		}
		f.values[key] = r.value()
		if r.err != nil {
			return bad(key, "%v", r.err)
		}
	}
	if r.err != nil {
		return bad("", "header: %v", r.err)
	}
	alignment := uint64(32)
	if _, ok := f.values["general.alignment"]; ok {
		a, ok := f.Int("general.alignment")
		if !ok || a < 8 || a > 1<<16 || a&(a-1) != 0 {
			return bad("general.alignment", "is not a power of two from 8 to 65536")
		}
		alignment = uint64(a)
	}

	type span struct {
		name       string
		begin, end uint64
	}
	var spans []span
	for range tensors {
		name := r.name()
		t := Tensor{Name: name}
		dims := r.u32()
		if r.err == nil && (dims == 0 || dims > maxDims) {
			return bad(name, "has %d dimensions, not 1 to %d", dims, maxDims)
		}
		count, fits := uint64(1), true
		for range dims {
			d := r.u64()
			hi, lo := bits.Mul64(count, d)
			fits = fits && hi == 0 && d > 0 && d <= math.MaxInt32
			count = lo
			t.Shape = append(t.Shape, int(d))
		}
		t.Type = Type(r.u32())
		offset := r.u64()
		if r.err != nil {
			return bad(name, "%v", r.err)
		}
		slices.Reverse(t.Shape)
		if _, twice := f.tensors[name]; twice {
			return bad(name, "appears twice")
		}
		l, known := layouts[t.Type]
		if !known {
			return bad(name, "%s is not supported", t.Type)
		}
		if !fits || count > math.MaxInt64/256 {
			return bad(name, "shape %v is out of range", t.Shape)
		}
		if row := t.Shape[len(t.Shape)-1]; row%l.block != 0 {
			return bad(name, "rows of %d are not whole blocks of %d of %s", row, l.block, t.Type)
		}
		if offset%alignment != 0 {
			return bad(name, "offset %d is not a multiple of the alignment %d", offset, alignment)
		}
		size := count / uint64(l.block) * uint64(l.bytes)
		if offset > math.MaxInt64-size {
			return bad(name, "offset %d is out of range", offset)
		}
		spans = append(spans, span{name, offset, offset + size})
		f.tensors[name] = t
	}

	begin := (uint64(r.at) + alignment - 1) / alignment * alignment
	body := uint64(0)
	if begin < uint64(len(data)) {
		body = uint64(len(data)) - begin
	}
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end), cmp.Compare(a.name, b.name))
	})
	at := uint64(0)
	for _, s := range spans {
		if s.begin < at {
			return bad(s.name, "bytes %d to %d overlap the tensor before, which ends at %d", s.begin, s.end, at)
		}
		if s.end > body {
			return bad(s.name, "bytes %d to %d are not within the %d bytes of data: truncated", s.begin, s.end, body)
		}
		at = s.end
		t := f.tensors[s.name]
		t.Data = data[begin+s.begin : begin+s.end : begin+s.end]
		f.tensors[s.name] = t
		f.names = append(f.names, s.name)
	}
	slices.Sort(f.names)
	return f, nil
}
