// Package prompts brings prompts into a pipeline: rows of one row a prompt, with prompt_id, prompt, answer,
// source and extra. A source is one file: a struct of its settings, which is the recipe's section of its name, and a Register.
package prompts

import (
	"context"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
)

// Source brings prompts. Its struct holds its settings; a method Validate checks those that depend on each other.
type Source interface {
	// Columns are those its rows have.
	Columns() []schemas.Descriptor
	// Read brings the window's prompts into a pipeline; rows that cannot be read are dead letters.
	Read(s beam.Scope, w Window) (prompts, dead stage.Rows)
}

// Optional methods of a Source.
type (
	// Splitter checks the name of a split; without it any name will do.
	Splitter interface{ CheckSplit(split string) error }
	// Answered is a source whose rows may hold responses.
	Answered interface {
		// PromptsOnly is the source as it brings prompts alone.
		PromptsOnly() Source
	}
	// Corrupter writes solutions of which half have one wrong step, to measure who finds it.
	Corrupter interface {
		// Corruptions name the kinds of errors that there are.
		Corruptions() []string
		// Corrupted is the source with a solution to every prompt, with errors of that kind.
		Corrupted(kind string) Source
	}
	// Generator makes new prompts for ever.
	Generator interface {
		// MostResponses is how many it writes to a prompt, at least 1.
		MostResponses() int
	}
	// Reader reads files, which must stay as they are while a run goes on.
	Reader interface {
		Paths(ctx context.Context) ([]string, error)
	}
	// Held is held against files of test sets, which must stay as they are too.
	Held interface {
		Tests(ctx context.Context) ([]string, error)
	}
	// Defined is a source whose rows have log-probs: it says what these are, by column.
	Defined interface {
		Defines() map[string]schemas.LogPDefinition
	}
	// Confirmed is a source whose files say themselves what their log-probs are: it holds what Defines says of a column to them.
	Confirmed interface {
		Confirm(ctx context.Context, column string) error
	}
	// Sized is a source that ends: it counts the prompts of a split.
	Sized interface {
		Size(ctx context.Context, split string) (int, error)
	}
	// Nameable can be a part of a mixture, under whose name its prompts go.
	Nameable interface{ Named(name string) Source }
)

var sources = setting.NewKinds[Source]("source of prompts", "source")

// Register makes a source known under a name, which is also that of its section in a recipe. The value holds the defaults.
func Register(name string, defaults Source) { sources.Register(name, defaults) }

// Sources lists the names a Config can choose from.
func Sources() []string { return sources.Names() }

// Config names a source of prompts and what to take of it.
type Config struct {
	Source     string
	Split      string
	Count      int
	PerRecord  int
	Curriculum *Curriculum

	// Of is the source itself, with the settings of its section.
	Of Source
}

// common are the settings that sources share, as a recipe has them.
type common struct {
	Source     string      `json:"source" doc:"where prompts come from; its settings are in the section of the same name"`
	Split      string      `json:"split" doc:"which of a source's disjoint parts, such as train or test"`
	Count      int         `json:"count" range:"[1,2147483647]" doc:"prompts an iteration"`
	PerRecord  int         `json:"per_record" range:"[1,1e6]" doc:"prompts that travel together; results do not depend on it"`
	Curriculum *Curriculum `json:"curriculum,omitempty" doc:"choose prompts by the outcomes of earlier iterations"`
}

func (c Config) shared() common {
	return common{c.Source, c.Split, c.Count, c.PerRecord, c.Curriculum}
}

// Window is the part of a source one iteration takes: Count prompts of a split from First on, in the order that Seed gives.
type Window struct {
	Split string
	Seed  uint64
	First int
	// Drawn is the number of prompts from First on that the same iteration has taken before; the window is the Count that
	// follow them, without any that are among them.
	Drawn int
	Count int
	// PerRecord is the number of prompts that travel together.
	PerRecord int
	Meta      schemas.Meta
	// MaxRecordBytes bounds the rows of a prompt; 0: 8 MiB.
	MaxRecordBytes int
	// Curriculum chooses among the prompts by what the file History says, "" at the start of a run.
	Curriculum *Curriculum
	History    string
}

// Default takes 16 prompts an iteration of the proving ground's training split.
func Default() Config { return New("chain", Chain{}) }

// SetDefaults is Default, of a source that a recipe may leave out.
func (c *Config) SetDefaults() { *c = Default() }

// New takes 16 prompts an iteration of a source's training split.
func New(name string, of Source) Config {
	return Config{Source: name, Split: "train", Count: 16, PerRecord: 16, Of: of}
}

// DecodeSetting reads the shared settings and the section of the chosen source. A section of another source is an error: nothing
// would read it.
func (c *Config) DecodeSetting(tree any, path string) error {
	shared := c.shared()
	of, err := sources.DecodeNested(tree, path, &shared, func() string { return shared.Source })
	if err != nil {
		return err
	}
	*c = Config{shared.Source, shared.Split, shared.Count, shared.PerRecord, shared.Curriculum, of}
	return nil
}

// MarshalJSON writes the shared settings and the section of the source.
func (c Config) MarshalJSON() ([]byte, error) {
	return sources.EncodeNested(c.shared(), c.Source, c.Of)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (c *Config) UnmarshalJSON(raw []byte) error {
	var shared common
	of, err := sources.UnmarshalNested(raw, &shared, func() string { return shared.Source })
	*c = Config{shared.Source, shared.Split, shared.Count, shared.PerRecord, shared.Curriculum, of}
	return err
}

// Paths are the files that the source reads, in order; none of one that makes its prompts.
func (c Config) Paths(ctx context.Context) ([]string, error) {
	return pathsOf(ctx, c.Of)
}

// pathsOf are the files that a source reads, and those of the test sets that it is held against.
func pathsOf(ctx context.Context, s Source) ([]string, error) {
	r, ok := s.(Reader)
	if !ok {
		return nil, nil
	}
	paths, err := r.Paths(ctx)
	if h, ok := s.(Held); ok && err == nil {
		var tests []string
		tests, err = h.Tests(ctx)
		paths = append(paths, tests...)
	}
	return paths, err
}

// SettingSchema describes the shared settings and the section of each source.
func (c *Config) SettingSchema() *setting.Schema {
	return sources.SchemaNested(c.shared())
}

// Validate names the first key that is wrong.
func (c Config) Validate() error {
	if c.Of == nil {
		return setting.Errorf("source", "is missing%s", setting.Suggest("", Sources()))
	}
	if c.Split == "" {
		return setting.Errorf("split", "is empty; name a part of the source, such as train")
	}
	if err := setting.First(setting.Check(c.shared()), setting.In(c.Source, setting.Check(c.Of))); err != nil {
		return err
	}
	if s, ok := c.Of.(Splitter); ok {
		return s.CheckSplit(c.Split)
	}
	return nil
}

// Contract says which columns the source brings.
func (c Config) Contract() schemas.Contract {
	out := schemas.Contract{Name: "prompts", Adds: c.Of.Columns()}
	if d, ok := c.Of.(Defined); ok {
		out.Writes = d.Defines()
	}
	return out
}

// Brings reports whether the source brings a column.
func (c Config) Brings(d schemas.Descriptor) bool {
	return slices.Contains(schemas.Names(c.Of.Columns()), d.Describe().Name)
}

// Answers reports whether the source brings responses, as text or as token ids.
func (c Config) Answers() bool { return c.Brings(schemas.Response) || c.Brings(schemas.ResponseTokens) }

// Generates reports whether all prompts come of a generator, which never ends.
func (c Config) Generates() bool { return generates(c.Of, "") }

// generates reports whether the source, or the named part of a mixture, makes new prompts for ever.
func generates(of Source, part string) bool {
	if m, ok := of.(Mixture); ok {
		for _, p := range m {
			if (part == "" || p.Name == part) && !generates(p.Of, "") {
				return false
			}
		}
		return true
	}
	_, ok := of.(Generator)
	return ok
}

// PerPrompt is the most responses that a generator writes to a prompt, at least 1.
func (c Config) PerPrompt() int {
	parts := Mixture{{Of: c.Of}}
	if m, ok := c.Of.(Mixture); ok {
		parts = m
	}
	n := 1
	for _, p := range parts {
		if g, ok := p.Of.(Generator); ok {
			n = max(n, g.MostResponses())
		}
	}
	return n
}

// WithoutResponses is the source as it brings prompts alone.
func (c Config) WithoutResponses() Config {
	if a, ok := c.Of.(Answered); ok {
		c.Of = a.PromptsOnly()
	}
	return c
}

// Read brings the window's prompts into the pipeline; rows that cannot be read are dead letters.
func Read(s beam.Scope, c Config, w Window) (prompts, dead stage.Rows) {
	if err := setting.Check(c); err != nil {
		panic("prompts: " + err.Error())
	}
	w.Split, w.PerRecord, w.Curriculum = c.Split, c.PerRecord, c.Curriculum
	return c.Of.Read(s.Scope("prompts"), w)
}

// SourceName is the name of the source of a prompt, as a curriculum and a ledger know it: its column source up to the first
// slash, after which a generator puts split and number.
func SourceName(source string) string {
	name, _, _ := strings.Cut(source, "/")
	return name
}
