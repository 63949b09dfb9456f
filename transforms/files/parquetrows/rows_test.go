package parquetrows

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/transforms/files"
)

func read(t *testing.T, path string, r Reader) (rows []map[string]any, err error) {
	t.Helper()
	err = files.ReadParquet(t.Context(), path, func(f *files.ParquetFile) error {
		return r.Rows(f, func(fields map[string]any) error { rows = append(rows, fields); return nil })
	})
	return rows, err
}

// Every logical type is the value that it says, in every carrier, packed by every codec, in pages of both versions. The files were
// written by PyArrow 26.
func TestValues(t *testing.T) {
	want := []string{
		`{"date":"2024-01-01","dec128":0.25,"dec256":5,"dec32":1.5,"dec64":123456789012.345,"dec_list":[1.5],"dict":"d","f64":0.1,"half":1.5,` +
			`"i8":-1,"large":"l","large_list":["p","q"],"map":{"a":1,"b":null},"map_int":{"1":"x"},"null":null,"raw":"/wA=","raw4":"YWJjZA==",` +
			`"time_ms":"01:02:03.004","time_us":"23:59:59.999999","ts_ms_utc":"2024-01-01T12:30:00Z","ts_ns":"1970-01-01T00:00:00.000000001",` +
			`"ts_us":"2024-01-01T00:00:00.000005","u32":4294967295,"u64":18446744073709551615,"u8":255,"uuid":"00000000-0000-0000-0000-000000000001"}`,
		`{"date":"1969-12-31","dec128":-12345678901234567890123.5,"dec256":-1,"dec32":-0.05,"dec64":-7,"dec_list":[],"dict":"d","f64":"-Infinity",` +
			`"half":"NaN","i8":1,"large":"","large_list":[],"map":{},"map_int":{},"null":null,"raw":"text","raw4":"//79/A==","time_ms":"00:00:00",` +
			`"time_us":"00:00:00","ts_ms_utc":"1969-12-31T23:59:59Z","ts_ns":"1969-12-31T23:59:59.999999999","ts_us":"1900-01-01T00:00:00","u32":1,` +
			`"u64":1,"u8":0,"uuid":"00000000-0000-0000-0000-000000000002"}`,
	}
	paths, err := filepath.Glob("testdata/types-*.parquet")
	if err != nil || len(paths) != 6 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		rows, err := read(t, path, Reader{})
		if err != nil || len(rows) != 3 {
			t.Errorf("%s: %d rows, %v", path, len(rows), err)
			continue
		}
		for i, w := range want {
			if got, _ := json.Marshal(rows[i]); string(got) != w {
				t.Errorf("%s, row %d:\n%s\nwant\n%s", path, i, got, w)
			}
		}
		for name, v := range rows[2] {
			if v != nil {
				t.Errorf("%s: null of %s is %v", path, name, v)
			}
		}
	}
}

// Streams of bytes are put together, with levels before them in pages of both versions.
func TestByteStreamSplit(t *testing.T) {
	for _, path := range []string{"testdata/split-v1.parquet", "testdata/split-v2.parquet"} {
		rows, err := read(t, path, Reader{})
		got, _ := json.Marshal(rows)
		want := `[{"d":0.5,"f":0.5,"fl":[1.5,2.5],"i":1,"l":1099511627776,"x":"YWJjZA=="},{"d":-2.5,"f":null,"fl":null,"i":null,"l":5,"x":null},` +
			`{"d":null,"f":1.25,"fl":[3.5],"i":-3,"l":null,"x":"ZWZnaA=="}]`
		if err != nil || string(got) != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", path, err, got, want)
		}
	}
}

// A column that cannot be read is named, and refuses only those who ask for it.
func TestUnreadable(t *testing.T) {
	raw, err := os.ReadFile("testdata/types-none.parquet")
	if err != nil {
		t.Fatal(err)
	}
	// The first page is of column dec32: its header says 100 bytes and more of another size.
	broken := append([]byte{}, raw...)
	for i := 4; i < 24; i++ {
		broken[i] = 0xff
	}
	path := filepath.Join(t.TempDir(), "broken.parquet")
	if err := os.WriteFile(path, broken, 0o644); err != nil {
		t.Fatal(err)
	}
	var left []error
	asked := func(column string) bool { return column == "u8" }
	rows, err := read(t, path, Reader{Asked: asked, Left: func(err error) { left = append(left, err) }})
	if err != nil || len(rows) != 3 || len(left) != 1 || rows[0]["u8"] != json.Number("255") {
		t.Errorf("%d rows, %v, left %v", len(rows), err, left)
	}
	if _, there := rows[0]["dec32"]; there {
		t.Error("a column that cannot be read has a value")
	}
	_, err = read(t, path, Reader{})
	var e *files.ParquetError
	if !errors.As(err, &e) || e.Column != "dec32" || e.RowGroup != 0 || !strings.Contains(err.Error(), "INT32, Decimal") ||
		!strings.Contains(err.Error(), "row group 0") || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
}

func FuzzRows(f *testing.F) {
	for _, name := range []string{"types-snappy", "types-zstd", "split-v1"} {
		raw, err := os.ReadFile("testdata/" + name + ".parquet")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(dir, "x.parquet")
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		read(t, path, Reader{})
	})
}
