package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	_ "github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/local/localtest"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/continuation"
	"github.com/millrace/millrace/transforms/revise"
	"github.com/millrace/millrace/transforms/rollout"
	"github.com/millrace/millrace/transforms/score"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/target"
)

// tiny writes a model of random weights with the proving ground's vocabulary.
func tiny(t *testing.T, seed uint64) models.Ref {
	t.Helper()
	c, err := transformer.ParseConfig([]byte(`{"model_type": "llama", "vocab_size": 26, "hidden_size": 16, "num_hidden_layers": 2,
		"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 24, "rms_norm_eps": 1e-6,
		"max_position_embeddings": 64, "tie_word_embeddings": false, "eos_token_id": 1}`))
	if err != nil {
		t.Fatal(err)
	}
	m, err := transformer.New(c, seed, true)
	if err != nil {
		t.Fatal(err)
	}
	return localtest.Save(t, m, tokenizer.NewProvingGround(false))
}

func prompts(t *testing.T, texts ...string) stage.Batch {
	t.Helper()
	ids := make([]uuid.UUID, len(texts))
	for i, text := range texts {
		ids[i] = uuid.NewSHA1(uuid.NameSpaceOID, []byte(text))
	}
	b, err := schemas.NewRecord(schemas.Meta{Run: "test"}, schemas.PromptID.From(ids), schemas.Prompt.From(texts))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func run(t *testing.T, m stage.Mapper, b stage.Batch) stage.Result {
	t.Helper()
	if err := m.Setup(context.Background()); err != nil {
		t.Fatal(err)
	}
	result, err := stage.Run(context.Background(), m, b)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func sampler(policy models.Ref) *rollout.Sampler {
	c := rollout.Default()
	c.Samples, c.MaxNewTokens, c.CandidateMinP = 3, 12, 0.02
	return &rollout.Sampler{Config: c, Policy: policy, Seed: 7}
}

// TestScoreOfThePolicyIsTheRollout: the log-probs that scoring gives are those the rollout stored, bit for bit, for the
// sampled tokens and for the candidates.
func TestScoreOfThePolicyIsTheRollout(t *testing.T) {
	for _, precision := range kernels.Precisions {
		t.Run(precision.String(), func(t *testing.T) {
			policy := tiny(t, 1)
			policy.Precision = precision
			scoreIsRollout(t, policy)
		})
	}
}

func scoreIsRollout(t *testing.T, policy models.Ref) {
	rollouts := run(t, sampler(policy), prompts(t, "3a+4b*5=", "9a-1=", "0a*7b+2c-8="))
	if rollouts.Kept != 3 || len(rollouts.Out) != 1 || rollouts.Out[0].NumRows() != 9 {
		t.Fatalf("%d prompts kept, %d batches", rollouts.Kept, len(rollouts.Out))
	}
	scored := run(t, &score.Scorer{Config: score.Config{Role: score.Reward, Candidates: true}, Model: policy}, rollouts.Out[0]).Out[0]
	same := func(what string, a, b []float32) {
		t.Helper()
		if len(a) == 0 || len(a) != len(b) {
			t.Fatalf("%s: %d and %d log-probs", what, len(a), len(b))
		}
		for i := range a {
			if a[i] != b[i] {
				t.Fatalf("%s: log-prob %d is %v in the rollout and %v in the score", what, i, a[i], b[i])
			}
		}
	}
	same("sampled", schemas.OldLogP.Of(scored).Values, schemas.RewardLogP.Of(scored).Values)
	same("candidates", schemas.CandidateOldLogP.Of(scored).Values, schemas.CandidateRewardLogP.Of(scored).Values)
	for _, column := range []schemas.Descriptor{schemas.OldLogP, schemas.RewardLogP} {
		if def, ok := schemas.LogPOf(scored, column); !ok || def.Model != policy.Identity() {
			t.Errorf("column %s does not say which model it is of: %v", column.Describe().Name, def)
		}
	}
}

// TestLateScorerTakesTheModelItIsGiven: the same weights at another precision are another model.
func TestLateScorerTakesTheModelItIsGiven(t *testing.T) {
	policy := tiny(t, 1)
	rollouts := run(t, sampler(policy), prompts(t, "3a+4b*5=")).Out[0]
	late := &score.LateScorer{Config: score.Config{Role: score.Reward}}
	defer late.Teardown()
	scores := map[string][]float32{}
	for _, precision := range append(kernels.Precisions, kernels.Float32) {
		policy.Precision = precision
		result, err := stage.RunWith(context.Background(), late, rollouts, policy)
		if err != nil {
			t.Fatal(err)
		}
		scored := result.Out[0]
		if got := scored.Meta().Lineage[schemas.RewardLogP.Name]; got != "reward@"+policy.Identity() {
			t.Errorf("in %s: lineage %s", precision, got)
		}
		logp := schemas.RewardLogP.Of(scored).Values
		if before, ok := scores[policy.Identity()]; ok && !slices.Equal(before, logp) {
			t.Errorf("in %s: other scores than before", precision)
		}
		scores[policy.Identity()] = logp
	}
	if len(scores) != 3 || slices.Equal(scores[policy.Digest], scores[policy.Digest+"+bfloat16"]) ||
		slices.Equal(scores[policy.Digest], scores[policy.Digest+"+bfloat16-tiles"]) {
		t.Errorf("%v", scores)
	}
}

// TestLineageNamesThePrecision: columns say in what the models behind them computed.
func TestLineageNamesThePrecision(t *testing.T) {
	policy := tiny(t, 1)
	policy.Precision = kernels.BFloat16
	for name, c := range map[string]struct {
		stage interface {
			stage.Mapper
			stage.Traced
			stage.Closer
		}
		models int
	}{
		"rollout":      {sampler(policy), 1},
		"score":        {&score.Scorer{Config: score.Config{Role: score.Reference}, Model: policy}, 1},
		"continuation": {&continuation.Continuer{Judge: continuation.Judge{Kind: "proving_ground"}, Policy: policy}, 1},
		"dckd":         {&target.Distribution{Teacher: policy}, 1},
		"adpa":         {&target.LogRatio{Teacher: policy, Reference: policy}, 2},
		"revise":       {&revise.Reviser{Config: revise.Config{Labels: reviserLabels}, Model: policy}, 1},
		"gain":         {&revise.Scorer{Model: policy}, 1},
	} {
		if err := c.stage.Setup(context.Background()); err != nil {
			t.Fatal(name, err)
		}
		if got := c.stage.Lineage(); strings.Count(got, "@"+policy.Digest+"+bfloat16") != c.models {
			t.Errorf("%s: %s", name, got)
		}
		if err := c.stage.Teardown(); err != nil {
			t.Error(name, err)
		}
	}
}

// TestRolloutDoesNotDependOnTheBatch: a prompt alone gives what it gives among others.
func TestRolloutDoesNotDependOnTheBatch(t *testing.T) {
	policy := tiny(t, 2)
	texts := []string{"3a+4b*5=", "9a-1=", "0a*7b+2c-8="}
	together := run(t, sampler(policy), prompts(t, texts...)).Out[0]
	for i, text := range texts {
		alone := run(t, sampler(policy), prompts(t, text)).Out[0]
		for k := range 3 {
			a, b := schemas.ResponseTokens.Of(together).Row(3*i+k), schemas.ResponseTokens.Of(alone).Row(k)
			if len(a) != len(b) {
				t.Fatalf("prompt %d, sample %d: %d tokens among others, %d alone", i, k, len(a), len(b))
			}
			for j := range a {
				if a[j] != b[j] || schemas.OldLogP.Of(together).Row(3*i + k)[j] != schemas.OldLogP.Of(alone).Row(k)[j] {
					t.Fatalf("prompt %d, sample %d, token %d differs", i, k, j)
				}
			}
		}
	}
}

// TestBadPromptsAreSetAside: what the tokenizer does not know and what is too long become dead letters with their reasons.
func TestBadPromptsAreSetAside(t *testing.T) {
	s := sampler(tiny(t, 3))
	s.MaxPromptTokens = 10
	result := run(t, s, prompts(t, "3a+4=", "what?", "1a+1b+1c+1d+1=", ""))
	for reason, want := range map[schemas.Reason]int{schemas.ReasonBadToken: 1, schemas.ReasonTooLong: 1, schemas.ReasonEmpty: 1} {
		if result.Reasons[reason] != want {
			t.Errorf("%s: %d rows, want %d (%v)", reason, result.Reasons[reason], want, result.Reasons)
		}
	}
	if result.Kept != 1 {
		t.Errorf("%d prompts kept, want 1", result.Kept)
	}
}

// TestScalarHeads: values come one a token, before it or after it.
func TestScalarHeads(t *testing.T) {
	policy := tiny(t, 4)
	rollouts := run(t, sampler(policy), prompts(t, "3a+4=")).Out[0]
	before := run(t, &score.Scorer{Config: score.Config{Role: score.Critic}, Model: policy}, rollouts).Out[0]
	after := run(t, &score.Scorer{Config: score.Config{Role: score.QValue}, Model: policy}, rollouts).Out[0]
	tokens := schemas.ResponseTokens.Of(rollouts)
	for i := range rollouts.NumRows() {
		v, q := schemas.CriticValue.Of(before).Row(i), schemas.QValue.Of(after).Row(i)
		if len(v) != len(tokens.Row(i)) || len(q) != len(v) {
			t.Fatalf("row %d: %d and %d values for %d tokens", i, len(v), len(q), len(tokens.Row(i)))
		}
		for k := 1; k < len(v); k++ {
			if v[k] != q[k-1] {
				t.Errorf("row %d: the value before token %d is %v, that after the one before it %v", i, k, v[k], q[k-1])
			}
		}
	}
}

// reviserLabels are any three that differ.
var reviserLabels = revise.Labels{No: revise.IDs(1), Minor: revise.IDs(2), Major: revise.IDs(3)}
