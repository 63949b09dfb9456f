package schemas

// Totals are the batch-wide numbers that cross records: one reduction over a batch, read by later stages as a side
// input. Sums are kept rather than means, so totals of parts add up.
type Totals struct {
	Prompts   int64 `json:"prompts"`   // prompt groups
	Responses int64 `json:"responses"` // rows
	Valid     int64 `json:"valid"`     // rows with group_valid
	Tokens    int64 `json:"tokens"`    // response tokens of all rows
	Masked    int64 `json:"masked"`    // response tokens that take part in the loss
	Pairs     int64 `json:"pairs"`     // rows of a record of pairs

	Outcomes   int64   `json:"outcomes"`    // rows that have an outcome
	OutcomeSum float64 `json:"outcome_sum"` // sum of those outcomes

	Candidates    int64   `json:"candidates"`     // listed tokens that have a candidate advantage
	CandidateMass float64 `json:"candidate_mass"` // sum over positions of the old policy's probability of them

	Values   int64   `json:"values"`    // prefix values that enter sigma_V
	ValueSum float64 `json:"value_sum"` // their sum
	SigmaV   float64 `json:"sigma_v"`   // their population standard deviation; 1 with fewer than two
	TDSum    float64 `json:"td_sum"`    // sum of A_TD of the sampled tokens
	TDs      int64   `json:"tds"`       // how many entered it
}
