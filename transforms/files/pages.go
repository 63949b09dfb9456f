package files

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/metadata"
	"github.com/apache/arrow/go/v15/parquet/schema"
	"github.com/apache/thrift/lib/go/thrift"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// pageReader gives the pages of a column chunk to Arrow's decoders, in the place of Arrow's own, which believes the lengths in a
// page's header, lets a codec unpack more than they say, holds the whole chunk, and knows neither LZ4_RAW nor BYTE_STREAM_SPLIT.
type pageReader struct {
	in     *bufio.Reader
	values int64 // that are still to come
	column *schema.Column
	codec  compress.Compression
	unpack unpacker
	budget *ColumnBudget
	page   file.Page
	err    error
}

// pageBuffers is for Arrow's column readers, which skip values with them.
var pageBuffers = sync.Pool{New: func() any { return memory.NewResizableBuffer(memory.DefaultAllocator) }}

func newPageReader(r io.Reader, chunk *metadata.ColumnChunkMetaData, column *schema.Column, b *ColumnBudget) (*pageReader, error) {
	p := &pageReader{in: bufio.NewReaderSize(r, 64<<10), values: chunk.NumValues(), column: column, codec: chunk.Compression(), budget: b}
	if p.unpack = unpackers[p.codec]; p.unpack == nil {
		return nil, fmt.Errorf("codec %v is not read; write the file with snappy, zstd, gzip, brotli or lz4_raw", p.codec)
	}
	return p, nil
}

// SetMaxPageHeaderSize is part of Arrow's interface; the bound is the reader's own.
func (p *pageReader) SetMaxPageHeaderSize(int) {}

// Page is the page that Next has read.
func (p *pageReader) Page() file.Page { return p.page }

// Err is what ended the reading.
func (p *pageReader) Err() error { return p.err }

// Reset is part of Arrow's interface; a reader is of one column chunk.
func (p *pageReader) Reset(parquet.BufferedReader, int64, compress.Compression, *file.CryptoContext) {
	panic("files: a page reader belongs to one column chunk")
}

// Next reads a page.
func (p *pageReader) Next() bool {
	p.page = nil
	for p.err == nil && p.values > 0 {
		h, err := p.header()
		if err == nil {
			err = p.read(h)
		}
		p.err = p.budget.Fault(err)
		if p.page != nil {
			return p.err == nil
		}
	}
	return false
}

// Types of pages.
const (
	dataPage       = 0
	dictionaryPage = 2
	dataPageV2     = 3
)

// byteStreamSplit is an encoding that this version of Arrow has no name for.
const byteStreamSplit = 9

// pageHeader is what is read of a page's header (parquet.thrift, PageHeader).
type pageHeader struct {
	kind, unpacked, packed   int32
	values                   int32
	encoding                 int32
	defEncoding, repEncoding int32 // version 1
	nulls, rows              int32 // version 2
	defBytes, repBytes       int32
	plain                    bool // version 2: the values are not packed
}

func (h pageHeader) data() bool { return h.kind == dataPage || h.kind == dataPageV2 }

// maxPageHeader bounds a header, which may hold the least and the greatest value.
const maxPageHeader = 4 << 20

func (p *pageReader) header() (h pageHeader, err error) {
	if p.in.Size() < maxPageHeader {
		if peeked, _ := p.in.Peek(p.in.Size()); len(peeked) > 0 {
			if h, n, err := parsePageHeader(peeked); err == nil {
				_, err = p.in.Discard(n)
				return h, p.checked(h, err)
			}
		}
		p.in = bufio.NewReaderSize(p.in, maxPageHeader) // the rare long one
	}
	peeked, err := p.in.Peek(maxPageHeader)
	if len(peeked) == 0 {
		return h, fmt.Errorf("its values end early: %w", errors.Join(err, io.ErrUnexpectedEOF))
	}
	h, n, err := parsePageHeader(peeked)
	if err != nil {
		return h, fmt.Errorf("the header of a page cannot be read: %w", err)
	}
	_, err = p.in.Discard(n)
	return h, p.checked(h, err)
}

// checked refuses a header that nothing could be right about.
func (p *pageReader) checked(h pageHeader, err error) error {
	switch {
	case err != nil:
		return err
	case h.unpacked < 0 || h.packed < 0 || h.values < 0 || h.defBytes < 0 || h.repBytes < 0 ||
		int64(h.defBytes)+int64(h.repBytes) > int64(min(h.unpacked, h.packed)):
		return errors.New("the header of a page has lengths that cannot be")
	case h.kind == dictionaryPage && int64(h.values) > int64(h.unpacked)+1:
		return fmt.Errorf("a dictionary of %d values in %d bytes", h.values, h.unpacked)
	case h.data() || h.kind == dictionaryPage:
		return p.budget.page(int64(h.unpacked), int64(h.values))
	}
	return nil
}

func (p *pageReader) read(h pageHeader) error {
	if !h.data() && h.kind != dictionaryPage {
		_, err := io.CopyN(io.Discard, p.in, int64(h.packed))
		return err
	}
	if h.data() {
		p.values -= int64(h.values)
	}
	packed, err := readExactly(p.in, int64(h.packed))
	if err != nil {
		return fmt.Errorf("a page ends early: %w", err)
	}
	out := make([]byte, h.unpacked)
	levels := int(h.defBytes + h.repBytes)
	copy(out, packed[:levels])
	unpack := p.unpack
	if h.plain {
		unpack = unpackPlain
	}
	if err := unpack(out[levels:], packed[levels:]); err != nil {
		return fmt.Errorf("a page cannot be unpacked: %w", err)
	}
	if h.data() && h.encoding == byteStreamSplit {
		if out, err = p.joinStreams(h, out); err != nil {
			return err
		}
		h.encoding = int32(parquet.Encodings.Plain)
	}
	buf, enc := memory.NewBufferBytes(out), parquet.Encoding(h.encoding)
	switch h.kind {
	case dataPage:
		p.page = file.NewDataPageV1(buf, h.values, enc, parquet.Encoding(h.defEncoding), parquet.Encoding(h.repEncoding), int32(len(out)))
	case dataPageV2:
		p.page = file.NewDataPageV2(buf, h.values, h.nulls, h.rows, enc, h.defBytes, h.repBytes, int32(len(out)), !h.plain)
	default:
		p.page = file.NewDictionaryPage(buf, h.values, enc)
	}
	return nil
}

// readExactly reads n bytes; what a header says is not believed before they are there.
func readExactly(r io.Reader, n int64) ([]byte, error) {
	var b bytes.Buffer
	if _, err := io.CopyN(&b, r, n); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// joinStreams puts the bytes of each value side by side, where BYTE_STREAM_SPLIT has first the first bytes of all values, and so on.
func (p *pageReader) joinStreams(h pageHeader, page []byte) ([]byte, error) {
	at := int(h.defBytes + h.repBytes)
	if h.kind == dataPage { // levels of version 1 have their length before them
		for _, l := range []struct {
			max      int16
			encoding int32
		}{{p.column.MaxRepetitionLevel(), h.repEncoding}, {p.column.MaxDefinitionLevel(), h.defEncoding}} {
			if l.max == 0 {
				continue
			}
			if l.encoding != int32(parquet.Encodings.RLE) || len(page)-at < 4 {
				return nil, errors.New("levels of a page that cannot be read")
			}
			n := binary.LittleEndian.Uint32(page[at:])
			if int64(n) > int64(len(page)-at-4) {
				return nil, errors.New("levels longer than their page")
			}
			at += 4 + int(n)
		}
	}
	width := map[parquet.Type]int{parquet.Types.Int32: 4, parquet.Types.Float: 4, parquet.Types.Int64: 8, parquet.Types.Double: 8,
		parquet.Types.FixedLenByteArray: p.column.TypeLength()}[p.column.PhysicalType()]
	if width <= 0 {
		return nil, errors.New("encoding BYTE_STREAM_SPLIT is of another type")
	}
	split := page[at:]
	if len(split)%width != 0 {
		return nil, errors.New("streams of unequal length")
	}
	out, n := make([]byte, len(page)), len(split)/width
	copy(out, page[:at])
	for i := range n {
		for k := range width {
			out[at+i*width+k] = split[k*n+i]
		}
	}
	return out, nil
}

// unpacker fills dst, no more and no less, with what src unpacks to.
type unpacker func(dst, src []byte) error

var unpackers = map[compress.Compression]unpacker{
	compress.Codecs.Uncompressed: unpackPlain,
	compress.Codecs.Snappy:       unpackSnappy,
	compress.Codecs.Gzip: func(dst, src []byte) error {
		r, err := gzip.NewReader(bytes.NewReader(src))
		if err != nil {
			return err
		}
		return fill(dst, r)
	},
	compress.Codecs.Brotli: func(dst, src []byte) error { return fill(dst, brotli.NewReader(bytes.NewReader(src))) },
	compress.Codecs.Zstd: func(dst, src []byte) error {
		if len(src) == 0 {
			return fill(dst, bytes.NewReader(nil))
		}
		r, err := zstd.NewReader(bytes.NewReader(src), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxParquetPage))
		if err != nil {
			return err
		}
		defer r.Close()
		return fill(dst, r)
	},
	lz4Raw: func(dst, src []byte) error {
		if len(dst) == 0 {
			return nil
		}
		n, err := lz4.UncompressBlock(src, dst)
		return exactly(n, len(dst), err)
	},
}

// lz4Raw is LZ4_RAW, which this version of Arrow has no name for.
const lz4Raw compress.Compression = 7

func unpackPlain(dst, src []byte) error { return exactly(copy(dst, src), max(len(dst), len(src)), nil) }

func unpackSnappy(dst, src []byte) error {
	if len(dst) == 0 && len(src) == 0 {
		return nil
	}
	n, err := snappy.DecodedLen(src)
	if err = exactly(n, len(dst), err); err != nil {
		return err
	}
	_, err = snappy.Decode(dst, src)
	return err
}

func fill(dst []byte, r io.Reader) error {
	n, err := io.ReadFull(r, dst)
	if err = exactly(n, len(dst), err); err != nil {
		return err
	}
	if more, _ := io.ReadFull(r, make([]byte, 1)); more > 0 {
		return fmt.Errorf("its header says %d bytes, and there are more", len(dst))
	}
	return nil
}

func exactly(got, want int, err error) error {
	if err == nil && got != want {
		err = fmt.Errorf("its header says %d bytes, and there are %d", want, got)
	}
	return err
}

// check goes over the headers of all pages without unpacking them, and reports whether Arrow's reader knows what is in them. It
// wants what is packed to say the length that the header says.
func (p *pageReader) check() (bool, error) {
	for p.values > 0 {
		h, err := p.header()
		if err != nil {
			return false, err
		}
		if h.data() {
			p.values -= int64(h.values)
			if h.encoding == byteStreamSplit {
				return false, nil
			}
		}
		skip := int64(h.packed)
		if levels := int64(h.defBytes + h.repBytes); (h.data() || h.kind == dictionaryPage) && !h.plain && skip > levels {
			if _, err := p.in.Discard(int(levels)); err != nil {
				return false, err
			}
			skip -= levels
			head, _ := p.in.Peek(int(min(skip, binary.MaxVarintLen32)))
			want, got := int64(h.unpacked)-levels, skip
			if p.codec == compress.Codecs.Snappy {
				n, err := snappy.DecodedLen(head)
				if err != nil {
					return false, err
				}
				got = int64(n)
			}
			if err := exactly(int(got), int(want), nil); err != nil {
				return false, err
			}
		}
		if _, err := io.CopyN(io.Discard, p.in, skip); err != nil {
			return false, fmt.Errorf("a page ends early: %w", err)
		}
	}
	return true, nil
}

func parsePageHeader(raw []byte) (h pageHeader, length int, err error) {
	ctx := context.Background()
	from := &thrift.TMemoryBuffer{Buffer: bytes.NewBuffer(raw)}
	t := thrift.NewTCompactProtocolConf(from, &thrift.TConfiguration{MaxMessageSize: maxPageHeader})
	h.kind = -1
	err = thriftFields(ctx, t, func(id int16, kind thrift.TType) (bool, error) {
		switch {
		case kind == thrift.I32 && id == 1:
			return true, readI32(ctx, t, &h.kind)
		case kind == thrift.I32 && id == 2:
			return true, readI32(ctx, t, &h.unpacked)
		case kind == thrift.I32 && id == 3:
			return true, readI32(ctx, t, &h.packed)
		}
		into := map[int16]map[int16]*int32{
			5: {1: &h.values, 2: &h.encoding, 3: &h.defEncoding, 4: &h.repEncoding},
			7: {1: &h.values, 2: &h.encoding},
			8: {1: &h.values, 2: &h.nulls, 3: &h.rows, 4: &h.encoding, 5: &h.defBytes, 6: &h.repBytes},
		}[id]
		if kind != thrift.STRUCT || into == nil {
			return false, nil
		}
		return true, thriftFields(ctx, t, func(field int16, kind thrift.TType) (bool, error) {
			if at := into[field]; at != nil && kind == thrift.I32 {
				return true, readI32(ctx, t, at)
			}
			if id == 8 && field == 7 && kind == thrift.BOOL {
				packed, err := t.ReadBool(ctx)
				h.plain = !packed
				return true, err
			}
			return false, nil
		})
	})
	return h, len(raw) - from.Len(), err
}

// thriftFields gives the fields of a structure to read, and passes over those that it does not take.
func thriftFields(ctx context.Context, t thrift.TProtocol, read func(id int16, kind thrift.TType) (bool, error)) error {
	if _, err := t.ReadStructBegin(ctx); err != nil {
		return err
	}
	for {
		_, kind, id, err := t.ReadFieldBegin(ctx)
		if err != nil {
			return err
		}
		if kind == thrift.STOP {
			return t.ReadStructEnd(ctx)
		}
		took, err := read(id, kind)
		if err == nil && !took {
			err = thrift.Skip(ctx, t, kind, 8)
		}
		if err != nil {
			return err
		}
	}
}

func readI32(ctx context.Context, t thrift.TProtocol, into *int32) (err error) {
	*into, err = t.ReadI32(ctx)
	return err
}
