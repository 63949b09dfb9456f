package look

import (
	"context"
	"errors"
	"io/fs"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/score"
	"github.com/millrace/millrace/transforms/stage"
)

// refreshValues gives rows of a refresh the values of the reward model that an iteration left: a refresh trains on rows that it does
// not value itself.
func refreshValues(d *run.Dir, r recipe.Recipe, number int) func(context.Context, stage.Batch) (stage.Batch, error) {
	v := r.Reward.Value
	return func(ctx context.Context, b stage.Batch) (stage.Batch, error) {
		for _, need := range v.Contract().Needs {
			if b.Has(need) {
				continue
			}
			role, of := score.Reward, func() (models.Ref, error) {
				return chain.OpenAt(ctx, r.RewardStart(), files.Join(d.IterPath(number), chain.RewardRole))
			}
			switch need.Describe().Name {
			case schemas.RewardLogP.Name:
			case schemas.QValue.Name:
				role = score.QValue
			case schemas.ReferenceLogP.Name:
				role, of = score.Reference, func() (models.Ref, error) {
					if r.Reference != nil {
						return chain.Open(ctx, *r.Reference, "", 0)
					}
					return method.StartPolicy(ctx, r, d.Path)
				}
			default:
				return b, nil // such values cannot be made of these rows
			}
			model, err := of()
			if errors.Is(err, fs.ErrNotExist) {
				return b, nil // the model lies elsewhere
			}
			if err != nil {
				return b, err
			}
			if b, err = mapped(ctx, &score.Scorer{Config: score.Config{Role: role}, Model: model}, b); err != nil {
				return b, err
			}
		}
		return mapped(ctx, &v, b)
	}
}

// mapped is what a stage makes of rows.
func mapped(ctx context.Context, m stage.Mapper, b stage.Batch) (out stage.Batch, err error) {
	if err := m.Setup(ctx); err != nil {
		return b, err
	}
	if t, ok := m.(interface{ Teardown() error }); ok {
		defer func() { err = errors.Join(err, t.Teardown()) }()
	}
	var dead stage.DeadLetters
	return m.Map(ctx, b, &dead)
}
