package prompts

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

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
}

var chainResponses = []string{"", "corpus", "corrupted", "right"}

func validateChain(c Config) error {
	switch {
	case !slices.Contains(chainResponses, c.Chain.Responses):
		return fmt.Errorf("chain.responses: %q is not one of %q", c.Chain.Responses, chainResponses)
	case c.Chain.PerPrompt < 0 || c.Chain.PerPrompt > 0 && c.Chain.Responses == "":
		return fmt.Errorf("chain.per_prompt: %d; want at least 0, and none without chain.responses", c.Chain.PerPrompt)
	}
	return nil
}

func chainColumns(c Config) []schemas.Descriptor {
	out := []schemas.Descriptor{schemas.PromptID, schemas.Prompt, schemas.Answer, schemas.Source, schemas.Extra}
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
	stage.Describe(prompts, stage.Description{Known: &known})
	return prompts, beam.PCollection{} // a generator has no bad rows
}

// chainFn draws the prompts of one record.
type chainFn struct {
	Config Config
	Window Window
}

// ProcessElement draws prompts start to start + PerRecord of the window.
func (f *chainFn) ProcessElement(_ context.Context, start int, emit func(stage.Batch)) error {
	b, err := drawChains(f.Config, f.Window, start, min(start+f.Config.PerRecord, f.Window.Count))
	if err != nil {
		return err
	}
	emit(b)
	return nil
}

// drawChains makes prompts lo to hi of the window. Prompt i of a split is the same in every run of a seed.
func drawChains(c Config, w Window, lo, hi int) (stage.Batch, error) {
	var ids, responseIDs []uuid.UUID
	var prompts, answers, sources, extras, responses, finish []string
	var samples []int32
	per := 1
	if c.Chain.Responses != "" {
		per = max(1, c.Chain.PerPrompt)
	}
	for i := lo; i < hi; i++ {
		index := w.First + i
		key := keyed.New(w.Seed).WithBytes(uuid.NewSHA1(uuid.NameSpaceOID, []byte("chain/"+c.Split))).With(uint64(index))
		chain := provingground.Draw(uniform(key.With(0)))
		source := fmt.Sprintf("chain/%s/%d", c.Split, index) // two draws of one prompt are two prompts
		prompt, answer := chain.Prompt(), fmt.Sprint(chain.Answer())
		id := PromptID(prompt, answer, source)
		extra, err := json.Marshal(map[string]int{"steps": len(chain.Steps)})
		if err != nil {
			return stage.Batch{}, err
		}
		for k := range per {
			ids, prompts, answers = append(ids, id), append(prompts, prompt), append(answers, answer)
			sources, extras = append(sources, source), append(extras, string(extra))
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
		schemas.Source.From(sources), schemas.Extra.From(extras)}
	if c.Chain.Responses != "" {
		cols = append(cols, schemas.ResponseID.From(responseIDs), schemas.Sample.From(samples),
			schemas.Response.From(responses), schemas.FinishReason.From(finish))
	}
	return schemas.NewRecord(w.Meta, cols...)
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
