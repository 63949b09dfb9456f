package export

import (
	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// promptRow is what formats of prompts have of one.
type promptRow struct {
	prompt                     prompt
	answer, source, difficulty *string
	id                         uuid.UUID
}

// promptGroups goes through the prompts of an export. All rows of a prompt go with it; of those that iterations draw again it keeps the
// ids of all.
type promptGroups struct {
	of       Prompts
	answered bool // leave out prompts without an answer
	seen     map[uuid.UUID]bool
}

// each calls write for the prompt groups of a batch, and says of which the prompt was there before.
func (g *promptGroups) each(b stage.Batch, write func(p promptRow, in schemas.Group, again bool) error) (map[string]int, error) {
	left, prompts := map[string]int{}, g.of.of(b)
	answer, source, difficulty := textOf(schemas.Answer, b), textOf(schemas.Source, b), textOf(schemas.Difficulty, b)
	groups, err := b.Groups()
	if err != nil {
		return nil, err
	}
	if g.seen == nil {
		g.seen = map[uuid.UUID]bool{}
	}
	for _, in := range groups {
		row := in.Lo
		p := promptRow{prompts(row), answer(row), source(row), difficulty(row), in.ID}
		switch {
		case p.prompt.left != "":
			left[p.prompt.left] += in.Len()
		case g.answered && p.answer == nil:
			left[leftNoAnswer] += in.Len()
		default:
			if err := write(p, in, g.seen[in.ID]); err != nil {
				return nil, err
			}
			g.seen[in.ID] = true
		}
	}
	return left, nil
}

// promptLines writes a line for each prompt.
type promptLines struct {
	*lines
	promptGroups
	record func(p promptRow) any
}

// Write writes the prompts of a batch.
func (w *promptLines) Write(b stage.Batch) (map[string]int, error) {
	return w.each(b, func(p promptRow, _ schemas.Group, again bool) error {
		if again {
			return nil
		}
		return w.value(w.record(p))
	})
}
