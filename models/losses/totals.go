package losses

import "math"

// Totals are the batch-wide denominators: counted over every microbatch of one optimiser step, on every worker, before
// the first Eval. With them a loss is the same whether the batch is one microbatch or a hundred. A row that is masked
// out, and a response without a row in use, is counted nowhere.
type Totals struct {
	Tokens    float64 // rows
	Responses float64
	Pairs     float64 // both sides have a row in use

	RoleTokens    [roles]float64 // rows, by the role of their response
	RoleResponses [roles]float64

	// Of samples only:
	LabelledTokens    float64 // rows of responses that have an outcome
	LabelledResponses float64

	CandidateMass float64 // Σ π_old over the candidates of all rows but the last of each response

	// Rows whose first known advantage is above 0: the sampled token's, and the first candidate's.
	PositiveTokens          float64
	PositiveCandidateTokens float64
}

// Add counts a microbatch, row by row, so that the sum does not depend on how the batch was cut.
func (s *Totals) Add(mb *Microbatch) {
	for b := 0; b < mb.B(); b++ {
		n := float64(mb.Length(b))
		if n == 0 {
			continue
		}
		role := mb.RoleOf(b)
		s.Tokens += n
		s.Responses++
		s.RoleTokens[role] += n
		s.RoleResponses[role]++
		if _, ok := mb.OutcomeOf(b); ok {
			s.LabelledTokens += n
			s.LabelledResponses++
		}
		if role == Rejected && b%2 == 1 && mb.Length(b-1) > 0 {
			s.Pairs++
		}
		for t := mb.Start[b]; t < mb.Start[b+1]; t++ {
			if mb.Used(t) && role == Sample {
				s.addRow(mb, t)
			}
		}
	}
}

func (s *Totals) addRow(mb *Microbatch, t int) {
	if mb.Rows.Advantage != nil && mb.Rows.Advantage[t] > 0 {
		s.PositiveTokens++
	}
	span := mb.CandidatesOf(t)
	if span.Len() == 0 {
		return
	}
	if mb.Listed.Advantage != nil && mb.Listed.Advantage[span.Lo] > 0 {
		s.PositiveCandidateTokens++
	}
	if mb.Listed.OldLogP != nil && !mb.Last(t) {
		for i := span.Lo; i < span.Hi; i++ {
			s.CandidateMass += math.Exp(mb.Listed.OldLogP[i])
		}
	}
}

// Merge adds the totals of another part of the batch. Parts must be merged in a fixed order.
func (s *Totals) Merge(o Totals) {
	s.Tokens += o.Tokens
	s.Responses += o.Responses
	s.Pairs += o.Pairs
	for r := range s.RoleTokens {
		s.RoleTokens[r] += o.RoleTokens[r]
		s.RoleResponses[r] += o.RoleResponses[r]
	}
	s.LabelledTokens += o.LabelledTokens
	s.LabelledResponses += o.LabelledResponses
	s.CandidateMass += o.CandidateMass
	s.PositiveTokens += o.PositiveTokens
	s.PositiveCandidateTokens += o.PositiveCandidateTokens
}
