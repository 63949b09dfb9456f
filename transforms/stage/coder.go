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

// encode writes a batch for a Beam edge: an Arrow IPC stream, then its CRC-32C. Beam encodes some batches of every
// collection, only to know their size.
func encode(b Batch) ([]byte, error) {
	raw, err := b.MarshalBinary()
	if err != nil {
		return nil, err
	}
	return binary.LittleEndian.AppendUint32(raw, crc32.Checksum(raw, castagnoli)), nil
}

func decode(raw []byte) (Batch, error) {
	if len(raw) < 4 {
		return Batch{}, errors.New("batch of fewer than 4 bytes")
	}
	stream := raw[:len(raw)-4]
	want := binary.LittleEndian.Uint32(raw[len(stream):])
	if got := crc32.Checksum(stream, castagnoli); got != want {
		return Batch{}, fmt.Errorf("batch of %d bytes has checksum %08x, not the %08x it was written with", len(raw), got, want)
	}
	return schemas.Unmarshal(stream)
}
