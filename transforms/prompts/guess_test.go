package prompts

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"github.com/millrace/millrace/transforms/files"
)

// A column that is null in the first rows tells nothing; one that has a value in some of them does.
func TestNullColumnsTellNothing(t *testing.T) {
	for name, c := range map[string]struct {
		rows string
		want Fields
	}{
		"null everywhere": {strings.Repeat(`{"prompt": "a", "messages": null, "response": "b", "answer": "1"}`+"\n", 2) +
			`{"prompt": "c", "messages": null, "response": "b", "answer": "1"}` + "\n",
			Fields{Prompt: "prompt", Response: "response", Answer: "answer"}},
		"null at first": {`{"messages": null, "answer": "1"}` + "\n" + `{"messages": [{"role": "user", "content": "a"}], "answer": "1"}` + "\n",
			Fields{Conversation: "messages", Answer: "answer"}},
	} {
		path := filepath.Join(t.TempDir(), "rows.jsonl")
		if err := os.WriteFile(path, []byte(c.rows), 0o644); err != nil {
			t.Fatal(err)
		}
		f, _, err := File{Path: Paths{path}}.Fill(t.Context(), true)
		if err != nil || f.Fields != c.want {
			t.Errorf("%s: %+v, %v, want %+v", name, f.Fields, err, c.want)
		}
	}
}

// A file without a row that can be read says what is wrong with the first.
func TestNoRowThatCanBeRead(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"empty":     {"", "has no row that can be read"},
		"not UTF-8": {"\n{\"prompt\": \"\xff\"}\n{", "rows.jsonl:2: the line is not UTF-8"},
	} {
		path := filepath.Join(t.TempDir(), "rows.jsonl")
		if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := (File{Path: Paths{path}}).Fill(t.Context(), true); err == nil || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// A column that would be a field, and cannot be read, is said to be that; one that no field would be is none.
func TestUnreadableColumnIsNotAbsent(t *testing.T) {
	for name, broken := range map[string]bool{"answer": true, "a note": false} { // the first column of its file
		schema := arrow.NewSchema([]arrow.Field{{Name: name, Type: arrow.BinaryTypes.String}, {Name: "prompt", Type: arrow.BinaryTypes.String},
			{Name: "response", Type: arrow.BinaryTypes.String}}, nil)
		rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema,
			strings.NewReader(fmt.Sprintf(`[{%q: "2", "prompt": "1+1", "response": "2"}]`, name)))
		if err != nil {
			t.Fatal(err)
		}
		var file bytes.Buffer
		w, err := pqarrow.NewFileWriter(schema, &file, parquet.NewWriterProperties(), pqarrow.DefaultWriterProps())
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Write(rec), w.Close()); err != nil {
			t.Fatal(err)
		}
		raw := file.Bytes()
		for i := 4; i < 24; i++ { // of the header of its page
			raw[i] = 0xff
		}
		_, _, err = File{Path: Paths{write(t, "rows.parquet", string(raw))}}.Fill(t.Context(), true)
		var of *files.ParquetError
		if errors.As(err, &of) != broken || broken && of.Column != name || !broken && err != nil {
			t.Errorf("%s cannot be read: %v", name, err)
		}
	}
}

// A folder without a file that is read is there all the same.
func TestFolderWithoutRows(t *testing.T) {
	dir := filepath.Dir(write(t, "notes.txt", "no rows"))
	if _, _, err := (File{Path: Paths{dir}}).Fill(t.Context(), true); err == nil || !strings.Contains(err.Error(), "lies in the folder") {
		t.Errorf("%v", err)
	}
}
