package main

import (
	"fmt"
	"path"
	"strconv"
	"strings"
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
var parts = []string{"warm", "rl", "reward", "students", "seft", "stability"}

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
	score               string // the column by whose last number Best-of-N goes
	sets                []string
}

var rewardModels = []rewardModel{
	{"ipvrm", "IPVRM, margin 0", "ipvrm-refresh", "mean_value", nil},
	{"implicit-prm", "Implicit PRM", "implicit-prm-refresh", "value", nil},
	{"dpo-rm", "DPO-RM", "dpo-rm-refresh", "value", nil},
	{"ipvrm-m5", "IPVRM, margin 5", "ipvrm-refresh", "mean_value", []string{"update.losses[0].margin=5"}},
	{"value-head", "value head", "value-head-refresh", "mean_value", nil},
	{"qrm", "Q-RM, scalar head", "qrm-refresh", "mean_value", nil},
	{"qrm-lm", "Q-RM, LM logits", "qrm-lm-refresh", "mean_value", nil},
	{"ipvrm-1000", "IPVRM, margin 0, 1,000 prompts", "ipvrm-refresh", "mean_value", []string{"prompts.count=1000"}},
	{"implicit-prm-1000", "Implicit PRM, 1,000 prompts", "implicit-prm-refresh", "value", []string{"prompts.count=1000"}},
}

// morePrompts ends the names of reward models that are trained on twice the prompts.
const morePrompts = "-1000"

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

var stabilityMethods = []struct {
	method, title, recipe string
	rates                 []string
	epochs                []int
	sets                  []string
}{
	{"clip", "GRPO clip", "grpo", []string{"1e-4", "3e-4", "1e-3"}, []int{1, 4}, []string{"rollout.samples=8"}},
	{"ppo", "PPO", "ppo", []string{"3e-4", "1e-3"}, []int{1, 4}, []string{"rollout.samples=8"}},
	{"lco-kld", "LCO-KLD", "lco-kld", []string{"3e-4", "1e-3"}, []int{1, 4}, nil},
	{"lco-mse", "LCO-MSE", "lco-mse", []string{"3e-4", "1e-3"}, []int{1, 4}, nil},
	{"lco-lch", "LCO-LCH", "lco-lch", []string{"3e-4", "1e-3"}, []int{1, 4}, nil},
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

// student is a row of the students' table.
type student struct {
	name, title, recipe string
	sets                []string
}

var students = []student{
	{"student-sft", "SFT on the chosen side", "sft", nil},
	{"student-dpo", "DPO", "dpo", nil},
	{"student-dckd", "DCKD", "dckd", nil},
	{"student-adpa", "ADPA", "adpa", nil},
	{"student-adpa-plus", "ADPA+", "adpa-plus", nil},
}

const selfRounds = 2 // rounds of SEFT and of self-training

// selfRecipe is the recipe beside this file, written into the directory of the runs.
const selfRecipe = "self-training.yaml"

// selfTraining is a row of SEFT's table: the policy trained on its own answers to as many new prompts, for as many steps.
var selfTraining = []student{
	{"self", "self-training, sampled answers", selfRecipe, nil},
	{"self-greedy", "self-training, greedy answers", selfRecipe, []string{"rollout.greedy=true"}},
}

// plan lists what is run of one seed, every part after what it needs.
func plan(seed uint64) []job {
	dir := fmt.Sprintf("seed-%d", seed)
	at := func(name string) string { return path.Join(dir, name) }
	var jobs []job
	run := func(part, name, recipe string, iterations int, after []string, sets ...string) {
		j := job{name: at(name), part: part, args: []string{"run", recipe, "--set", "run=" + at(name), "--set", "seed=" +
			strconv.FormatUint(seed, 10)},
			iterations: iterations, thin: iterations > 4}
		for _, s := range sets {
			j.args = append(j.args, "--set", s)
		}
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
	run("rl", "grpo", "grpo", grpoIterations, []string{"warm"}, with([]string{fmt.Sprint("iterations=", grpoIterations)}, curve)...)
	reward := "reward.path=" + path.Join(at("ipvrm"), iteration(0), "reward")
	// The reward models on the same responses, on corrupted chains, and against the truth at step ends.
	measure := job{name: at(rewardsJob), part: "reward", args: []string{"eval"}}
	for _, m := range rewardModels {
		run("reward", m.name, m.recipe, 1, []string{"warm"}, with(m.sets)...)
		if strings.HasSuffix(m.name, morePrompts) {
			continue // its refresh measures what it is run for
		}
		measure.after = append(measure.after, at(m.name))
		measure.args = append(measure.args, "--reward", at(m.name))
	}
	measure.args = append(measure.args, "--json")
	jobs = append(jobs, measure)
	run("rl", "distrl", "distrl", distrlIterations, []string{"ipvrm"}, with([]string{reward}, curve)...)
	run("rl", "grpo-ipvrm", "distrl", distrlIterations, []string{"ipvrm"},
		with([]string{reward}, curve, []string{"update.losses=[{name: ppo}]"})...)

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

	run("seft", "seft", "seft", 2+selfRounds, []string{"warm"}, from)
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
