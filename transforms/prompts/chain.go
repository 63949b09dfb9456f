package prompts

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/google/uuid"

	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/provingground"
	"github.com/millrace/millrace/transforms/stage"
)

// Chain configures the proving ground's generator.
type Chain struct {
	// Responses writes a response to every prompt: corpus (with the learned mistakes), corrupted (right but for one
	// uniformly wrong digit in half of them), right; "" none.
	Responses string `json:"responses"`
	// PerPrompt is the number of responses to a prompt, 0 meaning 1.
	PerPrompt int `json:"per_prompt"`
	// Name is the prompts' source, part of their ids; "": chain.
	Name string `json:"name,omitempty"`
	// MinSteps and MaxSteps bound the operations of a chain, its difficulty; 0: 3 and 6.
	MinSteps int `json:"min_steps,omitempty"`
	MaxSteps int `json:"max_steps,omitempty"`
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

var chainResponses = []string{"", "corpus", "corrupted", "right"}

func validateChain(c Config) error {
	lo, hi := c.Chain.steps()
	switch {
	case lo < 1 || hi > provingground.MaxSteps || lo > hi:
		return fmt.Errorf("chain.min_steps: chains of %d to %d operations; want 1 <= min_steps <= max_steps <= %d", lo, hi, provingground.MaxSteps)
	case strings.Contains(c.Chain.Name, "/"):
		return fmt.Errorf("chain.name: %q has a slash, which parts the name from split and number", c.Chain.Name)
	case !slices.Contains(chainResponses, c.Chain.Responses):
		return fmt.Errorf("chain.responses: %q is not one of %q", c.Chain.Responses, chainResponses)
	case c.Chain.PerPrompt < 0 || c.Chain.PerPrompt > 0 && c.Chain.Responses == "":
		return fmt.Errorf("chain.per_prompt: %d; want at least 0, and none without chain.responses", c.Chain.PerPrompt)
	}
	return nil
}

func chainColumns(c Config) []schemas.Descriptor {
	out := []schemas.Descriptor{schemas.PromptID, schemas.Prompt, schemas.Answer, schemas.Source, schemas.Difficulty, schemas.Extra}
	if c.Chain.Responses != "" {
		out = append(out, schemas.ResponseID, schemas.Sample, schemas.Response, schemas.FinishReason)
	}
	return out
}

func init() {
	beam.RegisterDoFn(&chainFn{})
	register.Emitter1[stage.Batch]()
}

func readChain(s beam.Scope, c Config, w Window) (prompts, dead beam.PCollection) {
	var starts []int
	for at := 0; at < w.Count; at += c.PerRecord {
		starts = append(starts, at)
	}
	prompts = beam.ParDo(s, &chainFn{Config: c, Window: w}, beam.CreateList(s, starts))
	known := schemas.Known{}
	for _, d := range chainColumns(c) {
		known.Columns = append(known.Columns, d.Describe())
	}
	stage.Describe(prompts, stage.Description{Known: &known, MaxRecordBytes: w.MaxRecordBytes})
	return prompts, beam.PCollection{} // a generator has no bad rows
}

// chainFn draws the prompts of one record.
type chainFn struct {
	Config Config
	Window Window
	levels *levels
}

// Setup reads the history that a curriculum goes by.
func (f *chainFn) Setup(ctx context.Context) error {
	c := f.Config
	if c.Curriculum == nil || f.Window.History == "" {
		return nil
	}
	h, err := readHistory(ctx, f.Window.History)
	if err == nil {
		f.levels = c.Curriculum.levels(h, c.Chain.name(), c.Chain.difficulties())
	}
	return err
}

// ProcessElement draws prompts start to start + PerRecord of the window.
func (f *chainFn) ProcessElement(_ context.Context, start int, emit func(stage.Batch)) error {
	b, err := drawChains(f.Config, f.Window, f.levels, start, min(start+f.Config.PerRecord, f.Window.Count))
	if err != nil {
		return err
	}
	emit(b)
	return nil
}

// drawChains makes prompts lo to hi of the window. Prompt i of a split is the same in every run of a seed.
func drawChains(c Config, w Window, accepted *levels, lo, hi int) (stage.Batch, error) {
	var ids, responseIDs []uuid.UUID
	var prompts, answers, sources, difficulties, extras, responses, finish []string
	var samples []int32
	per := 1
	if c.Chain.Responses != "" {
		per = max(1, c.Chain.PerPrompt)
	}
	for i := lo; i < hi; i++ {
		index := w.First + w.Drawn + i
		key := keyed.New(w.Seed).WithBytes(uuid.NewSHA1(uuid.NameSpaceOID, []byte(c.Chain.name()+"/"+c.Split))).With(uint64(index))
		chain := drawChain(c.Chain, key, accepted)
		source := fmt.Sprintf("%s/%s/%d", c.Chain.name(), c.Split, index) // two draws of one prompt are two prompts
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
			if c.Chain.Responses == "" {
				continue
			}
			u := uniform(key.With(1 + uint64(k)))
			text := map[string]func(provingground.Uniform) string{
				"corpus": chain.Write, "corrupted": chain.Corrupt, "right": func(provingground.Uniform) string { return chain.Right() },
			}[c.Chain.Responses](u)
			responseIDs = append(responseIDs, uuid.NewSHA1(id, []byte(fmt.Sprintf("%s/%d", c.Chain.Responses, k))))
			responses, samples, finish = append(responses, text), append(samples, int32(k)), append(finish, "stop")
		}
	}
	cols := []schemas.Filled{schemas.PromptID.From(ids), schemas.Prompt.From(prompts), schemas.Answer.From(answers),
		schemas.Source.From(sources), schemas.Difficulty.From(difficulties), schemas.Extra.From(extras)}
	if c.Chain.Responses != "" {
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
