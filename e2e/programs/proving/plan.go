package main

import (
	"fmt"
	"path"
	"slices"
	"strconv"
)

// job is one command of the product and what it leaves below the directory of the runs.
type job struct {
	name  string // seed-N/what; the run directory of a run
	part  string
	args  []string
	after []string // jobs whose results it reads
	// iterations is how many committed iterations finish a run; 0: a job whose result is what it prints, kept as name.json.
	iterations int
	thin       bool // its early models are read by nobody
}

// The parts of the page, each a table or more.
var parts = []string{"warm", "rl", "reward", "long", "students", "seft", "stability"}

// iteration is the directory of an iteration of a run.
func iteration(i int) string { return fmt.Sprintf("iter-%05d", i) }

// policyOf is the model that the last of n iterations left.
func policyOf(run string, n int) string { return path.Join(run, iteration(n-1), "policy") }

const (
	grpoIterations      = 60 // 40 are compared with DistRL, the last is the students' teacher
	distrlIterations    = 40
	stabilityIterations = 15
)

// rewardModel is a row of the reward models' tables.
type rewardModel struct {
	name, title, recipe string
	score               string // the column by which Best-of-N goes, its last number or its least
	rule                string // of step F1
	sets                []string
	alone               bool // measured by its own refresh, not on corrupted chains and against the truth
}

var rewardModels = []rewardModel{
	{name: "ipvrm", title: "IPVRM, margin 0", recipe: "ipvrm-refresh", score: "mean_value", rule: "sum_diff"},
	{name: "implicit-prm", title: "Implicit PRM", recipe: "implicit-prm-refresh", score: "value", rule: "sum_diff"},
	{name: "dpo-rm", title: "DPO-RM", recipe: "dpo-rm-refresh", score: "value", rule: "sum_diff"},
	{name: "ipvrm-m5", title: "IPVRM, margin 5", recipe: "ipvrm-refresh", score: "mean_value", rule: "sum_diff",
		sets: []string{"update.losses[0].margin=5"}},
	{name: "value-head", title: "value head", recipe: "value-head-refresh", score: "mean_value", rule: "min"},
	{name: "qrm", title: "Q-RM, scalar head", recipe: "qrm-refresh", score: "mean_value", rule: "min"},
	{name: "qrm-2000", title: "Q-RM, scalar head, 2,000 prompts, 1,000 steps", recipe: "qrm-refresh", score: "mean_value", rule: "min",
		sets: []string{"prompts.count=2000", "update.steps=1000", "update.optimizer.schedule.total=1000"}, alone: true},
	{name: "qrm-lm", title: "Q-RM, LM logits, with cross-entropy", recipe: "qrm-lm-refresh", score: "mean_value", rule: "min"},
	{name: "qrm-lm-plain", title: "Q-RM, LM logits, without", recipe: "qrm-lm-refresh", score: "mean_value", rule: "min",
		sets: []string{"update.losses=[{name: qrm_lm}]"}},
	{name: "ipvrm-1000", title: "IPVRM, margin 0, 1,000 prompts", recipe: "ipvrm-refresh", score: "mean_value", rule: "sum_diff",
		sets: []string{"prompts.count=1000"}, alone: true},
	{name: "implicit-prm-1000", title: "Implicit PRM, 1,000 prompts", recipe: "implicit-prm-refresh", score: "value", rule: "sum_diff",
		sets: []string{"prompts.count=1000"}, alone: true},
}

// policyScorers are scorers without a reward model, which rewardsJob measures beside the models, under the titles that `eval --reward` gives
// them; length finds no steps.
var policyScorers = []rewardModel{
	{name: "policy-min", title: "policy log-prob, min", score: "min", rule: "min"},
	{name: "policy-sum", title: "policy log-prob, sum", score: "value", rule: "sum_diff"},
	{name: "length", title: "length, the shortest first", score: "value"},
}

// betaMethods are trained over the same grid of betas a token: of a sum of log-ratios beta itself, of a mean of them beta times the
// length of a response.
var betaMethods = []struct {
	name, title, recipe, score string
	ofMean                     bool
	sets                       []string
}{
	{"ipvrm", "IPVRM, uniform", "ipvrm-refresh", "mean_value", true, nil},
	{"ipvrm-late", "IPVRM, late", "ipvrm-refresh", "mean_value", true, []string{"update.losses[0].weights=late"}},
	{"implicit-prm", "Implicit PRM", "implicit-prm-refresh", "value", false, nil},
}

// betaGrid is a grid of betas, in hundredths a token.
type betaGrid struct {
	name   string // of its models, after the method's
	betas  []int
	tokens int // that a response is taken to have where betas of a mean and of a sum of log-ratios are held side by side
	sets   []string
}

var (
	// shortBetas are of the proving ground as it is.
	shortBetas = betaGrid{"beta", []int{5, 10, 33, 100}, 30, nil}
	// longBetas are of responses in which three of four lines decide nothing.
	longBetas = betaGrid{"long", []int{10, 33}, 80, longChains}
	// longChains are the settings of both the warm start and the reward models.
	longChains = []string{"prompts.chain.filler=3", "rollout.max_new_tokens=128"}
)

// models are the reward models of the grid.
func (g betaGrid) models() []rewardModel {
	var out []rewardModel
	for _, m := range betaMethods {
		for _, hundredths := range g.betas {
			beta := float64(hundredths) / 100
			title := fmt.Sprintf("%s, %.2f", m.title, beta)
			if m.ofMean {
				beta = float64(hundredths*g.tokens) / 100
			}
			text := strconv.FormatFloat(beta, 'g', -1, 64)
			out = append(out, rewardModel{name: g.model(m.name, hundredths), title: title, recipe: m.recipe, score: m.score, rule: "sum_diff",
				alone: true, sets: slices.Concat([]string{"reward.value.beta=" + text, "update.losses[0].beta=" + text}, m.sets, g.sets)})
		}
	}
	return out
}

func (g betaGrid) model(method string, hundredths int) string {
	return fmt.Sprintf("%s-%s-%d", method, g.name, hundredths)
}

// allRewardModels are those of all tables.
func allRewardModels() []rewardModel {
	return slices.Concat(rewardModels, shortBetas.models(), longBetas.models())
}

// rewardsJob measures the reward models of a seed.
const rewardsJob = "rewards"

// cell is one setting of the stability grid.
type cell struct {
	method, title, recipe string
	rate                  string
	epochs                int
	sets                  []string
}

func (c cell) name() string { return fmt.Sprintf("%s-lr%s-e%d", c.method, c.rate, c.epochs) }

// rates are searched for every method alike.
var rates = []string{"5e-5", "1e-4", "3e-4", "1e-3"}

var stabilityMethods = []struct {
	method, title, recipe string
	rates                 []string
	epochs                []int
	sets                  []string
}{
	{"clip", "GRPO clip", "grpo", rates, []int{1, 4}, []string{"rollout.samples=8"}},
	{"ppo", "PPO", "ppo", rates, []int{1, 4}, []string{"rollout.samples=8"}},
	{"lco-kld", "LCO-KLD", "lco-kld", rates, []int{1, 4}, nil},
	{"lco-mse", "LCO-MSE", "lco-mse", rates, []int{1, 4}, nil},
	{"lco-lch", "LCO-LCH", "lco-lch", rates, []int{1, 4}, nil},
	{"lco-mse-current", "LCO-MSE, anchor = current logits", "lco-mse", []string{"3e-4"}, []int{4},
		[]string{"update.losses[0].anchor=current"}},
}

func stabilityCells() []cell {
	var out []cell
	for _, epochs := range []int{4, 1} {
		for _, m := range stabilityMethods {
			for _, rate := range m.rates {
				for _, e := range m.epochs {
					if e == epochs {
						out = append(out, cell{m.method, m.title, m.recipe, rate, e, m.sets})
					}
				}
			}
		}
	}
	return out
}

// policyMethod is a row of the tables of policies.
type policyMethod struct {
	name, title, recipe string
	sets                []string
	iterations          int
	reward              string // the run whose reward model scores, "" for none
}

// Where the reward model is updated on every batch, its own minibatches stay two.
var rlMethods = []policyMethod{
	{"grpo", "GRPO", "grpo", nil, grpoIterations, ""},
	{"grpo-ipvrm", "GRPO with IPVRM advantages (alpha 0)", "distrl", []string{"update.losses=[{name: ppo}]"}, distrlIterations, "ipvrm"},
	{"distrl", "DistRL with IPVRM", "distrl", nil, distrlIterations, "ipvrm"},
	{"grpo-mb4", "GRPO, 4 minibatches", "grpo", []string{"update.minibatches=4"}, distrlIterations, ""},
	{"grpo-ipvrm-mb4", "GRPO with IPVRM advantages, 4 minibatches", "distrl", []string{"update.losses=[{name: ppo}]", "update.minibatches=4"},
		distrlIterations, "ipvrm"},
	{"distrl-mb4", "DistRL with IPVRM, 4 minibatches", "distrl", []string{"update.minibatches=4"}, distrlIterations, "ipvrm"},
}

// qrmMethods learn from the scores of Q-RM in its LM form, beside the same optimisers with outcomes.
var qrmMethods = []policyMethod{
	{"reinforce", "REINFORCE, outcomes", "reinforce", nil, distrlIterations, ""},
	{"qrm-reinforce", "REINFORCE on Q-RM", "qrm-reinforce", nil, distrlIterations, "qrm-lm"},
	{"ppo", "PPO, outcomes", "ppo", nil, distrlIterations, ""},
	{"qrm-ppo", "PPO on Q-RM", "qrm-ppo", nil, distrlIterations, "qrm-lm"},
}

// student is a row of the students' table.
type student struct {
	name, title, recipe string
	sets                []string
}

var students = []student{
	{"student-sft", "SFT on the chosen side", "sft", nil},
	{"student-sft-400", "SFT on the chosen side, 400 steps", "sft", []string{"update.steps=400"}},
	{"student-dpo", "DPO", "dpo", nil},
	{"student-dckd", "DCKD", "dckd", nil},
	{"student-adpa", "ADPA", "adpa", nil},
	{"student-adpa-plus", "ADPA+", "adpa-plus", nil},
}

// seftRuns are SEFT and what it becomes when the reviser's label is not trusted, or the originals are better.
var seftRuns = []student{
	{"seft", "SEFT", "seft", nil},
	{"seft-threshold", "SEFT, kept from P(No) 0.8 on", "seft", []string{"seft.reviser.threshold=0.8"}},
	{"seft-always", "SEFT, always revised", "seft", []string{"seft.reviser.label=always"}},
	{"seft-greedy", "SEFT, greedy originals", "seft", []string{"seft.greedy=true"}},
	{"seft-greedy-always", "SEFT, greedy originals, always revised", "seft", []string{"seft.greedy=true", "seft.reviser.label=always"}},
}

const selfRounds = 2 // rounds of SEFT and of self-training

// selfRecipe is the recipe beside this file, written into the directory of the runs.
const selfRecipe = "self-training.yaml"

// selfTraining is a row of SEFT's table: the policy trained on its own answers to as many new prompts, for as many steps.
var selfTraining = []student{
	{"self", "self-training, sampled answers", selfRecipe, nil},
	{"self-greedy", "self-training, greedy answers", selfRecipe, []string{"rollout.greedy=true"}},
}

// runOf is the command that runs a recipe in a directory with a seed and further settings.
func runOf(recipe, dir string, seed uint64, sets ...string) []string {
	args := []string{"run", recipe, "--set", "run=" + dir, "--set", "seed=" + strconv.FormatUint(seed, 10)}
	for _, s := range sets {
		args = append(args, "--set", s)
	}
	return args
}

// plan lists what is run of one seed, every part after what it needs.
func plan(seed uint64) []job {
	dir := fmt.Sprintf("seed-%d", seed)
	at := func(name string) string { return path.Join(dir, name) }
	var jobs []job
	run := func(part, name, recipe string, iterations int, after []string, sets ...string) {
		j := job{name: at(name), part: part, args: runOf(recipe, at(name), seed, sets...), iterations: iterations, thin: iterations > 4}
		for _, a := range after {
			j.after = append(j.after, at(a))
		}
		jobs = append(jobs, j)
	}
	warm := policyOf(at("warm"), 1)
	from := "policy.path=" + warm
	judge := []string{"evaluate.prompts=200"}
	with := func(sets ...[]string) []string {
		out := []string{from}
		for _, s := range sets {
			out = append(out, s...)
		}
		return out
	}
	run("warm", "warm", "warm-start", 1, nil)

	curve := []string{"evaluate.every=10", "evaluate.prompts=200"}
	train := func(m policyMethod) {
		sets, after := with([]string{fmt.Sprint("iterations=", m.iterations)}, curve, m.sets), []string{"warm"}
		if m.reward != "" {
			sets, after = append(sets, "reward.path="+path.Join(at(m.reward), iteration(0), "reward")), []string{m.reward}
		}
		run("rl", m.name, m.recipe, m.iterations, after, sets...)
	}
	train(rlMethods[0]) // the students' teacher
	// The reward models on the same responses, on corrupted chains, and against the truth at step ends.
	measure := job{name: at(rewardsJob), part: "reward", args: []string{"eval"}}
	for _, m := range slices.Concat(rewardModels, shortBetas.models()) {
		run("reward", m.name, m.recipe, 1, []string{"warm"}, with(m.sets)...)
		if m.alone {
			continue
		}
		measure.after = append(measure.after, at(m.name))
		measure.args = append(measure.args, "--reward", at(m.name))
	}
	measure.args = append(measure.args, "--json")
	jobs = append(jobs, measure)
	run("long", "warm-long", "warm-start", 1, nil, append([]string{"policy.new.max_position_embeddings=256"}, longChains...)...)
	for _, m := range longBetas.models() {
		run("long", m.name, m.recipe, 1, []string{"warm-long"}, append([]string{"policy.path=" + policyOf(at("warm-long"), 1)}, m.sets...)...)
	}
	for _, m := range slices.Concat(rlMethods[1:], qrmMethods) {
		train(m)
	}

	run("students", "student", "warm-start", 1, nil, "policy.new.hidden_size=32", "policy.new.intermediate_size=88",
		"update.steps=1200", "update.optimizer.schedule.total=1200", "update.optimizer.lr=8e-3")
	for _, s := range students {
		start, after := policyOf(at("student"), 1), []string{"student", "grpo", "warm"}
		if s.name == "student-adpa-plus" {
			start, after = policyOf(at("student-dckd"), 1), []string{"student-dckd", "grpo", "warm"}
		}
		run("students", s.name, s.recipe, 1, after, append([]string{"kind=distill", "policy.path=" + start,
			"distill.teacher.path=" + policyOf(at("grpo"), grpoIterations), "distill.reference.path=" + warm}, s.sets...)...)
	}

	for _, s := range seftRuns {
		run("seft", s.name, s.recipe, 2+selfRounds, []string{"warm"}, with(s.sets)...)
	}
	for _, s := range selfTraining {
		run("seft", s.name, s.recipe, selfRounds, []string{"warm"}, with([]string{fmt.Sprint("iterations=", selfRounds)}, s.sets)...)
	}
	// as SEFT's pairs, and its steps
	run("seft", "sft-chosen", "sft", 1, []string{"warm"}, with([]string{"pairs.limit=2", "prompts.count=1000",
		"update.batch_size=32", "update.optimizer.lr=5e-4", "update.steps=300"})...)
	// What was trained on greedy answers is evaluated on sampled ones like everything else.
	for round := range selfRounds {
		jobs = append(jobs, job{name: at(fmt.Sprintf("self-greedy-round-%d", round+1)), part: "seft", after: []string{at("self-greedy")},
			args: []string{"eval", policyOf(at("self-greedy"), round+1), "--recipe", selfRecipe, "--set", "seed=" + strconv.FormatUint(seed, 10),
				"--json"}})
	}
	for _, c := range stabilityCells() {
		run("stability", c.name(), c.recipe, stabilityIterations, []string{"warm"},
			with(judge, c.sets, []string{fmt.Sprint("iterations=", stabilityIterations), fmt.Sprint("evaluate.every=", stabilityIterations),
				fmt.Sprint("update.epochs=", c.epochs), "update.minibatches=4", "update.optimizer.lr=" + c.rate})...)
	}
	return jobs
}
