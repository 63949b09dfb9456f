package label

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/stage"
)

// PromptGroup is what became of one prompt that was drawn.
type PromptGroup struct {
	Prompt     string  `json:"prompt_id"`
	Source     string  `json:"source"`
	Difficulty string  `json:"difficulty,omitempty"`
	Round      int     `json:"round"`
	Responses  int     `json:"responses"` // that have an outcome
	Right      float64 `json:"right"`     // sum of their outcomes
	Fate       string  `json:"fate"`
}

// Fates of a prompt. The others are the reasons for which KeepMixed filters its group.
const (
	FateKept    = "kept"
	FateSurplus = "surplus" // its group would have been kept, but enough others were there
	FateDead    = "dead"    // no response of it was labeled: the prompt, or all its responses, became dead letters
)

// Record writes what became of the prompts of a window to a file, a JSON object a line in the order of their ids: from
// the prompts and their labeled responses, before KeepMixed. A nil mixed keeps every group that
// has an outcome. The groups travel through the store.
func Record(s beam.Scope, file string, round int, mixed *MixedConfig, store stage.Store, prompts, labeled stage.Rows) {
	s = s.Scope("ledger")
	drawn := beam.ParDo(s, &groupsFn{Round: round, Drawn: true, Store: store}, prompts.PCollection)
	judged := beam.ParDo(s, &groupsFn{Round: round, Mixed: mixed, Store: store}, labeled.PCollection)
	stage.End(s, beam.ParDo(s, &writeGroupsFn{File: file, Store: store}, beam.GroupByKey(s, beam.Flatten(s, drawn, judged))))
}

func init() {
	beam.RegisterDoFn(&groupsFn{})
	beam.RegisterDoFn(&writeGroupsFn{})
	stage.Register[UpTo]()
}

// groupsFn lists the prompt groups of a batch under one key.
type groupsFn struct {
	Round int
	Drawn bool // prompts without responses yet
	Mixed *MixedConfig
	Store stage.Store

	parcels stage.Parcels[PromptGroup]
}

// ProcessElement adds a PromptGroup for each.
func (f *groupsFn) ProcessElement(_ context.Context, b stage.Batch, _ func(int, string)) error {
	if b.NumRows() == 0 {
		return nil
	}
	groups, err := b.Groups()
	if err != nil {
		return err
	}
	sources := schemas.Source.Of(b)
	difficulties, err := schemas.Difficulty.Find(b)
	graded := err == nil
	for _, g := range groups {
		p := PromptGroup{Prompt: uuid.UUID(g.ID).String(), Source: sources.At(g.Lo), Round: f.Round, Fate: FateDead}
		if graded && difficulties.Valid(g.Lo) {
			p.Difficulty = difficulties.At(g.Lo)
		}
		if !f.Drawn {
			outcomes, means := schemas.Outcome.Of(b), schemas.GroupMean.Of(b)
			for i := g.Lo; i < g.Hi; i++ {
				if y, ok := outcomes.At(i); ok {
					p.Responses, p.Right = p.Responses+1, p.Right+float64(y)
				}
			}
			all := &MixedConfig{High: 1}
			p.Fate = cmp.Or(cmp.Or(f.Mixed, all).why(g, schemas.Verdict.Of(b), means), FateKept)
		}
		if err := f.parcels.Add(0, p); err != nil {
			return err
		}
	}
	return nil
}

// FinishBundle sends them.
func (f *groupsFn) FinishBundle(ctx context.Context, emit func(int, string)) error {
	return f.parcels.Send(ctx, f.Store, emit)
}

// writeGroupsFn writes the groups, each once: as it was labeled, or else as it was drawn.
type writeGroupsFn struct {
	File  string
	Store stage.Store
}

// ProcessElement writes the file and returns its name.
func (f *writeGroupsFn) ProcessElement(ctx context.Context, _ int, parcels func(*string) bool) (string, error) {
	groups, err := stage.Unpack[PromptGroup](ctx, f.Store, parcels)
	if err != nil {
		return "", fmt.Errorf("ledger: %w", err)
	}
	by := map[string]PromptGroup{}
	for _, g := range groups {
		if old, ok := by[g.Prompt]; !ok || old.Fate == FateDead {
			by[g.Prompt] = g
		}
	}
	all := make([]PromptGroup, 0, len(by))
	for _, g := range by {
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b PromptGroup) int { return cmp.Compare(a.Prompt, b.Prompt) })
	return f.File, files.WriteLines(ctx, f.File, all)
}

// UpTo filters the rows of prompts whose id comes after Last: what a round of sampling brought beyond what was wanted. Ids
// are hashes, so which groups go says nothing about them.
type UpTo struct {
	Last string `json:"last"`
}

// Contract says which columns are needed.
func (c *UpTo) Contract() schemas.Contract {
	return schemas.Contract{Name: "surplus", Needs: []schemas.Descriptor{schemas.PromptID}}
}

// Setup does nothing.
func (c *UpTo) Setup(context.Context) error { return nil }

// Map filters row by row.
func (c *UpTo) Map(_ context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	for i, id := range schemas.PromptID.Of(b) {
		if id.String() > c.Last {
			dead.Filter(i)
		}
	}
	return b, nil
}
