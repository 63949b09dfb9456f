package chain

import (
	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models/heads"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/models/optim"
	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/pipelines/recipe"
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

// Memory estimates what an update of a model in a role holds; false when the model is not there yet.
func Memory(role string, m recipe.Model, c update.Config) (TrainMemory, bool) {
	config, ok := shapeOf(m)
	if !ok {
		return TrainMemory{}, false
	}
	takes := trainMemory(role, config, c)
	takes.Precision = m.Precision
	return takes, true
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
