package chain

import (
	"slices"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/advantage"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/importance"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/pairs"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/recordio"
	_ "github.com/millrace/millrace/transforms/replay" // the source batch
	"github.com/millrace/millrace/transforms/rollout"
	"github.com/millrace/millrace/transforms/score"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/target"
	"github.com/millrace/millrace/transforms/tokenize"
	"github.com/millrace/millrace/transforms/update"
	"github.com/millrace/millrace/transforms/value"
)

const keepName = "keep"

// Samples reports whether the policy answers the prompts; a source may bring responses instead.
func Samples(r recipe.Recipe) bool { return !r.Prompts.Answers() }

// Judges reports whether something of the recipe reads the verifier's outcomes, and the source brings none.
func Judges(r recipe.Recipe) bool {
	return !r.Prompts.Brings(schemas.Outcome) &&
		(Samples(r) || r.Reward != nil || r.Pairs != nil || r.Advantage != nil || slices.Contains(inputs(r.Update), schemas.Outcome.Name))
}

// JudgesSteps reports whether rows have step labels: where the verifier judges steps, and where a source brings them.
func JudgesSteps(r recipe.Recipe) bool {
	return r.Label.Verifier.JudgesSteps() && Judges(r) || r.Prompts.Brings(schemas.StepBytes)
}

// Window is the part of the source that an iteration takes.
func Window(r recipe.Recipe, it Iteration) prompts.Window {
	return prompts.Window{Seed: r.Seed, First: it.First, Drawn: it.Drawn, Count: r.Prompts.Count, Meta: it.Meta,
		MaxRecordBytes: r.Limits.MaxRecordBytes, History: it.History}
}

// Prompts brings prompts.
func Prompts(r recipe.Recipe) Node {
	return Node{Contract: r.Prompts.Contract(), Add: func(f *Flow) {
		f.Then(prompts.Read(f.Scope, r.Prompts, Window(r, f.It)))
		f.Prompts = f.Rows
	}}
}

// Sampling is the rollout's setting, listing candidates only where a later stage reads them.
func Sampling(r recipe.Recipe) rollout.Config {
	c := r.Rollout
	if !ListsCandidates(r) {
		c.CandidateK = 0
	}
	return c
}

// Rollout samples responses from the sampler; the key keeps random numbers of several rollouts of one iteration apart, 0 for the
// first.
func Rollout(r recipe.Recipe, samples int, key uint64, of func(Models) models.Ref) Node {
	config := Sampling(r)
	config.Samples = samples
	config.Engine = nil // which Elsewhere and the model say
	sampler := rollout.Sampler{Config: config, Chat: r.Chat, Elsewhere: r.SampledElsewhere()}
	return Node{Contract: sampler.Contract(), Opens: []string{roleOf(of)}, Add: func(f *Flow) {
		s := sampler
		s.Version = f.It.Version
		s.Policy, s.Seed = of(f.It.Models), f.It.Seed
		if key != 0 {
			s.Seed = uint64(keyed.New(f.It.Seed).With(key))
		}
		f.Then(stage.ApplyOnce(f.Scope, s, f.Store, f.Rows))
	}}
}

// Source brings prompts and responses, as tokens, and with outcomes where they come with the data or judge says that the verifier
// judges.
func Source(r recipe.Recipe, judge bool) []Node {
	nodes := []Node{Prompts(r)}
	if c, ok := imported(r); ok {
		nodes = append(nodes, Node{Contract: c.Contract(), Section: "importance", Add: func(f *Flow) { f.Then(stage.Apply(f.Scope, c, f.Rows)) }})
	}
	if Samples(r) {
		nodes = append(nodes, Rollout(r, r.Rollout.Samples, 0, func(m Models) models.Ref { return m.Sampler }))
		if r.SampledElsewhere() {
			nodes = append(nodes, scored(score.Config{Role: score.Own, Candidates: ListsCandidates(r)},
				func(m Models) models.Ref { return m.Policy }))
		}
	} else if r.Prompts.Brings(schemas.ResponseTokens) {
		nodes = append(nodes, given(r)...)
	} else if !r.Policy.Empty() {
		encoder := tokenize.Encoder{Config: r.Tokenize, Chat: r.Chat}
		nodes = append(nodes, Node{Contract: encoder.Contract(), Add: func(f *Flow) {
			e := encoder
			e.Tokenizer = f.It.Policy.Path
			f.Then(stage.Apply(f.Scope, e, f.Rows))
		}})
	}
	if _, ok := imported(r); ok { // old_logp is the trainer's own
		nodes = append(nodes, scored(score.Config{Role: score.Own, Candidates: ListsCandidates(r)},
			func(m Models) models.Ref { return m.Policy }))
	}
	if judge {
		l := r.Label
		nodes = append(nodes, Node{Contract: (&l).Contract(), Add: func(f *Flow) { f.Then(label.Outcome(f.Scope, l, f.Rows)) }})
	}
	if r.Prompts.Brings(schemas.Outcome) {
		g := label.Given{Std: r.Label.Std, Steps: r.Prompts.Brings(schemas.StepBytes)}
		nodes = append(nodes, Node{Contract: (&g).Contract(), Add: func(f *Flow) { f.Then(label.FromSource(f.Scope, g, f.Rows)) }})
	}
	return nodes
}

// imported is the stage of rows that come with log-probs of what sampled them, where importance weights correct for it.
func imported(r recipe.Recipe) (importance.Imported, bool) {
	column, defined, ok := r.Imported()
	c := importance.Imported{From: column, Defined: defined, Advantages: ok && r.Prompts.Brings(schemas.Advantage)}
	for _, d := range importance.OfSampler {
		if ok && r.Prompts.Brings(d) {
			c.Other = append(c.Other, d.Describe().Name)
		}
	}
	return c, ok
}

// given checks and decodes ids that come with the data. Without a model of which to take a tokenizer rows stay as they are.
func given(r recipe.Recipe) []Node {
	ids := tokenize.Given{MaxTokens: r.Tokenize.MaxTokens, AddPrompt: !r.Prompts.Brings(schemas.Prompt),
		AddResponse: !r.Prompts.Brings(schemas.Response)}
	if r.Policy.Empty() || r.Prompts.Brings(schemas.TokenEnds) {
		return nil
	}
	return []Node{{Contract: ids.Contract(), Add: func(f *Flow) {
		g := ids
		g.Tokenizer = f.It.Policy.Path
		f.Then(stage.Apply(f.Scope, g, f.Rows))
	}}}
}

// ListsCandidates reports whether a stage of the recipe reads candidate tokens.
func ListsCandidates(r recipe.Recipe) bool {
	return readsCandidates(&r.Update) || r.Target != nil || r.Reward != nil && readsCandidates(r.Reward.Update) ||
		r.Advantage != nil && r.Advantage.Inputs().Candidates && r.Reward != nil
}

// Learning leads from labeled responses to rows that an update reads: scores, values, advantages, the rows kept, pairs. A stage is
// there where the recipe has its section or a later one reads what it adds.
func Learning(r recipe.Recipe) []Node {
	var nodes []Node
	if r.Reward != nil && r.Kind != "refresh" {
		nodes = append(nodes, Reward(r, true)...)
	}
	if r.Kind != "refresh" {
		nodes = append(nodes, several(r)...)
	}
	if readsReference(r) {
		nodes = append(nodes, referenced())
	}
	if ReadsCritic(r) {
		nodes = append(nodes, scored(score.Config{Role: score.Critic}, func(m Models) models.Ref { return m.Policy }))
	}
	if r.Audit != nil {
		a := label.Auditor{Audit: *r.Audit}
		nodes = append(nodes, Node{Contract: a.Contract(), Section: "audit", Add: func(f *Flow) {
			f.Then(label.Audited(f.Scope, a.Audit, f.Rows))
		}})
	}
	if len(r.Rewards) > 0 {
		rewards := label.Rewards{Parts: r.Rewards, Std: r.Label.Std}
		nodes = append(nodes, Node{Contract: rewards.Contract(), Section: "rewards", Add: func(f *Flow) {
			f.Then(label.Reward(f.Scope, rewards, f.Rows))
		}})
	}
	if t := r.Temperature(); t != 0 && r.Importance != nil { // which is of the distribution that was sampled from
		nodes = append(nodes, tempered(r, t)...)
	}
	if r.Importance != nil {
		from := r.SampledFrom()
		w := importance.Stage{Config: *r.Importance, Temperature: r.Temperature(), TopP: from.TopP, TopK: from.TopK}
		nodes = append(nodes, Node{Contract: w.Contract(), Section: "importance", Add: func(f *Flow) {
			f.Then(stage.Apply(f.Scope, w, f.Rows))
		}})
	}
	if c, ok := imported(r); ok && c.Advantages {
		nodes = append(nodes, Node{Contract: importance.Weigh{}.Contract(), Section: "importance", Add: func(f *Flow) {
			f.Then(stage.Apply(f.Scope, importance.Weigh{}, f.Rows))
		}})
	}
	if a := Estimator(r); a != nil {
		nodes = append(nodes, Node{Contract: a.Contract(), Add: func(f *Flow) {
			if a.Config.Inputs().Batch {
				f.Materialise() // read twice: for the batch-wide sums and for the rows
			}
			f.Then(advantage.Apply(f.Scope, *a, f.Rows))
		}})
	}
	if t := r.Temperature(); t != 0 && r.Importance == nil {
		nodes = append(nodes, tempered(r, t)...)
	}
	if r.Target != nil {
		t := *r.Target
		nodes = append(nodes, Node{Contract: (&t).Contract(), Section: "target", Add: func(f *Flow) { f.Then(target.LCO(f.Scope, t, f.Rows)) }})
	}
	if steps, ok := Steps(r); ok {
		nodes = append(nodes, steps)
	}
	nodes = append(nodes, Keep(r, BatchName, keepName, r.Output.Shards))
	if r.Pairs != nil {
		p := *r.Pairs
		nodes = append(nodes, Node{Contract: (&p).Contract(), Add: func(f *Flow) { f.Then(pairs.Apply(f.Scope, p, f.Rows)) }},
			Keep(r, PairsName, "keep_"+PairsName, r.Output.Shards))
	}
	return nodes
}

// With puts the stages of other modules' sections into a sequence of stages.
func With(r recipe.Recipe, nodes []Node) []Node { return Arrange(nodes, extra(r)) }

// Keep writes the rows as they are.
func Keep(r recipe.Recipe, name, as string, shards int) Node {
	return Node{Contract: schemas.Contract{Name: as}, Add: func(f *Flow) {
		recordio.Write(f.Scope, recordio.Output{Dir: f.It.Dir, Name: name, Shards: shards}, f.Store, f.Rows)
	}}
}

// Estimator is the recipe's, scaled as the reward model's values are, over rewards where it composes some; nil where it has none.
func Estimator(r recipe.Recipe) *advantage.Stage {
	if r.Advantage == nil {
		return nil
	}
	a := *r.Advantage
	if r.Reward != nil {
		v := advantage.Values{Beta: r.Reward.Value.Kind.Scale(), Reference: r.Reward.Value.Reference()}
		if v.Reference == "" {
			v.Scores = r.Reward.Value.Kind.Columns()[0].Name
		}
		a = a.WithValues(v)
	}
	return &advantage.Stage{Config: a, OnReward: len(r.Rewards) > 0, Weighted: r.Importance != nil}
}

// ReadsReference reports whether any stage reads log-probs of a frozen model.
func ReadsReference(r recipe.Recipe) bool {
	tempered := r.Temperature() != 0 && slices.Contains(inputs(r.Update), schemas.ReferenceLogP.Name)
	return tempered || ValuesReadReference(r) || readsReference(r)
}

// readsReference reports whether a later stage reads log-probs of a frozen model that no stage has added yet.
func readsReference(r recipe.Recipe) bool {
	if r.Kind != "refresh" && ValuesReadReference(r) {
		return false // scored with the reward models
	}
	name := schemas.ReferenceLogP.Name
	if r.Pairs == nil && r.Temperature() == 0 && slices.Contains(inputs(r.Update), name) || r.Pairs != nil && r.Pairs.Reference == name {
		return true
	}
	a := Estimator(r)
	return a != nil && slices.Contains(schemas.Names(a.Contract().Needs), name)
}

// ReadsCritic reports whether the advantages are taken over the values of the policy's own scalar head.
func ReadsCritic(r recipe.Recipe) bool {
	return r.Advantage != nil && r.Advantage.Inputs().CriticValue
}

// tempered are the log-probs that a policy update compares the policy with, at the temperature that responses were sampled at.
func tempered(r recipe.Recipe, temperature float64) (nodes []Node) {
	old, candidates, reference := false, false, false
	for _, name := range names(update.Job{Config: r.Update, Temperature: temperature}) {
		switch name {
		case schemas.TemperedOldLogP.Name, schemas.TemperedOldLogZ.Name:
			old = true
		case schemas.TemperedCandidateOldLogP.Name:
			old, candidates = true, true
		case schemas.TemperedReferenceLogP.Name:
			reference = true
		}
	}
	if old {
		nodes = append(nodes, scored(score.Config{Role: score.TemperedOld, Candidates: candidates, Temperature: temperature},
			func(m Models) models.Ref { return m.Policy }))
	}
	if reference {
		nodes = append(nodes, scored(score.Config{Role: score.TemperedReference, Temperature: temperature},
			func(m Models) models.Ref { return m.Reference }))
	}
	return nodes
}

// referenced adds log-probs under the frozen reference.
func referenced() Node {
	return scored(score.Config{Role: score.Reference}, func(m Models) models.Ref { return m.Reference })
}

func scored(c score.Config, of func(Models) models.Ref) Node {
	return Node{Contract: c.Contract(), Opens: []string{roleOf(of)},
		Add: func(f *Flow) { f.Then(score.Apply(f.Scope, c, of(f.It.Models), f.Rows)) }}
}

// Reward updates the reward model on the batch where the recipe says so, then scores the batch with it (the order of the IPVRM
// authors' code) and turns log-probs into values. Train is false where models are measured.
func Reward(r recipe.Recipe, train bool) []Node {
	var nodes []Node
	candidates := train && ListsCandidates(r)
	if rewardReadsReference(r) {
		c := score.Config{Role: score.Reference, Candidates: candidates}
		nodes = append(nodes, Node{Contract: c.Contract(), Opens: []string{ReferenceRole}, Add: func(f *Flow) {
			if train {
				f.Then(score.Apply(f.Scope, c, f.It.Reference, f.Rows))
			} else { // several reward models are measured on the same rows, and may have one reference
				f.Then(score.ApplyOnce(f.Scope, c, f.It.Reference, f.Store, f.Rows))
			}
		}})
	}
	if u := r.Reward.Update; u != nil && train {
		job := update.Job{Config: *u, Role: RewardRole}
		contract, _ := job.Contract(false)
		nodes = append(nodes, Node{Contract: contract, Section: "reward.update", Add: func(f *Flow) {
			j := job
			j.Model, j.State, j.Dir, j.Work, j.Seed = f.It.Reward, f.It.RewardState, f.It.Dir, f.It.Work, f.It.Seed
			f.Then(stage.Apply(f.Scope, update.Window{Model: j.Model}, f.Rows))
			f.Materialise() // read twice: to train on and to score
			f.reward = update.Apply(f.Scope, j, f.Store, f.Rows)
		}})
	}
	v := r.Reward.Value
	values := []Node{{Contract: (&v).Contract(), Section: "reward", Add: func(f *Flow) { f.Then(value.Apply(f.Scope, v, f.Rows)) }}}
	if r.Reward.Steps != "" && train {
		steps := value.Steps{Of: r.Reward.Steps}
		values = append(values, Node{Contract: steps.Contract(), Section: "reward.steps", Add: func(f *Flow) {
			f.Then(stage.Apply(f.Scope, steps, f.Rows))
		}})
	}
	if v.Modelless() {
		return append(nodes, values...)
	}
	c := scorerOf(v, candidates)
	nodes = append(nodes, Node{Contract: c.Contract(), Section: "reward", Opens: []string{RewardRole}, Add: func(f *Flow) {
		if f.reward.IsValid() {
			f.Then(score.ApplyWith(f.Scope, c, f.Rows, f.reward))
		} else {
			f.Then(score.Apply(f.Scope, c, f.It.Reward, f.Rows))
		}
	}})
	return append(nodes, values...)
}

// Roles of models. Those that an update trains name what an iteration leaves.
const (
	PolicyRole           = "policy"
	RewardRole           = "reward"
	ReviserRole          = "reviser"
	SamplerRole          = "sampler"
	ReferenceRole        = "reference"
	TeacherRole          = "teacher"
	TeacherReferenceRole = "teacher_reference"
)

// roleOf is the role of the model that a function takes.
func roleOf(of func(Models) models.Ref) string {
	named := func(role string) models.Ref { return models.Ref{Path: role} }
	return of(Models{Policy: named(PolicyRole), Sampler: named(SamplerRole), Reward: named(RewardRole), Reference: named(ReferenceRole),
		Teacher: named(TeacherRole), TeacherReference: named(TeacherReferenceRole), Reviser: named(ReviserRole)}).Path
}

// Update trains the model of a role, the last stage of a chain; before it the dead letters are written. Streams join the rows. Where
// another program takes the steps, the rows that it is given are written, and the model comes after the pipeline.
func Update(r recipe.Recipe, role string, ofPairs bool, streams ...Stream) Node {
	contract, _ := UpdateJob(r, role, Iteration{}).Contract(ofPairs)
	return Node{Contract: contract, Section: "update", Add: func(f *Flow) {
		j := UpdateJob(r, role, f.It)
		for _, s := range streams {
			f.join(s)
		}
		if role == RewardRole {
			f.Then(stage.Apply(f.Scope, update.Window{Model: j.Model}, f.Rows))
		}
		f.WriteDead(DeadName)
		if r.Update.External == nil {
			update.Apply(f.Scope, j, f.Store, f.Rows)
			return
		}
		responses, pairs := update.Hand(f.Scope, j, f.Rows)
		recordio.Write(f.Scope, Handed(f.It, ResponsesName), f.Store, responses)
		recordio.Write(f.Scope, Handed(f.It, PairsName), f.Store, pairs)
	}}
}

// UpdateJob is the update of section update in an iteration.
func UpdateJob(r recipe.Recipe, role string, it Iteration) update.Job {
	j := update.Job{Config: r.Update, Role: role, Dir: it.Dir, Work: it.Work, Seed: it.Seed, Old: it.Policy, Reward: it.Reward}
	switch role {
	case PolicyRole:
		j.Model, j.State, j.Temperature = it.Policy, it.PolicyState, r.Temperature()
	case RewardRole:
		j.Model, j.State = it.Reward, it.RewardState
	case ReviserRole:
		j.Model = it.Reviser
	default:
		j.Model, j.State = it.Policy, it.PolicyState
	}
	return j
}

// Handed are the files of rows that another program updates a model with. Their folder has the run in its name: what an attempt with
// another recipe has left is not taken for them.
func Handed(it Iteration, name string) recordio.Output {
	return recordio.Output{Dir: files.Join(it.Work, "handed-"+it.Meta.Run), Name: name}
}

// join adds the rows of a stream.
func (f *Flow) join(s Stream) {
	beside := &Flow{Scope: f.Scope.Scope(s.Name), It: f.It, Store: f.Store}
	beside.Add(s.Nodes...)
	f.dead = append(f.dead, beside.dead...)
	f.Rows = stage.Flatten(f.Scope, f.Rows, beside.Rows)
}

// inputs lists the columns that the losses of an update read.
func inputs(c update.Config) []string {
	loss, err := c.Loss()
	if err != nil {
		return nil // Check has said so
	}
	return loss.Spec().Columns()
}

// names lists the columns of responses that an update reads.
func names(job update.Job) []string {
	needs, err := job.Needs(false)
	if err != nil {
		return nil // Check has said so
	}
	return schemas.Names(needs)
}

func readsCandidates(c *update.Config) bool {
	if c == nil {
		return false
	}
	loss, err := c.Loss()
	return err == nil && (loss.Spec().Reads(losses.CandidateIDs) || loss.Spec().Rest == losses.CandidateRest)
}

// End closes a chain that trains nothing: the dead letters are written.
func End() Node {
	return Node{Contract: schemas.Contract{Name: "end"}, Add: func(f *Flow) { f.WriteDead(DeadName) }}
}
