package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/recipes"
	"github.com/millrace/millrace/schemas/setting"
)

var update = flag.Bool("update", false, "write docs/settings.md from what the program reads now")

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

func TestSettingsPage(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "settings.md")
	want := settingsPage(method.Schema())
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(raw) == want {
		return
	}
	have, now := strings.Split(string(raw), "\n"), strings.Split(want, "\n")
	for i, line := range now {
		if i >= len(have) || have[i] != line {
			t.Fatalf("docs/settings.md is not what the program reads, from line %d on:\n%s\nwrite it with: %s", i+1, line, writePage)
		}
	}
	t.Fatal("docs/settings.md has lines more than the program has settings")
}

const writePage = "go test ./pipelines/command -run TestSettingsPage -update"

const settingsIntro = `# Settings

Every key that a recipe can have. The page is written from the structs that the program decodes recipes into
(` + "`" + writePage + "`" + `), and so is the JSON Schema
by which editors check and complete recipes (` + "`millrace recipes --schema`" + `). ` + "`--set path=value`" + ` takes the same paths,
with an index in the place of ` + "`[]`" + `.

What a recipe leaves out has the default; a dash is an empty text or list, or nothing at all. An optional section is there only
where a recipe has it, and what it leaves out then has the default.

`

// page writes the tables of settings.
type page struct {
	strings.Builder
	seen  map[string]string // sections by what they hold, and where they are written out
	later []func()          // tables that follow the one that is being written
}

func settingsPage(s *setting.Schema) string {
	p := &page{seen: map[string]string{}}
	p.WriteString(settingsIntro)
	p.WriteString("## The run\n\n")
	p.header()
	for _, key := range s.Order {
		if !sectioned(s.Properties[key]) {
			p.row(key, s.Properties[key], false)
		}
	}
	p.WriteString("\n")
	for _, key := range s.Order {
		if section := s.Properties[key]; sectioned(section) {
			p.known(key, section)
		}
	}
	for _, key := range s.Order {
		section := s.Properties[key]
		if !sectioned(section) {
			continue
		}
		meaning := section.Description
		if section.Optional {
			meaning = "optional: " + meaning
		}
		fmt.Fprintf(p, "## `%s`\n\n%s.\n\n", key, sentence(meaning))
		if at, ok := p.known(key, section); ok && at != key {
			fmt.Fprintf(p, "Its keys are those of `%s`.\n\n", at)
			continue
		}
		p.header()
		p.keys(key, section)
		p.WriteString("\n")
		p.rest()
	}
	return strings.TrimRight(p.String(), "\n") + "\n"
}

func sectioned(s *setting.Schema) bool { return len(s.Properties) > 0 }

func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

// known says where a section of the same keys and defaults has been written out.
func (p *page) known(path string, s *setting.Schema) (at string, ok bool) {
	own := *s
	own.Description = ""
	raw, err := json.Marshal(own)
	if err != nil {
		panic(err) // a schema is plain data
	}
	if at, ok = p.seen[string(raw)]; !ok && len(s.Properties) > 1 {
		p.seen[string(raw)] = path
	}
	return at, ok
}

func (p *page) header() {
	p.WriteString("| setting | type | default | range or choices | meaning |\n|---|---|---|---|---|\n")
}

// keys writes the rows of a section, and puts off the tables of its kinds.
func (p *page) keys(path string, s *setting.Schema) {
	for _, key := range s.Order {
		own := s.Properties[key]
		if own.Const != nil {
			continue
		}
		p.row(setting.Join(path, key), own, slices.Contains(s.Required, key))
	}
	for _, kind := range s.OneOf {
		p.later = append(p.later, func() {
			chosen := ""
			for key, own := range kind.Properties {
				if own.Const != nil {
					chosen = key
				}
			}
			own := *kind
			own.Order = slices.DeleteFunc(slices.Clone(kind.Order), func(key string) bool {
				shared := s.Properties[key]
				return key == chosen || shared != nil && !sectioned(kind.Properties[key])
			})
			fmt.Fprintf(p, "### `%s: %s`\n\n", setting.Join(path, chosen), kind.Title)
			if len(own.Order) == 0 {
				p.WriteString("It has no keys of its own.\n\n")
				return
			}
			p.header()
			p.keys(path, &own)
			p.WriteString("\n")
		})
	}
}

// rest writes what was put off.
func (p *page) rest() {
	for len(p.later) > 0 {
		next := p.later[0]
		p.later = p.later[1:]
		next()
	}
}

// row writes a setting, and the settings in it.
func (p *page) row(path string, s *setting.Schema, required bool) {
	what, held := s.Type, s
	if s.Type == "" && len(s.OneOf) > 0 && s.OneOf[0].Properties == nil && s.OneOf[0].Type != "" {
		what = s.OneOf[0].Type + " or list of " + s.OneOf[0].Type + "s"
	}
	if s.Type == "array" {
		held, what = s.Items, "list of "+s.Items.Type+"s"
		if sectioned(held) {
			what, path = "list of sections", path+"[]"
		}
	}
	switch {
	case sectioned(s) && s.Optional:
		what = "optional section"
	case sectioned(s):
		what = "section"
	}
	meaning := s.Description
	inside := sectioned(held)
	if inside {
		if at, ok := p.known(path, held); ok {
			meaning += "; its keys are those of `" + at + "`"
			inside = false
		}
	}
	meaning = strings.ReplaceAll(meaning, "|", `\|`)
	fmt.Fprintf(p, "| `%s` | %s | %s | %s | %s |\n", path, what, defaultText(s, required), choices(held), meaning)
	if inside {
		p.keys(path, held)
	}
}

func defaultText(s *setting.Schema, required bool) string {
	if required {
		return "must be given"
	}
	if s.Default == nil || s.Default == "" {
		return "–"
	}
	raw, err := json.Marshal(s.Default)
	if err != nil {
		panic(err) // a schema is plain data
	}
	return "`" + strings.Trim(string(raw), `"`) + "`"
}

func choices(s *setting.Schema) string {
	if s.Enum == nil {
		return s.Range
	}
	var out []string
	for _, word := range s.Enum {
		if word == "" {
			word = `""`
		}
		out = append(out, "`"+word+"`")
	}
	return strings.Join(out, " ")
}
