package method_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/recipes"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/update"
)

// given is an embedded recipe on the models of the quickstart, which lie in dir.
func given(t *testing.T, name, dir string, sets ...string) recipe.Recipe {
	t.Helper()
	policy, reward := filepath.Join(dir, "policy"), filepath.Join(dir, "reward")
	all := append([]string{"run=" + filepath.Join(t.TempDir(), "run"), "policy.path=" + policy}, tiny...)
	for _, e := range recipes.All() {
		if e.Name != name {
			continue
		}
		for section, model := range map[string]string{"\nreward:\n  path:": "reward.path=" + reward, "\n  teacher:": "distill.teacher.path=" +
			policy,
			"\n  reference:": "distill.reference.path=" + policy} {
			if strings.Contains(e.Text, section) {
				all = append(all, model)
			}
		}
	}
	r, err := open(t.Context(), name, append(all, sets...))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Every model that an iteration starts with, or that is measured after it, has the precision of the section that it comes from,
// be it the recipe's or what an iteration before left of it.
func TestModelsKeepTheirPrecision(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	const bf16 = ".precision=bfloat16"
	policy := filepath.Join(dir, "policy")
	own := `policy={tokenizer: proving_ground, precision: bfloat16, new: {model_type: llama, hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 1,
		num_key_value_heads: 1, intermediate_size: 8, rms_norm_eps: 1.0e-6, rope_theta: 10000, max_position_embeddings: 64, tie_word_embeddings: true}}`
	ofPolicy := []string{"policy", "sampler", "frozen", "measured policy", "measured reference"}
	for _, c := range []struct {
		recipe string
		set    string
		number int
		want   []string // the models in bfloat16
	}{
		{"distrl", "policy" + bf16, 0, ofPolicy},
		{"distrl", "policy" + bf16, 1, ofPolicy},
		{"distrl", "reward" + bf16, 0, []string{"reward"}},
		{"distrl", "reward" + bf16, 1, []string{"reward"}},
		{"ppo", "reference={path: " + policy + ", precision: bfloat16}", 1, []string{"frozen"}},
		{"grpo", own, 0, ofPolicy},
		{"grpo", own, 1, ofPolicy},
		{"ppo", "policy" + bf16, 0, ofPolicy}, // with a scalar head that the run gives it
		{"ppo", "policy" + bf16, 1, ofPolicy},
		{"ipvrm-refresh", "policy" + bf16, 0, []string{"policy", "sampler", "frozen", "reward", "measured policy", "measured reference",
			"measured reward"}},
		{"ipvrm-refresh", "policy" + bf16, 1, []string{"policy", "sampler", "frozen", "reward", "measured policy", "measured reference",
			"measured reward"}},
		{"ipvrm-refresh", "reward={path: " + policy + ", precision: bfloat16}", 0, []string{"reward", "measured reward"}},
		{"ipvrm-refresh", "reward={path: " + policy + ", precision: bfloat16}", 1, []string{"reward", "measured reward"}},
		{"adpa", "distill.teacher" + bf16, 0, []string{"teacher"}},
		{"adpa", "distill.reference" + bf16, 0, []string{"teacher reference", "sampler"}},
		{"seft", "policy" + bf16, 0, []string{"policy", "sampler", "reviser", "measured policy", "measured reference"}},
		{"seft", "policy" + bf16, 1, []string{"policy", "sampler", "reviser", "measured policy", "measured reference"}},
		{"seft", "policy" + bf16, 2, []string{"policy", "sampler", "reviser", "measured policy", "measured reference"}},
		{"seft", "policy" + bf16, 3, []string{"policy", "sampler", "reviser", "measured policy", "measured reference"}},
		{"seft", "seft.source={path: " + policy + ", precision: bfloat16}", 2, []string{"sampler"}},
	} {
		t.Run(fmt.Sprintf("%s %d", c.recipe, c.number), func(t *testing.T) {
			r := given(t, c.recipe, dir, c.set)
			d, ctx, err := run.Open(t.Context(), r.Run)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			for n := range c.number + 1 { // what training leaves
				for role, model := range map[string]string{"policy": "policy", "reward": "reward", "reviser": "policy"} {
					if err := os.CopyFS(filepath.Join(d.IterPath(n), role), os.DirFS(filepath.Join(dir, model))); err != nil {
						t.Fatal(err)
					}
				}
			}
			if c.number > 0 && r.Policy.New != nil { // the first iteration has drawn it
				if _, err := chain.Open(ctx, r.Policy, filepath.Join(d.Path, "start-policy"), r.Seed); err != nil {
					t.Fatal(err)
				}
			}
			m, err := method.New(r)
			if err != nil {
				t.Fatal(err)
			}
			at := chain.NewIteration(strings.Repeat("0", chain.RunNameLength), r.Seed, c.number, d.IterPath(c.number))
			if err := m.Models(ctx, d, &at); err != nil {
				t.Fatal(err)
			}
			measured, err := m.(interface {
				Subject(context.Context, chain.Iteration) (measure.Subject, error)
			}).Subject(ctx, at)
			if err != nil {
				t.Fatal(err)
			}
			all := map[string]models.Ref{"policy": at.Policy, "sampler": at.Sampler, "frozen": at.Reference, "reward": at.Reward,
				"teacher":           at.Teacher,
				"teacher reference": at.TeacherReference, "reviser": at.Reviser,
				"measured policy": measured.Policy, "measured reward": measured.Reward, "measured reference": measured.Reference}
			for _, name := range slices.Sorted(maps.Keys(all)) {
				want := kernels.Float32
				if slices.Contains(c.want, name) {
					want = kernels.BFloat16
				}
				if got := all[name]; got.Precision != want || want != kernels.Float32 && got.Digest == "" {
					t.Errorf("the %s is %+v, want precision %s", name, got, want)
				}
			}
		})
	}
}

// A run at bfloat16: what sampled, what scored and what is trained are the same model to the last bit, and rows say which it was,
// in the iteration that starts from the recipe's models and in the one that goes on.
func TestRunInBFloat16(t *testing.T) {
	if testing.Short() {
		t.Skip("runs")
	}
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	digests := map[string]string{}
	for _, c := range []struct{ policy, reward kernels.Precision }{
		{kernels.Float32, kernels.Float32}, {kernels.BFloat16, kernels.BFloat16}, {kernels.BFloat16, kernels.Float32},
		{kernels.BFloat16Tiles, kernels.BFloat16Tiles},
	} {
		name := fmt.Sprintf("policy %s, reward %s", c.policy, c.reward)
		t.Run(name, func(t *testing.T) {
			r := given(t, "distrl", dir, "iterations=2", "policy.precision="+c.policy.String(), "reward.precision="+c.reward.String())
			if err := iterate(t.Context(), r, progress.Silent()); err != nil {
				t.Fatal(err)
			}
			d, err := run.Read(t.Context(), r.Run)
			if err != nil {
				t.Fatal(err)
			}
			identity := func(p kernels.Precision, path string) string {
				t.Helper()
				digest, err := models.Digest(path)
				if err != nil {
					t.Fatal(err)
				}
				if p != kernels.Float32 {
					digest += "+" + p.String()
				}
				return digest
			}
			policy := filepath.Join(dir, "policy")
			for n := range 2 {
				at := d.IterPath(n)
				steps, err := files.ReadLines[update.StepRecord](t.Context(), filepath.Join(at, "steps-policy.jsonl"))
				if err != nil || len(steps) != 2 {
					t.Fatalf("%d steps, %v", len(steps), err)
				}
				if m := steps[0].Metrics; m["ppo/ratio"] != 1 || m["ppo/kl"] != 0 || steps[0].Loss == 0 {
					t.Errorf("iteration %d: the first step has ratio %v and kl %v, want exactly 1 and 0 (loss %v)", n, m["ppo/ratio"], m["ppo/kl"],
						steps[0].Loss)
				}
				sampled, scored := identity(c.policy, policy), identity(c.reward, filepath.Join(at, "reward"))
				policy = filepath.Join(at, "policy")
				paths, err := run.RowFiles(t.Context(), at, chain.BatchName)
				if err != nil || len(paths) != 1 {
					t.Fatal(paths, err)
				}
				err = recordio.ReadFile(t.Context(), paths[0], func(b stage.Batch) error {
					for _, column := range []struct {
						schemas.Descriptor
						by, lineage string
					}{
						{schemas.OldLogP, sampled, "policy@"}, {schemas.CandidateOldLogP, sampled, "policy@"},
						{schemas.RewardLogP, scored, "reward@"}, {schemas.CandidateRewardLogP, scored, "reward@"},
					} {
						name := column.Describe().Name
						if def, ok := schemas.LogPOf(b, column); !ok || def.Model != column.by {
							t.Errorf("iteration %d: %s is of model %q, want %q", n, name, def.Model, column.by)
						}
						if got := b.Meta().Lineage[name]; got != column.lineage+column.by {
							t.Errorf("iteration %d: the lineage of %s is %q, want %q", n, name, got, column.lineage+column.by)
						}
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			digests[name] = identity(kernels.Float32, policy)
		})
	}
	if n := len(slices.Compact(slices.Sorted(maps.Values(digests)))); n != 4 {
		t.Errorf("four runs of other precisions end in %d policies: %v", n, digests)
	}
}

func TestPrecisionsThatARecipeCannotHave(t *testing.T) {
	const endpoint = "http://localhost:1/v1?model=m"
	for _, c := range []struct {
		recipe string
		sets   []string
		want   string // "": none
	}{
		{"distrl", []string{"policy.precision=bfloat16", "reward.precision=bfloat16"}, ""},
		{"distrl", []string{"policy.precision=float32"}, ""},
		{"distrl", []string{"policy.precision=bfloat16-tiles"}, ""},
		{"distrl", []string{"policy.precision=fp8"}, `policy.precision: "fp8" is not one of float32, bfloat16`},
		{"distrl", []string{"policy.precision=16"}, "policy.precision: 16 is not text"},
		{"distrl", []string{"reward.precision=fp8"}, `reward.precision: "fp8" is not one of float32, bfloat16`},
		{"grpo", []string{"reference.precision=fp8"}, `reference.precision: "fp8" is not one of`},
		{"adpa", []string{"distill.teacher.precision=fp8"}, `distill.teacher.precision: "fp8" is not one of`},
		{"seft", []string{"seft.source={path: x, precision: fp8}"}, `seft.source.precision: "fp8" is not one of`},
		{"ipvrm-refresh", []string{"policy.path=" + endpoint, "policy.precision=bfloat16"}, "policy.precision: bfloat16 is given to an endpoint"},
		{"grpo", []string{"reference={path: '" + endpoint + "', precision: bfloat16}"}, "reference.precision: bfloat16 is given to an endpoint"},
		{"adpa", []string{"distill.teacher={path: '" + endpoint + "', precision: bfloat16}"}, "distill.teacher.precision: bfloat16 is given " +
			"to an endpoint"},
		{"ipvrm-refresh", []string{"reward.precision=bfloat16"}, "reward.precision: belongs to a model that path or new names"},
	} {
		_, err := open(t.Context(), c.recipe, c.sets)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("%s %v: %v, want %s", c.recipe, c.sets, err, c.want)
		}
	}
}

// The precision is part of what a run computes, and says nothing where it is the default: older runs go on.
func TestResolvedPrecision(t *testing.T) {
	texts := map[string]string{}
	for _, precision := range []string{"", "float32", "bfloat16", "bfloat16-tiles", "fast"} {
		var sets []string
		if precision != "" {
			sets = append(sets, "policy.precision="+precision)
		}
		r, err := recipes.Open(t.Context(), "grpo", sets)
		if err != nil {
			t.Fatal(err)
		}
		m, err := method.New(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := method.Resolved(m)
		if err != nil {
			t.Fatal(err)
		}
		texts[precision] = string(text)
	}
	if texts["float32"] != texts[""] || !strings.Contains(texts["bfloat16"], "precision: bfloat16\n") ||
		!strings.Contains(texts["bfloat16-tiles"], "precision: bfloat16-tiles\n") {
		t.Errorf("%s", texts)
	}
	// What fast means is decided once: a run goes on with it wherever that is.
	if texts["fast"] != texts[kernels.Fastest().String()] {
		t.Errorf("fast, which is %s here, is resolved to %s", kernels.Fastest(), texts["fast"])
	}
	if r, err := parse([]byte(texts["bfloat16"]), []string{"run=x"}); err != nil || r.Policy.Precision != kernels.BFloat16 {
		t.Errorf("the resolved recipe has precision %s, %v", r.Policy.Precision, err)
	}
}

// A reward model of a run has the precision that the run trained it in, a directory that of the recipe it is measured by, and
// references at two precisions are two models.
func TestOpenedRewardsKeepTheirPrecision(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	r := given(t, "distrl", dir, "policy.precision=bfloat16", "reward.precision=bfloat16", "iterations=1", "evaluate.every=0")
	if err := iterate(t.Context(), r, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	plain := given(t, "distrl", dir)
	half := given(t, "distrl", dir, "reward.precision=bfloat16")
	policy, err := look.OpenPolicy(t.Context(), plain, "", dir)
	if err != nil {
		t.Fatal(err)
	}
	var rewards []look.RewardModel
	for _, c := range []struct {
		recipe            recipe.Recipe
		target            string
		reward, reference kernels.Precision
	}{
		{plain, r.Run, kernels.BFloat16, kernels.BFloat16},
		{plain, filepath.Join(dir, "reward"), kernels.Float32, kernels.Float32},
		{half, filepath.Join(dir, "reward"), kernels.BFloat16, kernels.Float32},
	} {
		m, err := look.OpenReward(t.Context(), c.recipe, c.target, -1, policy, dir)
		if err != nil {
			t.Fatal(err)
		}
		if m.Model.Precision != c.reward || m.Reference.Precision != c.reference {
			t.Errorf("%s: the reward model is in %s, its reference in %s; want %s and %s", c.target, m.Model.Precision, m.Reference.Precision,
				c.reward, c.reference)
		}
		rewards = append(rewards, m)
	}
	look.ShareReferences(rewards)
	if rewards[0].Reference.Precision == rewards[1].Reference.Precision || rewards[0].Reference.Digest != rewards[1].Reference.Digest {
		t.Errorf("references %+v and %+v", rewards[0].Reference, rewards[1].Reference)
	}
	opened, err := look.OpenPolicy(t.Context(), r, r.Run, dir)
	if err != nil || opened.Precision != kernels.BFloat16 {
		t.Errorf("the policy that the run started from is %+v, %v", opened, err)
	}
}

// A refresh says in what its model was trained.
func TestRefreshTellsThePrecision(t *testing.T) {
	r, err := parse([]byte(refreshOf), []string{"run=" + t.TempDir(), "policy.path=" + writtenModel(t), "reward.precision=bfloat16"})
	if err != nil {
		t.Fatal(err)
	}
	if err := iterate(t.Context(), r, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	result, err := look.ReadRefresh(t.Context(), r.Run)
	if err != nil || result.Precision != kernels.BFloat16 {
		t.Errorf("%s, %v", result.Precision, err)
	}
}
