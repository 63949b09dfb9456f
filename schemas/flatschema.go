package schemas

import (
	bin "encoding/binary"
	"errors"
	"fmt"
)

// Limits of a schema read from bytes. Ours have a few dozen columns, nested three deep.
const (
	maxFields = 4096
	maxDepth  = 8
)

// Types of a column, in the numbering of the Arrow format (Schema.fbs, union Type).
var flatTypes = map[byte]bool{
	2: true, 3: true, 4: true, 5: true, 6: true, // Int, FloatingPoint, Binary, Utf8, Bool
	12: true, 15: true, // List, FixedSizeBinary
}

// checkSchema walks the fields of a schema message before Arrow's decoder does, which believes every length. In a
// flatbuffer several parents may also share a child, so a few hundred crafted bytes can describe more fields than there
// is memory for; the walk stops at maxFields. Messages other than a schema pass, dictionaries do not.
//
// Layout (Arrow format, Message.fbs and Schema.fbs): Message{version, header_type, header, bodyLength}, header_type 1 is
// Schema{endianness, fields, custom_metadata}, Field{name, nullable, type_type, type, dictionary, children, custom_metadata}.
func checkSchema(msg []byte) error {
	f := flat(msg)
	root, err := f.ref(0)
	if err != nil {
		return err
	}
	kind, err := f.byteField(root, 1)
	if err != nil {
		return err
	}
	switch kind {
	case 1:
		header, err := f.child(root, 2)
		if err != nil || header == 0 {
			return errFlat
		}
		if _, _, err := f.vector(header, 2); err != nil {
			return err
		}
		left := maxFields
		return f.walk(header, 1, maxDepth, &left)
	case 3:
		return nil // a record batch
	}
	return fmt.Errorf("message of type %d; only a schema and a record batch are read", kind)
}

// flat reads a flatbuffer; positions are absolute, 0 stands for "absent".
type flat []byte

func (f flat) walk(table, slot, depth int, left *int) error {
	vec, n, err := f.vector(table, slot)
	if err != nil || n == 0 {
		return err
	}
	if n > *left {
		return fmt.Errorf("schema of more than %d fields", maxFields)
	}
	*left -= n
	if depth == 0 {
		return fmt.Errorf("schema nested deeper than %d", maxDepth)
	}
	for i := range n {
		field, err := f.ref(vec + 4 + 4*i)
		if err != nil {
			return err
		}
		kind, err := f.byteField(field, 2)
		if err != nil {
			return err
		}
		if !flatTypes[kind] {
			return fmt.Errorf("schema with a type (number %d of the format) that records do not use", kind)
		}
		if at, err := f.field(field, 4); err != nil || at != 0 {
			return errors.New("schema with a dictionary, which records do not use")
		}
		if _, _, err := f.vector(field, 6); err != nil {
			return err
		}
		if err := f.walk(field, 5, depth-1, left); err != nil {
			return err
		}
	}
	return nil
}

// vector follows a table's field to a vector of offsets and returns its position and length, 0 when it is absent.
func (f flat) vector(table, slot int) (at, n int, err error) {
	at, err = f.child(table, slot)
	if err != nil || at == 0 {
		return 0, 0, err
	}
	n, err = f.u32(at)
	if err != nil || n > (len(f)-at-4)/4 {
		return 0, 0, errFlat
	}
	return at, n, nil
}

func (f flat) byteField(table, slot int) (byte, error) {
	at, err := f.field(table, slot)
	if err != nil || at == 0 {
		return 0, err
	}
	if at >= len(f) {
		return 0, errFlat
	}
	return f[at], nil
}

var errFlat = errors.New("flatbuffer offset out of range")

func (f flat) u32(at int) (int, error) {
	if at < 0 || at+4 > len(f) {
		return 0, errFlat
	}
	return int(bin.LittleEndian.Uint32(f[at:])), nil
}

// ref follows the offset stored at a position.
func (f flat) ref(at int) (int, error) {
	o, err := f.u32(at)
	if err != nil || at+o+4 > len(f) || o == 0 {
		return 0, errFlat
	}
	return at + o, nil
}

// field returns the position of a table's field, 0 when it is absent.
func (f flat) field(table, slot int) (int, error) {
	back, err := f.u32(table)
	if err != nil {
		return 0, err
	}
	vtable := table - int(int32(back))
	if vtable < 0 || vtable+2 > len(f) {
		return 0, errFlat
	}
	size, entry := int(bin.LittleEndian.Uint16(f[vtable:])), 4+2*slot
	if entry+2 > size {
		return 0, nil
	}
	if vtable+entry+2 > len(f) {
		return 0, errFlat
	}
	off := int(bin.LittleEndian.Uint16(f[vtable+entry:]))
	if off == 0 {
		return 0, nil
	}
	return table + off, nil
}

// child follows a table's field to what it points at, 0 when it is absent.
func (f flat) child(table, slot int) (int, error) {
	at, err := f.field(table, slot)
	if err != nil || at == 0 {
		return 0, err
	}
	return f.ref(at)
}
