package value

import "github.com/millrace/millrace/schemas"

// PolicyLogP is what the policy itself thinks of a response: no reward model at all, and what one is to be held against. The value
// of a prefix is its log-prob under the policy that sampled it, or that would have (reference frozen, for given responses).
type PolicyLogP struct {
	Rank      string `json:"rank" enum:"sum,mean,min" doc:"what ranks responses: the log-prob, its mean over tokens, or that of the least probable token"`
	Reference string `json:"reference" enum:"old,frozen" doc:"whose log-probs: old, the policy that sampled, or frozen, a reference model"`
}

func init() { Register("policy_logp", PolicyLogP{Rank: "sum", Reference: Old}) }

// Columns are the log-probs under the policy.
func (k PolicyLogP) Columns() []schemas.List[float32] {
	if k.Reference == Frozen {
		return []schemas.List[float32]{schemas.ReferenceLogP}
	}
	return []schemas.List[float32]{schemas.OldLogP}
}

// Write sums the log-probs; P(correct) is taken to be the probability of the prefix.
func (k PolicyLogP) Write(value, mean, correct []float64, columns [][]float64) {
	Prefix(value, mean, columns[0], 1)
	Probability(correct, value)
}

// Scale spreads the scores of steps as those of other token scores.
func (k PolicyLogP) Scale() float64 { return stepScale }

// Ranks is by the setting.
func (k PolicyLogP) Ranks() string {
	return map[string]string{"sum": schemas.Value.Name, "mean": schemas.MeanValue.Name, "min": "min"}[k.Rank]
}

// TrainedBy is none: there is no model but the policy.
func (k PolicyLogP) TrainedBy() []string { return nil }

// Against is whose log-probs are taken.
func (k PolicyLogP) Against() string { return k.Reference }

// WithReference takes those of another model.
func (k PolicyLogP) WithReference(reference string) Kind {
	k.Reference = reference
	return k
}

// NoModel says that there is nothing to score with but the policy.
func (k PolicyLogP) NoModel() {}
