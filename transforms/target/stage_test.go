package target

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// teacher is a model whose next token depends on the last one alone: token v follows token u with logit bias·((u+v) mod 5).
// Its file holds the bias.
type teacher struct{ bias float64 }

const vocab = 6

func init() {
	models.RegisterFormat(models.Format{
		Name:  "test teacher",
		Match: func(path string) bool { return strings.HasSuffix(path, ".teacher") },
		Open: func(_ context.Context, ref models.Ref) (models.Model, error) {
			raw, err := os.ReadFile(ref.Path)
			return teacher{float64(len(raw))}, err
		},
	})
}

func (m teacher) Close() error { return nil }
func (m teacher) Generate(context.Context, []models.GenerateRequest) ([]models.GenerateResult, error) {
	return nil, errors.New("it only scores")
}

func (m teacher) logp(after int32) []float64 {
	z := make([]float64, vocab)
	for v := range z {
		z[v] = m.bias * float64((int(after)+v)%5)
	}
	return logSoftmax(z)
}

func (m teacher) Score(_ context.Context, requests []models.ScoreRequest) ([]models.ScoreResult, error) {
	out := make([]models.ScoreResult, len(requests))
	for q, r := range requests {
		if slices.Contains(r.Response, vocab) {
			out[q].Err = errors.New("token outside the vocabulary")
			continue
		}
		last := r.Prompt[len(r.Prompt)-1]
		for _, y := range r.Response {
			ids, logp, rest := sparse(m.logp(last), min(r.TopK, vocab))
			if y == vocab-1 {
				rest = math.NaN()
			}
			out[q].TopIDs = append(out[q].TopIDs, ids...)
			for _, x := range logp {
				out[q].TopLogP = append(out[q].TopLogP, float32(x))
			}
			out[q].TopRestLogP = append(out[q].TopRestLogP, float32(rest))
			last = y
		}
	}
	return out, nil
}

// model writes a teacher of that bias and returns its Ref.
func model(t testing.TB, bias int) models.Ref {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.teacher")
	if err := os.WriteFile(path, make([]byte, bias), 0o600); err != nil {
		t.Fatal(err)
	}
	return models.Ref{Path: path}
}

func record(t testing.TB, prompts, responses [][]int32, more ...schemas.Filled) stage.Batch {
	t.Helper()
	ids, promptIDs := make([]uuid.UUID, len(responses)), make([]uuid.UUID, len(responses))
	for i := range ids {
		promptIDs[i] = uuid.NewSHA1(uuid.Nil, []byte{byte(i / 2)})
		ids[i] = uuid.NewSHA1(promptIDs[i], []byte{byte(i)})
	}
	b, err := schemas.NewRecord(schemas.Meta{}, append([]schemas.Filled{schemas.PromptID.From(promptIDs), schemas.ResponseID.From(ids),
		schemas.PromptTokens.FromRows(prompts), schemas.ResponseTokens.FromRows(responses)}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func widen(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

func TestDCKDStage(t *testing.T) {
	in := record(t, [][]int32{{1}, {2}, {0}, {3}, {1}}, [][]int32{{2, 3}, {4}, {}, {vocab}, {vocab - 1}})
	for _, k := range []int{2, 50} {
		c := Distribution{DCKDConfig: DCKDConfig{TopK: k}, Teacher: model(t, 1)}
		out, dead := stagetest.Run(t, c, in)
		stagetest.Dead(t, dead, schemas.ReasonEmpty, schemas.ReasonModel, schemas.ReasonNotFinite)
		full := teacher{1}.logp(2) // the second token of the first response follows token 2
		ids, logp, rest := sparse(full, min(k, vocab))
		if got := schemas.TeacherIDs.Of(out).Row(0).Row(1); !slices.Equal(got, ids) {
			t.Errorf("top %d: ids %v, want %v", k, got, ids)
		}
		golden.Close(t, "probabilities", widen(schemas.TeacherProb.Of(out).Row(0).Row(1)), exp(logp), 1e-6)
		golden.CloseTo(t, "rest", float64(schemas.TeacherRest.Of(out).Row(0)[1]), math.Exp(rest), 1e-6)
		piped, letters := stagetest.Pipeline(t, c, in)
		stagetest.Same(t, "rows", piped, out)
		stagetest.Same(t, "dead letters", letters, dead)
	}
}

func TestADPAStage(t *testing.T) {
	in := record(t, [][]int32{{1}, {2}, {0}}, [][]int32{{2, 3}, {4}, {vocab}})
	for _, clip := range []bool{false, true} {
		cfg := DefaultADPA()
		cfg.TopK, cfg.Clip, cfg.Floor = 3, clip, 0.01
		c := LogRatio{ADPAConfig: cfg, Teacher: model(t, 2), Reference: model(t, 1)}
		out, dead := stagetest.Run(t, c, in)
		stagetest.Dead(t, dead, schemas.ReasonModel)
		ids, logp, _ := sparse(teacher{2}.logp(2), 3)
		refIDs, refLogp, _ := sparse(teacher{1}.logp(2), 3)
		want := make([]float64, 3)
		var bounds *Clip
		if clip {
			bounds = &ReleasedClip
		}
		TeacherAdvantage(want, ids, exp(logp), refIDs, exp(refLogp), 0.01, bounds)
		golden.Close(t, "advantages", widen(schemas.TeacherAdvantage.Of(out).Row(0).Row(1)), want, 1e-6)
		piped, _ := stagetest.Pipeline(t, c, in)
		stagetest.Same(t, "rows", piped, out)
		if lineage := out.Meta().Lineage["teacher_advantage"]; !strings.Contains(lineage, "teacher@") ||
			!strings.Contains(lineage, ";reference@") {
			t.Errorf("lineage %q", lineage)
		}
	}
}

func TestLCOStage(t *testing.T) {
	nan := float32(math.NaN())
	ids := [][][]int32{{{1, 2, 3}, {4}, {5, 6}}, {{1, 2}}, {{1, 2}}, {{1, 2}}, {{1, 2}}}
	logp := [][][]float32{{{-1, -2, -3}, {-0.1}, {-1, -1}}, {{-1, -2}}, {{-1, nan}}, {{-1, -2}}, {{-1, -2}}}
	advantages := [][][]float32{{{1, 2, 6}, {3}, {}}, {{1, 3}}, {{1, 3}}, {{1, 3, 5}}, nil}
	responses := [][]int32{{1, 4, 5}, {1}, {1}, {1}, {1}}
	in := record(t, [][]int32{{0}, {0}, {0}, {0}, {0}}, responses, schemas.CandidateIDs.FromRows(ids),
		schemas.CandidateOldLogP.FromRows(logp).Defined(schemas.FullLogP("m")),
		schemas.CandidateAdvantage.FromRows(advantages, true, true, true, true, false))
	dense := DefaultLCO(DenseForm)
	dense.Centre = true
	out, dead := stagetest.Run(t, dense, in)
	stagetest.Dead(t, dead, schemas.ReasonNotFinite, schemas.ReasonMismatch)
	target, rest := schemas.TargetAdvantage.Of(out), schemas.RestAdvantage.Of(out)
	s := math.Sqrt(7)
	golden.Close(t, "centred and scaled", widen(target.Row(0).Row(0)), []float64{-2 / s, -1 / s, 3 / s}, 1e-6)
	golden.Close(t, "one candidate", widen(target.Row(0).Row(1)), []float64{0}, 0)
	golden.Close(t, "rest", widen(rest.Row(0)), []float64{-100, -100, 0}, 0)
	if len(target.Row(0).Row(2)) != 0 || target.Valid(2) || rest.Valid(2) {
		t.Error("a position without candidates, or a response without advantages, has a target")
	}
	out, _ = stagetest.Run(t, DefaultLCO(EstimateForm), in)
	want := []float64{1, 3}
	wantRest := VocabEstimate(want, []float64{-1, -2}, 0.1)
	golden.Close(t, "estimate", widen(schemas.TargetAdvantage.Of(out).Row(1).Row(0)), want, 1e-6)
	golden.CloseTo(t, "rest of the estimate", float64(schemas.RestAdvantage.Of(out).Row(1)[0]), wantRest, 1e-6)
	piped, letters := stagetest.Pipeline(t, dense, in)
	wantOut, wantDead := stagetest.Run(t, dense, in)
	stagetest.Same(t, "rows", piped, wantOut)
	stagetest.Same(t, "dead letters", letters, wantDead)
}

func TestConfigs(t *testing.T) {
	for want, err := range map[string]error{
		"form":     setting.Check(LCOConfig{}),
		"min_rest": setting.Check(LCOConfig{Form: DenseForm}),
		"centre":   setting.Check(LCOConfig{Form: EstimateForm, MinRest: 0.1, Centre: true}),
		"top_k":    setting.Check(DCKDConfig{}),
		"floor":    setting.Check(ADPAConfig{TopK: 1}),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), want+":") {
			t.Errorf("error %v, want one of %s", err, want)
		}
	}
	for _, err := range []error{setting.Check(DefaultLCO(DenseForm)), setting.Check(DefaultDCKD()), setting.Check(DefaultADPA())} {
		if err != nil {
			t.Error(err)
		}
	}
}
