package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/doctor"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/label/verify"
	"github.com/millrace/millrace/transforms/prompts"
)

func init() { commands = append(commands, newDoctor) }

// foundError says that the files have something worse than a note, where --strict asks for it.
type foundError struct{ n int }

func (e *foundError) Error() string {
	return fmt.Sprintf("%d findings are warnings or errors (--strict)", e.n)
}

func newDoctor(e *env) *cobra.Command {
	var j job
	var kind, options, against, againstOptions, format string
	var right float64
	var strict bool
	c := &cobra.Command{
		Use:   "doctor RUN|FILE...",
		Short: "Say what is wrong with rollouts: groups that teach nothing, verdicts in dispute, truncation, log-probs; no model needed",
		Long: "Read rollouts of other programs (verl, TRL and others: JSONL, JSON, Parquet, packed or not; folders and patterns) or of runs,\n" +
			"and say what is wrong with them, what it means and what to do. Columns are known by their names, or by --field; --field\n" +
			"outcome=... is the column of scores. Findings are no failure: the exit code is 0, but 3 with --strict where one is worse than a\n" +
			"note.",
		Example: "  millrace doctor 'dump/*.jsonl'\n" +
			"  millrace doctor completions.parquet --field outcome=accuracy_reward --strict",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			from, err := rowsOf(ctx, args, -1, []string{chain.BatchName})
			if err != nil {
				return err
			}
			file := prompts.File{Path: from.Files, Ungrouped: true, Format: format}
			if err := j.named(&file); err != nil {
				return err
			}
			cfg := doctor.Config{Right: right, Score: file.Fields.Outcome}
			file.Fields.Outcome = ""
			if err := j.define(&file); err != nil {
				return err
			}
			file, _, err = j.fill(ctx, file, true)
			var of *setting.Error
			if errors.As(err, &of) && of.Path == fileSection+".format" {
				return setting.Errorf("--format", "%s", of.Why)
			}
			if err != nil {
				return err
			}
			cfg.File = file
			cfg.LogProbs = j.defined
			if cfg.Verifier, err = newVerifier("verifier", kind, options); err != nil {
				return err
			}
			defer closeVerifier(cfg.Verifier)
			if against != "" {
				if cfg.Against, err = newVerifier("against", against, againstOptions); err != nil {
					return err
				}
				defer closeVerifier(cfg.Against)
			}
			show := progress.Start(e.err, "millrace doctor")
			found, err := doctor.Examine(ctx, cfg)
			show.Done()
			if err != nil {
				return err
			}
			if err := e.print(found, found.Text); err != nil || !strict || !found.Failing() {
				return err
			}
			n := 0
			for _, f := range found.Findings {
				if f.Severity != doctor.Note {
					n++
				}
			}
			return &foundError{n}
		},
	}
	f := c.Flags()
	f.StringArrayVar(&j.fields, "field", nil, "what a column is, such as prompt=question or outcome=score; may be repeated (default: by the "+
		"columns' names)")
	f.StringVar(&j.defined, "logprobs", "", "what the log-probs are: raw, or what they were processed by, such as temperature=0.7,top_p=0.9")
	f.StringVar(&format, "format", "", "what files are whose names do not tell: jsonl, json, parquet or arrow")
	f.StringVar(&kind, "verifier", "math", "the verifier that judges: "+strings.Join(verify.Names(), ", "))
	f.StringVar(&options, "options", "", "its settings as JSON")
	f.StringVar(&against, "against", "", "another verifier, which is held against it")
	f.StringVar(&againstOptions, "against-options", "", "its settings as JSON")
	f.Float64Var(&right, "right", 0.5, "the least score of a response that is right")
	endsDead(c, "with `--strict`, where a finding is worse than a note")
	f.BoolVar(&strict, "strict", false, "exit with code 3 where something is worse than a note")
	return c
}
