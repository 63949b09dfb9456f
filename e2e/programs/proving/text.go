package main

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
)

// Text chains: a pretrained model, warmed up once on worked solutions, from which every method starts.

var textParts = []string{"rl", "lco", "reward", "qrm", "students", "seft"}

// textEvery is how many iterations lie between two evaluations; methods are set against one another after as many.
const textEvery = 10

// textWarm is the run that all seeds start from. As the reward model of a method it says that the reward model starts there too.
const textWarm = "warm"

// textPlan lists what is run of one seed.
func textPlan(seed uint64) []job {
	jobs := []job{{name: textWarm, part: "warm", iterations: textWarmIterations, args: []string{"run", "text-warm-start", "--set",
		"run=" + textWarm, "--set", "policy.path=" + pretrained}}}
	train := func(part string, methods []policyMethod) {
		for _, m := range methods {
			jobs = append(jobs, textPolicy(seed, part, m))
		}
	}
	train("rl", textRL)
	train("lco", textLCO)
	jobs = append(jobs, textRewardPlan(seed)...)
	train("qrm", textQRM) // on a reward model of the ones before
	return append(jobs, textStudentPlan(seed)...)
}

const textWarmIterations = 2

// textStart is the policy that everything starts from.
func textStart() string { return policyOf(textWarm, textWarmIterations) }

// textPolicy is a run of a method.
func textPolicy(seed uint64, part string, m policyMethod) job {
	dir := fmt.Sprintf("seed-%d", seed)
	at := path.Join(dir, m.name)
	j := job{name: at, part: part, after: []string{textWarm}, iterations: m.iterations, thin: true}
	sets := []string{"policy.path=" + textStart(), fmt.Sprint("iterations=", m.iterations), fmt.Sprint("evaluate.every=", textEvery)}
	switch m.reward {
	case "":
	case textWarm:
		sets = append(sets, "reward.path="+textStart())
	default:
		j.after = append(j.after, path.Join(dir, m.reward))
		sets = append(sets, "reward.path="+path.Join(dir, m.reward, iteration(0), "reward"))
	}
	j.args = runOf(m.recipe, at, seed, append(sets, m.sets...)...)
	return j
}

// The further sets of the recipes, and how their rows are named.
var textSets = []struct{ name, title string }{{"wording", "a wording that was never trained on"}, {"longer", "one step more"}}

// collectText reads the curves of a run, and what would tell of a gamed reward.
func collectText(_ context.Context, p *proving, f *figures, seed uint64, j job) error {
	name := path.Base(j.name)
	if j.iterations == 0 {
		return p.collectEval(f, seed, j)
	}
	measured, err := measurements(filepath.Join(p.dir, j.name), j.iterations)
	if err != nil {
		return err
	}
	if j.part == "reward" {
		return p.collectReward(f, seed, name, *measured[len(measured)-1].Evaluation)
	}
	gap, echo := 0.0, 0.0
	for _, m := range measured {
		gap, echo = max(gap, m.Metrics["audit_gap"]), max(echo, m.Metrics["echo_share"])
		if x, ok := m.Metrics["entropy"]; ok && m.Iterations%textEvery == 0 {
			f.add(seed, name, "entropy", m.Iterations, x)
		}
		if m.Evaluation == nil {
			continue
		}
		f.add(seed, name, p.ground.avg, m.Iterations, m.Evaluation.Avg.Mean)
		f.add(seed, name, p.ground.avg+"_stderr", m.Iterations, m.Evaluation.Avg.StdErr)
		for _, set := range textSets {
			if x, ok := m.Metrics["set/"+set.name+"/"+p.ground.avg]; ok {
				f.add(seed, name, set.name, m.Iterations, x)
			}
		}
	}
	f.add(seed, name, "audit_gap_max", 0, gap)
	f.add(seed, name, "echo_share_max", 0, echo)
	return nil
}

func noCharts(*figures) map[string]plate { return nil }

func textTables(f *figures) map[string]string {
	return map[string]string{"text-rl": textTable(f), "text-pairs": textPairs(f), "text-sets": textSetsTable(f),
		"text-lco": textMethods(f, textLCO), "text-lco-pairs": textLCOPairs(f), "text-cost": textCost(f),
		"text-reward": textRewardTable(f), "text-certainty": textCertainty(f), "text-reward-pairs": textRewardPairs(f),
		"text-qrm": textMethods(f, textQRM), "text-qrm-pairs": textQRMPairs(f),
		"text-students": textStudentTable(f), "text-students-pairs": textStudentPairs(f),
		"text-seft": textSEFTTable(f), "text-seft-pairs": textSEFTPairs(f), "text-claims": claimTable(textClaims(f))}
}
