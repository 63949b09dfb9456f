package parquetrows

import (
	"encoding/base64"
	"encoding/binary"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/millrace/millrace/transforms/files"
)

// wideInts finds columns of integers of more than 64 bits, and whether they have a sign. Parquet has no such type: Polars writes 128 bits
// as bytes, and says what they are only in the Arrow schema beside it (Message.fbs and Schema.fbs), which Arrow's own reader refuses.
func wideInts(f *files.ParquetFile) (out map[string]bool) {
	out = map[string]bool{}
	defer func() {
		recover() // a schema that is none says nothing
	}()
	raw := f.MetaData().KeyValueMetadata().FindValue("ARROW:schema")
	if raw == nil {
		return out
	}
	message, err := base64.StdEncoding.DecodeString(*raw)
	if err != nil {
		return out
	}
	const prefix = 8 // a mark, and the length
	table := func(of flatbuffers.Table, field int) (t flatbuffers.Table, ok bool) {
		at := of.Offset(flatbuffers.VOffsetT(4 + 2*field))
		if at == 0 {
			return t, false
		}
		return flatbuffers.Table{Bytes: of.Bytes, Pos: of.Indirect(of.Pos + flatbuffers.UOffsetT(at))}, true
	}
	message = message[prefix:]
	root := flatbuffers.Table{Bytes: message, Pos: flatbuffers.UOffsetT(binary.LittleEndian.Uint32(message))}
	schema, ok := table(root, 2)
	if !ok {
		return out
	}
	at := flatbuffers.UOffsetT(schema.Offset(6))
	if at == 0 {
		return out
	}
	fields := schema.Vector(at)
	for i := range schema.VectorLen(at) {
		field := flatbuffers.Table{Bytes: message, Pos: schema.Indirect(fields + flatbuffers.UOffsetT(4*i))}
		const typeInt = 2
		if field.GetByteSlot(8, 0) != typeInt {
			continue
		}
		if of, ok := table(field, 3); ok && of.GetInt32Slot(4, 0) > 64 {
			name := field.String(flatbuffers.UOffsetT(field.Offset(4)) + field.Pos)
			out[name] = of.GetBoolSlot(6, false)
		}
	}
	return out
}
