// Package doctor reads other people's rollouts and says what is wrong with them before anything is trained on them.
//
// Files are read once, from their first row to their last. What is kept of them is bounded: counts, up to three examples of each
// finding, and a summary of each prompt; of more prompts than are kept, a part that their hashes choose stands for all.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/label/verify"
	"github.com/millrace/millrace/transforms/prompts"
)

// Config says what is read, and by what it is judged.
type Config struct {
	File prompts.File
	// Score is the column of the scores that responses have; "" : found by its name.
	Score string
	// Right is the least score of a response that is right.
	Right float64
	// LogProbs says what log-probs are, "" where only the files may say it, as those of runs do.
	LogProbs string
	// Verifier judges responses. Against judges them too where it is not nil.
	Verifier, Against verify.Verifier
}

// Severity says how bad a finding is.
type Severity string

const (
	Error   Severity = "error"   // rows that cannot be used, or numbers that are wrong
	Warning Severity = "warning" // what would be learned is not what one wants
	Note    Severity = "note"    // good to know
)

// severities are the order of a report.
var severities = []Severity{Error, Warning, Note}

// Finding is one thing that was found.
type Finding struct {
	Kind     string    `json:"kind"`
	Severity Severity  `json:"severity"`
	Meaning  string    `json:"meaning"` // what it is
	Advice   string    `json:"advice"`  // what to do
	Count    int       `json:"count"`
	Of       int       `json:"of"`
	Unit     string    `json:"unit"` // what is counted
	Share    float64   `json:"share"`
	Examples []Example `json:"examples,omitempty"`
}

// Example is a row of a finding.
type Example struct {
	Row  string `json:"row"`            // file and number from 1, and of several responses of a row which, from 0
	Text string `json:"text,omitempty"` // clipped
	Why  string `json:"why,omitempty"`
}

// Report is what was found.
type Report struct {
	Files     []string          `json:"files"`
	Columns   map[string]string `json:"columns"` // what was taken for what
	Rows      int               `json:"rows"`
	Responses int               `json:"responses"`
	Prompts   int               `json:"prompts"` // groups of responses to one prompt
	// SampledPrompts is the share of prompts that stand for all in what is said of groups.
	SampledPrompts float64   `json:"sampled_prompts"`
	Given          *Accuracy `json:"given,omitempty"`    // by the scores of the files
	Verified       *Accuracy `json:"verified,omitempty"` // by the verifier
	Against        *Accuracy `json:"against,omitempty"`  // by the other verifier
	Lengths        *Lengths  `json:"lengths,omitempty"`
	Findings       []Finding `json:"findings"`
}

// Accuracy counts verdicts.
type Accuracy struct {
	By    string  `json:"by"`
	Right int     `json:"right"`
	Of    int     `json:"of"` // responses of which it is known
	Share float64 `json:"share"`
}

func (a *Accuracy) add(right bool) {
	a.Of++
	if right {
		a.Right++
	}
	a.Share = float64(a.Right) / float64(a.Of)
}

// Failing reports whether something is worse than a note.
func (r Report) Failing() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity != Note })
}

// response is one of a row, as the checks see it.
type response struct {
	row    *prompts.Row
	given  prompts.Given
	where  string
	group  uint64
	score  *float64
	right  *bool // by its score
	judged [2]*verify.Result
	failed error // of the verifier, on this response
}

// outcome is what the first or the second verifier says; nil where it does not know.
func (r *response) outcome(by int) *bool {
	if r.judged[by] == nil {
		return nil
	}
	x, known := r.judged[by].Verdict.Outcome(verify.Abstains{})
	if !known {
		return nil
	}
	right := x == 1
	return &right
}

// best is the score's word, or the verifier's where there is none.
func (r *response) best() *bool {
	if r.right != nil {
		return r.right
	}
	return r.outcome(0)
}

// check looks at everything once, in the order of the files.
type check interface {
	row(*prompts.Row, string)
	response(*response)
	findings(*Report) []Finding
}

// nothing is embedded by checks that look at one thing alone.
type nothing struct{}

func (nothing) row(*prompts.Row, string) {}
func (nothing) response(*response)       {}

// batchRows is how many rows are judged at a time.
const batchRows = 512

// Examine reads the files.
func Examine(ctx context.Context, c Config) (Report, error) {
	out := Report{Columns: map[string]string{}, SampledPrompts: 1, Findings: []Finding{}}
	var err error
	if out.Files, err = c.File.Paths(ctx); err != nil {
		return out, err
	}
	if err := c.columns(ctx, &out); err != nil {
		return out, err
	}
	if d := c.File.LogProbs.Definition(); c.LogProbs == "" && d.Known() {
		c.LogProbs = d.String()
	}
	if c.LogProbs == "" {
		c.LogProbs = definition(ctx, out.Files, c.File.Fields.LogProbs)
	}
	groups := newGroups()
	checks := []check{&unreadable{}, &answers{}, &scores{}, &disagreements{}, groups, &texts{}, &lengths{tokens: c.tokens()},
		&logProbs{column: c.File.Fields.LogProbs, said: c.LogProbs}}
	scored, verified, against := &Accuracy{By: c.Score}, &Accuracy{}, &Accuracy{}
	if c.File.Fields.Chosen != "" {
		scored.By = "chosen and rejected"
	}
	var batch []*response
	flush := func() error {
		if err := c.judge(ctx, batch); err != nil {
			return err
		}
		for _, r := range batch {
			for _, check := range checks {
				check.response(r)
			}
			for of, right := range map[*Accuracy]*bool{scored: r.right, verified: r.outcome(0), against: r.outcome(1)} {
				if right != nil {
					of.add(*right)
				}
			}
		}
		batch = batch[:0]
		return nil
	}
	several := len(out.Files) > 1
	err = c.File.EachRow(ctx, func(row prompts.Row) error {
		out.Rows++
		where := fmt.Sprintf("%s:%d", files.Base(row.File), row.Number)
		for _, check := range checks {
			check.row(&row, where)
		}
		if row.Reason != "" {
			return nil
		}
		group := groupOf(&row, c.File.Fields.ID, several)
		scores := c.scoresOf(&row)
		for i, given := range row.Responses {
			r := &response{row: &row, given: given, where: where, group: group, score: scores[i]}
			if len(row.Responses) > 1 {
				r.where = fmt.Sprintf("%s[%d]", where, i)
			}
			if r.score != nil {
				right := *r.score >= c.Right
				r.right = &right
			}
			batch = append(batch, r)
		}
		out.Responses += len(row.Responses)
		if len(batch) < batchRows {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return out, err
	}
	if out.Rows == 0 {
		return out, setting.Errorf("path", "%s has no rows", c.File.Path)
	}
	out.Prompts, out.SampledPrompts = groups.all, groups.share()
	for _, v := range []verify.Verifier{c.Verifier, c.Against} {
		if v == nil {
			continue
		}
		if v == c.Verifier {
			verified.By = v.Version()
		} else {
			against.By = v.Version()
		}
	}
	out.Given, out.Verified, out.Against = known(scored), known(verified), known(against)
	for _, check := range checks {
		for _, f := range check.findings(&out) {
			if f.Count > 0 {
				f.Share = float64(f.Count) / float64(max(f.Of, 1))
				out.Findings = append(out.Findings, f)
			}
		}
	}
	slices.SortStableFunc(out.Findings, func(a, b Finding) int {
		return slices.Index(severities, a.Severity) - slices.Index(severities, b.Severity)
	})
	return out, nil
}

func known(a *Accuracy) *Accuracy {
	if a.Of == 0 {
		return nil
	}
	return a
}

// tokens reports whether responses come as token ids.
func (c Config) tokens() bool {
	return c.File.Fields.ResponseTokens != "" || c.File.Fields.Tokens != ""
}

// judge asks the verifiers about responses, several at a time.
func (c Config) judge(ctx context.Context, batch []*response) error {
	errs := make([]error, len(batch))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(batch)) {
		wg.Go(func() {
			for i := range next {
				errs[i] = c.one(ctx, batch[i])
			}
		})
	}
	for i := range batch {
		next <- i
	}
	close(next)
	wg.Wait()
	return errors.Join(errs...)
}

// one judges a response whose text and reference answer are there.
func (c Config) one(ctx context.Context, r *response) (err error) {
	if r.given.Text == "" && r.given.Tokens != nil || !r.row.HasAnswer {
		return nil
	}
	defer func() {
		if p := recover(); p != nil { // one in a goroutine would end the process
			r.failed = fmt.Errorf("panic: %v", p)
		}
	}()
	for i, v := range []verify.Verifier{c.Verifier, c.Against} {
		if v == nil {
			continue
		}
		got, err := v.Verify(ctx, verify.Gold{Answer: r.row.Answer}, verify.Response{Text: r.given.Text, Prompt: r.row.Prompt,
			Tokens: r.given.Tokens, Finish: r.given.Finish, Truncated: r.given.Finish == "length"})
		if row := (*verify.RowError)(nil); errors.As(err, &row) {
			r.failed = err
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", r.where, err)
		}
		r.judged[i] = &got
	}
	return nil
}

// examplesOf is how many examples a finding has.
const examplesOf = 3

// counted is a count with its first examples.
type counted struct {
	n        int
	examples []Example
}

func (c *counted) add(e func() Example) {
	if c.n++; len(c.examples) < examplesOf {
		c.examples = append(c.examples, e())
	}
}

// clipped is how many characters of a text an example shows.
const clipped = 160

// head is the beginning of a text.
func head(s string) string {
	if r := []rune(s[:min(len(s), 4*clipped)]); len(r) > clipped || len(s) > 4*clipped {
		return string(r[:min(len(r), clipped)]) + "..."
	}
	return s
}

// tail is the end of a text, where its answer stands.
func tail(s string) string {
	at := max(0, len(s)-4*clipped)
	for at > 0 && at < len(s) && s[at]&0xc0 == 0x80 { // not inside of a character
		at++
	}
	r := []rune(s[at:])
	if cut := max(0, len(r)-clipped); cut > 0 || at > 0 {
		return "..." + string(r[cut:])
	}
	return s
}

// unreadable counts rows that cannot be read.
type unreadable struct {
	nothing
	rows, bad int
	reasons   map[schemas.Reason]*counted
}

func (u *unreadable) row(row *prompts.Row, where string) {
	u.rows++
	if row.Reason == "" {
		return
	}
	if u.reasons == nil {
		u.reasons = map[schemas.Reason]*counted{}
	}
	if u.reasons[row.Reason] == nil {
		u.reasons[row.Reason] = &counted{}
	}
	u.bad++
	u.reasons[row.Reason].add(func() Example { return Example{Row: where, Why: head(row.Why)} })
}

func (u *unreadable) findings(*Report) (out []Finding) {
	severity := Warning
	if float64(u.bad) > 0.01*float64(u.rows) {
		severity = Error // a run ends on more (limits.dead_share)
	}
	for _, reason := range schemas.Reasons {
		if c := u.reasons[reason]; c != nil {
			out = append(out, Finding{Kind: "unreadable_" + string(reason), Severity: severity, Count: c.n, Of: u.rows, Unit: "rows",
				Meaning:  "These rows cannot be read; a run sets them aside.",
				Advice:   "Mend what the examples say, or leave the rows out; --field says which column is what.",
				Examples: c.examples})
		}
	}
	return out
}
