// Package method has the kinds of runs, one file a kind: what each trains, with which models, in which chain of stages.
package method

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/optim"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/pipelines/preflight"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/update"
)

// Kind is a kind of run.
type Kind struct {
	Summary string
	// Reads are the sections of a recipe that it reads beside those that every run reads; another one is an error.
	Reads []string
	// New makes the method of a recipe, whose sections have been checked.
	New func(recipe.Recipe) (Method, error)
	// NoPolicy says that recipes may name no policy: New says where they have to.
	NoPolicy bool
}

// Method is what a run does, and what can be said of it before it is done.
type Method interface {
	run.Method
	// Phases are the parts of the run whose iterations have the same stages.
	Phases() ([]Phase, error)
	// Updates are the trainings of an iteration, in order.
	Updates() []Training
	// Recipe is what the method was made of.
	Recipe() recipe.Recipe
}

// Phase is a part of a run whose iterations have the same stages.
type Phase struct {
	Name       string
	Iterations int
	Recipe     recipe.Recipe // of these iterations
	Chain      chain.Chain
}

// everywhere are the sections that every kind reads.
var everywhere = []string{"kind", "run", "seed", "iterations", "prompts", "chat", "policy", "limits", "output", "runner", "telemetry",
	"keep", "keep_exchange"}

var kinds = map[string]Kind{}

// Register makes a kind known under a name. It panics on a name that is taken.
func Register(name string, k Kind) {
	if _, taken := kinds[name]; taken || k.New == nil {
		panic(fmt.Sprintf("method: kind %q is registered twice, or without New", name))
	}
	kinds[name] = k
}

// Kinds lists the kinds by name.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds)) }

// Verb is the command that runs recipes of a kind.
func Verb(kind string) string {
	if kind == "refresh" {
		return "refresh"
	}
	return "run"
}

// Summary says what a kind does.
func Summary(kind string) string { return kinds[kind].Summary }

// Schema describes recipes, with the kinds of runs.
func Schema() *setting.Schema {
	s := recipe.Schema()
	s.Properties["kind"].Enum = Kinds()
	return s
}

// New makes the method of a recipe. An error names the first setting that is wrong, that the kind does not read, or that another
// one denies.
func New(r recipe.Recipe) (Method, error) {
	if err := setting.OneOf("kind", r.Kind, Kinds()...); err != nil {
		return nil, err
	}
	k := kinds[r.Kind]
	if err := setting.Check(r); err != nil {
		return nil, err
	}
	for _, key := range r.Sections() {
		if !k.reads(r, key) {
			return nil, setting.Errorf(key, "is not read by a run of kind %s%s", r.Kind, readBy(key))
		}
	}
	for _, u := range unread(r) {
		if r.Given(u.path...) {
			return nil, setting.Errorf(strings.Join(u.path, "."), "is not read: %s", u.why)
		}
	}
	if !k.NoPolicy {
		if err := r.Policy.Named(); err != nil {
			return nil, setting.In("policy", err)
		}
	}
	m, err := k.New(r)
	if err != nil {
		return nil, err
	}
	if err := trainedElsewhere(r, m.Updates()); err != nil {
		return nil, err
	}
	for _, t := range m.Updates() {
		if err := setting.In(t.Path, t.Config.Needed()); err != nil {
			return nil, err
		}
		for _, ofPairs := range []bool{false, true} {
			if _, err := (update.Job{Config: t.Config, Role: t.Role}).Contract(ofPairs); err != nil {
				return nil, setting.Errorf(t.Path+".losses", "cannot be summed: some read pairs and some single responses (%v)", err)
			}
		}
	}
	if err := setting.First(preflight.Vocabularies(context.Background(), r, false), sameAdapters(m.Updates())); err != nil {
		return nil, err
	}
	phases, err := m.Phases()
	if err != nil {
		return nil, err
	}
	for _, p := range phases {
		if _, err := p.Chain.Plan(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Reads reports whether the recipe's kind of run reads a section.
func Reads(r recipe.Recipe, section string) bool { return kinds[r.Kind].reads(r, section) }

func (k Kind) reads(r recipe.Recipe, key string) bool {
	_, extra := r.Extra[key]
	return extra || slices.Contains(everywhere, key) || slices.Contains(k.Reads, key)
}

// readBy names the kinds that read a section.
func readBy(key string) string {
	var names []string
	for _, name := range Kinds() {
		if slices.Contains(kinds[name].Reads, key) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "; it belongs to kind " + strings.Join(names, ", ")
}

// ignored is a setting that a recipe does not read, and why.
type ignored struct {
	path []string
	why  string
}

// unread are the settings that nothing in the recipe reads. What only an evaluation reads counts as read also where evaluate.every
// is 0: it is how evaluations are turned off.
func unread(r recipe.Recipe) []ignored {
	var out []ignored
	add := func(why string, path ...string) { out = append(out, ignored{path, why}) }
	if chain.Samples(r) {
		add("prompts.source brings no responses, so they are sampled as tokens", "tokenize")
	}
	if r.Reference != nil && !chain.ReadsReference(r) {
		add("no loss, advantage or value reads log-probs of a reference", "reference")
	}
	if r.Kind == "refresh" {
		add("a refresh measures its reward model, and keeps no values of rows", "reward", "steps")
	}
	if r.Kind == "opd" {
		add("responses of the student to each prompt are rollout.samples", "distill", "samples")
	}
	if d := r.Distill; d != nil && r.Kind == "distill" {
		if d.ADPA == nil {
			add("the student answers for distill.adpa alone", "distill", "samples")
		} else if !readsColumn(r.Update, schemas.TeacherAdvantage) {
			add("no loss of update reads the log-ratio of the teachers", "distill", "adpa")
		}
		if d.DCKD != nil && !readsColumn(r.Update, schemas.ChosenTeacherIDs) && !readsColumn(r.Update, schemas.TeacherProb) {
			add("no loss of update reads the distribution of the teacher", "distill", "dckd")
		}
	}
	for _, key := range []string{"candidate_k", "candidate_min_p"} {
		add("a revision has no candidates", "seft", "reviser", "sampling", key)
	}
	if chain.Samples(r) {
		for _, key := range []string{"max_tokens", "stop_tokens"} {
			add("responses are sampled, and say how they ended", "label", key)
		}
	}
	for _, runner := range []string{"flink", "dataflow"} {
		if r.Runner.Name != runner {
			add("runner.name is "+r.Runner.Name, "runner", runner)
		}
	}
	updates := updatesOf(r)
	for _, path := range slices.Sorted(maps.Keys(updates)) {
		u := updates[path]
		at := func(keys ...string) []string { return append(strings.Split(path, "."), keys...) }
		if u.Steps > 0 {
			add(path+".steps pass over the batch as often as they take", at("epochs")...)
		}
		if u.External != nil {
			for _, key := range []string{"microbatch_tokens", "recompute", "mode", "replicas", "outer"} {
				add(path+".external: another program takes the steps in its own way", at(key)...)
			}
		}
		if u.Optimizer.Schedule.Kind == optim.Constant {
			for _, key := range []string{"total", "final"} {
				add("a constant rate does not fall", at("optimizer", "schedule", key)...)
			}
		}
	}
	if !chain.ListsCandidates(r) {
		for _, key := range []string{"candidate_k", "candidate_min_p"} {
			add("no loss, advantage or target reads candidate tokens", "rollout", key)
		}
	}
	return out
}

// readsColumn reports whether a loss of an update reads a column, of pairs or of single responses.
func readsColumn(c update.Config, of schemas.Descriptor) bool {
	for _, ofPairs := range []bool{false, true} {
		contract, err := update.Job{Config: c, Role: chain.PolicyRole}.Contract(ofPairs)
		if err == nil && slices.Contains(schemas.Names(contract.Needs), of.Describe().Name) {
			return true
		}
	}
	return false
}

// updatesOf are the sections of a recipe that set up an update, by their paths.
func updatesOf(r recipe.Recipe) map[string]update.Config {
	out := map[string]update.Config{"update": r.Update}
	if r.Reward != nil && r.Reward.Update != nil {
		out["reward.update"] = *r.Reward.Update
	}
	if f := r.Scheduled(); f != nil {
		out["reward.refresh.update"] = f.Update
	}
	if r.SEFT != nil {
		out["seft.base"], out["seft.adaptive"] = r.SEFT.Base, r.SEFT.Adaptive
	}
	return out
}

// Resolved is the recipe of a method as config.yaml has it: what the run does not read is left out, so that it can be read back.
func Resolved(m Method) ([]byte, error) {
	r := m.Recipe()
	k := kinds[r.Kind]
	var drop [][]string
	for _, f := range setting.Fields(reflect.TypeFor[recipe.Recipe]()) {
		if !k.reads(r, f.Key) {
			drop = append(drop, []string{f.Key})
		}
	}
	for _, u := range unread(r) {
		drop = append(drop, u.path)
	}
	drop = append(drop, []string{"limits", "memory"}) // of the machine, as are the two below
	return r.Resolved(append(drop, []string{"update", "external", "dir"}, []string{"update", "external", "timeout_seconds"})...)
}

// Run runs a recipe, or goes on with it after its last committed iteration.
func Run(ctx context.Context, m Method, show progress.Run) error { return iterate(ctx, m, false, show) }

// RunLookedAt is Run of what preflight.Look has passed a moment ago: vocabularies and endpoints are not asked again.
func RunLookedAt(ctx context.Context, m Method, show progress.Run) error {
	return iterate(ctx, m, true, show)
}

func iterate(ctx context.Context, m Method, checked bool, show progress.Run) error {
	config, err := Resolved(m)
	if err != nil {
		return err
	}
	s := run.SettingsOf(m.Recipe(), config)
	s.Checked = checked
	if !Reads(m.Recipe(), "evaluate") {
		s.EvaluateEvery = 0
	}
	if s.Memory > 0 { // who is above it is told what was to be expected
		measured, err := preflight.Lengths(ctx, m.Recipe())
		if err != nil {
			return err
		}
		if peak, ok := Peak(m, measured); ok {
			s.MemoryPlanned = peak.Total
		}
	}
	return run.Iterate(ctx, m, s, show)
}

// base is what the methods of this package share.
type base struct{ r recipe.Recipe }

// Recipe is what the method was made of.
func (b base) Recipe() recipe.Recipe { return b.r }

// check looks whether models have one vocabulary and endpoints can do what the recipe asks of them: models may be there that were
// not when the recipe was read.
func (b base) check(ctx context.Context, nodes []chain.Node) error {
	if err := preflight.Vocabularies(ctx, b.r, true); err != nil {
		return err
	}
	if column, _, ok := b.r.Imported(); ok {
		if c, ok := b.r.Prompts.Of.(prompts.Confirmed); ok {
			if err := c.Confirm(ctx, column); err != nil {
				return setting.In("prompts."+b.r.Prompts.Source, err)
			}
		}
	}
	return preflight.Endpoints(ctx, b.r, nodes)
}

// Given are the models and files that the recipe names.
func (b base) Given(ctx context.Context) (map[string]commit.Input, error) {
	return preflight.Inputs(ctx, b.r)
}

// committed finds the model of a role and its optimizer as the iteration before left them; false at the start.
func (b base) committed(ctx context.Context, d *run.Dir, it *chain.Iteration, m recipe.Model, role string) (ref models.Ref, state string,
	ok bool, err error) {
	if it.Number == 0 {
		return ref, "", false, nil
	}
	before := d.IterPath(it.Number - 1)
	if ref, err = chain.Committed(ctx, m, before, role); err != nil {
		return ref, "", false, err
	}
	state, err = chain.Existing(ctx, files.Join(before, "optimizer-"+role))
	return ref, state, true, err
}

// policy finds the policy that an iteration starts with, and the reference: what the run started from, or the recipe's. Trained
// says that the iterations before have trained it.
func (b base) policy(ctx context.Context, d *run.Dir, it *chain.Iteration, trained bool) (err error) {
	ok := false
	if trained {
		if it.Policy, it.PolicyState, ok, err = b.committed(ctx, d, it, b.r.Policy, chain.PolicyRole); err != nil {
			return err
		}
	}
	if !ok {
		if it.Policy, err = chain.Open(ctx, b.r.Policy, files.Join(d.Path, chain.StartPrefix+"policy"), b.r.Seed); err != nil {
			return err
		}
	}
	if chain.ReadsCritic(b.r) {
		if it.Policy, err = withScalarHead(ctx, it.Policy, files.Join(d.Path, chain.StartPrefix+"critic")); err != nil {
			return err
		}
	}
	it.Sampler, it.Reference = it.Policy, it.Policy
	if ok { // the reference is what the run started from
		if it.Reference, err = StartPolicy(ctx, b.r, d.Path); err != nil {
			return err
		}
	}
	return nil
}

// reference takes the recipe's reference model where it names one.
func (b base) reference(ctx context.Context, d *run.Dir, it *chain.Iteration) (err error) {
	if b.r.Reference != nil {
		it.Reference, err = chain.Open(ctx, *b.r.Reference, files.Join(d.Path, chain.StartPrefix+"reference"), b.r.Seed)
	}
	return err
}

// reward finds the reward model: what the iteration before left of it where iterations train it, or the recipe's.
func (b base) reward(ctx context.Context, d *run.Dir, it *chain.Iteration, trained bool) (err error) {
	if trained {
		var ok bool
		if it.Reward, it.RewardState, ok, err = b.committed(ctx, d, it, b.r.RewardStart(), chain.RewardRole); ok || err != nil {
			return err
		}
	}
	if b.r.Reward.Path == "" && b.r.Reward.New == nil {
		it.Reward = it.Policy
		return nil
	}
	it.Reward, err = chain.Open(ctx, b.r.Reward.Model, files.Join(d.Path, chain.StartPrefix+"reward"), b.r.Seed)
	return err
}

// rewardModels finds the reward models that score beside that of section reward. One that its refresh has refused is refused here.
func (b base) rewardModels(ctx context.Context, it *chain.Iteration) error {
	for i, m := range b.r.RewardModels {
		ref, err := chain.Open(ctx, m.Model, "", 0)
		if err == nil && !m.Remote() {
			err = Promoted(ctx, ref.Path)
		}
		if err != nil {
			return setting.In(fmt.Sprintf("reward_models[%d] (%s)", i, m.Name), err)
		}
		if it.RewardModels == nil {
			it.RewardModels = map[string]models.Ref{}
		}
		it.RewardModels[m.Name] = ref
	}
	return nil
}

// StartPolicy is the policy that a run started from.
func StartPolicy(ctx context.Context, r recipe.Recipe, run string) (models.Ref, error) {
	if r.Policy.New != nil {
		return chain.Committed(ctx, r.Policy, run, chain.StartPrefix+"policy")
	}
	return chain.Open(ctx, r.Policy, "", 0)
}

// withScalarHead gives a model without a scalar head one of zeros, written to dir; one that has it is left as it is.
func withScalarHead(ctx context.Context, ref models.Ref, dir string) (models.Ref, error) {
	m, err := local.LoadRef(ctx, ref)
	if err != nil || m.Scalar() != nil {
		return ref, err
	}
	tok, err := tokenizer.Open(ctx, ref)
	if err != nil {
		return ref, err
	}
	m.AddScalarHead()
	if err := chain.SaveModel(ctx, dir, m, tok); err != nil {
		return ref, err
	}
	return chain.OpenAt(ctx, recipe.Model{Precision: ref.Precision}, dir)
}

// Measure measures a subject as the recipe says.
func (b base) Measure(ctx context.Context, s measure.Subject, scratch string) (measure.Evaluation, error) {
	return measure.Measure(ctx, b.r, s, scratch)
}

// MeasureSets measures a policy on the further sets of the recipe.
func (b base) MeasureSets(ctx context.Context, s measure.Subject, scratch string) (map[string]measure.Evaluation, error) {
	out := map[string]measure.Evaluation{}
	for i, set := range b.r.Evaluate.Sets {
		e, err := measure.Measure(ctx, set.On(b.r), measure.Subject{Policy: s.Policy, Reference: s.Reference}, scratch)
		if err != nil {
			return nil, setting.In(fmt.Sprintf("evaluate.sets[%d] (%s)", i, set.Name), err)
		}
		out[set.Name] = e
	}
	return out, nil
}

// Start is not measured: a policy that is trained may be new.
func (b base) Start(chain.Iteration) (measure.Subject, bool) { return measure.Subject{}, false }

// Subject is the policy that the iteration left.
func (b base) Subject(ctx context.Context, it chain.Iteration) (measure.Subject, error) {
	ref, err := chain.Committed(ctx, b.r.Policy, it.Dir, chain.PolicyRole)
	return measure.Subject{Policy: ref, Reference: ref}, err
}
