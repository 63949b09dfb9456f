package command

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/label/verify"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

func init() { commands = append(commands, newVerify) }

func newVerify(e *env) *cobra.Command {
	var kind, options, against, againstOptions, audit, out, cases, prompt string
	var truncated bool
	c := &cobra.Command{
		Use:   "verify GOLD RESPONSE | verify --cases FILE | verify --audit FILE --against KIND",
		Short: "Explain a verdict, hold a verifier against judged cases, or find where two verifiers disagree",
		Long: "Judge one response against a reference answer and say how the verdict came about; RESPONSE - is read from standard input.\n" +
			"With --cases, judge a file of JSON lines {gold, response, correct, kind} and say where the verifier agrees with correct, and each\n" +
			"false positive and false negative; a kind that names a verifier chooses it, any other is a label.\n" +
			"With --audit, run two verifiers over a file (JSON lines with gold or answer, and response; or Parquet and Arrow rows) and write\n" +
			"the pairs that they judge differently as JSON lines to --out.",
		Example: "  millrace verify 1/2 'The answer is \\boxed{0.5}.'\n" +
			"  millrace verify --audit solutions.jsonl --against exact",
		Args: func(cmd *cobra.Command, args []string) error {
			if audit != "" && cases != "" {
				return &usageError{errors.New("--audit and --cases are two things; give one of them")}
			}
			if audit != "" || cases != "" {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(2)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := newVerifier("kind", kind, options)
			if err != nil {
				return err
			}
			defer closeVerifier(v)
			if audit != "" {
				other, err := newVerifier("against", against, againstOptions)
				if err != nil {
					return err
				}
				defer closeVerifier(other)
				return auditFile(cmd.Context(), e, v, other, audit, out)
			}
			if cases != "" {
				return judgeFile(cmd.Context(), e, kind, v, cases)
			}
			text := args[1]
			if text == "-" {
				raw, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), verify.MaxLine))
				if err != nil {
					return err
				}
				text = string(raw)
			}
			r, err := v.Verify(cmd.Context(), verify.Gold{Answer: args[0]}, verify.Response{Text: text, Truncated: truncated, Prompt: prompt})
			if err != nil {
				return err
			}
			return e.print(r, func(w io.Writer) { fmt.Fprintln(w, strings.TrimRight(r.Explain(), "\n")) })
		},
	}
	f := c.Flags()
	f.StringVar(&kind, "kind", "math", "the verifier: "+strings.Join(verify.Names(), ", "))
	f.StringVar(&options, "options", "", "its settings as JSON")
	f.BoolVar(&truncated, "truncated", false, "the response was cut off at its length limit")
	f.StringVar(&prompt, "prompt", "", "the prompt that is answered, for a verifier that looks at it")
	f.StringVar(&cases, "cases", "", "judge the cases in this file")
	f.StringVar(&audit, "audit", "", "run two verifiers over this file")
	f.StringVar(&against, "against", "exact", "the other verifier of an audit")
	f.StringVar(&againstOptions, "against-options", "", "its settings as JSON")
	f.StringVar(&out, "out", "", "where an audit writes the disagreements (default: FILE.disagreements.jsonl)")
	return c
}

func newVerifier(flag, kind, options string) (verify.Verifier, error) {
	if !slices.Contains(verify.Names(), kind) {
		return nil, &usageError{fmt.Errorf("--%s %q is not one of %s", flag, kind, strings.Join(verify.Names(), ", "))}
	}
	v, err := verify.New(kind, json.RawMessage(options))
	if err != nil {
		return nil, &usageError{fmt.Errorf("--%s %s: options: %w", flag, kind, err)}
	}
	return v, nil
}

// closeVerifier ends what a verifier started, such as processes.
func closeVerifier(v verify.Verifier) {
	if c, ok := v.(io.Closer); ok {
		c.Close()
	}
}

// judgeFile holds a verifier against the judged cases of a file.
func judgeFile(ctx context.Context, e *env, kind string, v verify.Verifier, path string) error {
	in, err := files.Open(ctx, path)
	if err != nil {
		return err
	}
	defer in.Close()
	sum, err := verify.Judge(ctx, verify.KindOf(kind, v), in)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return e.print(sum, func(w io.Writer) {
		fmt.Fprintf(w, "agreement %.2f%%: %d of %d cases; %d false positives, %d false negatives\n", 100*sum.Share, sum.Agree, sum.Cases,
			len(sum.FalsePositives), len(sum.FalseNegatives))
		printCases(w, "false positives (judged correct, and are not)", sum.FalsePositives)
		printCases(w, "false negatives (are correct, and not judged so)", sum.FalseNegatives)
		printCases(w, "failed (the verifier ended, or answered what cannot be read; counted as no agreement)", sum.Failed)
	})
}

func printCases(w io.Writer, title string, cases []verify.JudgedCase) {
	if len(cases) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", title)
	for _, c := range cases {
		fmt.Fprintf(w, "  line %d: gold %q, response %q: %s", c.Line, c.Gold, c.Response, c.Result.Verdict)
		if why := c.Result.Rule + c.Result.Reason; why != "" {
			fmt.Fprintf(w, " (%s)", why)
		}
		fmt.Fprintf(w, ", extracted %q\n", c.Result.Extracted)
	}
}

// auditFile compares two verifiers over a file.
func auditFile(ctx context.Context, e *env, a, b verify.Verifier, path, out string) error {
	if out == "" {
		out = path + ".disagreements.jsonl"
	}
	in, err := openPairs(ctx, path)
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := files.Create(ctx, out)
	if err != nil {
		return err
	}
	defer f.Abort()
	sum, err := verify.Audit(ctx, a, b, in, f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := f.Commit(false); err != nil {
		return err
	}
	result := struct {
		A        string                    `json:"a"`
		B        string                    `json:"b"`
		Pairs    int                       `json:"pairs"`
		Differ   int                       `json:"differ"`
		Verdicts map[string]map[string]int `json:"verdicts"` // by a's verdict, then b's
		Out      string                    `json:"out"`
	}{sum.A, sum.B, sum.Pairs, sum.Differ, sum.Verdicts, out}
	return e.print(result, func(w io.Writer) {
		fmt.Fprintf(w, "%d pairs, %d judged differently by %s and %s, written to %s\n\n", sum.Pairs, sum.Differ, sum.A, sum.B, out)
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintf(table, "%s\t%s\tpairs\n", sum.A, sum.B)
		for _, va := range sortedNames(sum.Verdicts) {
			for _, vb := range sortedNames(sum.Verdicts[va]) {
				fmt.Fprintf(table, "%s\t%s\t%d\n", va, vb, sum.Verdicts[va][vb])
			}
		}
		table.Flush()
	})
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// openPairs opens a file of pairs as JSON lines.
func openPairs(ctx context.Context, path string) (io.ReadCloser, error) {
	if !strings.HasSuffix(path, "."+recordio.Parquet) && !strings.HasSuffix(path, "."+recordio.Arrow) {
		return files.Open(ctx, path)
	}
	if _, err := files.Stat(ctx, path); err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	go func() {
		buffered := bufio.NewWriter(w)
		enc := json.NewEncoder(buffered)
		err := recordio.ReadFile(ctx, path, func(b stage.Batch) error {
			answers, err := schemas.Answer.Find(b)
			if err != nil {
				return err
			}
			responses, err := schemas.Response.Find(b)
			if err != nil {
				return err
			}
			for i := range b.NumRows() {
				if err := enc.Encode(map[string]string{"gold": answers.At(i), "response": responses.At(i)}); err != nil {
					return err
				}
			}
			return nil
		})
		w.CloseWithError(errors.Join(err, buffered.Flush()))
	}()
	return r, nil
}
