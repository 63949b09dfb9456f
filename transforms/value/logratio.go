package value

import "github.com/millrace/millrace/schemas"

// ratio are the settings of values that are log-ratios of two language models.
type ratio struct {
	Beta      float64 `json:"beta" range:"(0,inf)" doc:"scale of the log-ratio"`
	Reference string  `json:"reference" enum:"old,frozen" doc:"what the log-ratio is taken to: old, the policy that sampled, or frozen, a reference model"`
}

// Columns are log-probs under the reward model and the reference.
func (r ratio) Columns() []schemas.List[float32] {
	if r.Reference == Frozen {
		return []schemas.List[float32]{schemas.RewardLogP, schemas.ReferenceLogP}
	}
	return []schemas.List[float32]{schemas.RewardLogP, schemas.OldLogP}
}

// Scale is beta.
func (r ratio) Scale() float64 { return r.Beta }

// Against is the reference.
func (r ratio) Against() string { return r.Reference }

func (r ratio) prefix(value, mean []float64, columns [][]float64) {
	LogRatios(columns[0], columns[0], columns[1])
	Prefix(value, mean, columns[0], r.Beta)
}

// IPVRM are mean log-ratios of the prefix (arXiv 2604.13197; algorithms.md 1.1).
type IPVRM struct{ ratio }

// ImplicitPRM are summed log-ratios (arXiv 2412.01981; algorithms.md 1.3).
type ImplicitPRM struct{ ratio }

// DPORM are summed log-ratios of a model trained on preferences (algorithms.md 1.4).
type DPORM struct{ ratio }

func init() {
	Register("ipvrm", IPVRM{ratio{Beta: 10, Reference: Old}})
	Register("implicit_prm", ImplicitPRM{ratio{Beta: 0.05, Reference: Old}})
	Register("dpo_rm", DPORM{ratio{Beta: 0.05, Reference: Old}})
}

// Write reads P(correct) off the mean.
func (k IPVRM) Write(value, mean, correct []float64, columns [][]float64) {
	k.prefix(value, mean, columns)
	Correct(correct, mean)
}

// Write reads P(correct) off the sum.
func (k ImplicitPRM) Write(value, mean, correct []float64, columns [][]float64) {
	k.prefix(value, mean, columns)
	Correct(correct, value)
}

// Write reads P(correct) off the sum.
func (k DPORM) Write(value, mean, correct []float64, columns [][]float64) {
	k.prefix(value, mean, columns)
	Correct(correct, value)
}

// Ranks by the mean.
func (IPVRM) Ranks() string { return schemas.MeanValue.Name }

// Ranks by the sum.
func (ImplicitPRM) Ranks() string { return schemas.Value.Name }

// Ranks by the sum.
func (DPORM) Ranks() string { return schemas.Value.Name }

// TrainedBy names IPVRM's losses.
func (IPVRM) TrainedBy() []string { return []string{"ipvrm", "ipvrm_online"} }

// TrainedBy names Implicit PRM's loss.
func (ImplicitPRM) TrainedBy() []string { return []string{"implicit_prm"} }

// TrainedBy names the losses of preferences.
func (DPORM) TrainedBy() []string { return []string{"dpo_rm", "dpo"} }

// WithReference takes log-ratios to another reference.
func (k IPVRM) WithReference(reference string) Kind {
	k.Reference = reference
	return k
}

// WithReference takes log-ratios to another reference.
func (k ImplicitPRM) WithReference(reference string) Kind {
	k.Reference = reference
	return k
}

// WithReference takes log-ratios to another reference.
func (k DPORM) WithReference(reference string) Kind {
	k.Reference = reference
	return k
}
