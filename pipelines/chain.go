package pipelines

import (
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/advantage"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/pairs"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/rollout"
	"github.com/millrace/millrace/transforms/score"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/target"
	"github.com/millrace/millrace/transforms/tokenize"
	"github.com/millrace/millrace/transforms/update"
	"github.com/millrace/millrace/transforms/value"
)

// node is one stage of a chain: what it promises, and how it is put into a pipeline.
type node struct {
	contract schemas.Contract
	add      func(f *flow)
}

// flow is the pipeline under construction.
type flow struct {
	scope   beam.Scope
	at      iteration
	store   stage.Store
	rows    beam.PCollection
	dead    []beam.PCollection
	prompts beam.PCollection // as they were drawn
	// reward is the reward model that an update earlier in the same pipeline writes; not valid when there is none.
	reward beam.PCollection
}

// then takes the outputs of a stage.
func (f *flow) then(out, dead beam.PCollection) {
	f.rows = out
	if dead.IsValid() {
		f.dead = append(f.dead, dead)
	}
}

// writeDead writes the rows that the stages so far have set aside.
func (f *flow) writeDead(name string) {
	if len(f.dead) > 0 {
		recordio.Write(f.scope, recordio.Output{Dir: f.at.dir, Name: name}, f.store, beam.Flatten(f.scope, f.dead...))
	}
}

// flow begins the pipeline of an iteration.
func (r Recipe) flow(at iteration) (*beam.Pipeline, *flow) {
	runners.Init()
	p, scope := beam.NewPipelineWithRoot()
	return p, &flow{scope: scope, at: at, store: stage.Store{Dir: at.work, MaxRecordBytes: r.Limits.MaxRecordBytes}}
}

// iteration is what differs from one iteration to the next.
type iteration struct {
	number  int
	seed    uint64 // of everything random in this iteration
	first   int    // where in the source of prompts it begins
	history string // file of pass rates that a curriculum goes by
	// Of the rounds of sampling: the current one, the prompts that earlier ones drew, the files of rows that each has left, and
	// the prompt after which those of the last one are surplus.
	round, drawn int
	rounds       [][]string
	last         string

	dir, work string
	meta      schemas.Meta
	policy    models.Ref
	sampler   models.Ref // the policy, or the model that answers the prompts in its place
	reward    models.Ref
	frozen    models.Ref
	// Of a distillation.
	teacher, teacherReference models.Ref
	reviser                   models.Ref
	// State directories of the optimizers, "" at the start.
	policyState, rewardState string
}

// The files an iteration keeps of its rows: every column of the chain, and the dead letters.
const (
	batchName = "batch"
	deadName  = "dead"
)

var ledgerContract = schemas.Contract{Name: "ledger", Needs: []schemas.Descriptor{schemas.PromptID, schemas.Source, schemas.Verdict, schemas.Outcome, schemas.GroupMean}}

// chain lists the stages of one iteration in order.
func (r Recipe) chain() []node { return append(r.samplingNodes(), r.learningNodes()...) }

// learningNodes lead from labeled responses to the updated model.
func (r Recipe) learningNodes() []node {
	var nodes []node
	if r.Distill != nil && r.Distill.DCKD != nil {
		nodes = append(nodes, r.dckdNode())
	}
	if r.Reward != nil && r.Kind == Policy {
		nodes = append(nodes, r.rewardNodes(true)...)
	}
	if r.scoresReference() {
		c := score.Config{Role: score.Reference}
		nodes = append(nodes, node{c.Contract(), func(f *flow) { f.then(score.Apply(f.scope, c, f.at.frozen, f.rows)) }})
	}
	if r.scoresCritic() {
		c := score.Config{Role: score.Critic}
		nodes = append(nodes, node{c.Contract(), func(f *flow) { f.then(score.Apply(f.scope, c, f.at.policy, f.rows)) }})
	}
	if a := r.Advantage; a != nil {
		nodes = append(nodes, node{a.Contract(), func(f *flow) {
			if a.CrossesRecords() {
				f.rows = stage.Exchange(f.scope, f.store, f.rows) // read twice: for the batch-wide sums and for the rows
			}
			f.then(advantage.Apply(f.scope, *a, f.rows))
		}})
	}
	if r.Target != nil {
		t := *r.Target
		nodes = append(nodes, node{(&t).Contract(), func(f *flow) { f.then(target.LCO(f.scope, t, f.rows)) }})
	}
	nodes = append(nodes, node{schemas.Contract{Name: "keep"}, func(f *flow) {
		recordio.Write(f.scope, recordio.Output{Dir: f.at.dir, Name: batchName, Shards: r.Output.Shards}, f.store, f.rows)
	}})
	if r.Pairs != nil {
		p := *r.Pairs
		nodes = append(nodes, node{(&p).Contract(), func(f *flow) { f.then(pairs.Apply(f.scope, p, f.rows)) }})
	}
	if r.Kind == Evolve {
		nodes = append(nodes, r.seftNodes(r.number)...)
	}
	return append(nodes, r.updateNode())
}

// samples reports whether the policy answers the prompts; a source may bring responses instead.
func (r Recipe) samples() bool { return !r.brings(schemas.Response) }

// labels reports whether the verifier judges; a source may bring outcomes instead, and supervised training needs none.
func (r Recipe) labels() bool {
	if r.Kind == Evolve && r.number > adaptiveReviser {
		return false // the verifier measures, it does not choose
	}
	return !r.brings(schemas.Outcome) && (r.samples() || r.Reward != nil || r.Pairs != nil || slices.Contains(needs(r.Update), schemas.Outcome.Name))
}

func (r Recipe) brings(c schemas.Descriptor) bool {
	return slices.ContainsFunc(r.Prompts.Contract().Adds, func(d schemas.Descriptor) bool { return d.Describe().Name == c.Describe().Name })
}

// sourceNodes bring prompts and responses, as tokens and with outcomes.
func (r Recipe) sourceNodes() []node {
	nodes := []node{{r.Prompts.Contract(), func(f *flow) {
		f.then(prompts.Read(f.scope, r.Prompts, r.window(f.at)))
		f.prompts = f.rows
	}}}
	if r.samples() {
		sampler := rollout.Sampler{Config: r.sampling(), Chat: r.Chat}
		nodes = append(nodes, node{sampler.Contract(), func(f *flow) {
			s := sampler
			s.Policy, s.Seed = f.at.sampler, f.at.seed
			f.then(stage.ApplyOnce(f.scope, s, f.store, f.rows))
		}})
	} else {
		encoder := tokenize.Encoder{Config: r.Tokenize, Chat: r.Chat}
		nodes = append(nodes, node{encoder.Contract(), func(f *flow) {
			e := encoder
			e.Tokenizer = f.at.policy.Path
			f.then(stage.Apply(f.scope, e, f.rows))
		}})
	}
	if r.labels() {
		l := r.Label
		nodes = append(nodes, node{(&l).Contract(), func(f *flow) { f.then(label.Outcome(f.scope, l, f.rows)) }})
	}
	if r.brings(schemas.Outcome) {
		g := label.Given{Std: r.Label.Std, Steps: r.brings(schemas.StepBytes)}
		nodes = append(nodes, node{(&g).Contract(), func(f *flow) { f.then(label.FromSource(f.scope, g, f.rows)) }})
	}
	return nodes
}

// sampling is the rollout's setting, listing candidates only where a later stage reads them.
func (r Recipe) sampling() rollout.Config {
	c := r.Rollout
	if !r.listsCandidates() {
		c.CandidateK = 0
	}
	return c
}

func (r Recipe) listsCandidates() bool {
	return readsCandidates(&r.Update) || r.Target != nil || r.Reward != nil && readsCandidates(r.Reward.Update) || r.Advantage != nil && r.Advantage.Candidates && r.Reward != nil
}

// scoresReference reports whether a later stage reads log-probs of a frozen model that no stage has added yet.
func (r Recipe) scoresReference() bool {
	if r.Kind == Policy && r.Reward != nil && r.Reward.Value.Reference == value.Frozen {
		return false // scored with the reward model
	}
	name := schemas.ReferenceLogP.Name
	if r.Pairs == nil && slices.Contains(needs(r.Update), name) || r.Pairs != nil && r.Pairs.Reference == name {
		return true
	}
	return r.Advantage != nil && slices.Contains(schemas.Names(r.Advantage.Contract().Needs), name)
}

// scoresCritic reports whether the advantages are taken over the values of the policy's own scalar head.
func (r Recipe) scoresCritic() bool {
	return r.Advantage != nil && slices.Contains(schemas.Names(r.Advantage.Contract().Needs), schemas.CriticValue.Name)
}

// rewardNodes update the reward model on the batch where the recipe says so, then score the batch with it (the order of the
// IPVRM authors' code) and turn log-probs into values.
func (r Recipe) rewardNodes(train bool) []node {
	var nodes []node
	candidates := train && r.listsCandidates()
	if r.Reward.Value.Reference == value.Frozen {
		c := score.Config{Role: score.Reference, Candidates: candidates}
		nodes = append(nodes, node{c.Contract(), func(f *flow) {
			if train {
				f.then(score.Apply(f.scope, c, f.at.frozen, f.rows))
			} else { // several reward models are measured on the same rows, and may have one reference
				f.then(score.ApplyOnce(f.scope, c, f.at.frozen, f.store, f.rows))
			}
		}})
	}
	if u := r.Reward.Update; u != nil && train {
		job := update.Job{Config: *u, Role: "reward"}
		contract, _ := job.Contract(false)
		nodes = append(nodes, node{contract, func(f *flow) {
			j := job
			j.Model, j.State, j.Dir, j.Work, j.Seed = f.at.reward, f.at.rewardState, f.at.dir, f.at.work, f.at.seed
			f.rows = stage.Exchange(f.scope, f.store, f.rows) // read twice: to train on and to score
			f.reward = update.Apply(f.scope, j, f.store, f.rows)
		}})
	}
	scored := score.Config{Role: score.Reward, Candidates: candidates}
	switch r.Reward.Value.Kind {
	case value.QRM, value.ValueHead:
		scored = score.Config{Role: score.QValue}
	}
	v := r.Reward.Value
	return append(nodes,
		node{scored.Contract(), func(f *flow) {
			if f.reward.IsValid() {
				f.then(score.ApplyWith(f.scope, scored, f.rows, f.reward))
			} else {
				f.then(score.Apply(f.scope, scored, f.at.reward, f.rows))
			}
		}},
		node{(&v).Contract(), func(f *flow) { f.then(value.Apply(f.scope, v, f.rows)) }})
}

// updateNode is the update of the trained model, the last stage of a chain.
func (r Recipe) updateNode() node {
	job := update.Job{Config: r.Update, Role: r.trains()}
	contract, _ := job.Contract(r.Pairs != nil && r.Kind != Evolve) // revisers learn from rows made of pairs
	return node{contract, func(f *flow) {
		j := job
		j.Model, j.State = f.at.policy, f.at.policyState
		if j.Role == "reward" {
			j.Model, j.State = f.at.reward, f.at.rewardState
		}
		if j.Role == "reviser" {
			j.Model, j.State = f.at.reviser, ""
		}
		j.Dir, j.Work, j.Seed = f.at.dir, f.at.work, f.at.seed
		j.Old, j.Reward = f.at.policy, f.at.reward
		if r.Distill != nil && r.Distill.ADPA != nil {
			r.joinStudent(f)
		}
		f.writeDead(deadName)
		update.Apply(f.scope, j, f.store, f.rows)
	}}
}

// trains names the model that a recipe's update moves.
func (r Recipe) trains() string {
	if r.Kind == Refresh {
		return "reward"
	}
	if r.Kind == Evolve && r.number <= adaptiveReviser {
		return "reviser"
	}
	return "policy"
}

// needs lists the columns that the losses of an update read.
func needs(c update.Config) []string {
	loss, err := c.Loss()
	if err != nil {
		return nil // Validate has said so
	}
	return loss.Spec().Columns
}

func readsCandidates(c *update.Config) bool {
	if c == nil {
		return false
	}
	loss, err := c.Loss()
	return err == nil && (loss.Spec().Candidates || loss.Spec().Rest == losses.CandidateRest)
}
