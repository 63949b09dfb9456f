package pairs

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// labeled holds two prompts of four responses. Of the first, 0 and 2 are right, 3 is truncated; of the second, 4 and 7
// are right, 5 abstains and 6 is wrong but has a log-prob that is not finite.
func labeled(t testing.TB) stage.Batch {
	t.Helper()
	n := 8
	nan := float32(math.NaN())
	prompts, ids, promptTokens, tokens := make([]uuid.UUID, n), make([]uuid.UUID, n), make([][]int32, n), make([][]int32, n)
	reference, mean := make([][]float32, n), make([][]float32, n)
	teacherIDs, prob, rest := make([][][]int32, n), make([][][]float32, n), make([][]float32, n)
	for i := range n {
		prompts[i] = uuid.NewSHA1(uuid.Nil, []byte{byte(i / 4)})
		ids[i] = uuid.NewSHA1(prompts[i], []byte{byte(i)})
		promptTokens[i], tokens[i] = []int32{int32(i / 4)}, []int32{int32(i), 9}
		reference[i], mean[i] = []float32{-float32(i), -1}, []float32{0, float32(i)}
		teacherIDs[i], prob[i], rest[i] = [][]int32{{int32(i)}, {1, 2}}, [][]float32{{0.5}, {0.25, 0.5}}, []float32{0.5, 0.25}
	}
	reference[6][0] = nan
	b, err := schemas.NewRecord(schemas.Meta{}, schemas.PromptID.From(prompts), schemas.PromptTokens.FromRows(promptTokens),
		schemas.ResponseID.From(ids), schemas.ResponseTokens.FromRows(tokens),
		schemas.Verdict.From([]string{"correct", "incorrect", "correct", "truncated", "correct", "budget", "incorrect", "correct"}),
		schemas.Outcome.From([]float32{1, 0, 1, 0, 1, 0, 0, 1}, true, true, true, true, true, false, true, true),
		schemas.ReferenceLogP.FromRows(reference).Defined(schemas.FullLogP("r")), schemas.MeanValue.FromRows(mean),
		schemas.TeacherIDs.FromRows(teacherIDs), schemas.TeacherProb.FromRows(prob), schemas.TeacherRest.FromRows(rest))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// named tells a batch of pairs by the first tokens of both sides.
func named(b stage.Batch) [][2]int32 {
	var out [][2]int32
	for i := range b.NumRows() {
		out = append(out, [2]int32{schemas.ChosenTokens.Of(b).Row(i)[0], schemas.RejectedTokens.Of(b).Row(i)[0]})
	}
	return out
}

func TestPairs(t *testing.T) {
	in := labeled(t)
	plain, best, truncated, reference := Default(), Default(), Default(), Default()
	best.Strategy, best.Score, best.Limit = "best_worst", schemas.MeanValue.Name, 0
	truncated.KeepTruncated = true
	reference.Reference, reference.Teacher = schemas.ReferenceLogP.Name, true
	for _, c := range []struct {
		name string
		cfg  Config
		want [][2]int32
		dead []schemas.Reason
	}{
		{"all", plain, [][2]int32{{0, 1}, {2, 1}, {4, 6}, {7, 6}}, nil},
		{"best against worst", best, [][2]int32{{2, 1}, {7, 6}}, nil},
		{"truncated too", truncated, [][2]int32{{0, 1}, {2, 3}, {0, 3}, {2, 1}, {4, 6}, {7, 6}}, nil},
		{"with reference and teacher", reference, [][2]int32{{0, 1}, {2, 1}}, []schemas.Reason{schemas.ReasonNotFinite}},
	} {
		out, dead := stagetest.Run(t, c.cfg, in)
		stagetest.Dead(t, dead, c.dead...)
		if got := named(out); !slices.Equal(got, c.want) {
			t.Errorf("%s: pairs %v, want %v", c.name, got, c.want)
		}
		piped, letters := stagetest.Pipeline(t, c.cfg, in)
		if got := named(piped); !slices.Equal(got, c.want) {
			t.Errorf("%s on the embedded runner: pairs %v, want %v", c.name, got, c.want)
		}
		stagetest.Same(t, "dead letters", letters, dead)
	}
}

func TestPairsCarryBothSides(t *testing.T) {
	c := Default()
	c.Reference, c.Teacher = schemas.ReferenceLogP.Name, true
	out, _ := stagetest.Run(t, c, labeled(t))
	ids := schemas.ResponseID.Of(labeled(t))
	if schemas.ChosenID.Of(out)[1] != ids[2] || schemas.RejectedID.Of(out)[1] != ids[1] || schemas.PromptTokens.Of(out).Row(1)[0] != 0 {
		t.Error("the second pair is not of responses 2 and 1")
	}
	if got := schemas.ChosenReferenceLogP.Of(out).Row(1); !slices.Equal(got, []float32{-2, -1}) {
		t.Errorf("chosen reference %v", got)
	}
	if got := schemas.RejectedTeacherProb.Of(out).Row(1).Row(1); !slices.Equal(got, []float32{0.25, 0.5}) ||
		schemas.RejectedTeacherIDs.Of(out).Row(1).Row(0)[0] != 1 {
		t.Errorf("rejected teacher %v", got)
	}
	if def, ok := schemas.LogPOf(out, schemas.ChosenReferenceLogP); !ok || def.Model != "r" {
		t.Errorf("the reference of the pairs is %v, %v", def, ok)
	}
	if pairs := schemas.PairID.Of(out); pairs[0] == pairs[1] {
		t.Error("two pairs have one id")
	}
}

func TestConfig(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"strategy":  func(c *Config) { c.Strategy = "random" },
		"score":     func(c *Config) { c.Score = "p_correct" },
		"reference": func(c *Config) { c.Reference = "teacher_logp" },
		"limit":     func(c *Config) { c.Limit = -1 },
	} {
		c := Default()
		change(&c)
		if err := setting.Check(c); err == nil || !strings.HasPrefix(err.Error(), want+":") {
			t.Errorf("error %v, want one of %s", err, want)
		}
	}
	if err := setting.Check(Default()); err != nil {
		t.Error(err)
	}
}
