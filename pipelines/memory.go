package pipelines

import (
	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models/heads"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/models/optim"
	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/transforms/update"
)

// TrainMemory estimates what an update holds in memory, in bytes, for each replica that works at a time.
type TrainMemory struct {
	Role      string            `json:"role"` // the model that is trained
	Precision kernels.Precision `json:"precision,omitempty"`
	transformer.Memory
	Moments int64 `json:"moments"` // of the optimizer
	Logits  int64 `json:"logits"`  // a chunk of rows, and one of target rows
	Frozen  int64 `json:"frozen"`  // weights of the models of a target row
	Total   int64 `json:"total"`
}

// TrainMemory estimates the updates of an iteration. Models that are not there yet are left out.
func (r Recipe) TrainMemory() []TrainMemory {
	var out []TrainMemory
	add := func(role string, m Model, c update.Config) {
		if config, ok := m.size(); ok {
			takes := trainMemory(role, config, c)
			takes.Precision = m.Precision
			out = append(out, takes)
		}
	}
	switch {
	case r.Kind == Refresh:
		add("reward", r.rewardStart(), r.Update)
		return out
	case r.Kind == Evolve:
		add("reviser", r.Policy, r.SEFT.Base)
	case r.Reward != nil && r.Reward.Update != nil:
		add("reward", r.rewardStart(), *r.Reward.Update)
	}
	add("policy", r.Policy, r.Update)
	return out
}

// rewardStart is the model that the reward model's training starts from.
func (r Recipe) rewardStart() Model {
	if r.Reward.Path == "" && r.Reward.New == nil {
		return r.Policy
	}
	return r.Reward.Model
}

func trainMemory(role string, config transformer.Config, c update.Config) TrainMemory {
	out := TrainMemory{Role: role, Logits: heads.DefaultLogitBytes}
	loss, err := c.Loss()
	if err != nil {
		return out // Validate has said so
	}
	var lora *transformer.LoRA
	if c.LoRA != nil {
		lora = &c.LoRA.LoRA
	}
	out.Memory = transformer.TrainingMemory(config, loss.Spec().Heads&losses.Scalar != 0, lora, c.Recompute, c.MicrobatchTokens)
	out.Moments = 8 * out.Trained
	if c.Optimizer.Moments == optim.BFloat16 {
		out.Moments = 4 * out.Trained
	}
	out.Frozen = int64(len(loss.Spec().Target)) * out.Weights
	out.Total = out.Weights + out.Gradients + out.Activations + out.Moments + out.Logits + out.Frozen
	return out
}
