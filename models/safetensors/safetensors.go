// Package safetensors reads and writes model weights in the safetensors format: an 8-byte little-endian header length, a
// JSON header giving type, shape and byte range of every tensor, then the bytes. A checkpoint is one such file or several
// joined by an index. Files are untrusted: everything is checked when a file is opened, so that the accessors cannot fail
// on anything but a name that is not there or a type that cannot be converted.
//
// Format: https://huggingface.co/docs/safetensors.
package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/millrace/millrace/models/half"
	"github.com/millrace/millrace/models/mapped"
)

// DType is the element type of a stored tensor, spelled as in the file.
type DType string

// The element types that convert to and from float32.
const (
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
)

var sizes = map[DType]int{
	"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
	"U16": 2, "I16": 2, F16: 2, BF16: 2,
	"U32": 4, "I32": 4, F32: 4,
	"U64": 8, "I64": 8, "F64": 8, "C64": 8,
}

// Size is the number of bytes of an element, 0 for an unknown type.
func (d DType) Size() int { return sizes[d] }

// Names of a checkpoint's files in a model directory.
const (
	FileName  = "model.safetensors"
	IndexName = "model.safetensors.index.json"
)

// Tensor is one stored tensor. Data is row-major and little-endian; it aliases the opened file, must not be written to
// and is valid until the File is closed.
type Tensor struct {
	Name  string
	DType DType
	Shape []int
	Data  []byte
}

// Error says what is wrong with a file, and with which of its tensors.
type Error struct {
	Path    string
	Tensor  string // empty when it is about the file as a whole
	Problem string
}

func (e *Error) Error() string {
	if e.Tensor == "" {
		return fmt.Sprintf("safetensors: %s: %s", e.Path, e.Problem)
	}
	return fmt.Sprintf("safetensors: %s: tensor %q: %s", e.Path, e.Tensor, e.Problem)
}

// File is an open checkpoint, single or sharded. Its methods are safe for concurrent use, Close excepted.
type File struct {
	path    string
	names   []string
	tensors map[string]Tensor
	meta    map[string]string
	release []func() error
}

// Open opens a checkpoint: a .safetensors file, an index (.json), or a directory that holds model.safetensors or
// model.safetensors.index.json.
func Open(path string) (*File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	if st.IsDir() {
		single, index := filepath.Join(path, FileName), filepath.Join(path, IndexName)
		if _, err := os.Stat(single); err == nil {
			path = single
		} else if _, err := os.Stat(index); err == nil {
			path = index
		} else {
			return nil, &Error{Path: path, Problem: fmt.Sprintf("no %s and no %s in the directory", FileName, IndexName)}
		}
	}
	if filepath.Ext(path) == ".json" {
		return openIndex(path)
	}
	return openSingle(path)
}

// Close releases the mapping; no Tensor's Data may be used afterwards.
func (f *File) Close() error {
	var first error
	for _, r := range f.release {
		if err := r(); err != nil && first == nil {
			first = err
		}
	}
	f.release, f.names, f.tensors = nil, nil, nil
	return first
}

// Names are the tensors' names, sorted.
func (f *File) Names() []string { return slices.Clone(f.names) }

// Has reports whether there is a tensor of that name.
func (f *File) Has(name string) bool { _, ok := f.tensors[name]; return ok }

// Metadata is the free text stored in the header (of the first shard by name), nil when there is none.
func (f *File) Metadata() map[string]string { return f.meta }

// Tensor returns the tensor of that name.
func (f *File) Tensor(name string) (Tensor, error) {
	t, ok := f.tensors[name]
	if !ok {
		return Tensor{}, &Error{Path: f.path, Tensor: name, Problem: "not in the file"}
	}
	return t, nil
}

// Shape returns the shape of a tensor.
func (f *File) Shape(name string) ([]int, error) {
	t, err := f.Tensor(name)
	return t.Shape, err
}

// Float32 returns a copy of the values, converted exactly from F32, F16 or BF16, and the shape.
func (f *File) Float32(name string) ([]float32, []int, error) {
	t, err := f.Tensor(name)
	if err != nil {
		return nil, nil, err
	}
	dst := make([]float32, len(t.Data)/t.DType.Size())
	if err := f.Float32Into(dst, name); err != nil {
		return nil, nil, err
	}
	return dst, t.Shape, nil
}

// Float32Into is Float32 into memory of the caller's, whose length must be the tensor's number of elements.
func (f *File) Float32Into(dst []float32, name string) error {
	t, err := f.Tensor(name)
	if err != nil {
		return err
	}
	if n := len(t.Data) / t.DType.Size(); n != len(dst) {
		return &Error{Path: f.path, Tensor: name, Problem: fmt.Sprintf("shape %v has %d elements, %d wanted", t.Shape, n, len(dst))}
	}
	switch t.DType {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = half.FromFloat16(binary.LittleEndian.Uint16(t.Data[2*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = half.FromBFloat16(binary.LittleEndian.Uint16(t.Data[2*i:]))
		}
	default:
		return &Error{Path: f.path, Tensor: name, Problem: fmt.Sprintf("dtype %s does not convert to float32 (F32, F16 and BF16 do)", t.DType)}
	}
	return nil
}

func openSingle(path string) (*File, error) {
	data, release, err := mapped.Open(path)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	h, err := parse(path, data)
	if err != nil {
		release()
		return nil, err
	}
	f := &File{path: path, tensors: h.tensors, meta: h.meta, release: []func() error{release}}
	f.sortNames()
	return f, nil
}

func (f *File) sortNames() {
	f.names = make([]string, 0, len(f.tensors))
	for name := range f.tensors {
		f.names = append(f.names, name)
	}
	slices.Sort(f.names)
}
