package doctor

import (
	"fmt"
	"strings"

	"github.com/millrace/millrace/transforms/label/verify"
	"github.com/millrace/millrace/transforms/prompts"
)

// answers looks at reference answers: those that are missing, and those that the verifier does not understand.
type answers struct {
	responses, judged           int
	missing, unparsable, failed counted
	rows                        int
}

func (a *answers) row(row *prompts.Row, where string) {
	if row.Reason != "" {
		return
	}
	a.rows++
	if !row.HasAnswer || strings.TrimSpace(row.Answer) == "" {
		a.missing.add(func() Example { return Example{Row: where, Text: head(row.Question)} })
	}
}

func (a *answers) response(r *response) {
	a.responses++
	if r.failed != nil {
		a.failed.add(func() Example { return Example{Row: r.where, Text: tail(r.given.Text), Why: r.failed.Error()} })
	}
	if r.judged[0] == nil {
		return
	}
	a.judged++
	if r.judged[0].Verdict == verify.UnparsableAnswer && strings.TrimSpace(r.row.Answer) != "" {
		a.unparsable.add(func() Example {
			return Example{Row: r.where, Text: head(r.row.Answer), Why: r.judged[0].Reason}
		})
	}
}

func (a *answers) findings(out *Report) []Finding {
	severity := Warning
	if out.Columns["answer"] == "" {
		severity = Note // nothing was meant to be judged
	}
	return []Finding{
		{Kind: "missing_answer", Severity: severity, Count: a.missing.n, Of: a.rows, Unit: "rows", Examples: a.missing.examples,
			Meaning: "These rows have no reference answer, so that no verifier can judge their responses.",
			Advice:  "Name the column (--field answer=...), or leave the rows out: they have no outcome of ours."},
		{Kind: "unparsable_answer", Severity: Warning, Count: a.unparsable.n, Of: a.judged, Unit: "responses", Examples: a.unparsable.examples,
			Meaning: "The verifier does not understand the reference answer, so that nothing is known of the response.",
			Advice:  "Mend the answers, or choose a verifier that compares such (--verifier exact compares texts)."},
		{Kind: "verifier_failed", Severity: Error, Count: a.failed.n, Of: a.responses, Unit: "responses", Examples: a.failed.examples,
			Meaning: "The verifier failed on these responses; a run sets them aside.",
			Advice:  "Mend the verifier; what it said is in the examples."}}
}

// scores looks at the scores that come with responses.
type scores struct {
	nothing
	all           int
	none, outside counted
}

func (s *scores) response(r *response) {
	s.all++
	if r.score == nil {
		s.none.add(func() Example { return Example{Row: r.where, Text: tail(r.given.Text)} })
	} else if *r.score < 0 || *r.score > 1 {
		s.outside.add(func() Example { return Example{Row: r.where, Why: fmt.Sprintf("the score is %v", *r.score)} })
	}
}

func (s *scores) findings(out *Report) []Finding {
	if out.Columns["outcome"] == "" && out.Columns["chosen"] == "" {
		return nil
	}
	return []Finding{
		{Kind: "missing_score", Severity: Warning, Count: s.none.n, Of: s.all, Unit: "responses", Examples: s.none.examples,
			Meaning: "These responses have no score, where others have one.",
			Advice:  "Find out what became of them: a missing score is no zero."},
		{Kind: "score_range", Severity: Note, Count: s.outside.n, Of: s.all, Unit: "responses", Examples: s.outside.examples,
			Meaning: "These scores are not between 0 and 1, so they are no outcomes.",
			Advice: "Say with --right from which score on a response is right; a recipe that reads the column as outcome refuses such " +
				"rows."}}
}

// disagreements hold the verifier against the scores of the files, and against another verifier.
type disagreements struct {
	nothing
	scored, both    int
	lenient, strict counted // the score says right and the verifier wrong, and the other way round
	first, second   counted
}

func (d *disagreements) response(r *response) {
	ours, other := r.outcome(0), r.outcome(1)
	example := func(by int) func() Example {
		return func() Example {
			got := r.judged[by]
			why := fmt.Sprintf("answer %q, extracted %q (%s)", head(r.row.Answer), head(got.Extracted), got.Rule+got.Reason)
			return Example{Row: r.where, Text: tail(r.given.Text), Why: why}
		}
	}
	if ours != nil && r.right != nil {
		switch d.scored++; {
		case *r.right && !*ours:
			d.lenient.add(example(0))
		case !*r.right && *ours:
			d.strict.add(example(0))
		}
	}
	if ours != nil && other != nil {
		switch d.both++; {
		case *ours && !*other:
			d.first.add(example(1))
		case !*ours && *other:
			d.second.add(example(1))
		}
	}
}

func (d *disagreements) findings(*Report) []Finding {
	const given = "Read the examples: where the verifier is right the scores are noise that is learned; where it is wrong, it wants another " +
		"setting or kind (--verifier)."
	const both = "Read the examples, and take the verifier that is right; millrace verify --audit writes all of them."
	return []Finding{
		{Kind: "score_right_verifier_wrong", Severity: Warning, Count: d.lenient.n, Of: d.scored, Unit: "responses",
			Meaning: "The scores of the files say right, and the verifier says wrong.", Advice: given, Examples: d.lenient.examples},
		{Kind: "score_wrong_verifier_right", Severity: Warning, Count: d.strict.n, Of: d.scored, Unit: "responses",
			Meaning: "The scores of the files say wrong, and the verifier says right.", Advice: given, Examples: d.strict.examples},
		{Kind: "verifier_right_against_wrong", Severity: Warning, Count: d.first.n, Of: d.both, Unit: "responses",
			Meaning: "The verifier says right, and the one of --against says wrong.", Advice: both, Examples: d.first.examples},
		{Kind: "verifier_wrong_against_right", Severity: Warning, Count: d.second.n, Of: d.both, Unit: "responses",
			Meaning: "The verifier says wrong, and the one of --against says right.", Advice: both, Examples: d.second.examples}}
}
