package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/pipelines/telemetry"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/prompts"
)

// job is a run of kind label over whole files: what the commands rollout, label and score share.
type job struct {
	flags     recipeFlags
	out       string
	fields    []string
	ungrouped bool
	defined   string // what the log-probs of the rows are
	count     int
	perRecord int            // prompts that travel together: more where no model holds them at a time
	tree      map[string]any // the recipe
	notes     []string
	recipe    recipe.Recipe // what the tree is read as, once the job runs
	logProbs  bool          // rows have the policy's own log-probs, as values read them
	// bringsSteps says that rows of files come with their steps.
	bringsSteps bool
}

// The directory of a job is a run: the same command again goes on with it.
func (j *job) register(c *cobra.Command, count, perRecord int) {
	j.perRecord = perRecord
	c.Flags().StringVar(&j.out, "out", "", "the directory of the job; the same command again goes on with it")
	c.Flags().StringArrayVar(&j.fields, "field", nil, "what a column is, such as prompt=question or answer=reward_model.ground_truth; may be "+
		"repeated (default: by the columns' names)")
	c.Flags().BoolVar(&j.ungrouped, "ungrouped", false, "rows of one prompt do not lie side by side: take each by itself")
	c.Flags().StringVar(&j.defined, "logprobs", "", "what the log-probs of other programs' rows are: raw, or what they were processed by, "+
		"such as temperature=0.7,top_p=0.9 (prompts.file.logprobs; default: not known)")
	c.Flags().IntVar(&j.count, "count", count, "prompts an iteration, after each of which is a commit")
	j.flags.register(c)
	endsDead(c, deadRows)
}

// from sets up the source: rows of ours (batch files, runs) as they are, other files by their columns.
// Of rows of ours the wanted columns are kept beside those of prompts and rollouts.
func (j *job) from(ctx context.Context, args []string, responses bool, wanted ...string) error {
	if j.out == "" {
		return &usageError{errors.New("name a directory with --out")}
	}
	columns, err := j.ours(ctx, args, responses)
	if err != nil {
		return err
	}
	source := map[string]any{"split": "all", "count": j.count, "per_record": j.perRecord}
	if columns != nil {
		batch := map[string]any{"path": paths(args), "exhausted": "stop"}
		var keep []string
		for _, name := range wanted {
			if slices.Contains(columns, name) {
				keep = append(keep, name)
			}
		}
		if keep != nil {
			batch["columns"] = keep
		}
		j.logProbs = true
		source["source"], source["batch"] = "batch", batch
	} else if err := j.file(ctx, batchesOf(ctx, args), responses, source); err != nil {
		return err
	}
	j.tree = map[string]any{"kind": "label", "run": j.out, "prompts": source}
	return nil
}

// ours are the columns that all files have where all are rows that runs have left, else nil.
func (j *job) ours(ctx context.Context, args []string, responses bool) ([]string, error) {
	if !responses || len(j.fields) > 0 || j.ungrouped {
		return nil, nil
	}
	var columns []string
	for i, arg := range args {
		file := arg
		if d, err := run.Read(ctx, arg); err == nil {
			dir, _, err := d.Iteration(ctx, -1)
			if err != nil {
				return nil, err
			}
			rows, err := run.RowFiles(ctx, dir, chain.BatchName)
			if err != nil {
				return nil, err
			}
			if len(rows) == 0 {
				return nil, setting.Errorf("", "%s holds no rows", arg)
			}
			file = rows[0]
		}
		of, err := look.Inspect(ctx, file)
		if err != nil || of.Kind != "parquet" && of.Kind != "arrow" || of.Meta == nil || of.Meta.Run == "" {
			return nil, nil // which the source says, or reads as another program's
		}
		has := func(name string) bool {
			return slices.ContainsFunc(of.Columns, func(c look.ColumnSummary) bool { return c.Name == name })
		}
		if i == 0 {
			for _, c := range of.Columns {
				columns = append(columns, c.Name)
			}
		}
		columns = slices.DeleteFunc(columns, func(name string) bool { return !has(name) })
	}
	if !slices.Contains(columns, "response_tokens") {
		return nil, nil
	}
	return columns, nil
}

// batchesOf names the rows of each run in its place: the other files of its directory are none.
func batchesOf(ctx context.Context, args []string) []string {
	out := slices.Clone(args)
	for i, arg := range args {
		if _, err := run.Read(ctx, arg); err == nil {
			out[i] = files.Join(arg, "iter-*", chain.BatchName+"-*.parquet")
		}
	}
	return out
}

func paths(args []string) any {
	if len(args) == 1 {
		return args[0]
	}
	return args
}

// file names the fields of other programs' files.
func (j *job) file(ctx context.Context, args []string, responses bool, source map[string]any) error {
	f := prompts.File{Path: args, Exhausted: "stop", Ungrouped: j.ungrouped}
	if err := setting.First(j.set(&f), j.named(&f)); err != nil {
		return err
	}
	if err := j.define(&f); err != nil {
		return err
	}
	f, layout, err := j.fill(ctx, f, responses)
	if err != nil {
		return err
	}
	defined, brings := f.Defines()[schemas.OldLogP.Name]
	j.logProbs = brings && schemas.FullLogP("").Matches(defined)
	j.bringsSteps = slices.Contains(schemas.Names(f.Columns()), schemas.StepBytes.Name)
	section, err := asTree(f)
	if err != nil {
		return err
	}
	source["source"], source["file"] = "file", section
	fields, _ := section["fields"].(map[string]any)
	var said []string
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if text, ok := fields[key].(string); ok && text != "" {
			said = append(said, key+"="+text)
		}
	}
	if layout == "" {
		layout = "by their names"
	}
	j.notes = append(j.notes, fmt.Sprintf("columns (%s): %s; --field says otherwise", layout, strings.Join(said, " ")))
	if f.Fields.Answer == "" {
		j.notes = append(j.notes, "no column is a reference answer; a verifier that compares with one judges nothing (--field answer=COLUMN)")
	}
	return nil
}

// fileSection is where the settings of a source of files stand.
const fileSection = "prompts.file"

// set takes what settings say of the file, which says how its columns are found.
func (j *job) set(f *prompts.File) error {
	tree := map[string]any{}
	for _, given := range j.flags.all() {
		key, text, _ := strings.Cut(given, "=")
		key, of := strings.CutPrefix(key, fileSection+".")
		if !of || strings.Contains(key, "[") {
			continue
		}
		var value any
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			return setting.Errorf(fileSection+"."+key, "%v", err)
		}
		section := tree
		if outer, inner, nested := strings.Cut(key, "."); nested {
			if _, there := tree[outer].(map[string]any); !there {
				tree[outer] = map[string]any{}
			}
			section, key = tree[outer].(map[string]any), inner
		}
		section[key] = value
	}
	return setting.Decode(tree, f, fileSection)
}

// named takes the fields that the flags name.
func (j *job) named(f *prompts.File) error {
	named := map[string]any{}
	for _, f := range j.fields {
		key, column, ok := strings.Cut(f, "=")
		if !ok || key == "" || column == "" {
			return setting.Errorf("--field "+f, "want field=column, such as prompt=question")
		}
		named[key] = column
	}
	return setting.Decode(named, &f.Fields, "--field")
}

// fill names the other fields by their columns.
func (j *job) fill(ctx context.Context, f prompts.File, responses bool) (prompts.File, string, error) {
	f, layout, err := f.Fill(ctx, responses)
	var of *setting.Error
	if errors.As(err, &of) && strings.HasPrefix(of.Path, "fields.") {
		return f, layout, setting.Errorf("--field "+strings.TrimPrefix(of.Path, "fields."), "%s", of.Why)
	}
	if errors.As(err, &of) && of.Path == "format" {
		return f, layout, setting.In(fileSection, err)
	}
	return f, layout, err
}

// define says what the log-probs of the file are.
func (j *job) define(f *prompts.File) error {
	if j.defined == "" {
		return nil
	}
	named := map[string]any{}
	if j.defined != "raw" {
		for part := range strings.SplitSeq(j.defined, ",") {
			key, text, ok := strings.Cut(part, "=")
			var value any
			if !ok || yaml.Unmarshal([]byte(text), &value) != nil {
				return setting.Errorf("--logprobs "+j.defined, "want raw, or settings such as temperature=0.7,top_p=0.9")
			}
			named[key] = value
		}
	}
	f.LogProbs = new(prompts.LogProbs)
	f.LogProbs.SetDefaults()
	return setting.First(setting.Decode(named, f.LogProbs, "--logprobs"), setting.In("--logprobs", setting.Check(*f.LogProbs)))
}

// asTree writes a section as a recipe has it.
func asTree(section any) (map[string]any, error) {
	raw, err := json.Marshal(section)
	if err != nil {
		return nil, err
	}
	var tree map[string]any
	return tree, yaml.Unmarshal(raw, &tree)
}

// jobResult is what a job has left.
type jobResult struct {
	Run        string             `json:"run"`
	Files      []string           `json:"files"`
	Iterations int                `json:"iterations"`
	Rows       int                `json:"rows"`
	Dead       int                `json:"dead"`
	Filtered   int                `json:"filtered"` // by stages, as the telemetry of the run tells
	Metrics    map[string]float64 `json:"metrics"`  // means over the rows
}

// do runs the job to its end, and says what it has left.
func (j *job) do(cmd *cobra.Command, e *env) error {
	out, err := j.run(cmd, e)
	if err != nil {
		return err
	}
	return e.print(out, out.text)
}

// run runs the job to its end.
func (j *job) run(cmd *cobra.Command, e *env) (out jobResult, err error) {
	ctx := cmd.Context()
	raw, err := yaml.Marshal(j.tree)
	if err != nil {
		return out, err
	}
	r, err := recipe.Parse(raw, j.flags.all())
	if err != nil {
		return out, err
	}
	show := progress.Start(e.err, "millrace "+cmd.Name())
	defer show.Done()
	for _, note := range j.notes {
		show.Note("%s", note)
	}
	sized, ok := r.Prompts.Of.(prompts.Sized)
	if !ok {
		return out, setting.Errorf("prompts.source", "%s has no end, which a job runs to", r.Prompts.Source)
	}
	n, err := sized.Size(ctx, r.Prompts.Split)
	if err != nil {
		return out, setting.In("prompts."+r.Prompts.Source, err)
	}
	r.Iterations = max(1, int(math.Ceil(float64(n)/float64(r.Prompts.Count))))
	j.recipe = r
	m, err := method.New(r)
	if err != nil {
		return out, err
	}
	notes, err := lookedAt(ctx, m, "millrace "+cmd.Name())
	if err != nil {
		return out, err
	}
	for _, note := range notes {
		show.Note("%s", note)
	}
	if err := method.RunLookedAt(ctx, m, show); err != nil {
		return out, err
	}
	return jobDone(ctx, r.Run)
}

// jobDone sums up the iterations of a job.
func jobDone(ctx context.Context, dir string) (jobResult, error) {
	out := jobResult{Run: dir, Metrics: map[string]float64{}}
	d, err := run.Read(ctx, dir)
	if err != nil {
		return out, err
	}
	done, err := d.Committed(ctx)
	if err != nil {
		return out, err
	}
	out.Iterations = len(done)
	measured, err := d.ReadMeasurements(ctx)
	if err != nil {
		return out, err
	}
	stages, err := telemetry.ReadStages(ctx, dir)
	if err != nil {
		return out, err
	}
	for _, s := range stages {
		if s.Iteration < len(done) {
			out.Filtered += int(s.Filtered)
		}
	}
	weights := map[string]float64{}
	for _, m := range measured {
		rows := m.Metrics["rows"]
		out.Rows += int(rows)
		for name, x := range m.Metrics {
			if name != "rows" {
				out.Metrics[name] += rows * x
				weights[name] += rows
			}
		}
	}
	for name, n := range weights {
		out.Metrics[name] /= max(n, 1)
	}
	for _, i := range done {
		rows, err := files.ListIn(ctx, d.IterPath(i), chain.BatchName+"-*.parquet")
		if err != nil {
			return out, err
		}
		slices.Sort(rows)
		out.Files = append(out.Files, rows...)
		dead, err := files.ListIn(ctx, d.IterPath(i), chain.DeadName+"-*.parquet")
		if err != nil {
			return out, err
		}
		for _, path := range dead {
			of, err := look.Inspect(ctx, path)
			if err != nil {
				return out, err
			}
			out.Dead += int(of.Rows)
		}
	}
	return out, nil
}

func (r jobResult) text(w io.Writer) {
	fmt.Fprintf(w, "%d rows, %d dead, %d filtered, in %s\n", r.Rows, r.Dead, r.Filtered,
		files.Join(r.Run, "iter-*", chain.BatchName+"-*.parquet"))
	for _, name := range slices.Sorted(maps.Keys(r.Metrics)) {
		fmt.Fprintf(w, "  %-24s %.4g\n", name, r.Metrics[name])
	}
	if r.Dead > 0 {
		fmt.Fprintf(w, "what is wrong with dead rows: millrace show --dead %s\n", r.Run)
	}
	fmt.Fprintf(w, "in another program's format: millrace export %s --to FORMAT --out DIR\n", r.Run)
}
