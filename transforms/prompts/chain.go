package prompts

import (
	"cmp"
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
	"github.com/millrace/millrace/transforms/provingground"
	"github.com/millrace/millrace/transforms/stage"
)

// Chain configures the proving ground's generator.
type Chain struct {
	Responses string `json:"responses" enum:",corpus,corrupted,right" doc:"writes a response to every prompt: corpus (with the learned mistakes), corrupted (right but for one uniformly wrong digit in half of them), right; empty: none"`
	PerPrompt int    `json:"per_prompt" range:"[0,inf)" doc:"responses to a prompt; 0: one"`
	Name      string `json:"name,omitempty" doc:"the prompts' source, part of their ids; empty: chain"`
	MinSteps  int    `json:"min_steps,omitempty" range:"[0,inf)" doc:"fewest operations of a chain, its difficulty; 0: 3"`
	MaxSteps  int    `json:"max_steps,omitempty" range:"[0,inf)" doc:"most operations of a chain; 0: 6"`
}

func (c Chain) name() string { return cmp.Or(c.Name, "chain") }

func (c Chain) steps() (lo, hi int) {
	return cmp.Or(c.MinSteps, provingground.UsualMinSteps), cmp.Or(c.MaxSteps, provingground.UsualMaxSteps)
}

// difficulties of a chain, as the column has them.
func (c Chain) difficulties() (out []string) {
	lo, hi := c.steps()
	for k := lo; k <= hi; k++ {
		out = append(out, strconv.Itoa(k))
	}
	return out
}

// Validate names the first key that does not go with the others.
func (c Chain) Validate() error {
	lo, hi := c.steps()
	switch {
	case lo < 1 || hi > provingground.MaxSteps || lo > hi:
		return setting.Errorf("min_steps", "chains of %d to %d operations; want 1 <= min_steps <= max_steps <= %d", lo, hi,
			provingground.MaxSteps)
	case strings.Contains(c.Name, "/"):
		return setting.Errorf("name", "%q has a slash, which parts the name from split and number", c.Name)
	case c.PerPrompt > 0 && c.Responses == "":
		return setting.Errorf("per_prompt", "%d responses to a prompt, and responses says that none is written", c.PerPrompt)
	}
	return nil
}

// MostResponses is how many it writes to a prompt, at least 1.
func (c Chain) MostResponses() int { return max(1, c.PerPrompt) }

// Columns are those of its rows.
func (c Chain) Columns() []schemas.Descriptor {
	out := []schemas.Descriptor{schemas.PromptID, schemas.Prompt, schemas.Answer, schemas.Source, schemas.Difficulty, schemas.Extra}
	if c.Responses != "" {
		out = append(out, schemas.ResponseID, schemas.Sample, schemas.Response, schemas.FinishReason)
	}
	return out
}

// PromptsOnly writes no responses.
func (c Chain) PromptsOnly() Source {
	c.Responses, c.PerPrompt = "", 0
	return c
}

// Named is the generator under another name.
func (c Chain) Named(name string) Source {
	c.Name = name
	return c
}

func init() {
	Register("chain", Chain{})
	beam.RegisterDoFn(&chainFn{})
	register.Emitter1[stage.Batch]()
}

// Read draws the window's prompts.
func (c Chain) Read(s beam.Scope, w Window) (prompts, dead stage.Rows) {
	var starts []int
	for at := 0; at < w.Count; at += w.PerRecord {
		starts = append(starts, at)
	}
	known := schemas.Known{}
	for _, d := range c.Columns() {
		known.Columns = append(known.Columns, d.Describe())
	}
	drawn := beam.ParDo(s, &chainFn{Chain: c, Window: w}, beam.CreateList(s, starts))
	return stage.Rows{PCollection: drawn, Known: &known, MaxRecordBytes: w.MaxRecordBytes}, stage.Rows{} // a generator has no bad rows
}

// chainFn draws the prompts of one record.
type chainFn struct {
	Chain  Chain
	Window Window
	levels *levels
}

// Setup reads the history that a curriculum goes by.
func (f *chainFn) Setup(ctx context.Context) error {
	curriculum := f.Window.Curriculum
	if curriculum == nil || f.Window.History == "" {
		return nil
	}
	h, err := readHistory(ctx, f.Window.History)
	if err == nil {
		f.levels = curriculum.levels(h, f.Chain.name(), f.Chain.difficulties())
	}
	return err
}

// ProcessElement draws prompts start to start + PerRecord of the window.
func (f *chainFn) ProcessElement(_ context.Context, start int, emit func(stage.Batch)) error {
	b, err := f.Chain.draw(f.Window, f.levels, start, min(start+f.Window.PerRecord, f.Window.Count))
	if err != nil {
		return err
	}
	emit(b)
	return nil
}

// draw makes prompts lo to hi of the window. Prompt i of a split is the same in every run of a seed.
func (c Chain) draw(w Window, accepted *levels, lo, hi int) (stage.Batch, error) {
	var ids, responseIDs []uuid.UUID
	var prompts, answers, sources, difficulties, extras, responses, finish []string
	var samples []int32
	per := 1
	if c.Responses != "" {
		per = max(1, c.PerPrompt)
	}
	for i := lo; i < hi; i++ {
		index := w.First + w.Drawn + i
		key := keyed.New(w.Seed).WithBytes(uuid.NewSHA1(uuid.NameSpaceOID, []byte(c.name()+"/"+w.Split))).With(uint64(index))
		chain := drawChain(c, key, accepted)
		source := fmt.Sprintf("%s/%s/%d", c.name(), w.Split, index) // two draws of one prompt are two prompts
		prompt, answer := chain.Prompt(), fmt.Sprint(chain.Answer())
		id := PromptID(prompt, answer, source)
		extra, err := json.Marshal(map[string]int{"steps": len(chain.Steps)})
		if err != nil {
			return stage.Batch{}, err
		}
		for k := range per {
			ids, prompts, answers = append(ids, id), append(prompts, prompt), append(answers, answer)
			sources, extras = append(sources, source), append(extras, string(extra))
			difficulties = append(difficulties, strconv.Itoa(len(chain.Steps)))
			if c.Responses == "" {
				continue
			}
			u := uniform(key.With(1 + uint64(k)))
			text := map[string]func(provingground.Uniform) string{
				"corpus": chain.Write, "corrupted": chain.Corrupt, "right": func(provingground.Uniform) string { return chain.Right() },
			}[c.Responses](u)
			responseIDs = append(responseIDs, uuid.NewSHA1(id, []byte(fmt.Sprintf("%s/%d", c.Responses, k))))
			responses, samples, finish = append(responses, text), append(samples, int32(k)), append(finish, "stop")
		}
	}
	cols := []schemas.Filled{schemas.PromptID.From(ids), schemas.Prompt.From(prompts), schemas.Answer.From(answers),
		schemas.Source.From(sources), schemas.Difficulty.From(difficulties), schemas.Extra.From(extras)}
	if c.Responses != "" {
		cols = append(cols, schemas.ResponseID.From(responseIDs), schemas.Sample.From(samples),
			schemas.Response.From(responses), schemas.FinishReason.From(finish))
	}
	return schemas.NewRecord(w.Meta, cols...)
}

// drawChain draws a prompt, again where the curriculum does not accept its difficulty.
func drawChain(c Chain, key keyed.Key, accepted *levels) provingground.Chain {
	lo, hi := c.steps()
	out := provingground.DrawSteps(uniform(key.With(0)), lo, hi)
	for try := uint64(0); try < maxRejected; try++ {
		own := key.With(curriculumKey).With(try)
		if accepted.accept(strconv.Itoa(len(out.Steps)), own.Uniform()) {
			break
		}
		out = provingground.DrawSteps(uniform(own), lo, hi)
	}
	return out
}

// uniform gives the numbers of a key one after the other.
func uniform(key keyed.Key) provingground.Uniform {
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
