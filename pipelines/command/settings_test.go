package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/recipes"
	"github.com/millrace/millrace/schemas/setting"
)

// compiled is the schema that the program prints.
func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	var out bytes.Buffer
	if code := Main([]string{"recipes", "--schema"}, &out, &out); code != 0 {
		t.Fatalf("exit code %d: %s", code, out.String())
	}
	doc, err := jsonschema.UnmarshalJSON(&out)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("recipe.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("recipe.json") // against the schema of schemas
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tree is a recipe as a validator of JSON wants it.
func tree(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRecipesFollowTheSchema(t *testing.T) {
	s := compiled(t)
	for _, r := range recipes.All() {
		if err := s.Validate(tree(t, r.Text)); err != nil {
			t.Errorf("%s: %v", r.Name, err)
		}
		parsed, err := recipe.Parse([]byte(r.Text), nil)
		if err != nil {
			t.Errorf("%s: %v", r.Name, err)
			continue
		}
		resolved, err := parsed.Resolved()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(tree(t, string(resolved))); err != nil {
			t.Errorf("%s with its defaults filled in: %v", r.Name, err)
		}
	}
}

// The schema and the program refuse the same recipes, the program with the path of the setting.
func TestSchemaRefusesWhatTheProgramRefuses(t *testing.T) {
	s := compiled(t)
	const base = "run: runs/x\npolicy: {path: model}\n"
	withLoss := func(text string) string { return base + "update: {losses: [" + text + "]}\n" }
	if err := s.Validate(tree(t, withLoss("{name: ppo}"))); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		"stepps":                              base + "stepps: 3",
		"kind":                                withLoss("{name: ppo}") + "kind: polcy",
		"iterations":                          base + "iterations: 0",
		"seed":                                base + "seed: many",
		"rollout.sampels":                     base + "rollout: {sampels: 8}",
		"rollout.temperature":                 base + "rollout: {temperature: -1}",
		"rollout.max_new_tokens":              base + "rollout: {max_new_tokens: 0.5}",
		"chat.variables":                      base + "chat: {template: true, variables: 3}",
		"prompts.source":                      base + "prompts: {source: fil}",
		"prompts.chain.responses":             base + "prompts: {chain: {responses: maybe}}",
		"prompts.mixture[0].weight":           base + "prompts: {source: mixture, mixture: [{name: a, source: chain, weight: 0}]}",
		"label.std":                           base + "label: {std: n}",
		"label.verifier.kind":                 base + "label: {verifier: {kind: maths}}",
		"label.verifier.options.decimal":      base + "label: {verifier: {options: {decimal: 2}}}",
		"label.verifier.options.limits.Depth": base + "label: {verifier: {kind: math, options: {limits: {Depth: -1}}}}",
		"label.verifier.options":              base + "label: {verifier: {kind: proving_ground, options: {steps: 2}}}",
		"advantage.kind":                      base + "advantage: {kind: grpoo}",
		"advantage.lambda":                    base + "advantage: {kind: grpo, lambda: 1}",
		"advantage.gamma":                     base + "advantage: {kind: ppo, gamma: 2}",
		"reward.value.beta":                   base + "reward: {value: {kind: q_rm, beta: 1}}",
		"reward.value.reference":              base + "reward: {value: {reference: new}}",
		"target.form":                         base + "target: {}",
		"update.losses[0].name":               withLoss("{name: gspoo}"),
		"update.losses[0].eps_low":            withLoss("{name: ppo, eps_low: 2}"),
		"update.losses[0].esp_low":            withLoss("{name: ppo, esp_low: 0.1}"),
		"update.losses[0].beta":               withLoss("{name: ppo, beta: 1}"),
		"update.losses[0].advantages":         withLoss("{name: lco_mse, advantages: reward}"),
		"update.losses[0].weight":             withLoss("{name: ppo, weight: lots}"),
		"update.lora.rank":                    base + "update: {losses: [{name: ppo}], lora: {alpha: 1}}",
		"update.lora.targets[0]":              base + "update: {losses: [{name: ppo}], lora: {rank: 1, alpha: 1, targets: [lm_head]}}",
		"update.optimizer.schedule.kind":      base + "update: {losses: [{name: ppo}], optimizer: {schedule: {kind: step}}}",
		"policy.precision":                    "run: runs/x\npolicy: {path: model, precision: float8}",
		"runner.name":                         withLoss("{name: ppo}") + "runner: {name: spark}",
		"runner.flink.parallelism":            withLoss("{name: ppo}") + "runner: {flink: {parallelism: -1}}",
		"telemetry.log.level":                 withLoss("{name: ppo}") + "telemetry: {log: {level: loud}}",
		"telemetry.trackers[0].samples.rows":  base + "telemetry: {trackers: [{kind: mlflow, url: http://localhost, samples: {rows: 0}}]}",
		"mixed.backfill.rounds":               base + "mixed: {backfill: {rounds: 0}}",
		"pairs.strategy":                      base + "pairs: {strategy: random}",
		"distill.dckd.top_k":                  base + "distill: {teacher: {path: t}, dckd: {top_k: 0}}",
		"seft.reviser.sampling.candidate_min_p": base + "seft: {reviser: {labels: {no: [1], minor: [2], major: [3]}, " +
			"sampling: {candidate_min_p: 2}}}",
	} {
		if s.Validate(tree(t, text)) == nil {
			t.Errorf("%s: the schema takes\n%s", path, text)
		}
		r, err := recipe.Parse([]byte(text), nil)
		if err == nil {
			_, err = method.New(r)
		}
		var e *setting.Error
		if !errors.As(err, &e) || e.Path != path {
			t.Errorf("%s: the program says %v", path, err)
		}
	}
}

func TestEverySettingSaysWhatItMeans(t *testing.T) {
	var walk func(path string, s *setting.Schema)
	walk = func(path string, s *setting.Schema) {
		for key, p := range s.Properties {
			if p.Description == "" && p.Const == nil {
				t.Errorf("%s says nothing", setting.Join(path, key))
			}
			walk(setting.Join(path, key), p)
		}
		for _, kind := range s.OneOf {
			walk(path+"("+kind.Title+")", kind)
		}
		if s.Items != nil {
			walk(path+"[]", s.Items)
		}
	}
	walk("", method.Schema())
}
