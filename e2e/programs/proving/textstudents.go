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

func textStudentTable(f *figures) string {
	seeds := f.accepted()
	rows := []row{{[]string{"student before"}, f.of(seeds, textStudentBefore, "avg@4", 0)},
		{[]string{"reference teacher"}, f.of(seeds, textRL[0].name, "avg@4", 0)},
		{[]string{"teacher"}, f.of(seeds, textTeacher, "avg@4", textEvery)}}
	of := 0
	for _, s := range textStudents {
		values := f.of(seeds, s.name, "avg@4", 1)
		of += spreadOf(values).n
		rows = append(rows, row{[]string{s.title}, values})
	}
	if of == 0 {
		return "" // the teachers alone are no table of students
	}
	return seedTable(f, []string{"avg@4"}, rows)
}

func textStudentPairs(f *figures) string {
	of := func(name string) []float64 { return f.of(f.accepted(), "text-student-"+name, "avg@4", 1) }
	var out []contrast
	for _, c := range []struct{ title, a, b string }{{"DCKD − SFT", "sft", "dckd"}, {"DPO − SFT", "sft", "dpo"}, {"ADPA − SFT", "sft", "adpa"},
		{"ADPA − DCKD", "dckd", "adpa"}, {"ADPA+ − ADPA", "adpa", "adpa-plus"}, {"ADPA+ − SFT, twice the steps", "sft-twice", "adpa-plus"}} {
		out = append(out, contrast{c.title, "avg@4", of(c.a), of(c.b)})
	}
	return pairTable(out)
}

func textSEFTTable(f *figures) string {
	seeds := f.accepted()
	rows := []row{{[]string{"policy before", "0"}, f.of(seeds, textSEFT[0].name, "avg@4", 0)}}
	for _, s := range textSEFT {
		for round := range selfRounds {
			rows = append(rows, row{[]string{s.title, fmt.Sprint(round + 1)}, f.of(seeds, s.name, "avg@4", seftRound(round+1))})
		}
	}
	return seedTable(f, []string{"avg@4", "round"}, rows)
}

func textSEFTPairs(f *figures) string {
	seeds := f.accepted()
	var out []contrast
	for _, s := range textSEFT {
		before := f.of(seeds, textSEFT[0].name, "avg@4", 0)
		for round := range selfRounds {
			after := f.of(seeds, s.name, "avg@4", seftRound(round+1))
			out = append(out, contrast{fmt.Sprintf("%s, round %d − policy before", s.title, round+1), "avg@4", before, after})
		}
		out = append(out, contrast{s.title + ", round 2 − round 1", "avg@4", f.of(seeds, s.name, "avg@4", seftRound(1)),
			f.of(seeds, s.name, "avg@4", seftRound(2))})
	}
	return pairTable(out)
}
