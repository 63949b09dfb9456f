package main

import (
	"fmt"
	"path"
)

// Students and self-evolution on text chains.

// textStudents start from the first half of the warm start, which is hardly ever right. The reference teacher is the whole warm start, the
// teacher what reinforcement learning made of it.
var textStudents = []student{
	{"text-student-sft", "SFT on the chosen side", "text-sft", nil},
	{"text-student-sft-twice", "SFT on the chosen side, twice the steps", "text-sft", []string{"update.steps=32"}},
	{"text-student-dpo", "DPO", "text-sft", []string{"pairs={strategy: all, limit: 4, reference: reference_logp}",
		"update.losses=[{name: dpo, beta: 0.1}]"}},
	{"text-student-dckd", "DCKD", "text-dckd", nil},
	{"text-student-adpa", "ADPA", "text-adpa", nil},
	{textADPAPlus, "ADPA+", "text-adpa", nil},
}

// textADPAPlus goes on from the student of DCKD.
const textADPAPlus = "text-student-adpa-plus"

// textStudentBefore measures the student as it is before.
const textStudentBefore = "text-student-before"

// textTeacher is the method whose policies teach, the best of the table.
const textTeacher = "text-grpo-ipvrm"

// textSEFT are SEFT as in the recipe, and with the settings of the proving ground's table.
var textSEFT = []student{
	{"text-seft", "SEFT", "text-seft", nil},
	{"text-seft-always", "SEFT, always revised", "text-seft", []string{"seft.reviser.label=always"}},
	{"text-seft-greedy", "SEFT, greedy originals", "text-seft", []string{"seft.greedy=true"}},
	{"text-seft-threshold", "SEFT, kept from P(No) 0.8 on", "text-seft", []string{"seft.reviser.threshold=0.8"}},
}

// textStudentPlan trains the students of a seed, and lets a policy evolve.
func textStudentPlan(seed uint64) []job {
	dir := fmt.Sprintf("seed-%d", seed)
	teacher := path.Join(dir, textTeacher)
	jobs := []job{{name: path.Join(dir, textStudentBefore), part: "students", after: []string{textWarm},
		args: []string{"eval", policyOf(textWarm, 1), "--recipe", "text-sft", "--set", fmt.Sprint("seed=", seed), "--json"}}}
	for _, s := range textStudents {
		at := path.Join(dir, s.name)
		j := job{name: at, part: "students", after: []string{textWarm, teacher}, iterations: 1}
		start := policyOf(textWarm, 1)
		if s.name == textADPAPlus {
			dckd := path.Join(dir, "text-student-dckd")
			j.after, start = append(j.after, dckd), policyOf(dckd, 1)
		}
		sets := []string{"policy.path=" + start, "distill.teacher.path=" + policyOf(teacher, textEvery), "distill.reference.path=" + textStart()}
		if s.recipe == "text-sft" { // the teacher has no part in it
			sets = []string{"policy.path=" + start, "distill.teacher.path=" + textStart()}
		}
		j.args = runOf(s.recipe, at, seed, append(sets, s.sets...)...)
		jobs = append(jobs, j)
	}
	for _, s := range textSEFT {
		at := path.Join(dir, s.name)
		jobs = append(jobs, job{name: at, part: "seft", after: []string{textWarm}, iterations: 2 + selfRounds,
			args: runOf(s.recipe, at, seed, append([]string{"policy.path=" + textStart()}, s.sets...)...)})
	}
	return jobs
}

// textJudged are the sets that students and SEFT are measured on.
var textJudged = []struct{ name, title string }{{"avg@4", "held-out problems"}, textSets[0]}

func textStudentTable(f *figures) string {
	seeds := f.accepted()
	var rows []row
	of := 0
	for _, set := range textJudged {
		on := func(title, run string, after int) {
			values := f.of(seeds, run, set.name, after)
			rows = append(rows, row{[]string{set.title, title}, values})
		}
		on("student before", textStudentBefore, 0)
		on("reference teacher", textRL[0].name, 0)
		on("teacher", textTeacher, textEvery)
		for _, s := range textStudents {
			on(s.title, s.name, 1)
			of += spreadOf(rows[len(rows)-1].values).n
		}
	}
	if of == 0 {
		return "" // the teachers alone are no table of students
	}
	return seedTable(f, []string{"avg@4 on", "policy"}, rows)
}

func textStudentPairs(f *figures) string {
	var out []contrast
	for _, set := range textJudged {
		of := func(name string) []float64 { return f.of(f.accepted(), "text-student-"+name, set.name, 1) }
		for _, c := range []struct{ title, a, b string }{{"DCKD − SFT", "sft", "dckd"}, {"DPO − SFT", "sft", "dpo"},
			{"ADPA − SFT", "sft", "adpa"}, {"ADPA − DCKD", "dckd", "adpa"}, {"ADPA+ − ADPA", "adpa", "adpa-plus"},
			{"ADPA+ − SFT, twice the steps", "sft-twice", "adpa-plus"}} {
			out = append(out, contrast{c.title, set.title, of(c.a), of(c.b)})
		}
	}
	return pairTable(out)
}

func textSEFTTable(f *figures) string {
	seeds := f.accepted()
	var rows []row
	for _, set := range textJudged {
		rows = append(rows, row{[]string{set.title, "policy before", "0"}, f.of(seeds, textSEFT[0].name, set.name, 0)})
		for _, s := range textSEFT {
			for round := range selfRounds {
				rows = append(rows, row{[]string{set.title, s.title, fmt.Sprint(round + 1)}, f.of(seeds, s.name, set.name, seftRound(round+1))})
			}
		}
	}
	return seedTable(f, []string{"avg@4 on", "policy", "round"}, rows)
}

func textSEFTPairs(f *figures) string {
	seeds := f.accepted()
	var out []contrast
	for _, set := range textJudged {
		of := func(s student, after int) []float64 { return f.of(seeds, s.name, set.name, after) }
		for _, s := range textSEFT {
			for round := range selfRounds {
				out = append(out, contrast{fmt.Sprintf("%s, round %d − policy before", s.title, round+1), set.title, of(textSEFT[0], 0),
					of(s, seftRound(round+1))})
			}
			out = append(out, contrast{s.title + ", round 2 − round 1", set.title, of(s, seftRound(1)), of(s, seftRound(2))})
		}
	}
	return pairTable(out)
}
