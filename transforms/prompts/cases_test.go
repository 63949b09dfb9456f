package prompts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
	"github.com/klauspost/compress/zstd"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// Inputs in the shapes that users of other programs have reported; each stands for a kind.

func caseFile(names ...string) Paths {
	out := make(Paths, len(names))
	for i, n := range names {
		out[i] = filepath.Join("testdata", "cases", n)
	}
	return out
}

func TestCaseValues(t *testing.T) {
	qa := Fields{Prompt: "prompt", Answer: "answer"}
	plain := []string{"What is 0+0?=0", "What is 1+1?=2", "What is 2+2?=4", "What is 3+3?=6", "What is 4+4?=8"}
	for _, tc := range []struct {
		file   string
		fields Fields
		want   []string // prompt=answer of the first rows
		extra  []string // of the same rows
		dead   []schemas.Reason
	}{
		{file: "plain.jsonl", fields: qa, want: plain},
		{file: "plain.parquet", fields: qa, want: plain},
		{file: "comp_lz4.parquet", fields: qa, want: plain},
		{file: "duck_decimal_literal.parquet", fields: qa, want: []string{"Q0=1.5", "Q1=1.5"}},
		{file: "u64_answer.parquet", fields: qa, want: []string{"What is 0+0?=18446744073709551615"}},
		{file: "u32_answer.parquet", fields: qa, want: []string{"What is 0+0?=4294967295"}},
		{file: "pol_i128.parquet", fields: qa, want: []string{"Q0=5"}},
		{file: "duck_uuid.parquet", fields: Fields{Prompt: "prompt", Answer: "id"}, want: []string{"Q0=f0928a01-7f39-49d8-9630-f97211d784c4",
			"Q1=9398eee4-0345-46b2-87f6-29d16b0ef4c4"}},
		{file: "duck_uuid.parquet", fields: Fields{Prompt: "prompt", Answer: "answer", ID: "id"}, want: []string{"Q0=a"}},
		{file: "int96.parquet", fields: qa, want: plain, extra: []string{`{"t":"2024-01-01T00:00:00Z"}`}},
		{file: "int96.parquet", fields: Fields{Prompt: "prompt", Answer: "t"}, want: []string{"What is 0+0?=2024-01-01T00:00:00Z"}},
		{file: "enc_bss.parquet", fields: qa, want: plain, extra: []string{`{"x":0.5}`}},
		{file: "enc_bss.parquet", fields: Fields{Prompt: "prompt", Answer: "x"}, want: []string{"What is 0+0?=0.5"}},
		{file: "nan_extra.parquet", fields: qa, want: plain, extra: []string{`{"score":0.5}`, `{"score":"NaN"}`, `{"score":"Infinity"}`}},
		{file: "nan_extra.parquet", fields: Fields{Prompt: "prompt", Answer: "score"}, want: []string{"What is 0+0?=0.5"},
			dead: []schemas.Reason{schemas.ReasonNotFinite, schemas.ReasonNotFinite}},
		{file: "nan.jsonl", fields: qa, want: []string{"Q=1", "Q2=1", "Q3=1"},
			extra: []string{`{"score":"NaN"}`, `{"score":"-Infinity"}`, `{"score":1}`}},
		{file: "nan.jsonl", fields: Fields{Prompt: "prompt", Answer: "score"}, want: []string{"Q3=1"},
			dead: []schemas.Reason{schemas.ReasonNotFinite, schemas.ReasonNotFinite}},
		{file: "surrogate.jsonl", fields: qa, want: []string{"nul \x00 here=1", "ok \U0001F600=1"},
			dead: []schemas.Reason{schemas.ReasonBadUTF8}},
		{file: "dotted.parquet", fields: Fields{Prompt: "prompt", Answer: "reward_model.ground_truth"}, want: plain},
		{file: "c.jsonl.gz", fields: qa, want: []string{"Q0=0"}},
	} {
		t.Run(tc.file+" "+tc.fields.Answer, func(t *testing.T) {
			c := changed(fileConfig("", tc.fields), func(f *File) { f.Path = caseFile(tc.file) })
			rows, dead, _ := scan(t, c, Window{})
			stagetest.Dead(t, dead, tc.dead...)
			for i := range tc.want {
				if i >= rows.NumRows() {
					t.Fatalf("%d rows", rows.NumRows())
				}
				if got := schemas.Prompt.Of(rows).At(i) + "=" + schemas.Answer.Of(rows).At(i); got != tc.want[i] {
					t.Errorf("row %d is %q, want %q", i, got, tc.want[i])
				}
			}
			for i, want := range tc.extra {
				if got := schemas.Extra.Of(rows).At(i); got != want {
					t.Errorf("row %d: extra %s, want %s", i, got, want)
				}
			}
		})
	}
}

func TestCaseShapes(t *testing.T) {
	for _, tc := range []struct {
		name, file, lines string
		fields            Fields
		want              []string // prompt>response:outcome
		dead              []schemas.Reason
	}{
		{name: "ShareGPT", file: "sharegpt.jsonl", fields: Fields{Conversation: "conversations"}, want: []string{"Q0>a:-"}},
		{name: "TRL explicit conversational preference", file: "trl_pref_conv_explicit.jsonl",
			fields: Fields{Prompt: "prompt", Chosen: "chosen", Rejected: "rejected"}, want: []string{"Q0>a0:1", "Q0>b:0"}},
		{name: "labels as text", file: "label_strnum.jsonl", fields: Fields{Prompt: "prompt", Response: "completion", Outcome: "label"},
			want: []string{"Q0>abc:1", "Q1>abc:0"}},
		{name: "another prompt", file: "uf_mismatch.jsonl", fields: Fields{Prompt: "prompt", Chosen: "chosen", Rejected: "rejected"},
			dead: slices.Repeat([]schemas.Reason{schemas.ReasonMismatch}, 4)},
		{name: "reasoning apart", file: "reasoning_msg.jsonl", fields: Fields{Conversation: "messages"},
			want: []string{"Q0><think>\nbecause ...\n</think>\n\n42:-"}},
		{name: "TRL prompt-completion", lines: `{"prompt": "Q", "completion": "a"}`, fields: Fields{Prompt: "prompt", Response: "completion"},
			want: []string{"Q>a:-"}},
		{name: "TRL conversational prompt-completion",
			lines:  `{"prompt": [{"role": "user", "content": "Q"}], "completion": [{"role": "assistant", "content": "a"}]}`,
			fields: Fields{Prompt: "prompt", Response: "completion"}, want: []string{"Q>a:-"}},
		{name: "TRL implicit preference", lines: `{"chosen": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "a"}],` +
			` "rejected": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "b"}]}`,
			fields: Fields{Chosen: "chosen", Rejected: "rejected"}, want: []string{"Q>a:1", "Q>b:0"}},
		{name: "UltraFeedback", lines: `{"prompt": "Q", "chosen": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "a"}],` +
			` "rejected": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "b"}]}`,
			fields: Fields{Prompt: "prompt", Chosen: "chosen", Rejected: "rejected"}, want: []string{"Q>a:1", "Q>b:0"}},
		{name: "a system message beside the prompt", lines: `{"prompt": "Q", "talk": [{"role": "system", "content": "S"},` +
			` {"role": "user", "content": "Q"}, {"role": "assistant", "content": "a"}]}`,
			fields: Fields{Prompt: "prompt", Response: "talk"}, want: []string{"S\n\nQ>a:-"}},
		{name: "TRL unpaired", lines: `{"prompt": "Q", "completion": "a", "label": "True"}` + "\n" +
			`{"prompt": "R", "completion": "a", "label": "maybe"}`,
			fields: Fields{Prompt: "prompt", Response: "completion", Outcome: "label"}, want: []string{"Q>a:1"},
			dead: []schemas.Reason{schemas.ReasonBadType}},
		{name: "TRL stepwise", lines: `{"prompt": "Q", "completions": ["a", "b"], "labels": [true, false]}` + "\n" +
			`{"prompt": "R", "completions": ["a", "b"], "labels": [true, true]}` + "\n" + `{"prompt": "T", "completions": ["a"], "labels": []}`,
			fields: Fields{Prompt: "prompt", Steps: "completions", FirstError: "labels", Outcome: "labels"},
			want:   []string{"Q>Step 1: a\n\nStep 2: b:0", "R>Step 1: a\n\nStep 2: b:1"}, dead: []schemas.Reason{schemas.ReasonMismatch}},
		{name: "OpenR1", lines: `{"problem": "Q", "generations": ["a", "b", "c"], "correct": [true, false, null]}` + "\n" +
			`{"problem": "R", "generations": ["a", "b"], "correct": [true]}`,
			fields: Fields{Prompt: "problem", Response: "generations", Outcome: "correct"}, want: []string{"Q>a:1", "Q>b:0", "Q>c:-"},
			dead: []schemas.Reason{schemas.ReasonMismatch}},
		{name: "OpenRLHF", lines: `{"input": [{"role": "user", "content": "Q"}], "output": "a"}`, fields: Fields{Prompt: "input", Response: "output"},
			want: []string{"Q>a:-"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := caseFile(tc.file)
			if tc.lines != "" {
				path = Paths{write(t, "x.jsonl", tc.lines)}
			}
			rows, dead, _ := scan(t, changed(fileConfig("", tc.fields), func(f *File) { f.Path = path }), Window{})
			stagetest.Dead(t, dead, tc.dead...)
			for i, want := range tc.want {
				outcome := "-"
				if rows.Has(schemas.Outcome) && schemas.Outcome.Of(rows).Valid(i) {
					outcome = fmt.Sprint(schemas.Outcome.Of(rows).Values[i])
				}
				if got := schemas.Prompt.Of(rows).At(i) + ">" + schemas.Response.Of(rows).At(i) + ":" + outcome; got != want {
					t.Errorf("row %d is %q, want %q", i, got, want)
				}
			}
		})
	}
}

// An answer that is a list of several is no answer: one of them would be taken for it.
func TestAnswers(t *testing.T) {
	rows, dead, _ := scan(t, fileConfig(write(t, "a.jsonl", `{"q": "1", "a": ["34"]}
{"q": "2", "a": ["34", "35"]}
{"q": "3", "a": "['34', '35']"}
{"q": "4", "a": "[\"34\",\"35\"]"}
{"q": "5", "a": "[\"34\"]"}
{"q": "6", "a": "[1, 2]"}`), Fields{Prompt: "q", Answer: "a"}), Window{})
	stagetest.Dead(t, dead, schemas.ReasonBadType, schemas.ReasonBadType, schemas.ReasonBadType)
	var got []string
	for i := range rows.NumRows() {
		got = append(got, schemas.Answer.Of(rows).At(i))
	}
	if want := []string{"34", `["34"]`, "[1, 2]"}; !slices.Equal(got, want) {
		t.Errorf("answers %q, want %q", got, want)
	}
}

// What stands in the place of data is said to be that.
func TestCaseNotData(t *testing.T) {
	for name, want := range map[string]string{"lfs.jsonl": "git lfs pull", "lfs.parquet": "git lfs pull", "page.parquet": "HTML",
		"page.jsonl": "HTML", "wide.jsonl": "UTF-16", "short.parquet": "is no Parquet file", "cut.parquet": "cut off", "x.jsonl": ".bz2",
		"begun.parquet": "of 11 bytes: it was cut off"} {
		path := filepath.Join(t.TempDir(), name)
		content := map[string]string{"page": "<!DOCTYPE html><html>login</html>", "wide": "\xff\xfe{\x00}\x00", "short": "", "x": "BZh91",
			"begun": "PAR1garbage"}
		stem, _, _ := strings.Cut(name, ".")
		text := content[stem]
		switch stem {
		case "lfs":
			raw, err := os.ReadFile(caseFile("lfs.jsonl")[0])
			if err != nil {
				t.Fatal(err)
			}
			text = string(raw)
		case "cut":
			raw, err := os.ReadFile(caseFile("plain.parquet")[0])
			if err != nil {
				t.Fatal(err)
			}
			text = string(raw[:len(raw)-100])
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Inspect(t.Context(), New("file", File{Path: Paths{path}, Fields: Fields{Prompt: "prompt"}}))
		var e *setting.Error
		if !errors.As(err, &e) || e.Path != "file.path" || !strings.Contains(e.Why, want) || strings.Count(e.Why, path) != 1 {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// A file of some kilobytes does not become gigabytes, and the error says where it would have.
func TestCaseBombs(t *testing.T) {
	for name, want := range map[string]string{"bomb.parquet": "the file, whose largest column this is,", "bomb2.parquet": "a cell",
		"cell.parquet": "a cell"} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			rows := 0
			err := readParquet(context.Background(), caseFile(name)[0], nil, nil, func(rawRow) error { rows++; return nil })
			runtime.ReadMemStats(&after)
			var p *files.ParquetError
			var b *files.BoundError
			if !errors.As(err, &p) || !errors.As(err, &b) || p.Column != "q" || b.Part != want || !strings.Contains(p.Path, name) {
				t.Errorf("%v, want the bound of %s passed by column q", err, want)
			}
			if grown := int64(after.Sys) - int64(before.Sys); grown > 200<<20 {
				t.Errorf("%d MB more were taken of the system", grown>>20)
			}
			t.Log(rows, err)
		})
	}
}

// A value that a file holds once and many rows refer to counts as often as rows have it, in all columns together, whether or not a
// field asks for them: neither do rows hold more than the bound, nor do some rows have what others have lost.
func TestCopiesOfOneValueAreBounded(t *testing.T) {
	var columns []arrow.Field
	for _, name := range []string{"prompt", "a", "b", "c", "d"} {
		columns = append(columns, arrow.Field{Name: name, Type: arrow.BinaryTypes.String})
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(columns, nil))
	long := strings.Repeat("x", 1<<20)
	for i := range 40 { // 40 MiB in each of four columns
		b.Field(0).(*array.StringBuilder).Append(fmt.Sprintf("Question %d?", i))
		for k := 1; k < len(columns); k++ {
			b.Field(k).(*array.StringBuilder).Append(long)
		}
	}
	path := filepath.Join(t.TempDir(), "copies.parquet")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	rec := b.NewRecord()
	w, err := pqarrow.NewFileWriter(rec.Schema(), out, parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Zstd),
		parquet.WithDictionaryPageSizeLimit(8<<20)), pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Write(rec), w.Close()); err != nil {
		t.Fatal(err)
	}
	rows, size := 0, 0
	asked := func(column string) bool { return column == "prompt" }
	err = readParquet(context.Background(), path, asked, nil, func(r rawRow) error { rows, size = rows+1, size+len(r.raw()); return nil })
	var p *files.ParquetError
	var bound *files.BoundError
	if !errors.As(err, &p) || !errors.As(err, &bound) || !bound.Whole() || p.Path != path || p.Column == "prompt" || p.RowGroup != 0 {
		t.Errorf("%d rows of %d bytes, %v; want the bound of the file passed", rows, size, err)
	}
	if size > 64<<20 {
		t.Errorf("rows of %d MiB were given", size>>20)
	}
}

// A column that nobody asked for never refuses a file by what it holds.
func TestUnreadColumns(t *testing.T) {
	f := File{Path: caseFile("cell.parquet"), Fields: Fields{Prompt: "a"}}
	found, err := f.Inspect(t.Context())
	if err != nil || found.Rows != 1 || found.Prompts["train"] != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	if len(found.Left) != 1 || !strings.Contains(found.Left[0], "column q") {
		t.Errorf("columns left out: %q", found.Left)
	}
}

// Several files are read as if they were one, whatever way they are named.
func TestSeveralFiles(t *testing.T) {
	dir := t.TempDir()
	gz, err := os.ReadFile(caseFile("c.jsonl.gz")[0])
	if err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	zst := string(enc.EncodeAll([]byte(lines(4)), nil))
	for name, text := range map[string]string{"z.jsonl.zst": zst, "a.NDJSON": lines(3), "b/part-1.jsonl": `{"q": "one", "a": 1}`, "b/part-2.jsonl": "", "b/_SUCCESS": "",
		"b/.part.jsonl": "hidden", "c.jsonl": string(gz), "notes.txt": "x"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for what, tc := range map[string]struct {
		path   Paths
		fields Fields
		files  int
		rows   int
	}{
		"list":            {Paths{at("a.NDJSON"), at("b/part-1.jsonl")}, Fields{Prompt: "q"}, 2, 4},
		"folder":          {Paths{at("b")}, Fields{Prompt: "q"}, 2, 1},
		"pattern":         {Paths{at("b/part-*.jsonl")}, Fields{Prompt: "q"}, 2, 1},
		"zstd":            {Paths{at("z.jsonl.zst")}, Fields{Prompt: "q"}, 1, 4},
		"by magic number": {Paths{at("c.jsonl")}, Fields{Prompt: "prompt"}, 1, 5},
	} {
		c := changed(fileConfig("", tc.fields), func(f *File) { f.Path = tc.path })
		rows, dead, _ := scan(t, c, Window{})
		paths, err := c.Paths(t.Context())
		if err != nil || len(paths) != tc.files || rows.NumRows() != tc.rows || dead.NumRows() > 0 {
			t.Errorf("%s: %d rows and %d dead letters of %q, %v", what, rows.NumRows(), dead.NumRows(), paths, err)
		}
	}
	c := fileConfig("", Fields{Prompt: "q"})
	for want, path := range map[string]Paths{"no such file": {at("b/none-*.jsonl")}, "named twice": {at("b"), at("b")}} {
		_, err := Inspect(t.Context(), changed(c, func(f *File) { f.Path = path }))
		if err == nil {
			err = setting.Check(changed(c, func(f *File) { f.Path = path }))
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", path, err, want)
		}
	}
}

// Copies of a problem are on one side of a split, whatever else differs.
func TestCaseSplits(t *testing.T) {
	talk := func(i int, system string) string {
		return fmt.Sprintf(`{"prompt": [%s{"role": "user", "content": "Problem %d"}], "answer": "7.0"}`, system, i) + "\n"
	}
	var mixed strings.Builder
	for i := range 40 {
		fmt.Fprintf(&mixed, "{\"prompt\": \"problem  %d \", \"answer\": \"7\"}\n", i)
		mixed.WriteString(talk(i, "") + talk(i, `{"role": "system", "content": ""}, `))
	}
	for what, tc := range map[string]struct {
		path   Paths
		fields Fields
		copies int
	}{
		"ids":         {caseFile("lk_ids.jsonl"), Fields{Prompt: "prompt", Answer: "answer", ID: "id"}, 2},
		"white space": {caseFile("lk_ws.jsonl"), Fields{Prompt: "prompt", Answer: "answer"}, 2},
		"forms":       {Paths{write(t, "m.jsonl", mixed.String())}, Fields{Prompt: "prompt", Answer: "answer"}, 3},
	} {
		sides := map[string]map[string]int{}
		for _, split := range []string{"train", "test"} {
			c := changed(fileConfig("", tc.fields), func(f *File) { f.Path, f.TestShare = tc.path, 0.3 })
			c.Split = split
			rows, _, _ := scan(t, c, Window{})
			for i := range rows.NumRows() {
				p := strings.ToLower(strings.Join(strings.Fields(schemas.Prompt.Of(rows).At(i)), " "))
				if sides[p] == nil {
					sides[p] = map[string]int{}
				}
				sides[p][split]++
			}
		}
		tests := 0
		for p, in := range sides {
			if len(in) != 1 || in["train"]+in["test"] != tc.copies {
				t.Errorf("%s: %s is in %v", what, p, in)
			}
			tests += min(1, in["test"])
		}
		if tests < 4 || tests > 20 {
			t.Errorf("%s: %d of %d problems are in test", what, tests, len(sides))
		}
	}
}

// Copies of a problem that differ in the Unicode normal form that they are written in, or in white space of any kind, are on one side.
func TestNormalFormsAreOneProblem(t *testing.T) {
	var text strings.Builder
	for i := range 40 {
		for k, v := range []string{"Find the caf\u00e9 of \u212b %d", "Find the cafe\u0301 of A\u030a %d",
			"find the CAFE\u0301\u00a0of \u00c5 %d",
			"\ufeffFind the\u200b caf\u00e9\u2003of \u00c5 %d\u200b"} {
			fmt.Fprintf(&text, "{\"id\": \"%d-%d\", \"q\": %q}\n", i, k, fmt.Sprintf(v, i))
		}
	}
	sides, path := map[string]map[string]int{}, write(t, "n.jsonl", text.String())
	for _, split := range []string{"train", "test"} {
		c := changed(fileConfig("", Fields{Prompt: "q", ID: "id"}), func(f *File) { f.Path, f.TestShare = Paths{path}, 0.4 })
		c.Split = split
		rows, _, _ := scan(t, c, Window{})
		for i := range rows.NumRows() {
			n := regexp.MustCompile(`\d+`).FindString(schemas.Prompt.Of(rows).At(i))
			if sides[n] == nil {
				sides[n] = map[string]int{}
			}
			sides[n][split]++
		}
	}
	for n, in := range sides {
		if len(in) != 1 || in["train"]+in["test"] != 4 {
			t.Errorf("problem %s is in %v", n, in)
		}
	}
	if len(sides) != 40 {
		t.Errorf("%d problems", len(sides))
	}
}

// A key that an object has twice says two things: the row is set aside, with its line and the key.
func TestKeysThatAreThereTwice(t *testing.T) {
	for line, key := range map[string]string{
		`{"q": "a", "a": "1"}`:                                      "",
		`{"q": "a: {\"q\": 1}", "a": "1", "A": "2"}`:                "",
		`{"q": "a", "a": "1", "x": [{"k": 1}, {"k": 2}]}`:           "",
		`{"q": "a", "a": NaN, "x": {"q": 1, "y": {"q": 2}}}`:        "",
		`{"q": "a", "a": "2", "a": "3"}`:                            "a",
		`{"q": "a", "a": "2", "\u0061": "2"}`:                       "a",
		`{"q": "a", "a": "2", "x": [1, {"y": {"k": 1, "k": [2]}}]}`: "k",
		`{"q": "a", "a": Infinity, "x": {"k": NaN, "k": "v"}}`:      "k",
		`{"q": "a", "a": "1", "x": "q", "x": {}}`:                   "x",
	} {
		_, err := parseLine([]byte(line))
		var re *rowError
		if key == "" && err != nil || key != "" && (!errors.As(err, &re) || re.reason != schemas.ReasonUnreadable ||
			!strings.Contains(err.Error(), fmt.Sprintf("key %q is there twice", key))) {
			t.Errorf("%s: %v, want %q there twice", line, err, key)
		}
	}
	for name, text := range map[string]string{"d.jsonl": "{\"q\": \"a\", \"a\": \"1\"}\n{\"q\": \"b\", \"a\": \"1\", \"a\": \"2\"}\n",
		"d.json": `[{"q": "a", "a": "1"}, {"q": "b", "a": "1", "a": "2"}]`} {
		found, err := Inspect(t.Context(), New("file", File{Path: Paths{write(t, name, text)}, Fields: Fields{Prompt: "q", Answer: "a"}}))
		if err != nil || found[0].Prompts["train"] != 1 || !strings.Contains(found[0].Fault, name+`:2: key "a"`) {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
	}
}

// A field that is there and has no value in any row is said to be null, not to be missing.
func TestNullFields(t *testing.T) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "q", Type: arrow.BinaryTypes.String},
		{Name: "a", Type: arrow.BinaryTypes.String, Nullable: true}}, nil))
	b.Field(0).(*array.StringBuilder).AppendValues([]string{"one?", "two?"}, nil)
	b.Field(1).(*array.StringBuilder).AppendValues([]string{"", ""}, []bool{false, false})
	rec, path := b.NewRecord(), filepath.Join(t.TempDir(), "null.parquet")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := pqarrow.NewFileWriter(rec.Schema(), out, parquet.NewWriterProperties(), pqarrow.DefaultWriterProps())
	if err == nil {
		err = errors.Join(w.Write(rec), w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := write(t, "null.jsonl", "{\"q\": \"one?\", \"a\": null}\n{\"q\": \"two?\", \"a\": null}\n")
	for path, fields := range map[string]Fields{path: {Prompt: "a"}, lines: {Prompt: "q", Answer: "a"}} {
		_, err := Inspect(t.Context(), New("file", File{Path: Paths{path}, Fields: fields}))
		var e *setting.Error
		if !errors.As(err, &e) || !strings.Contains(e.Why, `field "a" of `+path+" is null in all of the first 2 rows") {
			t.Errorf("%v", err)
		}
	}
}

// A plan counts what is nearly the same on both sides of a split, but not what a template has in common.
func TestNearCopies(t *testing.T) {
	const template = "Solve the following problem step by step and put your final answer in a box at the end: "
	own := func(i int) string {
		return fmt.Sprintf("A farmer number %d has %d cows and sells %d of them on day %d of the year.", i, 3*i, i+1, i+2)
	}
	var same, near strings.Builder
	for i := range 60 {
		fmt.Fprintf(&same, "{\"q\": %q}\n", template+own(i))
		fmt.Fprintf(&near, "{\"q\": %q}\n{\"q\": %q}\n", template+own(i), template+strings.ReplaceAll(own(i), ".", " !")+" How many?")
	}
	for text, want := range map[string]func(int) bool{same.String(): func(n int) bool { return n == 0 },
		near.String(): func(n int) bool { return n >= 5 }} {
		f := File{Path: Paths{write(t, "p.jsonl", text)}, Fields: Fields{Prompt: "q"}, TestShare: 0.3}
		found, err := f.Inspect(t.Context())
		if err != nil || !want(found.NearCopies) {
			t.Errorf("%d near copies of %v, %v", found.NearCopies, found.Prompts, err)
		}
	}
}

// A repeated prompt is one dead letter of its own reason and without the row, or prompts of their own by choice.
func TestCaseRepeated(t *testing.T) {
	c := changed(fileConfig("", Fields{Prompt: "prompt", Answer: "answer"}), func(f *File) { f.Path = caseFile("dup.jsonl") })
	rows, dead, res := scan(t, c, Window{})
	if res.Reasons[schemas.ReasonRepeated] != 1 || dead.NumRows() != 1 || rows.NumRows() != 6 || res.Filtered != 98 || res.In != 105 {
		t.Errorf("%d rows, %d dead letters, %+v", rows.NumRows(), dead.NumRows(), res)
	}
	for i := range dead.NumRows() {
		if len(schemas.DeadRow.Of(dead).At(i)) > 0 {
			t.Fatal("a copy is kept")
		}
	}
	c = changed(c, func(f *File) { f.Fields.ID = "extra_info.index" })
	if rows, dead, _ := scan(t, c, Window{}); rows.NumRows() != 100 || dead.NumRows() != 5 { // five have no index
		t.Errorf("with ids: %d rows, %d dead letters", rows.NumRows(), dead.NumRows())
	}
}

// Windows are taken of what was read once.
func TestSourceIsReadOnce(t *testing.T) {
	path := write(t, "p.jsonl", lines(50)+"broken\n")
	c := fileConfig(path, Fields{Prompt: "q", Answer: "a"})
	first, dead, _ := scan(t, c, Window{})
	if dead.NumRows() != 1 {
		t.Errorf("%d dead letters", dead.NumRows())
	}
	all, err := spoolOf(t.Context(), c.Of.(File))
	if err != nil {
		t.Fatal(err)
	}
	c.Split = "train"
	part, _, _ := scan(t, c, Window{Count: 10})
	c.Split = "all"
	again, dead, _ := scan(t, c, Window{})
	stagetest.Same(t, "rows", again, first)
	if same, err := spoolOf(t.Context(), c.Of.(File)); err != nil || same != all || part.NumRows() != 10 || dead.NumRows() != 1 {
		t.Errorf("the source was read again, %v", err)
	}
	if err := os.WriteFile(path, []byte(lines(51)), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, _, _ := scan(t, c, Window{}); b.NumRows() != 51 {
		t.Errorf("%d rows of a file that was written anew", b.NumRows())
	}
}

// A file of hundreds of copies of each prompt is read in memory that grows with the prompts, not with the copies.
func TestManyCopiesInBoundedMemory(t *testing.T) {
	var text strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&text, "{\"q\": \"question %d\", \"a\": \"%d\"}\n", i/100, i/100)
	}
	path := write(t, "copies.jsonl", text.String())
	text.Reset()
	c := fileConfig(path, Fields{Prompt: "q", Answer: "a"})
	var bytes, letters int
	_, err := scanWindow(t.Context(), c.Of.(File), Window{Split: "all", PerRecord: 8, Count: 8},
		func(stage.Batch) error { return nil }, func(b stage.Batch) error {
			raw, err := b.MarshalBinary()
			bytes, letters = bytes+len(raw), letters+b.NumRows()
			return err
		})
	if err != nil || letters != 2_000 || bytes > 4<<20 {
		t.Errorf("%d dead letters of %d MB, %v", letters, bytes>>20, err)
	}
	t.Logf("%d dead letters of %d MB", letters, bytes>>20)
}
