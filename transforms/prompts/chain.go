package prompts

import (
	"cmp"
	"strconv"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

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
	Filler    int    `json:"filler,omitempty" range:"[0,9]" doc:"lines after each step that repeat its result and decide nothing"`
}

func init() { Register("chain", Chain{}) }

func (c Chain) kind() string { return "chain" }

func (c Chain) name() string { return cmp.Or(c.Name, "chain") }

func (c Chain) difficulty(string) (lo, hi int) {
	return cmp.Or(c.MinSteps, provingground.UsualMinSteps), cmp.Or(c.MaxSteps, provingground.UsualMaxSteps)
}

func (c Chain) written() (string, int) { return c.Responses, max(1, c.PerPrompt) }

// draw draws a chain; splits differ in their draws alone.
func (c Chain) draw(u func() float64, split string) (problem, error) {
	lo, hi := c.difficulty(split)
	chain := provingground.DrawSteps(u, lo, hi)
	chain.Filler = c.Filler
	return problem{chain.Prompt(), strconv.Itoa(chain.Answer()), len(chain.Steps), func(u func() float64, responses string) string {
		switch responses {
		case "corpus":
			return chain.Write(u)
		case "corrupted":
			return chain.Corrupt(u)
		}
		return chain.Right()
	}}, nil
}

// Validate names the first key that does not go with the others.
func (c Chain) Validate() error {
	lo, hi := c.difficulty("")
	switch {
	case lo < 1 || hi > provingground.MaxSteps || lo > hi:
		return setting.Errorf("min_steps", "chains of %d to %d operations; want 1 <= min_steps <= max_steps <= %d", lo, hi,
			provingground.MaxSteps)
	}
	return checkTask(c.Name, c.Responses, c.PerPrompt)
}

// MostResponses is how many it writes to a prompt, at least 1.
func (c Chain) MostResponses() int { return max(1, c.PerPrompt) }

// Columns are those of its rows.
func (c Chain) Columns() []schemas.Descriptor { return taskColumns(c.Responses) }

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

// Corruptions are the kinds of corrupted chains.
func (c Chain) Corruptions() []string { return []string{"corrupted"} }

// Corrupted writes a corrupted chain to every prompt.
func (c Chain) Corrupted(kind string) Source {
	c.Responses, c.PerPrompt = kind, 0
	return c
}

// Read draws the window's prompts.
func (c Chain) Read(s beam.Scope, w Window) (prompts, dead stage.Rows) { return generate(s, c, w) }
