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

// checkSchemaSize walks the fields of a schema message before Arrow's decoder does. In a flatbuffer several parents may
// share a child, so a few hundred crafted bytes can describe more fields than there is memory for; the walk stops at
// maxFields. Messages other than a schema pass.
//
// Layout (Arrow format, Message.fbs and Schema.fbs): Message{version, header_type, header, bodyLength}, header_type 1 is
// Schema{endianness, fields, ...}, Field{name, nullable, type_type, type, dictionary, children, ...}.
func checkSchemaSize(msg []byte) error {
	f := flat(msg)
	root, err := f.ref(0)
	if err != nil {
		return err
	}
	kind, err := f.field(root, 1)
	if err != nil || kind == 0 {
		return err
	}
	if kind >= len(f) || f[kind] != 1 {
		return nil
	}
	header, err := f.child(root, 2)
	if err != nil || header == 0 {
		return err
	}
	left := maxFields
	return f.walk(header, 1, maxDepth, &left)
}

// flat reads a flatbuffer; positions are absolute, 0 stands for "absent".
type flat []byte

func (f flat) walk(table, slot, depth int, left *int) error {
	vec, err := f.child(table, slot)
	if err != nil || vec == 0 {
		return err
	}
	n, err := f.u32(vec)
	if err != nil {
		return err
	}
	if n > *left {
		return fmt.Errorf("schema of more than %d fields", maxFields)
	}
	*left -= n
	if n > 0 && depth == 0 {
		return fmt.Errorf("schema nested deeper than %d", maxDepth)
	}
	for i := range n {
		field, err := f.ref(vec + 4 + 4*i)
		if err != nil {
			return err
		}
		if err := f.walk(field, 5, depth-1, left); err != nil {
			return err
		}
	}
	return nil
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
