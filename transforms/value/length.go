package value

import "github.com/millrace/millrace/schemas"

// Length prefers short responses and knows nothing else: what a reward model has to beat where wrong answers ramble. The value of a
// prefix is 0 less its tokens.
type Length struct {
	Reference string `json:"reference" enum:"old,frozen" doc:"whose log-probs say which tokens there are: old, the policy that sampled, or frozen, a reference model"`
}

func init() { Register("length", Length{Reference: Old}) }

// Columns are the log-probs under the policy, of which only their number is taken.
func (k Length) Columns() []schemas.List[float32] {
	return PolicyLogP{Reference: k.Reference}.Columns()
}

// Write counts tokens; P(correct) falls with them and is no probability of anything.
func (k Length) Write(value, mean, correct []float64, columns [][]float64) {
	for t := range value {
		n := float64(t + 1)
		value[t], mean[t], correct[t] = -n, -n, 1/(1+n)
	}
}

// Scale is that of tokens.
func (k Length) Scale() float64 { return 1 }

// Ranks is by the value.
func (k Length) Ranks() string { return schemas.Value.Name }

// TrainedBy is none.
func (k Length) TrainedBy() []string { return nil }

// Against is whose log-probs are taken.
func (k Length) Against() string { return k.Reference }

// WithReference takes those of another model.
func (k Length) WithReference(reference string) Kind {
	k.Reference = reference
	return k
}

// NoModel says that there is nothing to score with but the policy.
func (k Length) NoModel() {}
