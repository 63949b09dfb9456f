package prompts

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
)

// Mixture draws from several sources. Its parts have the split, the count and the curriculum of the whole.
type Mixture []Part

// Part is one source of a mixture. Its name is the source of its prompts.
type Part struct {
	Name   string
	Weight int
	Source string
	Of     Source
}

// partSettings are the settings of a part beside the section of its source.
type partSettings struct {
	Name   string `json:"name" doc:"of the part, and the source of its prompts"`
	Weight int    `json:"weight" range:"[1,10000]" doc:"share of the prompts: the weight over the sum of all"`
	Source string `json:"source" doc:"source of the part; its settings are in the section of the same name"`
}

// DecodeSetting reads a part as Config reads prompts.
func (p *Part) DecodeSetting(tree any, path string) error {
	if section, ok := tree.(map[string]any); ok && section["source"] == mixtureSource {
		return setting.Errorf(setting.Join(path, "source"), "a part cannot be a mixture; list its parts beside the others")
	}
	var s partSettings
	of, err := sources.DecodeNested(tree, path, &s, func() string { return s.Source })
	if err != nil {
		return err
	}
	*p = Part{Name: s.Name, Weight: s.Weight, Source: s.Source, Of: of}
	return nil
}

// MarshalJSON writes the part as a recipe has it.
func (p Part) MarshalJSON() ([]byte, error) {
	return sources.EncodeNested(partSettings{p.Name, p.Weight, p.Source}, p.Source, p.Of)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (p *Part) UnmarshalJSON(raw []byte) error {
	var s partSettings
	of, err := sources.UnmarshalNested(raw, &s, func() string { return s.Source })
	*p = Part{Name: s.Name, Weight: s.Weight, Source: s.Source, Of: of}
	return err
}

// SettingSchema describes a part.
func (p *Part) SettingSchema() *setting.Schema {
	return sources.SchemaNested(partSettings{p.Name, p.Weight, p.Source}, mixtureSource)
}

const (
	mixtureSource = "mixture"
	// maxWeights bounds the sum of the weights, which is the length of a block.
	maxWeights = 10_000
)

// of is the source of the part under the part's name.
func (p Part) of() Source {
	if n, ok := p.Of.(Nameable); ok {
		return n.Named(p.Name)
	}
	return p.Of
}

func init() {
	Register(mixtureSource, Mixture(nil))
	beam.RegisterDoFn(&fillFn{})
}

// Validate names the first part that is wrong.
func (m Mixture) Validate() error {
	if len(m) == 0 {
		return setting.Errorf("", "is empty; list sources, such as {name: easy, weight: 3, source: chain}")
	}
	sum := 0
	names := map[string]bool{}
	for i, p := range m {
		at := fmt.Sprintf("[%d]", i)
		_, nested := p.Of.(Mixture)
		_, nameable := p.Of.(Nameable)
		switch {
		case p.Name == "" || strings.ContainsAny(p.Name, "/ \t\n"):
			return setting.Errorf(at+".name", "%q; want a name without slashes and spaces", p.Name)
		case names[p.Name]:
			return setting.Errorf(at+".name", "%q is the name of an earlier part", p.Name)
		case p.Weight < 1 || p.Weight > maxWeights:
			return setting.Errorf(at+".weight", "%d is not in [1, %d]", p.Weight, maxWeights)
		case p.Of == nil:
			return setting.Errorf(at+".source", "is missing%s", setting.Suggest("", Sources()))
		case nested:
			return setting.Errorf(at+".source", "a part cannot be a mixture; list its parts beside the others")
		case !nameable:
			return setting.Errorf(at+".source", "source %s cannot be a part: its prompts do not take another name", p.Source)
		}
		names[p.Name] = true
		sum += p.Weight
		if err := setting.Check(p.of()); err != nil {
			return setting.In(at+"."+p.Source, err)
		}
		if missing := missingColumns(p.of().Columns(), m.Columns()); len(missing.needed) > 0 {
			return setting.Errorf(at+".source", "brings no %s, which another part brings; parts bring prompts alone, or all bring responses, or "+
				"all outcomes",
				missing.needed[0])
		}
	}
	if sum > maxWeights {
		return setting.Errorf("", "the weights sum to %d; want at most %d", sum, maxWeights)
	}
	return nil
}

// CheckSplit asks every part.
func (m Mixture) CheckSplit(split string) error {
	for i, p := range m {
		if s, ok := p.Of.(Splitter); ok {
			if err := s.CheckSplit(split); err != nil {
				return setting.In(fmt.Sprintf("%s[%d]", mixtureSource, i), err)
			}
		}
	}
	return nil
}

// PromptsOnly leaves the responses of all parts out.
func (m Mixture) PromptsOnly() Source {
	out := slices.Clone(m)
	for i, p := range out {
		if a, ok := p.Of.(Answered); ok {
			out[i].Of = a.PromptsOnly()
		}
	}
	return out
}

// Corruptions are the kinds that all parts have.
func (m Mixture) Corruptions() []string {
	var out []string
	for i, p := range m {
		c, ok := p.Of.(Corrupter)
		switch {
		case !ok:
			return nil
		case i == 0:
			out = c.Corruptions()
		default:
			out = slices.DeleteFunc(out, func(kind string) bool { return !slices.Contains(c.Corruptions(), kind) })
		}
	}
	return out
}

// Corrupted has the parts write corrupted solutions.
func (m Mixture) Corrupted(kind string) Source {
	out := slices.Clone(m)
	for i, p := range out {
		out[i].Of = p.Of.(Corrupter).Corrupted(kind)
	}
	return out
}

// Columns are those that any part brings.
func (m Mixture) Columns() []schemas.Descriptor {
	var out []schemas.Descriptor
	seen := map[string]bool{}
	for _, p := range m {
		if p.Of == nil {
			continue // Validate says so
		}
		for _, d := range p.of().Columns() {
			if name := d.Describe().Name; !seen[name] {
				seen[name] = true
				out = append(out, d)
			}
		}
	}
	return out
}

// missing are columns that a part does not bring: texts that may be null, and others.
type missing struct{ nullable, needed []string }

func missingColumns(have, want []schemas.Descriptor) (m missing) {
	names := schemas.Names(have)
	for _, d := range want {
		c := d.Describe()
		_, isText := d.(schemas.Text)
		switch {
		case slices.Contains(names, c.Name):
		case c.Nullable && isText:
			m.nullable = append(m.nullable, c.Name)
		default:
			m.needed = append(m.needed, c.Name)
		}
	}
	return m
}

// Read reads of every part what falls to it: which positions of the mixture do is the same in every run of a seed.
func (m Mixture) Read(s beam.Scope, w Window) (prompts, dead stage.Rows) {
	columns := m.Columns()
	known := schemas.Known{}
	for _, d := range columns {
		known.Columns = append(known.Columns, d.Describe())
	}
	var rows, letters []stage.Rows
	for k, part := range m.shares(w) {
		if part.Count == 0 {
			continue
		}
		own := m[k].of()
		s := s.Scope(m[k].Name)
		out, bad := own.Read(s, part)
		if lacks := missingColumns(own.Columns(), columns).nullable; len(lacks) > 0 {
			out.PCollection = beam.ParDo(s, &fillFn{Columns: lacks}, out.PCollection)
		}
		rows = append(rows, out)
		if bad.IsValid() {
			letters = append(letters, bad)
		}
	}
	prompts = stage.Flatten(s, rows...)
	prompts.Known, prompts.MaxRecordBytes = &known, w.MaxRecordBytes
	if len(letters) > 0 {
		dead = stage.Flatten(s, letters...)
	}
	return prompts, dead
}

// shares are the parts' windows: position p of the mixture is the next prompt of the part that p falls to.
func (m Mixture) shares(w Window) []Window {
	at := func(position int) []int { return before(m, w.Seed, position) }
	first, from, to := at(w.First), at(w.First+w.Drawn), at(w.First+w.Drawn+w.Count)
	out := make([]Window, len(m))
	for k := range out {
		out[k] = w
		out[k].First, out[k].Drawn, out[k].Count = first[k], from[k]-first[k], to[k]-from[k]
	}
	return out
}

// before counts the positions below one that fall to each part. Positions come in blocks as long as the sum of the
// weights, in each of which every part has as many as its weight, in an order that seed and block give.
func before(parts []Part, seed uint64, position int) []int {
	var slots []int
	for k, p := range parts {
		slots = append(slots, slices.Repeat([]int{k}, p.Weight)...)
	}
	block := position / len(slots)
	key := keyed.New(seed).With(mixtureKey).With(uint64(block))
	for i := len(slots) - 1; i > 0; i-- { // Fisher and Yates
		j := int(key.With(uint64(i)).Uniform() * float64(i+1))
		slots[i], slots[j] = slots[j], slots[i]
	}
	out := make([]int, len(parts))
	for k, p := range parts {
		out[k] = block * p.Weight
	}
	for _, k := range slots[:position%len(slots)] {
		out[k]++
	}
	return out
}

// mixtureKey keeps the order of the parts apart from everything else that the seed decides.
const mixtureKey = 1 << 61

// fillFn adds texts that are null in every row.
type fillFn struct{ Columns []string }

// ProcessElement adds the columns.
func (f *fillFn) ProcessElement(_ context.Context, b stage.Batch, emit func(stage.Batch)) error {
	for _, name := range f.Columns {
		c, ok := schemas.ByName(name)
		if !ok {
			return &schemas.ColumnError{Column: name, Reason: "is not a column of any stage"}
		}
		var err error
		if b, err = b.With(schemas.Text{Column: c}.From(make([]string, b.NumRows()), make([]bool, b.NumRows())...)); err != nil {
			return err
		}
	}
	emit(b)
	return nil
}

// Paths are those of all its parts.
func (m Mixture) Paths(ctx context.Context) ([]string, error) {
	var out []string
	for _, part := range m {
		paths, err := pathsOf(ctx, part.Of)
		if err != nil {
			return nil, err
		}
		out = append(out, paths...)
	}
	return out, nil
}
