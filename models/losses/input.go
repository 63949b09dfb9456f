package losses

// Per says what an input has one number of.
type Per uint8

const (
	PerResponse  Per = iota // a response
	PerRow                  // a row
	PerSampled              // a listed token: the sampled one
	PerCandidate            // a listed token: each of the candidates
	PerTeacher              // a listed token: each of the teacher's
)

// Input is something that a loss reads: the record's column of that name, and the field of a Microbatch that it fills.
// Inputs of the sampled token, of the candidates and of the teacher's tokens may fill the same field, each its part of a
// row's list. Field is nil for tokens, which fill Listed.ID.
type Input struct {
	Name  string
	Per   Per
	Field func(*Microbatch) *[]float64
}

func (in *Input) String() string { return in.Name }

// The inputs. A loss that needs another number adds a row here, and its field to Microbatch.
var (
	ResponseTokens = input("response_tokens", PerSampled, nil)
	CandidateIDs   = input("candidate_ids", PerCandidate, nil)
	TeacherIDs     = input("teacher_ids", PerTeacher, nil)

	OldLogP                = input("old_logp", PerSampled, func(mb *Microbatch) *[]float64 { return &mb.Listed.OldLogP })
	CandidateOldLogP       = input("candidate_old_logp", PerCandidate, func(mb *Microbatch) *[]float64 { return &mb.Listed.OldLogP })
	ReferenceLogP          = input("reference_logp", PerSampled, func(mb *Microbatch) *[]float64 { return &mb.Listed.RefLogP })
	CandidateReferenceLogP = input("candidate_reference_logp", PerCandidate, func(mb *Microbatch) *[]float64 { return &mb.Listed.RefLogP })
	RewardLogP             = input("reward_logp", PerSampled, func(mb *Microbatch) *[]float64 { return &mb.Listed.RewardLogP })
	CandidateRewardLogP    = input("candidate_reward_logp", PerCandidate, func(mb *Microbatch) *[]float64 { return &mb.Listed.RewardLogP })
	CandidateAdvantage     = input("candidate_advantage", PerCandidate, func(mb *Microbatch) *[]float64 { return &mb.Listed.Advantage })
	TargetAdvantage        = input("target_advantage", PerCandidate, func(mb *Microbatch) *[]float64 { return &mb.Listed.Advantage })
	TeacherAdvantage       = input("teacher_advantage", PerTeacher, func(mb *Microbatch) *[]float64 { return &mb.Listed.Advantage })
	TeacherProb            = input("teacher_prob", PerTeacher, func(mb *Microbatch) *[]float64 { return &mb.Listed.Prob })

	Advantage       = input("advantage", PerRow, func(mb *Microbatch) *[]float64 { return &mb.Rows.Advantage })
	RestAdvantage   = input("rest_advantage", PerRow, func(mb *Microbatch) *[]float64 { return &mb.Rows.RestAdvantage })
	OldLogZ         = input("old_logz", PerRow, func(mb *Microbatch) *[]float64 { return &mb.Rows.OldLogZ })
	CriticValue     = input("critic_value", PerRow, func(mb *Microbatch) *[]float64 { return &mb.Rows.OldValue })
	Return          = input("return", PerRow, func(mb *Microbatch) *[]float64 { return &mb.Rows.Return })
	TeacherRestProb = input("teacher_rest", PerRow, func(mb *Microbatch) *[]float64 { return &mb.Rows.TeacherRest })

	Outcome   = input("outcome", PerResponse, func(mb *Microbatch) *[]float64 { return &mb.Responses.Outcome })
	GroupMean = input("group_mean", PerResponse, func(mb *Microbatch) *[]float64 { return &mb.Responses.GroupMean })
)

// Tempered lists the inputs that a policy is compared with. Where its responses were sampled at a temperature, the loss reads the
// policy and these at that temperature.
var Tempered = []*Input{OldLogP, CandidateOldLogP, OldLogZ, ReferenceLogP}

// Inputs lists them.
var Inputs []*Input

func input(name string, per Per, field func(*Microbatch) *[]float64) *Input {
	in := &Input{name, per, field}
	Inputs = append(Inputs, in)
	return in
}

// entries are how many entries the input's field has, and how many it must have.
func (in *Input) entries(mb *Microbatch) (got, want int) {
	if want = mb.List[mb.N()]; in.Per == PerResponse {
		want = mb.B()
	} else if in.Per == PerRow {
		want = mb.N()
	}
	if in.Field == nil {
		return len(mb.Listed.ID), want
	}
	return len(*in.Field(mb)), want
}

// clashes reports whether two inputs fill the same places with different numbers.
func (in *Input) clashes(other *Input) bool {
	if in == other || in.Per != other.Per || in.Field == nil || other.Field == nil {
		return false
	}
	var mb Microbatch
	return in.Field(&mb) == other.Field(&mb)
}
