package prompts

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/google/uuid"

	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/stage"
)

// File configures a source that reads prompts, with or without responses, from a JSONL or Parquet file, or one JSON
// array.
//
// A window takes Count prompts of the split from First on; after the last prompt the first follows again, in another
// order when they are shuffled, unless Exhausted is stop. It never holds a prompt twice, so a Count above the number of
// prompts takes each once. A row that cannot be read is a dead letter, reported with the window that starts at 0.
//
// Memory: a record, the longest line, and about 50 bytes a prompt of the file (9.3 MB for 200,000 prompts in 83 MB).
type File struct {
	Path   string `json:"path" doc:"a .jsonl, .json or .parquet file, on this machine or at gs:// or s3://"`
	Format string `json:"format" enum:",jsonl,json,parquet" doc:"jsonl, json or parquet; empty: by the name's ending"`
	Fields Fields `json:"fields" doc:"which field of a row is what, as dotted paths such as reward_model.ground_truth"`
	Name   string `json:"name" doc:"the prompts' source, part of their ids; empty: the last part of the path"`
	// Shuffle takes prompts in an order that the run's seed gives, a new one each time through the file.
	Shuffle   bool   `json:"shuffle" doc:"take prompts in an order that the seed gives, a new one each time through the file"`
	Exhausted string `json:"exhausted,omitempty" enum:",wrap,stop" doc:"what follows the last prompt: wrap, the first again, or stop, nothing; empty: wrap"`
	// TestShare: which prompts are in the split "test" is decided by a hash of SplitSeed and the prompt's id, so it does not change
	// when the file grows.
	TestShare      float64 `json:"test_share" range:"[0,1]" doc:"share of prompts that make the split test; the others are train, and all is both"`
	SplitSeed      uint64  `json:"split_seed" doc:"of the choice of the split test"`
	MaxLineBytes   int     `json:"max_line_bytes" range:"[0,inf)" doc:"bound of a line of a JSONL file, or of an item of a JSON array; 0: 1 MiB"`
	MaxRecordBytes int     `json:"max_record_bytes" range:"[0,inf)" doc:"bound of the rows of a prompt; 0: the recipe's limit"`
}

// Fields says which field of a row is what, as dotted paths such as reward_model.ground_truth. A field that is named must
// be there in every row. Fields that are not named are kept in the column extra.
//
// Prompt is text or chat messages (system or none, user). A response comes by one of three ways: Response beside Prompt;
// Conversation, chat messages that end with it; or Chosen and Rejected, each a response beside Prompt or a conversation,
// which make two rows of outcome 1 and 0; or Steps beside Prompt, a list of texts, which are joined by blank lines as
// "Step 1: ...". Responses to a prompt must lie side by side, unless ID tells them apart.
type Fields struct {
	ID           string `json:"id,omitempty" doc:"makes a prompt of its own of every row"`
	Prompt       string `json:"prompt" doc:"text, or chat messages that end with the user"`
	Answer       string `json:"answer" doc:"reference answer"`
	Response     string `json:"response" doc:"response beside prompt"`
	Conversation string `json:"conversation" doc:"chat messages that end with the response"`
	Chosen       string `json:"chosen" doc:"better response of a pair, or a conversation that ends with it; outcome 1"`
	Rejected     string `json:"rejected" doc:"worse response of a pair; outcome 0"`
	Outcome      string `json:"outcome" doc:"label in [0, 1] or a truth value"`
	Difficulty   string `json:"difficulty,omitempty" doc:"level of the prompt, for ledgers and curricula"`
	Steps        string `json:"steps,omitempty" doc:"list of texts that make the response beside prompt"`
	FirstError   string `json:"first_error,omitempty" doc:"index of the first wrong of steps, -1: none is"`
	PromptsOnly  bool   `json:"prompts_only,omitempty" doc:"leave the responses and outcomes of these fields out"`
}

// ProcessBench are the fields of a file of ProcessBench (arXiv 2412.06559).
func ProcessBench() Fields {
	return Fields{ID: "id", Prompt: "problem", Steps: "steps", FirstError: "label", Outcome: "final_answer_correct"}
}

// answered reports whether rows hold responses.
func (f Fields) answered() bool {
	return f.Response != "" || f.Conversation != "" || f.Chosen != "" || f.Steps != ""
}

func (f Fields) responses() bool { return f.answered() && !f.PromptsOnly }
func (f Fields) outcomes() bool  { return (f.Outcome != "" || f.Chosen != "") && !f.PromptsOnly }
func (f Fields) steps() bool     { return f.Steps != "" && !f.PromptsOnly }

// Choices of File.Exhausted.
const (
	wrapExhausted = "wrap"
	stopExhausted = "stop"
)

// Splits of a file.
var fileSplits = []string{"train", "test", "all"}

// Validate names the first key that does not go with the others.
func (f File) Validate() error {
	switch {
	case f.Path == "":
		return setting.Errorf("path", "missing; want a .jsonl, .json or .parquet file")
	case f.format() == "":
		return setting.Errorf("format", "%q; want jsonl, json or parquet, as the name %s does not tell", f.Format, f.Path)
	}
	d := f.Fields
	switch {
	case d.Prompt == "" && d.Conversation == "" && d.Chosen == "":
		return setting.Errorf("fields.prompt", "missing; name the field that holds the prompt, or conversation, or chosen and rejected")
	case (d.Chosen == "") != (d.Rejected == ""):
		return setting.Errorf("fields", "chosen and rejected come together")
	case d.Chosen != "" && (d.Response != "" || d.Conversation != "" || d.Outcome != ""):
		return setting.Errorf("fields", "chosen and rejected bring responses and outcomes; leave response, conversation and outcome out")
	case d.Conversation != "" && (d.Response != "" || d.Prompt != ""):
		return setting.Errorf("fields", "conversation brings prompt and response; leave both out")
	case d.Steps != "" && (d.Prompt == "" || d.Response != "" || d.Conversation != "" || d.Chosen != ""):
		return setting.Errorf("fields.steps", "are the response beside prompt; name prompt, and leave response, conversation and chosen out")
	case (d.Steps == "") != (d.FirstError == ""):
		return setting.Errorf("fields", "steps and first_error come together")
	case d.Steps != "" && d.Outcome == "":
		return setting.Errorf("fields.outcome", "missing; steps come with the outcome of the whole response")
	case d.Outcome != "" && !d.answered():
		return setting.Errorf("fields.outcome", "an outcome belongs to a response; name response or conversation")
	}
	return nil
}

// CheckSplit knows the splits of a file.
func (f File) CheckSplit(split string) error {
	if err := setting.OneOf("split", split, fileSplits...); err != nil {
		return err
	}
	if f.TestShare == 0 && split == "test" {
		return setting.Errorf("file.test_share", "0 leaves the split test without prompts")
	}
	return nil
}

// PromptsOnly leaves responses and outcomes out.
func (f File) PromptsOnly() Source {
	f.Fields.PromptsOnly = f.Fields.answered()
	return f
}

// Named is the file under another name.
func (f File) Named(name string) Source {
	f.Name = name
	return f
}

func (f File) format() string {
	kind := f.Format
	if kind == "" {
		kind = strings.TrimPrefix(path.Ext(f.Path), ".")
	}
	if kind == "jsonl" || kind == "json" || kind == "parquet" {
		return kind
	}
	return ""
}

// Columns are those of its rows.
func (f File) Columns() []schemas.Descriptor {
	out := []schemas.Descriptor{schemas.PromptID, schemas.Prompt, schemas.Messages, schemas.Answer, schemas.Source, schemas.Difficulty,
		schemas.Extra}
	if f.Fields.responses() {
		out = append(out, schemas.ResponseID, schemas.Sample, schemas.Response, schemas.FinishReason)
	}
	if f.Fields.outcomes() {
		out = append(out, schemas.Outcome)
	}
	if f.Fields.steps() {
		out = append(out, schemas.FirstError, schemas.StepBytes)
	}
	return out
}

func init() {
	Register("file", File{})
	beam.RegisterDoFn(&fileFn{})
	register.Emitter1[stage.Batch]()
}

// Read reads the window's part of the file.
func (f File) Read(s beam.Scope, w Window) (prompts, dead stage.Rows) {
	f.MaxRecordBytes = cmp.Or(f.MaxRecordBytes, w.MaxRecordBytes)
	read, bad := beam.ParDo2(s, &fileFn{File: f, Window: w}, beam.Impulse(s))
	known := schemas.Known{}
	for _, d := range f.Columns() {
		known.Columns = append(known.Columns, d.Describe())
	}
	return stage.Rows{PCollection: read, Known: &known, MaxRecordBytes: f.MaxRecordBytes}, stage.Rows{PCollection: bad}
}

// fileFn reads the window's part of a file, in the order of the file.
type fileFn struct {
	File   File
	Window Window
}

func (f *fileFn) ProcessElement(ctx context.Context, _ []byte, emit, dead func(stage.Batch)) error {
	start := time.Now()
	res, err := scanWindow(ctx, f.File, f.Window,
		func(b stage.Batch) error { emit(b); return nil }, func(b stage.Batch) error { dead(b); return nil })
	if err != nil {
		return fmt.Errorf("prompts: %s: %w", f.File.Path, err)
	}
	stage.CountResult(ctx, "prompts", res, res.Kept, time.Since(start))
	return nil
}

// scanWindow goes through the file once to learn which prompts it has, unless the window takes all of them, and once to
// emit those of the window.
func scanWindow(ctx context.Context, f File, w Window, emit, dead func(stage.Batch) error) (stage.Result, error) {
	var index []uint64 // short ids of the prompts, in the order of the file
	first := scanner{file: f, split: w.Split, group: func(g group) error { index = append(index, g.short); return nil }}
	if err := first.scan(ctx); err != nil {
		return stage.Result{}, err
	}
	if len(index) == 0 && first.rows == 0 {
		return stage.Result{}, errors.New("the file has no rows")
	}
	var history History
	if w.Curriculum != nil && w.History != "" {
		var err error
		if history, err = readHistory(ctx, w.History); err != nil {
			return stage.Result{}, err
		}
	}
	chosen := choose(index, f, w, history)
	stage.Count(ctx, "prompts", shortCounter+f.name(), w.Count-len(chosen))
	out := packer{file: f, w: w, emit: emit}
	report := letters{meta: w.Meta, limit: f.MaxRecordBytes, emit: dead, reasons: map[schemas.Reason]int{}}
	second := scanner{file: f, split: w.Split,
		group: func(g group) error {
			if _, ok := chosen[g.short]; !ok {
				return nil
			}
			return out.add(g)
		}}
	if w.First+w.Drawn == 0 {
		second.bad = func(row rawRow, err error) error { return report.add(f.name(), row, err) }
	}
	if err := second.scan(ctx); err != nil {
		return stage.Result{}, err
	}
	if err := out.flush(); err != nil {
		return stage.Result{}, err
	}
	for _, l := range out.tooLarge {
		if err := report.letter(l); err != nil {
			return stage.Result{}, err
		}
	}
	if err := report.flush(); err != nil {
		return stage.Result{}, err
	}
	return stage.Result{In: out.rows + len(out.tooLarge) + report.bad, Kept: out.rows, Reasons: report.reasons}, nil
}

// choose picks the prompts of the window: its positions of the sequence in which the file follows on itself, without prompts
// that the iteration has taken already.
func choose(index []uint64, f File, w Window, h History) map[uint64]struct{} {
	n := len(index)
	take := func(first, count int) map[uint64]struct{} {
		out := make(map[uint64]struct{}, max(0, min(n, count)))
		round, order := -1, index
		for at := first; at < first+count; at++ {
			if f.Exhausted == stopExhausted && at >= n {
				break
			}
			if r := at / n; f.Shuffle && r != round {
				round, order = r, shuffled(index, w.Seed, r)
			}
			out[order[at%n]] = struct{}{}
		}
		return out
	}
	if len(h.Prompts) > 0 { // in the place of the file's own order
		index, w.First, f.Shuffle, f.Exhausted = w.Curriculum.ranked(index, h, w), 0, false, stopExhausted
	}
	first := func(count int) map[uint64]struct{} {
		if f.Exhausted != stopExhausted && count >= n { // each once, whatever the order
			return take(0, n)
		}
		return take(w.First, count)
	}
	if n == 0 {
		return nil
	}
	out := first(w.Drawn + w.Count)
	if w.Drawn > 0 {
		for id := range first(w.Drawn) {
			delete(out, id)
		}
	}
	return out
}

// shuffled is the order of a file's prompts in a round through it.
func shuffled(index []uint64, seed uint64, round int) []uint64 {
	out := slices.Clone(index)
	key := keyed.New(seed).With(uint64(round))
	slices.SortStableFunc(out, func(a, b uint64) int { return cmp.Compare(key.With(a).Uniform(), key.With(b).Uniform()) })
	return out
}

// shortCounter begins the name of a counter: the prompts that a window asked of a source beyond those it has.
const shortCounter = "short."

// ShortOf gives the source that such a counter is of.
func ShortOf(counter string) (source string, ok bool) {
	return strings.CutPrefix(counter, shortCounter)
}

// group is the rows of one prompt.
type group struct {
	id    uuid.UUID
	short uint64
	rows  []promptRow
}

// promptRow is a row with its fields read.
type promptRow struct {
	prompt, answer, extra string
	messages              string // of the prompt; "" where it is a text
	hasAnswer, hasExtra   bool
	response              string
	outcome               float32
	hasOutcome            bool
	difficulty            string
	id                    string // "" where the prompt says who it is
	stepBytes             []int32
	firstError            int32
}

// scanner goes through a file and gives the groups of the split, and the rows that are bad.
type scanner struct {
	file  File
	split string
	group func(group) error
	bad   func(rawRow, error) error // nil: passed over
	look  func(rawRow) error        // at every row first; may be nil
	rows  int

	open group
	seen map[uint64]struct{}
}

func (s *scanner) scan(ctx context.Context) error {
	s.seen = map[uint64]struct{}{}
	f := s.file
	emit := func(row rawRow) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return s.add(row)
	}
	var err error
	if f.format() == "parquet" {
		err = readParquet(ctx, f.Path, emit)
	} else {
		in, openErr := files.Open(ctx, f.Path)
		if openErr != nil {
			return openErr
		}
		limit := f.MaxLineBytes
		if limit == 0 {
			limit = 1 << 20
		}
		read := readLines
		if f.format() == "json" {
			read = readArray
		}
		err = errors.Join(read(in, limit, emit), in.Close())
	}
	if err != nil {
		return err
	}
	return s.close()
}

func (s *scanner) add(row rawRow) error {
	s.rows++
	if s.look != nil {
		if err := s.look(row); err != nil {
			return err
		}
	}
	refuse := func(err error) error {
		if s.bad == nil {
			return nil
		}
		return s.bad(row, err)
	}
	if row.err != nil {
		return refuse(row.err)
	}
	rows, err := s.file.Fields.read(row.fields)
	if err != nil {
		return refuse(err)
	}
	source := s.file.name()
	if rows[0].id != "" {
		source += "/" + rows[0].id
	}
	id := PromptID(rows[0].prompt, rows[0].answer, source)
	if fields := s.file.Fields; len(s.open.rows) > 0 && s.open.id == id && fields.answered() {
		if fields.responses() {
			s.open.rows = append(s.open.rows, rows...)
		}
		return nil
	}
	if err := s.close(); err != nil {
		return err
	}
	key := shortID(id)
	if _, again := s.seen[key]; again {
		if s.file.Fields.answered() {
			return refuse(bad(schemas.ReasonMismatch, "the prompt was there before, but not right before: rows of one prompt must lie side by side"))
		}
		return refuse(bad(schemas.ReasonRepeated, "the prompt and its answer were there before: the same prompt twice"))
	}
	s.seen[key] = struct{}{}
	s.open = group{id: id, short: key, rows: rows}
	return nil
}

// shortID is 62 bits of a hash of the content.
func shortID(id uuid.UUID) uint64 { return binary.LittleEndian.Uint64(id[8:]) }

func (s *scanner) close() error {
	g := s.open
	s.open = group{}
	if len(g.rows) == 0 || !s.file.inSplit(g.id, s.split) {
		return nil
	}
	return s.group(g)
}

func (f File) inSplit(id uuid.UUID, split string) bool {
	if split == "all" {
		return true
	}
	test := keyed.New(f.SplitSeed).WithBytes(id).Uniform() < f.TestShare
	return test == (split == "test")
}

func (f File) name() string {
	if f.Name != "" {
		return f.Name
	}
	return path.Base(f.Path)
}

// fieldReader takes fields out of a row.
type fieldReader struct {
	row  map[string]any
	rest map[string]any // what no field has taken
}

func (r *fieldReader) get(path string) (any, error) {
	delete(r.rest, strings.SplitN(path, ".", 2)[0])
	return field(r.row, path)
}

// text reads a field that may not be asked for.
func (r *fieldReader) text(path string, into *string) error {
	if path == "" {
		return nil
	}
	v, err := r.get(path)
	if err == nil {
		*into, err = text(v, path)
	}
	return err
}

// read takes the fields of a row: one row, or two of chosen and rejected.
func (f Fields) read(row map[string]any) ([]promptRow, error) {
	r := &fieldReader{row: row, rest: maps.Clone(row)}
	base, err := f.readPrompt(r)
	if err != nil {
		return nil, err
	}
	alone := base
	out, err := f.readResponses(r, base)
	if err != nil {
		return nil, err
	}
	if f.Outcome != "" {
		v, err := r.get(f.Outcome)
		if err == nil {
			out[0].outcome, err = outcome(v, f.Outcome)
		}
		if err != nil {
			return nil, err
		}
		out[0].hasOutcome = true
	}
	if strings.TrimSpace(out[0].prompt) == "" {
		return nil, bad(schemas.ReasonEmpty, "the prompt is empty")
	}
	if f.PromptsOnly {
		alone.prompt, alone.messages = out[0].prompt, out[0].messages
		out = []promptRow{alone}
	}
	if len(r.rest) > 0 {
		raw, err := json.Marshal(r.rest) // keys in order
		if err != nil {
			return nil, bad(schemas.ReasonUnreadable, "further fields: %v", err)
		}
		for i := range out {
			out[i].extra, out[i].hasExtra = string(raw), true
		}
	}
	return out, nil
}

// readPrompt takes what all responses of a row share.
func (f Fields) readPrompt(r *fieldReader) (base promptRow, err error) {
	if f.Prompt != "" {
		v, err := r.get(f.Prompt)
		if err != nil {
			return base, err
		}
		if _, isText := v.(string); isText {
			base.prompt, err = text(v, f.Prompt)
		} else {
			var d dialogue
			if d, err = conversation(v, f.Prompt); err == nil && d.response != "" {
				err = bad(schemas.ReasonUnreadable, "field %q ends with a response; name it conversation", f.Prompt)
			}
			base.prompt, base.messages = d.prompt, d.messages
		}
		if err != nil {
			return base, err
		}
	}
	base.hasAnswer = f.Answer != ""
	for _, t := range []struct {
		path string
		into *string
	}{{f.ID, &base.id}, {f.Answer, &base.answer}, {f.Difficulty, &base.difficulty}} {
		if err := r.text(t.path, t.into); err != nil {
			return base, err
		}
	}
	return base, nil
}

// readResponses takes the response of a row, or the chosen and the rejected one; without, the row is its prompt.
func (f Fields) readResponses(r *fieldReader, base promptRow) ([]promptRow, error) {
	switch {
	case f.Chosen != "":
		chosen, err := f.readResponse(r, base, f.Chosen)
		if err != nil {
			return nil, err
		}
		rejected, err := f.readResponse(r, base, f.Rejected)
		if err == nil && chosen.prompt != rejected.prompt {
			err = bad(schemas.ReasonMismatch, "fields %q and %q answer different prompts", f.Chosen, f.Rejected)
		}
		chosen.outcome, chosen.hasOutcome = 1, true
		rejected.outcome, rejected.hasOutcome = 0, true
		return []promptRow{chosen, rejected}, err
	case f.Steps != "":
		steps, err := r.get(f.Steps)
		if err != nil {
			return nil, err
		}
		first, err := r.get(f.FirstError)
		if err == nil {
			err = base.readSteps(steps, f.Steps, first, f.FirstError)
		}
		return []promptRow{base}, err
	case f.Conversation != "" || f.Response != "":
		one, err := f.readResponse(r, base, cmp.Or(f.Conversation, f.Response))
		return []promptRow{one}, err
	}
	return []promptRow{base}, nil
}

// readResponse reads a response: text, or a conversation that ends with it and brings the prompt where no field does.
func (f Fields) readResponse(r *fieldReader, base promptRow, path string) (promptRow, error) {
	v, err := r.get(path)
	if err != nil {
		return base, err
	}
	if _, isText := v.(string); isText && f.Prompt != "" {
		base.response, err = text(v, path)
	} else {
		var d dialogue
		if d, err = conversation(v, path); err == nil && f.Prompt == "" {
			base.prompt, base.messages = d.prompt, d.messages
		}
		base.response = d.response
	}
	if err == nil && strings.TrimSpace(base.response) == "" {
		err = bad(schemas.ReasonEmpty, "field %q has no response", path)
	}
	return base, err
}

// packer puts groups together into records.
type packer struct {
	file     File
	w        Window
	emit     func(stage.Batch) error
	held     []group
	size     int
	rows     int
	tooLarge []stage.Letter
}

func (p *packer) add(g group) error {
	size := 0
	for _, r := range g.rows {
		size += len(r.prompt) + len(r.messages) + len(r.answer) + len(r.response) + len(r.extra) + 256
	}
	limit := p.file.MaxRecordBytes
	if limit == 0 {
		limit = stage.MaxRecordBytes
	}
	if len(p.held) > 0 && p.size+size > limit {
		if err := p.flush(); err != nil {
			return err
		}
	}
	p.held = append(p.held, g)
	p.size += size
	if len(p.held) < p.w.PerRecord {
		return nil
	}
	return p.flush()
}

func (p *packer) flush() error {
	if len(p.held) == 0 {
		return nil
	}
	b, err := p.file.batch(p.w, p.held)
	p.held, p.size = nil, 0
	if err != nil {
		return err
	}
	parts, dead, err := stage.Split(b, "prompts", p.file.MaxRecordBytes)
	if err != nil {
		return err
	}
	p.tooLarge = append(p.tooLarge, dead...)
	for _, part := range parts {
		p.rows += part.NumRows()
		if err := p.emit(part); err != nil {
			return err
		}
	}
	return nil
}

// batch makes a record of groups.
func (f File) batch(w Window, groups []group) (stage.Batch, error) {
	var ids, responseIDs []uuid.UUID
	var prompts, messages, answers, sources, difficulties, extras, responses, finish []string
	var hasMessages, hasAnswer, graded, hasExtra, hasOutcome []bool
	var samples, firstErrors []int32
	var stepBytes [][]int32
	var outcomes []float32
	for _, g := range groups {
		for k, r := range g.rows {
			ids, prompts, sources = append(ids, g.id), append(prompts, r.prompt), append(sources, f.name())
			difficulties, graded = append(difficulties, r.difficulty), append(graded, f.Fields.Difficulty != "")
			messages, hasMessages = append(messages, r.messages), append(hasMessages, r.messages != "")
			answers, hasAnswer = append(answers, r.answer), append(hasAnswer, r.hasAnswer)
			extras, hasExtra = append(extras, r.extra), append(hasExtra, r.hasExtra)
			responseIDs = append(responseIDs, uuid.NewSHA1(g.id, fmt.Appendf(nil, "file/%d/%s", k, r.response)))
			responses, finish, samples = append(responses, r.response), append(finish, "unknown"), append(samples, int32(k))
			outcomes, hasOutcome = append(outcomes, r.outcome), append(hasOutcome, r.hasOutcome)
			firstErrors, stepBytes = append(firstErrors, r.firstError), append(stepBytes, r.stepBytes)
		}
	}
	cols := []schemas.Filled{schemas.PromptID.From(ids), schemas.Prompt.From(prompts),
		schemas.Messages.From(messages, hasMessages...), schemas.Answer.From(answers, hasAnswer...), schemas.Source.From(sources),
		schemas.Difficulty.From(difficulties, graded...), schemas.Extra.From(extras, hasExtra...)}
	if f.Fields.responses() {
		cols = append(cols, schemas.ResponseID.From(responseIDs), schemas.Sample.From(samples), schemas.Response.From(responses),
			schemas.FinishReason.From(finish))
	}
	if f.Fields.outcomes() {
		cols = append(cols, schemas.Outcome.From(outcomes, hasOutcome...))
	}
	if f.Fields.steps() {
		cols = append(cols, schemas.FirstError.From(firstErrors), schemas.StepBytes.FromRows(stepBytes))
	}
	return schemas.NewRecord(w.Meta, cols...)
}

// letters gathers dead letters of bad rows and emits them in batches of bounded size.
type letters struct {
	meta    schemas.Meta
	limit   int
	emit    func(stage.Batch) error
	held    []stage.Letter
	size    int
	bad     int // rows of the file, without those of groups that were too large
	reasons map[schemas.Reason]int
}

func (l *letters) add(file string, row rawRow, err error) error {
	reason := schemas.ReasonUnreadable
	var re *rowError
	if errors.As(err, &re) {
		reason = re.reason
	}
	raw, recErr := schemas.NewRecord(l.meta, schemas.DeadRaw.From([][]byte{row.raw()}))
	if recErr != nil {
		return recErr
	}
	encoded, recErr := raw.MarshalBinary()
	if recErr != nil {
		return recErr
	}
	where := fmt.Sprintf("%s:%d", file, row.number)
	l.bad++
	return l.letter(stage.Letter{Stage: "prompts", Reason: reason, Message: where + ": " + err.Error(), RowID: where, Attempts: 1,
		Row: encoded})
}

func (l *letters) letter(d stage.Letter) error {
	l.reasons[d.Reason]++
	l.held = append(l.held, d)
	l.size += len(d.Row)
	if len(l.held) < 1000 && l.size < 1<<20 {
		return nil
	}
	return l.flush()
}

func (l *letters) flush() error {
	if len(l.held) == 0 {
		return nil
	}
	b, err := stage.Letters(l.meta, l.held)
	if err != nil {
		return err
	}
	l.held, l.size = nil, 0
	return l.emit(b)
}

// Paths is the file.
func (f File) Paths(context.Context) ([]string, error) { return []string{f.Path}, nil }
