// Package preflight looks before anything runs whether what a recipe names is there and can do what is asked of it.
package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/label/verify"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/update"
	"github.com/millrace/millrace/transforms/value"
)

// Report is what was found of what a recipe names.
type Report struct {
	Prompts []prompts.Findings `json:"prompts,omitempty"`
	Lengths chain.Lengths      `json:"lengths,omitzero"`
	Notes   []string           `json:"notes,omitempty"` // what a run can do with, and people should know
}

func (out *Report) note(format string, args ...any) {
	out.Notes = append(out.Notes, fmt.Sprintf(format, args...))
}

// Look opens what a recipe names: the first rows of prompt files, model directories, endpoints. Nodes are the stages of its first
// iteration. Makers names the recipe that makes a directory, "" where none does.
func Look(ctx context.Context, r recipe.Recipe, nodes []chain.Node, makers func(dir string) string) (Report, error) {
	var out Report
	found, err := prompts.Inspect(ctx, r.Prompts)
	if err != nil {
		return out, setting.In("prompts", err)
	}
	out.Prompts = found
	for _, f := range found {
		if err := out.source(r, f); err != nil {
			return out, err
		}
	}
	for _, p := range places(r) {
		if err := present(ctx, p, makers); err != nil {
			return out, err
		}
	}
	if e := r.Update.External; e != nil && len(e.Command) > 0 {
		out.note("the update is done by %s", strings.Join(e.Command, " "))
	} else if e != nil {
		out.note("the update is done by a trainer that watches the directory of tasks")
	}
	trained := func(t update.Term) bool { return t.Name == "value" }
	if chain.ReadsCritic(r) && r.Update.External == nil && !slices.ContainsFunc(r.Update.Losses, trained) {
		out.note("advantages are over a value head that no loss of update trains; add {name: value} to update.losses, or it stays as it is")
	}
	if err := setting.First(scored(r), verifiers(r), out.measure(ctx, r, found)); err != nil {
		return out, err
	}
	return out, setting.First(Vocabularies(ctx, r, true), Endpoints(ctx, r, nodes))
}

// source notes what is unusual about a source of prompts.
func (out *Report) source(r recipe.Recipe, f prompts.Findings) error {
	note := out.note
	if f.DeadShare() > 0 {
		note("%s: %.2f%% of the first %d rows would be set aside, such as %s", f.Source, 100*f.DeadShare(), f.Rows, f.Fault)
	}
	if f.DeadShare() > r.Limits.DeadShare {
		return setting.Errorf("limits.dead_share", "%.2f%% of the first %d rows of %s would be set aside, and %.2f%% is allowed; the first: %s",
			100*f.DeadShare(), f.Rows, f.Source, 100*r.Limits.DeadShare, f.Fault)
	}
	if f.Contaminated > 0 {
		note("%s: %d of the first %d rows are taken out, since their prompts are in test sets (prompts.file.decontaminate), such as %s", f.Source,
			f.Contaminated, f.Rows, f.Contamination)
	}
	if f.Repeated > 0 {
		note("%s: %d of the first %d rows repeat a prompt that was there before: each prompt is taken once; "+
			"prompts.file.fields.id makes a prompt of every row", f.Source, f.Repeated, f.Rows)
	}
	if share := float64(f.Repeated) / float64(max(f.Rows, 1)); r.Limits.RepeatedShare > 0 && share > r.Limits.RepeatedShare {
		return setting.Errorf("limits.repeated_share", "%.2f%% of the first %d rows of %s repeat a prompt, and %.2f%% is allowed", 100*share,
			f.Rows, f.Source, 100*r.Limits.RepeatedShare)
	}
	for _, left := range f.Left {
		note("%s: rows come without a column that no field names and that cannot be read: %s", f.Source, left)
	}
	if f.NearCopies > 0 {
		note("%s: %d prompts of the first %d rows are in split test, and nearly the same in train", f.Source, f.NearCopies, f.Rows)
	}
	if !f.Whole {
		return nil
	}
	if n := f.Prompts[r.Prompts.Split]; r.Prompts.Split != "all" && n == 0 {
		return setting.Errorf("prompts.split", "%q has no prompts in %s", r.Prompts.Split, f.Source)
	} else if n > 0 && n < r.Prompts.Count {
		note("%s: split %s has %d prompts, fewer than an iteration asks for (prompts.count %d)", f.Source, r.Prompts.Split, n, r.Prompts.Count)
	}
	if r.Measures() && r.Evaluate.Split != "all" && f.Prompts[r.Evaluate.Split] == 0 {
		return setting.Errorf("evaluate.split", "%q has no prompts in %s; see prompts.file.test_share", r.Evaluate.Split, f.Source)
	}
	return nil
}

// program is that of a verifier which is one, or of a trainer, and the setting that names it.
type program struct {
	path    string
	command []string
	here    bool // it is started where this program was
}

// programs are those of all verifiers of a recipe, and of its trainer.
func programs(r recipe.Recipe) (out []program) {
	add := func(path string, v label.VerifierConfig) {
		if c, ok := v.Options.(verify.CommandConfig); ok && len(c.Command) > 0 {
			out = append(out, program{path + ".verifier.options.command", c.Command, false})
		}
	}
	if e := r.Update.External; e != nil && len(e.Command) > 0 {
		out = append(out, program{"update.external.command", e.Command, true})
	}
	add("label", r.Label.Verifier)
	if r.Audit != nil {
		add("audit", r.Audit.Verifier)
	}
	for i, p := range r.Rewards {
		if p.Verifier != nil {
			add(fmt.Sprintf("rewards[%d]", i), *p.Verifier)
		}
	}
	for i, s := range r.Evaluate.Sets {
		if s.Verifier != nil {
			add(fmt.Sprintf("evaluate.sets[%d]", i), *s.Verifier)
		}
	}
	return out
}

// verifiers looks for the programs of verifiers, and for that of a trainer.
func verifiers(r recipe.Recipe) error {
	for _, p := range programs(r) {
		if _, err := exec.LookPath(p.command[0]); err != nil {
			return setting.Errorf(p.path, "%v", err)
		}
	}
	return nil
}

// files are what a program consists of as far as its command says: itself, and arguments that are files, such as a script. A
// verifier is started in a folder of its own, so that relative paths name none.
func (p program) files() ([]string, error) {
	own, err := exec.LookPath(p.command[0])
	if err != nil {
		return nil, setting.Errorf(p.path, "%v", err)
	}
	out := []string{own}
	for _, arg := range p.command[1:] {
		if _, value, is := strings.Cut(arg, "="); is && strings.HasPrefix(arg, "-") {
			arg = value
		}
		if info, err := os.Stat(arg); (filepath.IsAbs(arg) || p.here) && err == nil && info.Mode().IsRegular() && !slices.Contains(out, arg) {
			out = append(out, arg)
		}
	}
	return out, nil
}

// scored refuses values of a scalar head from a model that has none: they would all be zero. A model that the run trains gets one.
func scored(r recipe.Recipe) error {
	for i, m := range r.RewardModels {
		if err := headed(m.Model, m.Value, rewardModelAt(i)+".path"); err != nil {
			return err
		}
	}
	if r.Reward == nil || r.Reward.Update != nil || r.Kind == "refresh" {
		return nil
	}
	at, m := "reward.path", r.Reward.Model
	switch {
	case m.Path == "" && m.New == nil:
		at, m = "policy.path", r.Policy
	case m.New != nil:
		at = "reward.new"
	}
	return headed(m, r.Reward.Value, at)
}

// headed refuses values of a scalar head from a model at a setting that has none.
func headed(m recipe.Model, v value.Config, at string) error {
	if !v.OnHead() {
		return nil
	}
	if m.New != nil {
		return setting.Errorf(at, "a new model has no scalar head, and values of kind %s come of one: all would be 0; train the model first "+
			"(kind refresh)", v.Name)
	}
	if m.Remote() || files.IsURL(m.Path) {
		return nil // the endpoint is asked; a model in a bucket says so when it is opened
	}
	if has, err := local.HasScalarHead(m.Path); err != nil {
		return setting.Errorf(at, "%v", err)
	} else if !has {
		return setting.Errorf(at, "%s has no scalar head, and values of kind %s come of one: all would be 0", m.Path, v.Name)
	}
	return nil
}

// present opens a model that lies on this machine.
func present(ctx context.Context, p place, makers func(string) string) error {
	if p.model.Path == "" || p.model.Remote() {
		return nil
	}
	at := p.path + ".path"
	if files.IsURL(p.model.Path) {
		if _, err := files.Below(ctx, p.model.Path); err != nil {
			return setting.Errorf(at, "%v", err)
		}
		return nil
	}
	if _, err := os.Stat(p.model.Path); errors.Is(err, fs.ErrNotExist) {
		if name := makers(p.model.Path); name != "" {
			return setting.Errorf(at, "%s is not there yet; the recipe %s makes it: millrace run %s", p.model.Path, name, name)
		}
		return setting.Errorf(at, "there is no model at %s; name another with --set %s=DIR (docs/real-models.md says where published ones "+
			"come from)", p.model.Path, at)
	}
	if _, err := local.ReadConfig(p.model.Path); err != nil {
		return setting.Errorf(at, "%v", err)
	}
	return nil
}
