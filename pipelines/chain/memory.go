package chain

import (
	"math"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models/heads"
	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/models/optim"
	"github.com/millrace/millrace/models/sampling"
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
func Memory(r recipe.Recipe, role string, m recipe.Model, c update.Config, measured Lengths) (TrainMemory, bool) {
	config, ok := shapeOf(m)
	if !ok {
		return TrainMemory{}, false
	}
	c.MicrobatchTokens = min(c.MicrobatchTokens, stepTokens(r, c, measured))
	takes := trainMemory(role, config, c)
	takes.Precision = m.Precision
	return takes, true
}

// stepTokens bounds the tokens of an optimizer step, of which a microbatch is a part: the responses of a step, each prompt once, at the
// lengths that Size has. Pairs have a number that is not known, and so have given responses that nobody has measured.
func stepTokens(r recipe.Recipe, c update.Config, measured Lengths) int {
	if !Samples(r) && measured.Responses == 0 || r.Pairs != nil || r.SEFT != nil || r.Distill != nil {
		return math.MaxInt
	}
	size := SizeOf(r, nil, measured)
	rows := ceilDiv(size.Rows, max(1, c.Minibatches))
	if c.BatchSize > 0 {
		rows = min(size.Rows, c.BatchSize)
	}
	return max(1, rows*size.ResponseTokens+min(rows, size.Prompts)*size.PromptTokens)
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

// PeakMemory estimates the most that the process of a run holds at a time, in bytes, where the embedded runner does all the work.
type PeakMemory struct {
	Process  int64 `json:"process"`  // the program, the runner, records
	Models   int64 `json:"models"`   // that stages keep open, to sample and to score
	Largest  int64 `json:"largest"`  // what one stage takes beside them: an update, the caches of sampling, the rows of scoring
	Headroom int64 `json:"headroom"` // garbage that is not collected yet
	Total    int64 `json:"total"`
}

// processBytes is what a run holds without a model: half of it are the program's code, half the embedded runner and records.
const processBytes = 130 << 20

// Headroom is what a run lets be allocated beside so many bytes in use before it collects garbage.
func Headroom(live int64) int64 { return min(live, max(256<<20, live/8)) }

// Peak adds up what stages hold. A model is found by its role, with a name that two roles share when they are one model. false when
// a shape is not known.
func Peak(r recipe.Recipe, nodes []Node, updates []TrainMemory, measured Lengths, of func(role string) (recipe.Model, string)) (PeakMemory,
	bool) {
	out := PeakMemory{Process: processBytes}
	open := map[string]bool{}
	for _, u := range updates {
		out.Largest = max(out.Largest, u.Total)
	}
	rows := r.Prompts.Count * max(1, r.Rollout.Samples)
	if r.Measures() {
		rows = max(rows, r.Evaluate.Prompts*max(1, r.Evaluate.Samples))
	}
	size := SizeOf(r, nil, measured)
	for _, n := range nodes {
		for _, role := range n.Opens {
			m, name := of(role)
			if m.Remote() {
				continue
			}
			config, ok := shapeOf(m)
			if !ok {
				return PeakMemory{}, false
			}
			weights := transformer.FrozenBytes(config, m.Precision)
			if !open[name] {
				open[name] = true
				out.Models += weights
			}
			out.Largest = max(out.Largest, weights, // while it is laid out, a model is there twice
				sampling.Bytes(config, m.Precision, rows, size.PromptTokens+size.ResponseTokens), local.ScoreBytes(config))
		}
	}
	live := out.Process + out.Models + out.Largest
	out.Headroom = Headroom(live)
	out.Total = live + out.Headroom
	return out, true
}
