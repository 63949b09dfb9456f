package look

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/transforms/files"
)

// RefreshResult is what a refresh left.
type RefreshResult struct {
	Run        string              `json:"run"`
	Model      string              `json:"model"` // directory
	Digest     string              `json:"digest"`
	Precision  kernels.Precision   `json:"precision,omitempty"` // that it was trained and measured in
	Promotion  run.Promotion       `json:"promotion"`
	Evaluation *measure.Evaluation `json:"evaluation"`
}

// ReadRefresh reads the result of the last iteration of a refresh.
func ReadRefresh(ctx context.Context, dir string) (RefreshResult, error) {
	d := &run.Dir{Path: dir}
	last, _, err := d.Iteration(ctx, -1)
	if err != nil {
		return RefreshResult{}, err
	}
	for _, name := range []string{run.PromotionName, run.MetricsName} {
		if err := commit.CheckPath(ctx, files.Join(last, name)); err != nil {
			return RefreshResult{}, err
		}
	}
	out := RefreshResult{Run: dir, Model: files.Join(last, "reward")}
	p, err := run.ReadPromotion(ctx, last)
	if err == nil && p == nil {
		err = fmt.Errorf("%s: there is none; is it a run of kind refresh?", files.Join(last, run.PromotionName))
	}
	if err != nil {
		return out, err
	}
	out.Promotion = *p
	measured, err := files.ReadLines[run.Measurement](ctx, files.Join(last, run.MetricsName))
	if err != nil {
		return out, err
	}
	if len(measured) > 0 {
		out.Evaluation = measured[len(measured)-1].Evaluation
	}
	if out.Evaluation == nil {
		out.Evaluation = &measure.Evaluation{}
	}
	r, err := d.Recipe(ctx)
	if err != nil {
		return out, err
	}
	ref, err := chain.OpenAt(ctx, r.RewardStart(), out.Model)
	out.Digest, out.Precision = ref.Digest, ref.Precision
	return out, err
}
