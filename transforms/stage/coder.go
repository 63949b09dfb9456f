package stage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/millrace/millrace/schemas"
)

// Batch is what stages exchange: rows of whole prompt groups as an Arrow record.
type Batch = schemas.Record

func init() { beam.RegisterCoder(reflect.TypeOf(Batch{}), encode, decode) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode writes a batch for a Beam edge: the CRC-32C of an Arrow IPC stream, then the stream.
func encode(b Batch) ([]byte, error) {
	raw, err := b.MarshalBinary()
	if err != nil {
		return nil, err
	}
	return append(binary.LittleEndian.AppendUint32(make([]byte, 0, len(raw)+4), crc32.Checksum(raw, castagnoli)), raw...), nil
}

func decode(raw []byte) (Batch, error) {
	if len(raw) < 4 {
		return Batch{}, errors.New("batch of fewer than 4 bytes")
	}
	want := binary.LittleEndian.Uint32(raw)
	if got := crc32.Checksum(raw[4:], castagnoli); got != want {
		return Batch{}, fmt.Errorf("batch of %d bytes has checksum %08x, not the %08x it was written with", len(raw), got, want)
	}
	var b Batch
	err := b.UnmarshalBinary(raw[4:])
	return b, err
}
