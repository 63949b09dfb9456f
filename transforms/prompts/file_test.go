package prompts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

func fileConfig(path string, f Fields) Config {
	c := New("file", File{Path: Paths{path}, Fields: f, TestShare: 0.2})
	c.Split, c.Count, c.PerRecord = "all", 1<<30, 8
	return c
}

// changed is the configuration with another file.
func changed(c Config, change func(f *File)) Config {
	f := c.Of.(File)
	change(&f)
	c.Of = f
	return c
}

func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// scan reads a window without a pipeline.
func scan(t testing.TB, c Config, w Window) (rows, dead stage.Batch, res stage.Result) {
	t.Helper()
	if err := setting.Check(c); err != nil {
		t.Fatal(err)
	}
	if w.Count == 0 {
		w.Count = c.Count
	}
	var rs, ds []stage.Batch
	w.Split, w.PerRecord, w.Curriculum = c.Split, c.PerRecord, c.Curriculum
	res, err := scanWindow(context.Background(), c.Of.(File), w,
		func(b stage.Batch) error { rs = append(rs, b); return nil }, func(b stage.Batch) error { ds = append(ds, b); return nil })
	if err != nil {
		t.Fatal(err)
	}
	rows, dead = stagetest.Join(t, rs), stagetest.Join(t, ds)
	if res.In != rows.NumRows()+dead.NumRows()+res.Filtered || res.Kept != rows.NumRows() {
		t.Errorf("counted %+v for %d rows and %d dead letters", res, rows.NumRows(), dead.NumRows())
	}
	return rows, dead, res
}

func TestBadLines(t *testing.T) {
	path := write(t, "p.jsonl", strings.Join([]string{
		"\xef\xbb\xbf" + `{"q": "one", "a": 1}` + "\r", // byte order mark, CR LF
		``,
		`{"q": "two", "a": "2", "level": 3}`,
		`{"q": "three"}`,
		`{"q": ["x"], "a": "4"}`,
		`{"q": "` + "\xff" + `", "a": "5"}`,
		`{"q": "six", "a": "6"`,
		`[1]`,
		`{"q": "` + strings.Repeat("x", 300) + `", "a": "8"}`,
		`{"q": " ", "a": "9"}`,
		`{"q": "one", "a": 1}`,
		`{"q": "ten", "a": {}}`,
		`{"q": "last", "a": null}`,
		`{"q": "good", "a": "x"}`, // no line break at the end
	}, "\n"))
	c := fileConfig(path, Fields{Prompt: "q", Answer: "a"})
	c = changed(c, func(f *File) { f.MaxLineBytes = 200 })
	rows, dead, _ := scan(t, c, Window{})
	var got []string
	for i := range rows.NumRows() {
		got = append(got, schemas.Prompt.Of(rows).At(i)+"="+schemas.Answer.Of(rows).At(i))
	}
	if want := []string{"one=1", "two=2", "good=x"}; !slices.Equal(got, want) {
		t.Errorf("prompts %q, want %q", got, want)
	}
	if e := schemas.Extra.Of(rows); e.At(1) != `{"level":3}` || e.Valid(0) {
		t.Errorf("extra %q", e.At(1))
	}
	stagetest.Dead(t, dead, schemas.ReasonMissingField, schemas.ReasonUnreadable, schemas.ReasonBadUTF8, schemas.ReasonUnreadable,
		schemas.ReasonBadType, schemas.ReasonTooLong, schemas.ReasonEmpty, schemas.ReasonRepeated, schemas.ReasonBadType,
		schemas.ReasonMissingField)
	if id, msg := schemas.DeadRowID.Of(dead).At(0), schemas.DeadMessage.Of(dead).At(0); id != "p.jsonl:4" ||
		!strings.Contains(msg, `field "a" is missing`) {
		t.Errorf("dead letter %q: %q", id, msg)
	}
	var raw stage.Batch
	if err := raw.UnmarshalBinary(schemas.DeadRow.Of(dead).At(2)); err != nil || !bytes.Contains(schemas.DeadRaw.Of(raw).At(0), []byte{0xff}) {
		t.Errorf("the raw line is not kept: %v", err)
	}
	// Bad rows are reported with the first window only.
	if _, dead, _ := scan(t, c, Window{First: 1, Count: 1}); dead.NumRows() > 0 {
		t.Errorf("%d dead letters in a later window", dead.NumRows())
	}
}

func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{\"q\": \"question %d\", \"a\": \"%d\"}\n", i, i)
	}
	return b.String()
}

func TestSplitsAndWindows(t *testing.T) {
	path := write(t, "p.jsonl", lines(200))
	c := fileConfig(path, Fields{Prompt: "q", Answer: "a"})
	all, _, _ := scan(t, c, Window{})
	sizes := map[string]int{}
	in := map[string]string{}
	for _, split := range []string{"train", "test"} {
		c.Split = split
		b, _, _ := scan(t, c, Window{})
		sizes[split] = b.NumRows()
		for i := range b.NumRows() {
			p := schemas.Prompt.Of(b).At(i)
			if in[p] != "" {
				t.Errorf("%q is in both splits", p)
			}
			in[p] = split
		}
	}
	if len(in) != all.NumRows() || sizes["test"] < 20 || sizes["test"] > 60 {
		t.Errorf("splits %v of %d prompts", sizes, all.NumRows())
	}
	for _, shuffle := range []bool{false, true} {
		c.Split = "train"
		c = changed(c, func(f *File) { f.Shuffle = shuffle })
		n := sizes["train"]
		seen := map[string]int{}
		for first := 0; first+16 <= n; first += 16 {
			b, _, _ := scan(t, c, Window{Seed: 7, First: first, Count: 16})
			if b.NumRows() != 16 {
				t.Errorf("window at %d has %d prompts", first, b.NumRows())
			}
			for i := range b.NumRows() {
				seen[schemas.Prompt.Of(b).At(i)]++
			}
		}
		if len(seen) != n/16*16 {
			t.Errorf("shuffle %v: the windows of one round hold %d prompts, want %d", shuffle, len(seen), n/16*16)
		}
		// Around the end of the file.
		if b, _, _ := scan(t, c, Window{Seed: 7, First: n - 4, Count: 16}); !shuffle && b.NumRows() != 16 || b.NumRows() < 12 {
			t.Errorf("shuffle %v: the window around the end has %d prompts", shuffle, b.NumRows())
		}
	}
	a, _, _ := scan(t, c, Window{Seed: 7, Count: 16})
	b, _, _ := scan(t, c, Window{Seed: 8, Count: 16})
	if slices.Equal(schemas.PromptID.Of(a), schemas.PromptID.Of(b)) {
		t.Error("two seeds take the same prompts")
	}
}

func TestResponses(t *testing.T) {
	turn := func(prompt, response string) string {
		return fmt.Sprintf(`[{"role": "user", "content": %q}, {"role": "assistant", "content": %q}]`, prompt, response)
	}
	path := write(t, "r.jsonl", strings.Join([]string{
		`{"conversation": ` + turn("p", "r1") + `, "label": 1}`,
		`{"conversation": ` + turn("p", "r2") + `, "label": 0}`,
		`{"conversation": ` + turn("p", "") + `, "label": 1}`,
		`{"conversation": ` + turn("q", "r3") + `}`,
		`{"conversation": [{"role": "tool", "content": "x"}], "label": 1}`,
		`{"conversation": "p", "label": 1}`,
		`{"conversation": ` + turn("q", "r4") + `, "label": 2}`,
		`{"conversation": ` + turn("q", "r5") + `, "label": false}`,
		`{"conversation": ` + turn("p", "r6") + `, "label": 0}`,
		`{"conversation": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"},` +
			` {"role": "assistant", "content": "a"}], "label": 1}`,
	}, "\n"))
	rows, dead, _ := scan(t, fileConfig(path, Fields{Conversation: "conversation", Outcome: "label"}), Window{})
	stagetest.Dead(t, dead, schemas.ReasonEmpty, schemas.ReasonMissingField, schemas.ReasonUnreadable, schemas.ReasonUnreadable,
		schemas.ReasonBadType, schemas.ReasonMismatch)
	groups, err := rows.Groups()
	if err != nil || len(groups) != 3 || groups[0].Len() != 2 {
		t.Fatalf("groups %v, %v", groups, err)
	}
	if o := schemas.Outcome.Of(rows).Values; !slices.Equal(o, []float32{1, 0, 0, 1}) {
		t.Errorf("outcomes %v", o)
	}
	if p := schemas.Prompt.Of(rows).At(3); p != "s\n\nu" {
		t.Errorf("prompt with a system message: %q", p)
	}
	if m := schemas.Messages.Of(rows).At(3); m != `[{"role":"system","content":"s"},{"role":"user","content":"u"}]` {
		t.Errorf("messages: %s", m)
	}
	path = write(t, "pairs.jsonl", `{"instruction": "p", "chosen": "good", "rejected": "bad", "label": "3"}`+"\n"+
		`{"instruction": "p", "chosen": "good", "label": "3"}`)
	rows, dead, _ = scan(t, fileConfig(path, Fields{Prompt: "instruction", Answer: "label", Chosen: "chosen", Rejected: "rejected"}), Window{})
	stagetest.Dead(t, dead, schemas.ReasonMissingField)
	if o := schemas.Outcome.Of(rows).Values; !slices.Equal(o, []float32{1, 0}) || schemas.Answer.Of(rows).At(1) != "3" {
		t.Errorf("outcomes %v", o)
	}
	if schemas.Messages.Of(rows).Valid(0) {
		t.Error("a prompt that is a text has messages")
	}
}

func TestValidate(t *testing.T) {
	for want, f := range map[string]File{
		"file.path":                  {},
		"file.format":                {Path: Paths{"x.csv"}, Fields: Fields{Prompt: "p"}},
		"file.fields.prompt":         {Path: Paths{"x.jsonl"}},
		"chosen and rejected":        {Path: Paths{"x.jsonl"}, Fields: Fields{Chosen: "c"}},
		"file.fields: conversation":  {Path: Paths{"x.jsonl"}, Fields: Fields{Conversation: "c", Prompt: "p"}},
		"file.fields.outcome":        {Path: Paths{"x.jsonl"}, Fields: Fields{Prompt: "p", Outcome: "o"}},
		"file.test_share":            {Path: Paths{"x.jsonl"}, Fields: Fields{Prompt: "p"}, TestShare: 2},
		"file.fields: chosen and re": {Path: Paths{"x.jsonl"}, Fields: Fields{Prompt: "p", Chosen: "c", Rejected: "r", Response: "x"}},
	} {
		c := New("file", f)
		c.Split = "all"
		if err := setting.Check(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", f, err, want)
		}
	}
}

func TestFileInPipeline(t *testing.T) {
	c := fileConfig(write(t, "p.jsonl", lines(30)+"broken\n"), Fields{Prompt: "q", Answer: "a"})
	want, _, _ := scan(t, c, Window{})
	out, dead := stagetest.Collect(t, stagetest.Groups(t, want), func(s beam.Scope, _ stage.Rows) (stage.Rows, stage.Rows) {
		return Read(s, c, Window{Count: c.Count})
	})
	stagetest.Same(t, "rows", out, want)
	stagetest.Dead(t, dead, schemas.ReasonUnreadable)
}

func TestMissingFile(t *testing.T) {
	c := fileConfig(filepath.Join(t.TempDir(), "none.jsonl"), Fields{Prompt: "q"})
	_, err := scanWindow(context.Background(), c.Of.(File), Window{Split: c.Split, PerRecord: c.PerRecord, Count: 1}, nil, nil)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// A long file is read in memory that does not grow with its lines.
func TestLongFileInBoundedMemory(t *testing.T) {
	n := 200_000
	if testing.Short() {
		n = 20_000
	}
	path := filepath.Join(t.TempDir(), "long.jsonl")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		fmt.Fprintf(f, "{\"q\": \"question %d %s\", \"a\": \"%d\"}\n", i, strings.Repeat("x", 400), i)
	}
	info, _ := f.Stat()
	f.Close()
	c := fileConfig(path, Fields{Prompt: "q", Answer: "a"})
	c.PerRecord = 64
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	runtime.GC()
	before, peak, rows, records := heap(), uint64(0), 0, 0
	_, err = scanWindow(context.Background(), c.Of.(File), Window{Split: c.Split, PerRecord: c.PerRecord, Count: n},
		func(b stage.Batch) error {
			rows += b.NumRows()
			if records++; records%1000 == 0 {
				runtime.GC()
				peak = max(peak, heap())
			}
			return nil
		}, nil)
	if err != nil || rows != n {
		t.Fatalf("%d rows, %v", rows, err)
	}
	grown := int64(peak) - int64(before)
	t.Logf("%d prompts of %d MB: %d KB held at most", n, info.Size()>>20, grown>>10)
	if grown > 128*int64(n)+8<<20 {
		t.Errorf("%d bytes held at most; want 128 a prompt and 8 MB", grown)
	}
}

func TestSharedPrompts(t *testing.T) {
	for _, tc := range []struct {
		path []string
		f    Fields
	}{
		{[]string{"data", "gsm8k", "test.jsonl"}, Fields{Prompt: "instruction", Answer: "label"}},
		{[]string{"data", "math", "test.jsonl"}, Fields{Prompt: "instruction", Answer: "label"}},
		{[]string{"data", "gsm8k", "pairwise-test.jsonl"}, Fields{Prompt: "instruction", Chosen: "chosen", Rejected: "rejected"}},
		{[]string{"data", "rollouts", "math-eval-prompts.parquet"}, Fields{Prompt: "prompt", Answer: "reward_model.ground_truth"}},
	} {
		t.Run(filepath.Join(tc.path...), func(t *testing.T) {
			rows, dead, res := scan(t, fileConfig(golden.Path(t, tc.path...), tc.f), Window{})
			if rows.NumRows() == 0 || dead.NumRows() > rows.NumRows()/50 {
				t.Errorf("%d rows, %d dead letters", rows.NumRows(), dead.NumRows())
			}
			t.Logf("%d rows, dead %v", rows.NumRows(), res.Reasons)
		})
	}
}

func TestSharedRollouts(t *testing.T) {
	pointwise, dead, _ := scan(t, fileConfig(golden.Path(t, "data", "rollouts", "qwen3-0.6b-pointwise.parquet"),
		Fields{Conversation: "conversation", Outcome: "label"}), Window{})
	pairwise, deadPairs, _ := scan(t, fileConfig(golden.Path(t, "data", "rollouts", "qwen3-0.6b-pairwise.parquet"),
		Fields{Chosen: "chosen", Rejected: "rejected"}), Window{})
	for what, b := range map[string]stage.Batch{"pointwise": pointwise, "pairwise": pairwise} {
		groups, err := b.Groups()
		if err != nil {
			t.Fatal(err)
		}
		right := 0
		for _, o := range schemas.Outcome.Of(b).Values {
			right += int(o)
		}
		if len(groups) < 2 || right == 0 || right == b.NumRows() {
			t.Errorf("%s: %d rows of %d prompts, %d right", what, b.NumRows(), len(groups), right)
		}
		t.Logf("%s: %d rows of %d prompts, %d right", what, b.NumRows(), len(groups), right)
	}
	if dead.NumRows()+deadPairs.NumRows() > 0 {
		t.Errorf("dead letters: %v, %v", dead.Arrow(), deadPairs.Arrow())
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte(`{"q": "x", "a": 1, "c": [{"role": "user", "content": "u"}]}` + "\n\n{"))
	f.Add([]byte("\xff\n{}\r\n[]"))
	fields := []Fields{{Prompt: "q", Answer: "a"}, {Conversation: "c", Outcome: "a"}, {Prompt: "q.r", Chosen: "c", Rejected: "a"}}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := readLines(bytes.NewReader(data), 100, func(row rawRow) error {
			if row.err == nil {
				for _, f := range fields {
					f.read(row.fields)
				}
			}
			if len(row.raw()) > max(100, keptOfTooLong) {
				t.Errorf("a row keeps %d bytes", len(row.raw()))
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// Conversations in a Parquet file, as published rollouts are, with all that can be wrong with a row.
func TestBadParquetRows(t *testing.T) {
	type message struct{ role, content string }
	message1 := arrow.StructOf(arrow.Field{Name: "content", Type: arrow.BinaryTypes.String, Nullable: true},
		arrow.Field{Name: "role", Type: arrow.BinaryTypes.String, Nullable: true})
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "conversation", Type: arrow.ListOf(message1), Nullable: true},
		{Name: "label", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	add := func(label int, messages ...message) {
		list := b.Field(0).(*array.ListBuilder)
		if messages == nil {
			list.AppendNull()
		} else {
			list.Append(true)
			s := list.ValueBuilder().(*array.StructBuilder)
			for _, m := range messages {
				s.Append(true)
				s.FieldBuilder(0).(*array.StringBuilder).Append(m.content)
				s.FieldBuilder(1).(*array.StringBuilder).Append(m.role)
			}
		}
		if label < 0 {
			b.Field(1).AppendNull()
		} else {
			b.Field(1).(*array.Int64Builder).Append(int64(label))
		}
	}
	ask := message{"user", "p"}
	add(1, ask, message{"assistant", "good"})
	add(1, ask, message{"assistant", ""})
	add(-1, ask, message{"assistant", "no label"})
	add(0, ask, message{"assistant", "bad \xff"})
	add(0)
	add(0, message{"assistant", "no question"})
	add(7, ask, message{"assistant", "label out of range"})
	add(0, ask, message{"assistant", "wrong"})
	path := filepath.Join(t.TempDir(), "r.parquet")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := pqarrow.NewFileWriter(schema, f, parquet.NewWriterProperties(), pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Write(b.NewRecord()), w.Close()); err != nil {
		t.Fatal(err)
	}
	rows, dead, _ := scan(t, fileConfig(path, Fields{Conversation: "conversation", Outcome: "label"}), Window{})
	stagetest.Dead(t, dead, schemas.ReasonEmpty, schemas.ReasonMissingField, schemas.ReasonBadUTF8, schemas.ReasonMissingField,
		schemas.ReasonUnreadable, schemas.ReasonBadType)
	if o := schemas.Outcome.Of(rows).Values; !slices.Equal(o, []float32{1, 0}) || schemas.Response.Of(rows).At(1) != "wrong" {
		t.Errorf("outcomes %v", o)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		damaged := slices.Clone(raw)
		damaged[i] ^= 0x55
		if err := os.WriteFile(path, damaged, 0o644); err != nil {
			t.Fatal(err)
		}
		readParquet(context.Background(), path, nil, nil, func(rawRow) error { return nil }) // any error, no panic
	}
}

// A policy is measured by its own responses to the prompts of a file, in whatever way the file brings others.
func TestWithoutResponses(t *testing.T) {
	talk := func(prompt, response string) string {
		return fmt.Sprintf(`[{"role": "user", "content": %q}, {"role": "assistant", "content": %q}]`, prompt, response)
	}
	var lines []string
	for i := range 3 {
		q := fmt.Sprintf("question %d", i)
		for _, a := range []string{"yes", "no"} { // two responses to a prompt, side by side
			lines = append(lines, fmt.Sprintf(`{"q": %q, "r": %q, "talk": %s, "worse": %s, "right": 1, "steps": [%q], "wrong": -1}`, q, a,
				talk(q, a), talk(q, "maybe"), a))
		}
	}
	path := write(t, "p.jsonl", strings.Join(lines, "\n"))
	for what, fields := range map[string]Fields{
		"response":     {Prompt: "q", Response: "r", Outcome: "right"},
		"conversation": {Conversation: "talk", Outcome: "right"},
		"pairs":        {Chosen: "talk", Rejected: "worse"},
		"steps":        {Prompt: "q", Steps: "steps", FirstError: "wrong", Outcome: "right"},
	} {
		c := fileConfig(path, fields)
		with, dead, _ := scan(t, c, Window{})
		if dead.NumRows() > 0 || with.NumRows() < 6 || !with.Has(schemas.Response) {
			t.Fatalf("%s: %d rows and %d dead letters with responses", what, with.NumRows(), dead.NumRows())
		}
		c = c.WithoutResponses()
		if err := setting.Check(c); err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		bare, dead, _ := scan(t, c, Window{})
		if dead.NumRows() > 0 || bare.Has(schemas.Response) || bare.Has(schemas.Outcome) || bare.Has(schemas.StepBytes) {
			t.Errorf("%s: %d dead letters, columns %v", what, dead.NumRows(), bare.Columns())
		}
		want := slices.Compact(slices.Clone(schemas.PromptID.Of(with)))
		if got := schemas.PromptID.Of(bare); !slices.Equal(got, want) || schemas.Prompt.Of(bare).At(0) != "question 0" {
			t.Errorf("%s: prompts %v, want %v", what, got, want)
		}
		for _, added := range schemas.Names(c.Contract().Adds) {
			if added == schemas.Response.Name || added == schemas.Outcome.Name {
				t.Errorf("%s: the source says that it brings %s", what, added)
			}
		}
	}
}

// A bad row of several files is named by its own.
func TestBadRowOfSeveralFiles(t *testing.T) {
	c := changed(fileConfig(write(t, "one.jsonl", `{"q": "1", "a": "2"}`), Fields{Prompt: "q", Answer: "a"}), func(f *File) {
		f.Path = append(f.Path, write(t, "two.jsonl", "{\"q\": \"2\", \"a\": \"3\"}\nno JSON"))
	})
	_, dead, _ := scan(t, c, Window{})
	if id := schemas.DeadRowID.Of(dead).At(0); id != "two.jsonl:2" {
		t.Errorf("the row is called %s, want two.jsonl:2", id)
	}
}
