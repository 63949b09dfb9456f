// Package tensorboard writes TensorBoard event files that hold scalars.
//
// An event file is a sequence of TFRecords (tensorflow/core/lib/io/record_writer.h), each the protocol buffer Event
// (tensorflow/core/util/event.proto). Only the fields that scalars need are written.
package tensorboard

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Writer writes events, each in one call of Write of what it writes to.
type Writer struct{ w io.Writer }

// FileName is the name TensorBoard finds an event file by. Files of a directory are read in the order of their names.
func FileName(at time.Time) string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	return fmt.Sprintf("events.out.tfevents.%010d.%s.%d.millrace", at.Unix(), host, at.Nanosecond())
}

// NewWriter opens a sequence of events. It starts a new session: a reader forgets the points that earlier files of the
// directory had from step on.
func NewWriter(w io.Writer, at time.Time, step int64) (*Writer, error) {
	t := &Writer{w}
	version := protowire.AppendTag(nil, eventFileVersion, protowire.BytesType)
	version = protowire.AppendString(version, "brain.Event:2")
	if err := t.event(at, 0, version); err != nil {
		return nil, err
	}
	status := protowire.AppendTag(nil, sessionLogStatus, protowire.VarintType)
	status = protowire.AppendVarint(status, sessionStart)
	return t, t.event(at, step, message(eventSessionLog, status))
}

// Scalar writes one point of the curve tag.
func (t *Writer) Scalar(at time.Time, step int64, tag string, value float64) error {
	point := protowire.AppendTag(nil, valueTag, protowire.BytesType)
	point = protowire.AppendString(point, tag)
	point = protowire.AppendTag(point, valueSimple, protowire.Fixed32Type)
	point = protowire.AppendFixed32(point, math.Float32bits(float32(value)))
	return t.event(at, step, message(eventSummary, message(summaryValue, point)))
}

// Field numbers of the protocol buffers Event, SessionLog, Summary and Summary.Value.
const (
	eventWallTime    = 1
	eventStep        = 2
	eventFileVersion = 3
	eventSummary     = 5
	eventSessionLog  = 7
	sessionLogStatus = 1
	sessionStart     = 1
	summaryValue     = 1
	valueTag         = 1
	valueSimple      = 2
)

func message(field protowire.Number, body []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), body)
}

func (t *Writer) event(at time.Time, step int64, what []byte) error {
	body := protowire.AppendTag(nil, eventWallTime, protowire.Fixed64Type)
	body = protowire.AppendFixed64(body, math.Float64bits(float64(at.UnixNano())/1e9))
	if step != 0 {
		body = protowire.AppendTag(body, eventStep, protowire.VarintType)
		body = protowire.AppendVarint(body, uint64(step))
	}
	_, err := t.w.Write(record(append(body, what...)))
	return err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record frames data as a TFRecord: its length, a checksum of the length, the data, a checksum of the data.
func record(data []byte) []byte {
	out := binary.LittleEndian.AppendUint64(make([]byte, 0, len(data)+16), uint64(len(data)))
	out = binary.LittleEndian.AppendUint32(out, masked(out))
	out = append(out, data...)
	return binary.LittleEndian.AppendUint32(out, masked(data))
}

// masked is the CRC-32C turned and shifted as TFRecords store it, so that a checksum of data that holds checksums is sound.
func masked(data []byte) uint32 {
	crc := crc32.Checksum(data, castagnoli)
	return (crc>>15 | crc<<17) + 0xa282ead8
}
