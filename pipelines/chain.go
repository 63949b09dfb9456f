package pipelines

import (
	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/advantage"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/rollout"
	"github.com/millrace/millrace/transforms/score"
	"github.com/millrace/millrace/transforms/stage"
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
	scope beam.Scope
	at    iteration
	store stage.Store
	rows  beam.PCollection
	dead  []beam.PCollection
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

// iteration is what differs from one iteration to the next.
type iteration struct {
	number    int
	seed      uint64 // of everything random in this iteration
	dir, work string
	meta      schemas.Meta
	policy    models.Ref
	reward    models.Ref
	frozen    models.Ref
	// State directories of the optimizers, "" at the start.
	policyState, rewardState string
}

// The files an iteration keeps of its rows: every column of the chain, and the dead letters.
const (
	batchName = "batch"
	deadName  = "dead"
)

// chain lists the stages of one iteration in order.
func (r Recipe) chain() ([]node, error) {
	switch r.Kind {
	case Policy:
		return r.policyChain()
	default:
		return r.trainChain()
	}
}

// policyChain is rollout, label, reward model update, score, value, advantage, policy update.
func (r Recipe) policyChain() ([]node, error) {
	sampler := rollout.Sampler{Config: r.rollout()}
	nodes := []node{
		{r.Prompts.Contract(), func(f *flow) {
			f.then(prompts.Read(f.scope, r.Prompts, prompts.Window{Seed: r.Seed, First: f.at.number * r.Prompts.Count, Count: r.Prompts.Count, Meta: f.at.meta}))
		}},
		{sampler.Contract(), func(f *flow) {
			s := sampler
			s.Policy, s.Seed = f.at.policy, f.at.seed
			f.then(stage.ApplyOnce(f.scope, s, f.store, f.rows))
		}},
		{(&r.Label).Contract(), func(f *flow) { f.then(label.Outcome(f.scope, r.Label, f.rows)) }},
	}
	if r.Reward != nil {
		nodes = append(nodes, r.rewardNodes()...)
	}
	if a := r.Advantage; a != nil {
		nodes = append(nodes, node{a.Contract(), func(f *flow) {
			f.rows = stage.Exchange(f.scope, f.store, f.rows) // read twice: for the batch-wide sums and for the rows
			f.then(advantage.Apply(f.scope, *a, f.rows))
		}})
	}
	return append(nodes, r.ends(r.Update, "policy")...), nil
}

// rollout is the rollout's setting with the candidates that later stages read.
func (r Recipe) rollout() rollout.Config {
	c := r.Rollout
	if !r.listsCandidates() {
		c.CandidateK = 0
	}
	return c
}

func (r Recipe) listsCandidates() bool {
	return readsCandidates(&r.Update) || r.Reward != nil && readsCandidates(r.Reward.Update)
}

// rewardNodes update the reward model on the batch, then score the batch with it (the order of the IPVRM authors' code).
func (r Recipe) rewardNodes() []node {
	var nodes []node
	if r.Reward.Value.Reference == value.Frozen {
		c := score.Config{Role: score.Reference, Candidates: r.listsCandidates()}
		nodes = append(nodes, node{c.Contract(), func(f *flow) { f.then(score.Apply(f.scope, c, f.at.frozen, f.rows)) }})
	}
	if u := r.Reward.Update; u != nil {
		job := update.Job{Config: *u, Role: "reward"}
		contract, _ := job.Contract()
		nodes = append(nodes, node{contract, func(f *flow) {
			j := job
			j.Model, j.State, j.Dir, j.Work, j.Seed = f.at.reward, f.at.rewardState, f.at.dir, f.at.work, f.at.seed
			f.reward = update.Apply(f.scope, j, f.store, f.rows)
		}})
	}
	scored := score.Config{Role: score.Reward, Candidates: r.listsCandidates()}
	switch r.Reward.Value.Kind {
	case value.QRM:
		scored = score.Config{Role: score.QValue}
	case value.ValueHead:
		scored = score.Config{Role: score.Critic}
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
		node{v.Contract(), func(f *flow) { f.then(value.Apply(f.scope, v, f.rows)) }})
}

// trainChain is the training of a model on given responses: tokens, labels where a loss reads outcomes, the log-probs of
// the reference, then the update.
func (r Recipe) trainChain() ([]node, error) {
	encoder := tokenize.Encoder{Config: r.Tokenize}
	nodes := []node{
		{r.Prompts.Contract(), func(f *flow) {
			f.then(prompts.Read(f.scope, r.Prompts, prompts.Window{Seed: r.Seed, First: f.at.number * r.Prompts.Count, Count: r.Prompts.Count, Meta: f.at.meta}))
		}},
		{encoder.Contract(), func(f *flow) {
			e := encoder
			e.Tokenizer = f.at.policy.Path
			f.then(stage.Apply(f.scope, e, f.rows))
		}},
	}
	return append(nodes, r.ends(r.Update, "policy")...), nil
}

// ends is the update of the trained model, the last stage of a chain.
func (r Recipe) ends(c update.Config, role string) []node {
	job := update.Job{Config: c, Role: role}
	contract, _ := job.Contract()
	return []node{{contract, func(f *flow) {
		j := job
		j.Model, j.State, j.Dir, j.Work, j.Seed = f.at.policy, f.at.policyState, f.at.dir, f.at.work, f.at.seed
		j.Old, j.Reward = f.at.policy, f.at.reward
		recordio.Write(f.scope, recordio.Output{Dir: f.at.dir, Name: batchName}, f.store, f.rows)
		recordio.Write(f.scope, recordio.Output{Dir: f.at.dir, Name: deadName}, f.store, beam.Flatten(f.scope, f.dead...))
		update.Apply(f.scope, j, f.store, f.rows)
	}}}
}
