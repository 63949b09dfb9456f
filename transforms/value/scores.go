package value

import "github.com/millrace/millrace/schemas"

// stepScale is what scores are divided by where steps are judged: they have no beta of their own.
const stepScale = 0.05

// scores are values that are what the model puts out after each token.
type scores struct{}

// Write takes the scores as they are.
func (scores) Write(value, mean, correct []float64, columns [][]float64) {
	Scores(value, mean, columns[0])
	Correct(correct, value)
}

func (scores) ofTokens() {}

// Scale is that of all scores.
func (scores) Scale() float64 { return stepScale }

// Ranks by the mean.
func (scores) Ranks() string { return schemas.MeanValue.Name }

// QRM are Q-RM's token scores by a scalar head (arXiv 2505.23363; algorithms.md 1.5).
type QRM struct{ scores }

// QRMLM are Q-RM's token scores by a language model: its log-probs.
type QRMLM struct{ scores }

// ValueHead is a scalar head trained on outcomes.
type ValueHead struct{ scores }

func init() {
	Register("q_rm", QRM{})
	Register("q_rm_lm", QRMLM{})
	Register("value_head", ValueHead{})
}

// Columns are the scores of the head.
func (QRM) Columns() []schemas.List[float32] { return []schemas.List[float32]{schemas.QValue} }

// Columns are log-probs under the reward model.
func (QRMLM) Columns() []schemas.List[float32] { return []schemas.List[float32]{schemas.RewardLogP} }

// Columns are the scores of the head.
func (ValueHead) Columns() []schemas.List[float32] { return []schemas.List[float32]{schemas.QValue} }

// ScalarHead says where the scores come from.
func (QRM) ScalarHead() {}

// ScalarHead says where the scores come from.
func (ValueHead) ScalarHead() {}

// TrainedBy names Q-RM's loss of a scalar head.
func (QRM) TrainedBy() []string { return []string{"qrm"} }

// TrainedBy names Q-RM's loss of a language model.
// TrainedBy lists qrm_lm, and the cross-entropy beside it that the authors' released trainer has.
func (QRMLM) TrainedBy() []string { return []string{"qrm_lm", "sft"} }

// TrainedBy names the losses of a value head.
func (ValueHead) TrainedBy() []string { return []string{"outcome_value"} }
