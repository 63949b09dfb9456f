package prompts

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/textchains"
)

// TextChains configures the generator of word problems and sums in plain English.
type TextChains struct {
	Responses  string `json:"responses" enum:",right,unlikely,likely" doc:"writes a solution to every prompt: right; unlikely (in half of them one result is a random wrong number); likely (in half of them one result is a plausible slip); empty: none"`
	PerPrompt  int    `json:"per_prompt" range:"[0,inf)" doc:"responses to a prompt; 0: one"`
	Name       string `json:"name,omitempty" doc:"the prompts' source, part of their ids; empty: text_chains"`
	MinSteps   int    `json:"min_steps" range:"[1,6]" doc:"fewest steps of a problem, its difficulty"`
	MaxSteps   int    `json:"max_steps" range:"[1,6]" doc:"most steps of a problem; split longer has one more"`
	Digits     int    `json:"digits" range:"[1,3]" doc:"digits of a number of the prompt at most, results having three; a number is multiplied by one digit"`
	Operations string `json:"operations" doc:"which of + - * the steps are, such as +-"`
}

func init() {
	Register(textChains, TextChains{MinSteps: 2, MaxSteps: 3, Digits: 2, Operations: textchains.Operations})
}

const textChains = "text_chains"

func (c TextChains) kind() string { return textChains }

func (c TextChains) name() string { return cmp.Or(c.Name, textChains) }

func (c TextChains) difficulty(split string) (lo, hi int) {
	if split == textchains.LongerSplit {
		return c.MaxSteps + 1, c.MaxSteps + 1
	}
	return c.MinSteps, c.MaxSteps
}

// Difficulty is how difficult its problems are.
func (c TextChains) Difficulty() textchains.Difficulty {
	return textchains.Difficulty{MinSteps: c.MinSteps, MaxSteps: c.MaxSteps, Digits: c.Digits, Operations: c.Operations}
}

func (c TextChains) written() (string, int) { return c.Responses, max(1, c.PerPrompt) }

func (c TextChains) draw(u func() float64, split string) (problem, error) {
	chain, err := textchains.Draw(u, c.Difficulty(), split)
	if err != nil {
		return problem{}, err
	}
	return problem{chain.Prompt(), strconv.Itoa(chain.Answer()), len(chain.Steps), func(u func() float64, responses string) string {
		if responses == "right" {
			return chain.Right()
		}
		return chain.Corrupt(u, responses)
	}}, nil
}

// Validate names the first key that does not go with the others.
func (c TextChains) Validate() error {
	for i, op := range c.Operations {
		if !strings.ContainsRune(textchains.Operations, op) || strings.IndexRune(c.Operations, op) != i {
			return setting.Errorf("operations", "%q; want some of %s, each once", c.Operations, textchains.Operations)
		}
	}
	switch {
	case c.Operations == "":
		return setting.Errorf("operations", "is empty; want some of %s", textchains.Operations)
	case c.MinSteps > c.MaxSteps:
		return setting.Errorf("min_steps", "%d is more than max_steps = %d", c.MinSteps, c.MaxSteps)
	case c.MaxSteps > c.Difficulty().Most():
		return setting.Errorf("max_steps", "%d steps of %s alone with numbers of %d digits; there are at most %d", c.MaxSteps, c.Operations,
			c.Digits, c.Difficulty().Most())
	}
	return checkTask(c.Name, c.Responses, c.PerPrompt)
}

// CheckSplit knows the splits of the task.
func (c TextChains) CheckSplit(split string) error {
	if !slices.Contains(textchains.Splits(), split) {
		return setting.Errorf("split", "%q is not one of %s", split, strings.Join(textchains.Splits(), ", "))
	}
	if most := c.Difficulty().Most(); split == textchains.LongerSplit && c.MaxSteps >= most {
		return setting.Errorf("split", "%s has one step more than max_steps = %d, and there are at most %d", split, c.MaxSteps, most)
	}
	return nil
}

// MostResponses is how many it writes to a prompt, at least 1.
func (c TextChains) MostResponses() int { return max(1, c.PerPrompt) }

// Columns are those of its rows.
func (c TextChains) Columns() []schemas.Descriptor { return taskColumns(c.Responses) }

// PromptsOnly writes no responses.
func (c TextChains) PromptsOnly() Source {
	c.Responses, c.PerPrompt = "", 0
	return c
}

// Named is the generator under another name.
func (c TextChains) Named(name string) Source {
	c.Name = name
	return c
}

// Corruptions are the levels of errors.
func (c TextChains) Corruptions() []string { return []string{textchains.Unlikely, textchains.Likely} }

// Corrupted writes a corrupted solution to every prompt.
func (c TextChains) Corrupted(kind string) Source {
	c.Responses, c.PerPrompt = kind, 0
	return c
}

// Read draws the window's prompts.
func (c TextChains) Read(s beam.Scope, w Window) (prompts, dead stage.Rows) { return generate(s, c, w) }
