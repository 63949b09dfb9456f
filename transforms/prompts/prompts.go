// Package prompts brings prompts into a pipeline: PCollection<Batch> of one row a prompt, with prompt_id, prompt, answer,
// source and extra. A source is one file of this package and a line in the table below.
package prompts

import (
	"fmt"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/schemas"
)

// Config names a source of prompts and what to take of it.
type Config struct {
	Source string `json:"source"` // chain, or another name of Sources
	Split  string `json:"split"`  // which of a source's disjoint parts, such as train or test
	Count  int    `json:"count"`  // prompts an iteration
	// PerRecord is the number of prompts that travel together; results do not depend on it.
	PerRecord int `json:"per_record"`

	Chain Chain `json:"chain"`
	File  File  `json:"file"`
	// Mixture are the parts of source mixture.
	Mixture    []Part      `json:"mixture,omitempty"`
	Curriculum *Curriculum `json:"curriculum,omitempty"`
}

// Window is the part of a source one iteration takes: Count prompts from First on, in the order that Seed gives.
type Window struct {
	Seed  uint64
	First int
	// Drawn is the number of prompts from First on that the same iteration has taken before; the window is the Count that
	// follow them, without any that are among them.
	Drawn int
	Count int
	Meta  schemas.Meta
	// MaxRecordBytes bounds the rows of a prompt; 0: 8 MiB.
	MaxRecordBytes int
	// History is the file that a curriculum goes by, "" without one.
	History string
}

// Default takes 16 prompts an iteration of the proving ground's training split.
func Default() Config {
	return Config{Source: "chain", Split: "train", Count: 16, PerRecord: 16}
}

type source struct {
	read     func(s beam.Scope, c Config, w Window) (prompts, dead beam.PCollection)
	validate func(Config) error
	adds     func(Config) []schemas.Descriptor
}

var sources = map[string]source{
	"chain": {readChain, validateChain, chainColumns},
	"file":  {readFile, validateFile, fileColumns},
}

// Sources lists the names a Config can choose from.
func Sources() []string {
	names := make([]string, 0, len(sources))
	for name := range sources {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Validate names the first key that is wrong.
func (c Config) Validate() error {
	src, ok := sources[c.Source]
	switch {
	case !ok:
		return fmt.Errorf("source: %q is not one of %s", c.Source, strings.Join(Sources(), ", "))
	case c.Split == "":
		return fmt.Errorf("split: is empty; name a part of the source, such as train")
	case c.Count < 1:
		return fmt.Errorf("count: %d is not at least 1", c.Count)
	case c.PerRecord < 1:
		return fmt.Errorf("per_record: %d is not at least 1", c.PerRecord)
	case c.Source != mixtureSource && len(c.Mixture) > 0:
		return fmt.Errorf("mixture: belongs to source %s, not to %s", mixtureSource, c.Source)
	}
	if c.Curriculum != nil {
		if err := c.Curriculum.Validate(); err != nil {
			return fmt.Errorf("curriculum.%w", err)
		}
	}
	return src.validate(c)
}

// Contract says which columns the source brings.
func (c Config) Contract() schemas.Contract {
	return schemas.Contract{Name: "prompts", Adds: sources[c.Source].adds(c)}
}

// Generates reports whether all prompts come of a generator, which never ends.
func (c Config) Generates() bool {
	for _, p := range c.Mixture {
		if !c.generates(p.Name) {
			return false
		}
	}
	return len(c.Mixture) > 0 || c.generates("")
}

// PerPrompt is the most responses that a generator writes to a prompt, at least 1.
func (c Config) PerPrompt() int {
	n := max(1, c.Chain.PerPrompt)
	for _, p := range c.Mixture {
		n = max(n, p.Chain.PerPrompt)
	}
	return n
}

// WithoutResponses is the source as it brings prompts alone.
func (c Config) WithoutResponses() Config {
	bare := func(chain *Chain, file *File) {
		chain.Responses, chain.PerPrompt = "", 0
		file.Fields.PromptsOnly = file.Fields.answered()
	}
	bare(&c.Chain, &c.File)
	c.Mixture = slices.Clone(c.Mixture)
	for i := range c.Mixture {
		bare(&c.Mixture[i].Chain, &c.Mixture[i].File)
	}
	return c
}

// Read brings the window's prompts into the pipeline; rows that cannot be read are dead letters.
func Read(s beam.Scope, c Config, w Window) (prompts, dead beam.PCollection) {
	if err := c.Validate(); err != nil {
		panic("prompts: " + err.Error())
	}
	return sources[c.Source].read(s.Scope("prompts"), c, w)
}
