package parquetrows

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow/go/v15/arrow/float16"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/schema"
	"github.com/google/uuid"
)

// NotFinite is a number that JSON does not have: NaN, Infinity or -Infinity. Its JSON is that text.
type NotFinite string

// Values of columns: what the logical type says, never the number or the bytes that carry it.
type (
	ofInt   func(int64) any
	ofBytes func([]byte) any
)

// errCarrier says that a logical type is not one of the physical type, or none that is known.
func errCarrier(d *schema.Column) error {
	return fmt.Errorf("logical type %v of a column of type %v is not read", d.LogicalType(), d.PhysicalType())
}

// ints gives the values of a column of 32 or 64 bits.
func ints(d *schema.Column) (ofInt, error) {
	narrow := d.PhysicalType() == parquet.Types.Int32
	switch t := logical(d).(type) {
	case nil:
		return signed, nil
	case *schema.IntLogicalType:
		switch {
		case t.IsSigned():
			return signed, nil
		case narrow:
			return func(v int64) any { return json.Number(strconv.FormatUint(uint64(uint32(v)), 10)) }, nil
		}
		return func(v int64) any { return json.Number(strconv.FormatUint(uint64(v), 10)) }, nil
	case *schema.DecimalLogicalType:
		if !scaled(t) {
			break
		}
		return func(v int64) any { return decimal(big.NewInt(v), int(t.Scale())) }, nil
	case schema.DateLogicalType:
		if narrow {
			return func(v int64) any { return time.Unix(v*86400, 0).UTC().Format(time.DateOnly) }, nil
		}
	case *schema.TimeLogicalType:
		if at := instant(t.TimeUnit()); at != nil {
			return func(v int64) any { return at(v).Format("15:04:05.999999999") }, nil
		}
	case *schema.TimestampLogicalType:
		if at := instant(t.TimeUnit()); at != nil {
			return func(v int64) any { return timestamp(at(v), t.IsAdjustedToUTC()) }, nil
		}
	}
	return nil, errCarrier(d)
}

func signed(v int64) any { return json.Number(strconv.FormatInt(v, 10)) }

// logical is the logical type of a column, nil where it has none.
func logical(d *schema.Column) schema.LogicalType {
	l := d.LogicalType()
	if l == nil || l.IsNone() {
		return nil
	}
	switch l.(type) {
	case schema.UnknownLogicalType, schema.NullLogicalType: // a column of the latter has no values
		return nil
	}
	return l
}

func instant(unit schema.TimeUnitType) func(int64) time.Time {
	switch unit {
	case schema.TimeUnitMillis:
		return func(v int64) time.Time { return time.UnixMilli(v).UTC() }
	case schema.TimeUnitMicros:
		return func(v int64) time.Time { return time.UnixMicro(v).UTC() }
	case schema.TimeUnitNanos:
		return func(v int64) time.Time { return time.Unix(0, v).UTC() }
	}
	return nil
}

func timestamp(t time.Time, utc bool) string {
	layout := "2006-01-02T15:04:05.999999999"
	if utc {
		layout += "Z"
	}
	return t.Format(layout)
}

// int96 is a time of day in nanoseconds and a Julian day, always in UTC.
func int96(v parquet.Int96) any {
	const julianOfEpoch = 2_440_588
	days := int64(binary.LittleEndian.Uint32(v[8:])) - julianOfEpoch
	nanos := int64(binary.LittleEndian.Uint64(v[:8]))
	return timestamp(time.Unix(days*86400, 0).Add(time.Duration(nanos)).UTC(), true)
}

// real is a number of a column of bits bits.
func real(v float64, bits int) any {
	switch {
	case math.IsNaN(v):
		return NotFinite("NaN")
	case math.IsInf(v, 1):
		return NotFinite("Infinity")
	case math.IsInf(v, -1):
		return NotFinite("-Infinity")
	}
	return json.Number(strconv.FormatFloat(v, 'g', -1, bits))
}

// maxDecimalBytes bounds the numbers that are written in digits; 32 bytes are the most that any writer uses.
const maxDecimalBytes = 64

func scaled(t *schema.DecimalLogicalType) bool {
	return t.Scale() >= 0 && t.Scale() <= 3*maxDecimalBytes
}

// bytes gives the values of columns of bytes.
func bytes(d *schema.Column) (ofBytes, error) {
	fixed := d.PhysicalType() == parquet.Types.FixedLenByteArray
	is := func(n int) bool { return fixed && d.TypeLength() == n }
	switch t := logical(d).(type) {
	case nil:
		if fixed {
			return opaque, nil
		}
		return textOrBytes, nil
	case schema.StringLogicalType, schema.EnumLogicalType, schema.JSONLogicalType:
		return textOrBytes, nil
	case schema.BSONLogicalType:
		return opaque, nil
	case *schema.DecimalLogicalType:
		if scaled(t) && (!fixed || d.TypeLength() <= maxDecimalBytes) {
			return func(v []byte) any {
				if len(v) > maxDecimalBytes {
					return opaque(v)
				}
				return decimal(bigEndian(v), int(t.Scale()))
			}, nil
		}
	case schema.UUIDLogicalType:
		if is(16) {
			return func(v []byte) any { return uuid.UUID(v).String() }, nil
		}
	case schema.Float16LogicalType:
		if is(2) {
			return func(v []byte) any {
				return real(float64(float16.FromBits(binary.LittleEndian.Uint16(v)).Float32()), 32)
			}, nil
		}
	case schema.IntervalLogicalType:
		if is(12) {
			return interval, nil
		}
	}
	return nil, errCarrier(d)
}

// textOrBytes is text where the bytes are some: readers must tell other bytes from text that was mangled.
func textOrBytes(v []byte) any {
	if utf8.Valid(v) {
		return string(v)
	}
	return opaque(v)
}

func opaque(v []byte) any { return slices.Clone(v) }

// bigEndian is a number in two's complement.
func bigEndian(v []byte) *big.Int {
	n := new(big.Int).SetBytes(v)
	if len(v) > 0 && v[0] >= 0x80 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(v))))
	}
	return n
}

// decimal writes a number with so many digits behind the point, without zeros at the end.
func decimal(n *big.Int, scale int) any {
	digits := new(big.Int).Abs(n).String()
	if missing := scale + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	whole, part := digits[:len(digits)-scale], strings.TrimRight(digits[len(digits)-scale:], "0")
	if part != "" {
		whole += "." + part
	}
	if n.Sign() < 0 {
		whole = "-" + whole
	}
	return json.Number(whole)
}

// interval is written as ISO 8601 does, such as P1M2DT3.5S.
func interval(v []byte) any {
	months, days, millis := binary.LittleEndian.Uint32(v), binary.LittleEndian.Uint32(v[4:]), binary.LittleEndian.Uint32(v[8:])
	seconds := decimal(big.NewInt(int64(millis)), 3)
	return fmt.Sprintf("P%dM%dDT%sS", months, days, seconds)
}

var errDuplicate = errors.New("the file has two columns of this name")

// wide gives integers of more than 64 bits, the lowest byte first, which Parquet has no type for; see wideInts.
func wide(signed bool) ofBytes {
	return func(v []byte) any {
		v = slices.Clone(v)
		slices.Reverse(v)
		n := new(big.Int).SetBytes(v)
		if signed {
			n = bigEndian(v)
		}
		return json.Number(n.String())
	}
}
