package prompts

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/google/uuid"

	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
)

// task is a Generator of problems that are solved step by step. Prompt i of a split is the same in every run of a seed.
type task interface {
	Source
	// kind is the name that it is registered under.
	kind() string
	// name is the source of its prompts.
	name() string
	// difficulty is the fewest and the most steps of its problems in a split.
	difficulty(split string) (lo, hi int)
	// written says which responses are written, "" for none, and how many to a prompt.
	written() (responses string, per int)
	// draw draws a problem of a split.
	draw(u func() float64, split string) (problem, error)
}

// problem is what a task draws.
type problem struct {
	prompt, answer string
	steps          int
	write          func(u func() float64, responses string) string // a response
}

// checkTask checks the settings that tasks share.
func checkTask(name, responses string, perPrompt int) error {
	switch {
	case strings.Contains(name, "/"):
		return setting.Errorf("name", "%q has a slash, which parts the name from split and number", name)
	case perPrompt > 0 && responses == "":
		return setting.Errorf("per_prompt", "%d responses to a prompt, and responses says that none is written", perPrompt)
	}
	return nil
}

// taskColumns are those of a task's rows.
func taskColumns(responses string) []schemas.Descriptor {
	out := []schemas.Descriptor{schemas.PromptID, schemas.Prompt, schemas.Answer, schemas.Source, schemas.Difficulty, schemas.Extra}
	if responses != "" {
		out = append(out, schemas.ResponseID, schemas.Sample, schemas.Response, schemas.FinishReason)
	}
	return out
}

func init() {
	beam.RegisterDoFn(&generateFn{})
	register.Emitter1[stage.Batch]()
}

// generate draws the window's problems.
func generate(s beam.Scope, t task, w Window) (prompts, dead stage.Rows) {
	var starts []int
	for at := 0; at < w.Count; at += w.PerRecord {
		starts = append(starts, at)
	}
	known := schemas.Known{}
	for _, d := range t.Columns() {
		known.Columns = append(known.Columns, d.Describe())
	}
	drawn := beam.ParDo(s, &generateFn{Task: New(t.kind(), t), Window: w}, beam.CreateList(s, starts))
	return stage.Rows{PCollection: drawn, Known: &known, MaxRecordBytes: w.MaxRecordBytes}, stage.Rows{} // a generator has no bad rows
}

// generateFn draws the problems of one record.
type generateFn struct {
	Task   Config // whose source is the task
	Window Window
	levels *levels
}

// Setup reads the history that a curriculum goes by.
func (f *generateFn) Setup(ctx context.Context) error {
	curriculum := f.Window.Curriculum
	if curriculum == nil || f.Window.History == "" {
		return nil
	}
	h, err := readHistory(ctx, f.Window.History)
	if err == nil {
		t := f.Task.Of.(task)
		f.levels = curriculum.levels(h, t.name(), difficulties(t, f.Window.Split))
	}
	return err
}

// difficulties of a task's problems, as the column has them.
func difficulties(t task, split string) (out []string) {
	lo, hi := t.difficulty(split)
	for k := lo; k <= hi; k++ {
		out = append(out, strconv.Itoa(k))
	}
	return out
}

// ProcessElement draws problems start to start + PerRecord of the window.
func (f *generateFn) ProcessElement(_ context.Context, start int, emit func(stage.Batch)) error {
	b, err := drawRows(f.Task.Of.(task), f.Window, f.levels, start, min(start+f.Window.PerRecord, f.Window.Count))
	if err != nil {
		return err
	}
	emit(b)
	return nil
}

// drawRows makes the rows of problems lo to hi of the window.
func drawRows(t task, w Window, accepted *levels, lo, hi int) (stage.Batch, error) {
	var ids, responseIDs []uuid.UUID
	var prompts, answers, sources, difficulties, extras, responses, finish []string
	var samples []int32
	written, per := t.written()
	for i := lo; i < hi; i++ {
		index := w.First + w.Drawn + i
		key := keyed.New(w.Seed).WithBytes(uuid.NewSHA1(uuid.NameSpaceOID, []byte(t.name()+"/"+w.Split))).With(uint64(index))
		p, err := drawProblem(t, key, w.Split, accepted)
		if err != nil {
			return stage.Batch{}, fmt.Errorf("source %s: %w", t.kind(), err)
		}
		source := fmt.Sprintf("%s/%s/%d", t.name(), w.Split, index) // two draws of one prompt are two prompts
		id := PromptID(p.prompt, p.answer, source)
		extra, err := json.Marshal(map[string]int{"steps": p.steps})
		if err != nil {
			return stage.Batch{}, err
		}
		for k := range per {
			ids, prompts, answers = append(ids, id), append(prompts, p.prompt), append(answers, p.answer)
			sources, extras = append(sources, source), append(extras, string(extra))
			difficulties = append(difficulties, strconv.Itoa(p.steps))
			if written == "" {
				continue
			}
			responseIDs = append(responseIDs, uuid.NewSHA1(id, []byte(fmt.Sprintf("%s/%d", written, k))))
			responses, samples = append(responses, p.write(uniform(key.With(1+uint64(k))), written)), append(samples, int32(k))
			finish = append(finish, "stop")
		}
	}
	cols := []schemas.Filled{schemas.PromptID.From(ids), schemas.Prompt.From(prompts), schemas.Answer.From(answers),
		schemas.Source.From(sources), schemas.Difficulty.From(difficulties), schemas.Extra.From(extras)}
	if written != "" {
		cols = append(cols, schemas.ResponseID.From(responseIDs), schemas.Sample.From(samples),
			schemas.Response.From(responses), schemas.FinishReason.From(finish))
	}
	return schemas.NewRecord(w.Meta, cols...)
}

// drawnExamples is how many problems of a task are looked at.
const drawnExamples = 16

// examplesOf draws some problems of a task, with the responses that it writes to them.
func examplesOf(t task) (Findings, error) {
	out := Findings{Source: t.name(), Drawn: true}
	b, err := drawRows(t, Window{Split: "train"}, nil, 0, drawnExamples)
	if err != nil {
		return out, err
	}
	prompts := schemas.Prompt.Of(b)
	written, per := t.written()
	for i := 0; i < b.NumRows(); i += per {
		x := Example{Prompt: prompts.At(i)}
		for k := i; written != "" && k < i+per; k++ {
			x.Responses = append(x.Responses, schemas.Response.Of(b).At(k))
		}
		out.Examples = append(out.Examples, x)
	}
	return out, nil
}

// drawProblem draws a problem, again where the curriculum does not accept its difficulty.
func drawProblem(t task, key keyed.Key, split string, accepted *levels) (problem, error) {
	out, err := t.draw(uniform(key.With(0)), split)
	for try := uint64(0); err == nil && try < maxRejected; try++ {
		own := key.With(curriculumKey).With(try)
		if accepted.accept(strconv.Itoa(out.steps), own.Uniform()) {
			break
		}
		out, err = t.draw(uniform(own), split)
	}
	return out, err
}

// uniform gives the numbers of a key one after the other.
func uniform(key keyed.Key) func() float64 {
	n := uint64(0)
	return func() float64 {
		n++
		return key.With(n).Uniform()
	}
}

// promptSpace is the namespace of prompt ids.
var promptSpace = uuid.NewSHA1(uuid.NameSpaceOID, []byte("millrace/prompt"))

// PromptID is the uuid v5 of prompt, answer and source.
func PromptID(prompt, answer, source string) uuid.UUID {
	raw, err := json.Marshal([]string{prompt, answer, source}) // an encoding in which no two triples look alike
	if err != nil {
		panic(err) // strings always encode
	}
	return uuid.NewSHA1(promptSpace, raw)
}
