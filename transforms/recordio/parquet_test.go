package recordio

import (
	"bytes"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
	"github.com/apache/arrow/go/v15/parquet/schema"
)

// What is written is what Arrow's own writer writes, byte for byte up to the footer, and ids are UUIDs.
func TestWriterIsArrows(t *testing.T) {
	ints := arrow.ListOfNonNullable(arrow.PrimitiveTypes.Int32)
	s := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: &arrow.FixedSizeBinaryType{ByteWidth: 16}},
		{Name: "other", Type: &arrow.FixedSizeBinaryType{ByteWidth: 16}, Nullable: true},
		{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "number", Type: arrow.PrimitiveTypes.Float32},
		{Name: "maybe", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "list", Type: ints},
		{Name: "maybe_list", Type: ints, Nullable: true},
		{Name: "lists", Type: arrow.ListOfNonNullable(ints), Nullable: true},
		{Name: "loose", Type: arrow.ListOf(arrow.ListOf(arrow.BinaryTypes.String)), Nullable: true},
	}, nil)
	id := `"AAECAwQFBgcICQoLDA0ODw=="`
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, s, strings.NewReader(`[
		{"id": `+id+`, "other": null, "text": "a", "number": 1.5, "maybe": 3, "list": [1, 2], "maybe_list": null, "lists": [[1], [], [2, 3]],
			"loose": [["x", null], null, []]},
		{"id": `+id+`, "other": `+id+`, "text": null, "number": 2, "maybe": null, "list": [], "maybe_list": [], "lists": null, "loose": null},
		{"id": `+id+`, "other": `+id+`, "text": "", "number": 2, "maybe": 4, "list": [7], "maybe_list": [8, 9], "lists": [], "loose": []},
		{"id": `+id+`, "other": null, "text": "d", "number": 0, "maybe": 4, "list": [], "maybe_list": [1], "lists": [[4, 5]], "loose": [["y"]]}]`))
	if err != nil {
		t.Fatal(err)
	}
	props := parquet.NewWriterProperties(parquet.WithDictionaryDefault(false), parquet.WithStats(false),
		parquet.WithDataPageVersion(parquet.DataPageV2))
	var ours, theirs bytes.Buffer
	w, err := newParquetWriter(s, &ours, props)
	if err != nil {
		t.Fatal(err)
	}
	a, err := pqarrow.NewFileWriter(s, &theirs, props, pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema()))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Write(rec); err != nil {
			t.Fatal(err)
		}
		if err := a.Write(rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	read := func(raw []byte) *file.Reader {
		r, err := file.NewParquetReader(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	mine, arrows := read(ours.Bytes()), read(theirs.Bytes())
	for i := range s.Fields() {
		for g := range 2 {
			if mine.RowGroup(g).NumRows() != 4 {
				t.Errorf("%d rows", mine.RowGroup(g).NumRows())
			}
			m, err := mine.MetaData().RowGroup(g).ColumnChunk(i)
			if err != nil {
				t.Fatal(err)
			}
			n, err := arrows.MetaData().RowGroup(g).ColumnChunk(i)
			if err != nil {
				t.Fatal(err)
			}
			at, from := m.DataPageOffset(), n.DataPageOffset()
			if got, want := ours.Bytes()[at:at+m.TotalCompressedSize()], theirs.Bytes()[from:from+n.TotalCompressedSize()]; !bytes.Equal(got, want) {
				t.Errorf("column %s:\n%x\nwant\n%x", s.Field(i).Name, got, want)
			}
		}
		logical := mine.MetaData().Schema.Column(i).LogicalType()
		if _, is := logical.(schema.UUIDLogicalType); is != (i < 2) {
			t.Errorf("column %s has logical type %v", s.Field(i).Name, logical)
		}
	}
}
