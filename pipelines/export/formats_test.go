package export_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
	"github.com/tinylib/msgp/msgp"

	"github.com/millrace/millrace/pipelines/export"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
)

var update = flag.Bool("update", false, "write testdata from what the formats write now")

// plain is how the rows of the tests came to be: texts as they are, sampled at temperature 1.
func plain() export.Origin {
	return export.Origin{Sampling: &export.Sampling{Temperature: 1}, Chat: &export.Chat{}}
}

// made exports batches, each a file.
func made(t *testing.T, name string, settings map[string]any, of export.Origin, rows ...stage.Batch) (export.Sidecar, string, error) {
	t.Helper()
	from := export.Source{Origin: of}
	for _, b := range rows {
		from.Files = append(from.Files, saved(t, b))
	}
	dir := filepath.Join(t.TempDir(), "out")
	f, err := export.New(name, settings)
	if err != nil {
		return export.Sidecar{}, dir, err
	}
	out, err := export.WriteFrom(t.Context(), name, f, from, dir)
	return out, dir, err
}

// right is made without an error.
func right(t *testing.T, name string, settings map[string]any, of export.Origin, rows ...stage.Batch) (export.Sidecar, string) {
	t.Helper()
	out, dir, err := made(t, name, settings, of, rows...)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out, dir
}

// readable is a file as text, binary ones as the JSON of what they hold.
func readable(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	switch filepath.Ext(path) {
	case ".bin":
		rest, err := msgp.UnmarshalAsJSON(&out, raw)
		if err != nil || len(rest) > 0 {
			t.Fatalf("%s: %v, %d bytes too many", path, err, len(rest))
		}
		return strings.ReplaceAll(out.String(), "],[", "],\n[") + "\n"
	case ".parquet":
		table, err := pqarrow.ReadTable(context.Background(), bytes.NewReader(raw), parquet.NewReaderProperties(memory.DefaultAllocator),
			pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
		if err != nil {
			t.Fatal(err)
		}
		for rows := array.NewTableReader(table, 0); rows.Next(); {
			if err := array.RecordToJSON(rows.Record(), &out); err != nil {
				t.Fatal(err)
			}
		}
		return out.String()
	}
	return string(raw)
}

// below lists the files of a directory but for the sidecar.
func below(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && e.Name() != export.SidecarName {
			name, _ := filepath.Rel(dir, path)
			out = append(out, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return out
}

// What every format writes of a few rows is what testdata holds.
func TestFormats(t *testing.T) {
	chat := plain()
	chat.Chat = &export.Chat{Template: true, System: "Be brief.", Instruction: " Think."}
	for _, c := range []struct {
		name, format string
		settings     map[string]any
		of           export.Origin
	}{
		{"prime-rl", "prime-rl", map[string]any{"seq_len": 24, "ranks": 2}, plain()},
		{"tinker", "tinker", nil, plain()},
		{"slime", "slime", nil, plain()},
		{"slime-chat", "slime", map[string]any{"logprobs": false}, chat},
		{"verl", "verl", nil, plain()},
		{"verl-prompts", "verl", map[string]any{"rollouts": false, "data_source": "openai/gsm8k", "ability": "logic", "split": "test"}, chat},
		{"trl-sft", "trl-sft", nil, plain()},
		{"trl-sft-chat", "trl-sft", map[string]any{"keep": "all"}, chat},
		{"trl-dpo", "trl-dpo", map[string]any{"keep_truncated": true}, plain()},
		{"trl-dpo-chat", "trl-dpo", nil, chat},
		{"trl-kto", "trl-kto", nil, plain()},
		{"trl-prm", "trl-prm", nil, plain()},
		{"trl-prm-wrong", "trl-prm", map[string]any{"after_error": "wrong"}, plain()},
		{"trl-grpo", "trl-grpo", nil, plain()},
		{"trl-grpo-chat", "trl-grpo", nil, chat},
		{"openrlhf-prompt", "openrlhf-prompt", nil, plain()},
		{"openrlhf-preference", "openrlhf-preference", nil, plain()},
		{"llama-factory-sft", "llama-factory-sft", nil, chat},
		{"llama-factory-sft-alpaca", "llama-factory-sft", map[string]any{"formatting": "alpaca", "name": "right"}, plain()},
		{"llama-factory-kto", "llama-factory-kto", nil, plain()},
		{"llama-factory-kto-alpaca", "llama-factory-kto", map[string]any{"formatting": "alpaca"}, plain()},
		{"llama-factory-preference", "llama-factory-preference", nil, plain()},
		{"llama-factory-preference-alpaca", "llama-factory-preference", map[string]any{"formatting": "alpaca"}, chat},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, dir := right(t, c.format, c.settings, c.of, rowsOf(t, meta(2), three()...))
			var got strings.Builder
			fmt.Fprintf(&got, "rows %d, records %d, left out %v\n", out.Rows, out.Records, out.Left)
			names := below(t, dir)
			for _, name := range names {
				fmt.Fprintf(&got, "--- %s\n%s", name, readable(t, filepath.Join(dir, name)))
			}
			var written []string
			for _, path := range out.Files {
				name, _ := filepath.Rel(dir, path)
				written = append(written, filepath.ToSlash(name))
			}
			if slices.Sort(written); !slices.Equal(written, names) {
				t.Errorf("the sidecar names %q, the directory holds %q", written, names)
			}
			path := filepath.Join("testdata", c.name+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want, err := os.ReadFile(path); err != nil || string(want) != got.String() {
				t.Errorf("%v: got\n%s\nwant\n%s\nwrite it with: go test ./pipelines/export -run TestFormats -update", err, got.String(), want)
			}
		})
	}
}

// A sidecar says where the rows come from, and of which distribution their log-probs are.
func TestSidecar(t *testing.T) {
	of := plain()
	of.Tokenizer, of.ChatTemplate = "t", "c"
	out, dir := right(t, "tinker", nil, of, rowsOf(t, meta(0), three()...))
	raw, err := os.ReadFile(filepath.Join(dir, export.SidecarName))
	if err != nil {
		t.Fatal(err)
	}
	var read export.Sidecar
	if err := json.Unmarshal(raw, &read); err != nil {
		t.Fatal(err)
	}
	model := strings.Repeat("ab", 32)
	if read.Run != "made" || !slices.Equal(read.Models["policy"], []string{model, model + "+bfloat16"}) || len(read.Models) != 1 ||
		read.Tokenizer != "t" || read.ChatTemplate != "c" || read.Sampling == nil || read.Chat == nil || read.Lineage["response"] == "" {
		t.Errorf("%s", raw)
	}
	want := []schemas.LogPDefinition{schemas.FullLogP("policy")}
	if len(read.LogProbs) != 1 || !slices.Equal(read.LogProbs["old_logp"], want) {
		t.Errorf("log-probs %v", read.LogProbs)
	}
	if read.Rows != out.Rows || read.Rows+read.Left["no advantages"] != 6 {
		t.Errorf("%d rows, left out %v", read.Rows, read.Left)
	}
	// Only what a format writes is named.
	if out, _ := right(t, "trl-sft", nil, of, rowsOf(t, meta(0), three()...)); len(out.LogProbs) != 0 {
		t.Errorf("trl-sft names log-probs %v", out.LogProbs)
	}
	if out, _ := right(t, "jsonl", nil, of, rowsOf(t, meta(0), three()...)); len(out.LogProbs) != 1 {
		t.Errorf("jsonl names log-probs %v", out.LogProbs)
	}
}

// defined gives the log-probs of a record another definition.
func defined(t *testing.T, b stage.Batch, column schemas.List[float32], def schemas.LogPDefinition) stage.Batch {
	t.Helper()
	of := schemas.OldLogP.Of(b)
	out, err := b.With(column.From(of.Starts(), of.Values).Defined(def))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Rows that a format cannot hold, or that its trainer would misread, are refused before anything is written.
func TestRefused(t *testing.T) {
	rows := rowsOf(t, meta(0), three()...)
	at := func(temperature float64) schemas.LogPDefinition { return schemas.FullLogP("policy").At(temperature) }
	sampled := func(s export.Sampling) export.Origin {
		if s.Temperature == 0 {
			s.Temperature = 1
		}
		return export.Origin{Sampling: &s}
	}
	undefined, err := rows.With(schemas.OldLogP.FromRows(make([][]float32, rows.NumRows())))
	if err != nil {
		t.Fatal(err)
	}
	nucleus := schemas.FullLogP("policy")
	nucleus.TopP = 0.9
	pairs := pairsOf(t, meta(0), [3]any{"2+3*4=", 0, 1})
	tempered := defined(t, rows, schemas.TemperedOldLogP, at(0.7))
	for _, c := range []struct {
		why, format string
		settings    map[string]any
		of          export.Origin
		rows        []stage.Batch
		path, says  string
	}{
		{"no log-probs", "prime-rl", nil, plain(), []stage.Batch{rows.Without(schemas.OldLogP)}, "rows", `"old_logp", which prime-rl needs`},
		{"no advantages", "prime-rl", nil, plain(), []stage.Batch{rows.Without(schemas.Advantage)}, "rows", `"advantage"`},
		{"no ids", "tinker", nil, plain(), []stage.Batch{rows.Without(schemas.ResponseTokens)}, "rows", `"response_tokens"`},
		{"no ids of the prompt", "slime", nil, plain(), []stage.Batch{rows.Without(schemas.PromptTokens)}, "rows", `"prompt_tokens"`},
		{"only the second file lacks it", "tinker", nil, plain(), []stage.Batch{rows, rowsOf(t, meta(1), three()...).Without(schemas.Advantage)},
			"rows", `"advantage"`},
		{"a log-prob without a definition", "prime-rl", nil, plain(), []stage.Batch{undefined}, "rows", "millrace.logp"},
		{"raw log-probs of warm samples", "prime-rl", nil, sampled(export.Sampling{Temperature: 0.7}), []stage.Batch{rows}, "rows",
			`want column "tempered_old_logp"`},
		{"the same of slime", "slime", nil, sampled(export.Sampling{Temperature: 0.7}), []stage.Batch{rows}, "rows", "0.7"},
		{"processed log-probs of samples at 1", "prime-rl", nil, plain(), []stage.Batch{tempered}, "rows", "temperature 0.7"},
		{"warm samples for a trainer at 1", "tinker", nil, sampled(export.Sampling{Temperature: 0.7}), []stage.Batch{tempered}, "temperature",
			"temperature 1"},
		{"samples of a nucleus", "prime-rl", nil, sampled(export.Sampling{TopP: 0.9}), []stage.Batch{rows}, "rows", "top-p 0.9"},
		{"samples of the best", "slime", nil, sampled(export.Sampling{TopK: 5}), []stage.Batch{rows}, "rows", "top-k 5"},
		{"greedy samples", "tinker", nil, sampled(export.Sampling{Greedy: true}), []stage.Batch{rows}, "rows", "greedily"},
		{"samples of a least length", "tinker", nil, sampled(export.Sampling{MinNewTokens: 3}), []stage.Batch{rows}, "rows", "min_new_tokens 3"},
		{"log-probs over a nucleus", "prime-rl", nil, plain(), []stage.Batch{defined(t, rows, schemas.OldLogP, nucleus)}, "rows", "top-p 0.9"},
		{"an unknown temperature", "prime-rl", nil, export.Origin{}, []stage.Batch{rows}, "temperature", "not known"},
		{"another temperature than the run's", "prime-rl", map[string]any{"temperature": 0.5}, plain(), []stage.Batch{rows},
			"temperature", "leave it out"},
		{"the name of all environments", "prime-rl", map[string]any{"env_name": "all"}, plain(), []stage.Batch{rows}, "env_name", "all"},
		{"no row fits", "prime-rl", map[string]any{"seq_len": 2}, plain(), []stage.Batch{rows}, "rows", "none"},
		{"no outcomes", "trl-kto", nil, plain(), []stage.Batch{rows.Without(schemas.Outcome)}, "rows", `"outcome"`},
		{"no outcomes to choose by", "trl-sft", nil, plain(), []stage.Batch{rows.Without(schemas.Outcome)}, "rows", `"outcome"`},
		{"no outcomes to pair by", "trl-dpo", nil, plain(), []stage.Batch{rows.Without(schemas.Outcome)}, "rows", `"outcome"`},
		{"no values to rank by", "trl-dpo", map[string]any{"score": "value"}, plain(), []stage.Batch{rows}, "rows", `"value"`},
		{"no steps", "trl-prm", nil, plain(), []stage.Batch{rows.Without(schemas.StepEnds)}, "rows", `"step_ends"`},
		{"no judged steps", "trl-prm", nil, plain(), []stage.Batch{rows.Without(schemas.FirstError)}, "rows", `"first_error"`},
		{"no answers", "verl", nil, plain(), []stage.Batch{rows.Without(schemas.Answer)}, "rows", `"answer"`},
		{"no responses", "verl", nil, plain(), []stage.Batch{rows.Without(schemas.Response)}, "rows", `"response"`},
		{"no score", "slime", nil, plain(), []stage.Batch{rows.Without(schemas.Outcome)}, "rows", `"outcome"`},
		{"pairs alone", "trl-dpo", nil, plain(), []stage.Batch{pairs}, "rows", "batch files"},
		{"pairs for responses", "trl-sft", nil, plain(), []stage.Batch{pairs}, "rows", "pairs"},
		{"pairs that are to be made", "trl-dpo", map[string]any{"pairs": "made"}, plain(), []stage.Batch{rows, pairs}, "pairs", "made"},
		{"pairs that are not there", "trl-dpo", map[string]any{"pairs": "kept"}, plain(), []stage.Batch{rows}, "pairs", "kept"},
		{"a name with a path", "llama-factory-sft", map[string]any{"name": "../up"}, plain(), []stage.Batch{rows}, "name", "../up"},
		{"an unknown setting", "trl-dpo", map[string]any{"keep": "all"}, plain(), []stage.Batch{rows}, "keep", "is not read by format trl-dpo"},
	} {
		_, dir, err := made(t, c.format, c.settings, c.of, c.rows...)
		var e *setting.Error
		if !errors.As(err, &e) || e.Path != c.path || !strings.Contains(e.Error(), c.says) {
			t.Errorf("%s, %s: %v; want an error at %s with %q", c.format, c.why, err, c.path, c.says)
		}
		if left := below(t, dir); len(left) > 0 {
			t.Errorf("%s, %s: it left %q", c.format, c.why, left)
		}
	}
	// What is right is not refused.
	for _, of := range []export.Origin{sampled(export.Sampling{Temperature: 0.7}), {}} {
		right(t, "prime-rl", nil, of, tempered)
	}
	right(t, "prime-rl", map[string]any{"temperature": 1}, export.Origin{}, rows)
	right(t, "slime", map[string]any{"logprobs": false}, sampled(export.Sampling{TopP: 0.9}), rows)
}

// odd are numbers that a careless writer changes.
var odd = []float32{-1e-45, -0.1, -16777217, -3.4028235e38, -1.1754944e-38, float32(math.Copysign(0, -1))}

// Ids, log-probs and advantages come out bit for bit.
func TestBitForBit(t *testing.T) {
	const prompt, text = "ab", "cdefg"
	rows := rowsOf(t, meta(0), asked{text: prompt, answer: "1", responses: []response{{text: text, outcome: 1, logp: odd,
		advantages: odd, firstError: -2}}})
	same := func(what string, got []float32) {
		t.Helper()
		if len(got) != len(odd) {
			t.Fatalf("%s: %v", what, got)
		}
		for i := range odd {
			if math.Float32bits(got[i]) != math.Float32bits(odd[i]) {
				t.Errorf("%s %d: %x, want %x", what, i, math.Float32bits(got[i]), math.Float32bits(odd[i]))
			}
		}
	}
	ids := append(bytesOf(prompt), bytesOf(text, 1)...)

	_, dir := right(t, "prime-rl", nil, plain(), rows)
	m := microbatches(t, filepath.Join(dir, "rollouts", "step_0", "rank_0.bin"))[0]
	if !slices.Equal(m.ids, ids) || !slices.Equal(m.mask, []bool{false, false, true, true, true, true, true, true}) {
		t.Errorf("prime-rl: %+v", m)
	}
	same("prime-rl advantages", m.advantages[2:])
	same("prime-rl log-probs", m.logp[2:])

	_, dir = right(t, "tinker", nil, plain(), rows)
	var d struct {
		Tokens, Targets      []int32
		TargetTokens         []int32 `json:"target_tokens"`
		LogProbs, Advantages []float32
	}
	unmarshal(t, filepath.Join(dir, "data.jsonl"), &d)
	if !slices.Equal(d.Tokens, ids[:len(ids)-1]) || !slices.Equal(d.TargetTokens, ids[1:]) {
		t.Errorf("tinker: %+v", d)
	}
	same("tinker advantages", d.Advantages[1:])
	same("tinker log-probs", d.LogProbs[1:])

	_, dir = right(t, "slime", nil, plain(), rows)
	var s struct {
		Tokens   []int32
		LogProbs []float32 `json:"rollout_log_probs"`
	}
	unmarshal(t, filepath.Join(dir, "samples.jsonl"), &s)
	if !slices.Equal(s.Tokens, ids) {
		t.Errorf("slime: %+v", s)
	}
	same("slime log-probs", s.LogProbs)
}

func unmarshal(t *testing.T, path string, into any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

// micro is a microbatch read back.
type micro struct {
	ids, positions, lengths, lens  []int32
	mask                           []bool
	advantages, logp, temperatures []float32
	names                          []string
}

func microbatches(t *testing.T, path string) (out []micro) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := msgp.NewReader(f)
	check := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	list := func(each func() error) {
		n, err := r.ReadArrayHeader()
		check(err)
		for range n {
			check(each())
		}
	}
	ints := func(into *[]int32) {
		list(func() error { x, err := r.ReadInt32(); *into = append(*into, x); return err })
	}
	floats := func(into *[]float32) {
		list(func() error { x, err := r.ReadFloat32(); *into = append(*into, x); return err })
	}
	list(func() error {
		var m micro
		if n, err := r.ReadArrayHeader(); err != nil || n != 9 {
			t.Fatalf("a microbatch of %d fields: %v", n, err)
		}
		ints(&m.ids)
		list(func() error { x, err := r.ReadBool(); m.mask = append(m.mask, x); return err })
		floats(&m.advantages)
		floats(&m.logp)
		ints(&m.positions)
		ints(&m.lengths)
		floats(&m.temperatures)
		list(func() error { x, err := r.ReadString(); m.names = append(m.names, x); return err })
		ints(&m.lens)
		out = append(out, m)
		return nil
	})
	return out
}

// Microbatches hold at most seq_len tokens, all ranks have equally many, and what fills up a rank teaches nothing.
func TestPacking(t *testing.T) {
	var prompts []asked
	for i := range 7 {
		text := strings.Repeat("x", i+1)
		prompts = append(prompts, asked{text: text, answer: "1", responses: []response{
			{text: text, outcome: 1, advantages: repeat(float32(i+1), i+2), firstError: -2},
			{text: text, outcome: 0, advantages: repeat(float32(-i-1), i+2), firstError: -2},
		}})
	}
	const seqLen, ranks = 16, 3
	rows := rowsOf(t, meta(5), prompts...)
	out, dir := right(t, "prime-rl", map[string]any{"seq_len": seqLen, "ranks": ranks, "env_name": "sums"}, plain(), rows)
	if len(out.Files) != ranks || out.Rows != 14 {
		t.Fatalf("%+v", out)
	}
	taught, samples, silent, batches := map[float32]int{}, 0, 0, -1
	for r := range ranks {
		all := microbatches(t, filepath.Join(dir, "rollouts", "step_5", fmt.Sprintf("rank_%d.bin", r)))
		if batches >= 0 && len(all) != batches {
			t.Errorf("rank %d has %d microbatches, another %d", r, len(all), batches)
		}
		batches = len(all)
		for _, m := range all {
			n := len(m.ids)
			if n > seqLen || len(m.mask) != n || len(m.advantages) != n || len(m.logp) != n || len(m.positions) != n || len(m.temperatures) != n ||
				len(m.names) != n || !slices.Equal(m.lengths, m.lens) {
				t.Errorf("rank %d: %+v", r, m)
			}
			if !slices.Contains(m.mask, true) {
				silent++
				if slices.ContainsFunc(m.advantages, func(x float32) bool { return x != 0 }) {
					t.Errorf("what fills up has advantages: %+v", m)
				}
				continue
			}
			at := int32(0)
			for _, length := range m.lengths {
				if m.positions[at] != 0 || m.positions[at+length-1] != length-1 || m.temperatures[at] != 1 || m.names[at] != "sums" {
					t.Errorf("rank %d: a response at %d of %+v", r, at, m)
				}
				taught[m.advantages[at+length-1]]++
				samples++
				at += length
			}
			if int(at) != n {
				t.Errorf("rank %d: lengths %v of %d tokens", r, m.lengths, n)
			}
		}
	}
	if samples != 14 || len(taught) != 14 || silent >= ranks {
		t.Errorf("%d responses, %v, %d that teach nothing", samples, taught, silent)
	}
	if out, _ := right(t, "prime-rl", map[string]any{"seq_len": 6}, plain(), rows); out.Left["longer than seq_len"] != 10 {
		t.Errorf("left out %v", out.Left)
	}
}

// A step is an iteration, and files follow it.
func TestSteps(t *testing.T) {
	all := three()
	first, second := rowsOf(t, meta(3), all[0]), rowsOf(t, meta(4), all[1], all[0])
	_, dir := right(t, "prime-rl", nil, plain(), second, first)
	if got := below(t, dir); !slices.Equal(got, []string{"rollouts/step_3/rank_0.bin", "rollouts/step_4/rank_0.bin"}) {
		t.Errorf("%q", got)
	}
	if got := microbatches(t, filepath.Join(dir, "rollouts", "step_3", "rank_0.bin")); len(got[0].lengths) != 2 {
		t.Errorf("step 3: %+v", got)
	}
	// An iteration of which no row can be written is no step, and takes no number.
	none := rowsOf(t, meta(1), all[2])
	_, dir = right(t, "prime-rl", map[string]any{"step": 0}, plain(), second, first, none)
	if got := below(t, dir); !slices.Equal(got, []string{"rollouts/step_0/rank_0.bin", "rollouts/step_1/rank_0.bin"}) {
		t.Errorf("%q", got)
	}
	out, dir := right(t, "verl", nil, plain(), second, first)
	if got := below(t, dir); !slices.Equal(got, []string{"prompts.parquet", "rollouts/3.jsonl", "rollouts/4.jsonl"}) {
		t.Errorf("%q", got)
	}
	if out.Records != 2 { // a prompt that both iterations drew is one prompt
		t.Errorf("%d prompts", out.Records)
	}
	out, dir = right(t, "slime", nil, plain(), second, first)
	groups := map[float64]int{}
	for line := range strings.Lines(readable(t, filepath.Join(dir, "samples.jsonl"))) {
		var s map[string]any
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatal(err)
		}
		groups[s["group_index"].(float64)]++
	}
	if want := map[float64]int{0: 2, 1: 2, 2: 2}; !maps.Equal(groups, want) {
		t.Errorf("groups %v of %d rows", groups, out.Rows)
	}
	// A group of slime's is of one iteration, also where the next one begins with the same prompt; a response that was cut off says so.
	cut := all[0]
	cut.responses = []response{{text: "3*4", outcome: 0, truncated: true, firstError: -2}}
	_, dir = right(t, "slime", nil, plain(), first, rowsOf(t, meta(4), cut))
	last := strings.Split(strings.TrimSpace(readable(t, filepath.Join(dir, "samples.jsonl"))), "\n")[2]
	if !strings.Contains(last, `"group_index":1,`) || !strings.Contains(last, `"status":"truncated"`) {
		t.Errorf("%s", last)
	}
	if out, _ := right(t, "trl-grpo", nil, plain(), second, first); out.Records != 2 {
		t.Errorf("%d prompts", out.Records)
	}
}

// Pairs that a run kept are taken as they are; of an iteration they are joined with the responses of that iteration.
func TestKeptPairs(t *testing.T) {
	all := three()
	other := all[0]
	other.responses = slices.Clone(other.responses)
	other.responses[0].text = "later\n"
	rows, later := rowsOf(t, meta(0), all[0], all[1]), rowsOf(t, meta(1), other)
	kept := pairsOf(t, meta(0), [3]any{all[0].text, 0, 2}, [3]any{all[1].text, 1, 0}) // not what outcomes would make
	out, dir := right(t, "trl-dpo", nil, plain(), kept, rows, later, pairsOf(t, meta(1), [3]any{all[0].text, 0, 1}, [3]any{"gone", 0, 1}))
	var got []string
	for line := range strings.Lines(readable(t, filepath.Join(dir, "train.jsonl"))) {
		var p struct{ Chosen, Rejected string }
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			t.Fatal(err)
		}
		got = append(got, p.Chosen+"|"+p.Rejected)
	}
	slices.Sort(got)
	want := []string{all[0].responses[0].text + "|" + all[0].responses[2].text, "later\n|" + all[0].responses[1].text, "yes|no"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if out.Records != 3 || out.Left["in no pair"] != 2 || out.Left["a pair whose responses are not among the rows"] != 1 || out.Rows != 9 {
		t.Errorf("%d rows as %d records, left out %v", out.Rows, out.Records, out.Left)
	}
	best, dir := right(t, "trl-dpo", map[string]any{"strategy": "best_worst", "limit": 0, "keep_truncated": true}, plain(), rows)
	if lines := strings.Count(readable(t, filepath.Join(dir, "train.jsonl")), "\n"); lines != 2 || best.Records != 2 {
		t.Errorf("best_worst makes %d pairs", lines)
	}
	cut := rowsOf(t, meta(0), asked{text: "p", answer: "1", responses: []response{{text: "1", outcome: 1, firstError: -2},
		{text: "2", outcome: 0, truncated: true, firstError: -2}}})
	for keep, records := range map[bool]int{false: 0, true: 1} {
		if out, _ := right(t, "trl-dpo", map[string]any{"keep_truncated": keep}, plain(), cut); out.Records != records {
			t.Errorf("keep_truncated %t makes %d pairs", keep, out.Records)
		}
	}
}

// Whatever a row cannot be written for is counted.
func TestLeftOut(t *testing.T) {
	infinite := response{text: "ab", outcome: 1, advantages: []float32{1, float32(math.Inf(1)), 1}, firstError: -2}
	short := response{text: "ab", outcome: 1, advantages: []float32{1}, firstError: -2}
	masked := response{text: "ab", outcome: 1, advantages: repeat(1, 3), mask: []int32{0, 0, 0}, firstError: -2}
	fine := response{text: "ab", outcome: 1, advantages: repeat(1, 3), firstError: -2}
	rows := rowsOf(t, meta(0), asked{text: "p", answer: "1", responses: []response{infinite, short, masked, fine}})
	for _, name := range []string{"prime-rl", "tinker"} {
		out, _ := right(t, name, nil, plain(), rows)
		if out.Rows != 1 || out.Left["a number that is not finite"] != 1 || out.Left["lists that are not as long as the response"] != 1 ||
			out.Left["no token that the loss learns from"] != 1 {
			t.Errorf("%s: %d rows, left out %v", name, out.Rows, out.Left)
		}
	}
	turns := func(messages string) stage.Batch {
		r := response{text: "ab", outcome: 1, firstError: -2}
		return rowsOf(t, meta(0), asked{text: "p", messages: messages, answer: "1", responses: []response{r}})
	}
	chat := export.Origin{Chat: &export.Chat{Template: true}}
	for messages, why := range map[string]string{`[{"role":"user","content":[{"type":"image"}]}]`: "messages that are no list of role and content",
		`[]`: "messages that are no list of role and content"} {
		for _, name := range []string{"trl-sft", "trl-grpo", "verl", "slime", "openrlhf-prompt", "llama-factory-kto"} {
			settings := map[string]any{}
			if name == "slime" {
				settings["logprobs"] = false
			}
			if out, _ := right(t, name, settings, chat, turns(messages)); out.Left[why] != 1 || out.Rows != 0 {
				t.Errorf("%s, %s: %d rows, left out %v", name, messages, out.Rows, out.Left)
			}
		}
	}
	for _, messages := range []string{`[{"role":"tool","content":"x"}]`, `[{"role":"user","content":"x"},{"role":"assistant","content":"y"}]`} {
		for _, name := range []string{"llama-factory-sft", "llama-factory-kto", "llama-factory-preference"} {
			out, _ := right(t, name, nil, chat, turns(messages))
			if out.Left["messages that are not turns of user and assistant"] != 1 {
				t.Errorf("%s, %s: left out %v", name, messages, out.Left)
			}
		}
	}
}

// LLaMA-Factory's list of data sets keeps the entries that it has.
func TestDatasetInfo(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "dataset_info.json")
	if err := os.WriteFile(path, []byte(`{"theirs": {"file_name": "theirs.json"}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	from := []string{saved(t, rowsOf(t, meta(0), three()...))}
	f, err := export.New("llama-factory-sft", map[string]any{"name": "theirs"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := export.Write(t.Context(), "llama-factory-sft", f, from, dir); err == nil || !strings.Contains(err.Error(), "theirs") {
		t.Errorf("an entry is written over: %v", err)
	}
	if f, err = export.New("llama-factory-sft", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := export.Write(t.Context(), "llama-factory-sft", f, from, dir); err != nil {
		t.Fatal(err)
	}
	var info map[string]map[string]any
	unmarshal(t, path, &info)
	if info["theirs"]["file_name"] != "theirs.json" || info["millrace"]["file_name"] != "millrace.jsonl" {
		t.Errorf("%v", info)
	}
}

// An export that fails leaves nothing behind, whatever it had begun.
func TestNothingIsLeftOfAFailure(t *testing.T) {
	good, bad := saved(t, rowsOf(t, meta(0), three()...)), saved(t, rowsOf(t, meta(1), three()...))
	raw, err := os.ReadFile(bad)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad, raw[:len(raw)-8], 0o644); err != nil { // its rows can be read, its end is missing
		t.Fatal(err)
	}
	for _, name := range export.Formats() {
		f, err := export.New(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "out")
		_, err = export.WriteFrom(t.Context(), name, f, export.Source{Files: []string{good, bad}, Origin: plain()}, dir)
		if left := below(t, dir); err == nil || len(left) > 0 {
			t.Errorf("%s: error %v, it left %q", name, err, left)
		}
	}
}

// Files that are under their names already when another cannot be are taken back.
func TestFilesAreTakenBack(t *testing.T) {
	from := export.Source{Files: []string{saved(t, rowsOf(t, meta(0), three()...))}, Origin: plain()}
	for name, last := range map[string]string{"verl": "prompts.parquet", "prime-rl": "rollouts/step_0/rank_1.bin"} {
		settings := map[string]any{}
		if name == "prime-rl" {
			settings["ranks"] = 2
		}
		f, err := export.New(name, settings)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, last, "taken"), 0o755); err != nil {
			t.Fatal(err)
		}
		_, err = export.WriteFrom(t.Context(), name, f, from, dir)
		if left := below(t, dir); err == nil || len(left) > 0 {
			t.Errorf("%s: error %v, it left %q", name, err, left)
		}
	}
}
