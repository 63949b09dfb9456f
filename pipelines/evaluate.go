package pipelines

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/evaluate"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/rollout"
	"github.com/millrace/millrace/transforms/stage"
)

// Accuracy is how often a policy's responses to held-out prompts are right.
type Accuracy struct {
	Prompts  int                          `json:"prompts"`
	Samples  int                          `json:"samples"`
	Avg      evaluate.Estimate            `json:"avg_at_k"` // k = Samples; the error is over prompts
	Pass     map[string]evaluate.Estimate `json:"pass_at_k"`
	Abstains int                          `json:"abstains"` // responses without an outcome, in no figure
	Prompt   []float64                    `json:"-"`        // avg@k of each prompt, in the order of their ids
}

// Measure samples responses to held-out prompts, judges them and estimates accuracy. Work is a scratch directory.
func (r Recipe) Measure(ctx context.Context, policy models.Ref, work string) (Accuracy, error) {
	if err := os.RemoveAll(work); err != nil {
		return Accuracy{}, err
	}
	defer os.RemoveAll(work)
	p := r.Prompts
	p.Split, p.Count = r.Evaluate.Split, r.Evaluate.Prompts
	p.Chain = prompts.Chain{}
	c := r.Rollout
	c.Samples, c.CandidateK = r.Evaluate.Samples, 0
	rows := stage.Store{Dir: work, MaxRecordBytes: r.Limits.MaxRecordBytes}

	beamInit()
	pipeline, s := beam.NewPipelineWithRoot()
	in, _ := prompts.Read(s, p, prompts.Window{Seed: r.Seed, Count: p.Count})
	sampled, _ := rollout.Apply(s, c, policy, uint64(keyed.New(r.Seed).With(evaluationKey)), in)
	labeled, _ := label.Outcome(s, r.Label, sampled)
	stage.Put(s, rows, labeled)
	result, err := runners.Run(ctx, pipeline, r.Runner)
	if err != nil {
		return Accuracy{}, err
	}
	if err := stage.Conserved(result); err != nil {
		return Accuracy{}, err
	}
	outcomes := outcomes{}
	if err := eachBatch(ctx, work, outcomes.add); err != nil {
		return Accuracy{}, err
	}
	return outcomes.accuracy(r.Evaluate.Samples)
}

// evaluationKey keeps the random numbers of evaluations apart from those of training.
const evaluationKey = 1 << 62

// outcomes are the known outcomes of each prompt.
type outcomes map[uuid.UUID]*tally

type tally struct{ n, right, abstained int }

func (o outcomes) add(b stage.Batch) error {
	ids, outcome := schemas.PromptID.Of(b), schemas.Outcome.Of(b)
	for i, id := range ids {
		t := o[id]
		if t == nil {
			t = &tally{}
			o[id] = t
		}
		switch x, ok := outcome.At(i); {
		case !ok:
			t.abstained++
		case x > 0:
			t.n, t.right = t.n+1, t.right+1
		default:
			t.n++
		}
	}
	return nil
}

func (o outcomes) accuracy(samples int) (Accuracy, error) {
	a := Accuracy{Samples: samples, Pass: map[string]evaluate.Estimate{}}
	ids := make([]uuid.UUID, 0, len(o))
	for id := range o {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(x, y uuid.UUID) int { return strings.Compare(string(x[:]), string(y[:])) })
	pass := map[int][]float64{}
	for _, id := range ids {
		t := o[id]
		a.Abstains += t.abstained
		if t.n == 0 {
			continue
		}
		a.Prompts++
		a.Prompt = append(a.Prompt, float64(t.right)/float64(t.n))
		for k := 1; k <= t.n; k *= 2 {
			pass[k] = append(pass[k], evaluate.PassAtK(t.n, t.right, k))
		}
	}
	if a.Prompts == 0 {
		return a, fmt.Errorf("evaluation: none of %d prompts has an outcome", len(o))
	}
	a.Avg = evaluate.Over(a.Prompt)
	for k, values := range pass {
		if len(values) == a.Prompts {
			a.Pass[fmt.Sprint(k)] = evaluate.Over(values)
		}
	}
	return a, nil
}

// eachBatch calls f with the batches stored in a directory, in the order of their files' names.
func eachBatch(ctx context.Context, dir string, f func(stage.Batch) error) error {
	files, err := stage.ListFiles(ctx, filepath.Join(dir, "*.arrow"))
	if err != nil {
		return err
	}
	slices.Sort(files)
	for _, file := range files {
		if err := eachRecord(ctx, file, f); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

func eachRecord(ctx context.Context, file string, f func(stage.Batch) error) error {
	in, err := stage.OpenFile(ctx, file)
	if err != nil {
		return err
	}
	defer in.Close()
	r := schemas.NewStreamReader(in, 1<<40)
	for {
		b, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f(b); err != nil {
			return err
		}
	}
}
