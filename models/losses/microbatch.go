package losses

import (
	"fmt"
	"math"
)

// Role is what a response is to its loss.
type Role uint8

const (
	Sample   Role = iota // a model's own response
	Chosen               // the preferred response of a pair (y_w), or supervised data
	Rejected             // the dispreferred response of a pair (y_l)
	roles
)

func (r Role) String() string { return [...]string{"sample", "chosen", "rejected"}[r] }

// Span is a half-open range of listed tokens.
type Span struct{ Lo, Hi int }

// Len is the number of tokens in the span.
func (s Span) Len() int { return s.Hi - s.Lo }

// Microbatch is what a loss reads. Row t is one response token, that is the prefix before it and the token chosen there.
// Rows of a response are contiguous; with pairs, response 2p is chosen and 2p+1 rejected. All log-probs are natural
// logs at temperature 1 over the full vocabulary. Slices a loss does not ask for may be nil.
type Microbatch struct {
	// Lo and Hi bound the rows that Eval treats now; whole coupled sets lie inside.
	Lo, Hi int
	// Start has B+1 entries: response b is rows Start[b]..Start[b+1].
	Start []int
	// Response has N entries: the response of row t. Index fills it.
	Response []int
	// List has N+1 entries: row t lists tokens List[t]..List[t+1]; its first is the sampled token. Nil: one token a row.
	List []int
	// Candidates and Teacher have N entries each: which part of the row's list are the candidates (the sampled token is
	// the first of them) and which the teacher's most probable tokens. An id may be listed twice. Nil: none in any row.
	Candidates, Teacher []Span

	Listed    Listed
	Rows      Rows
	Responses Responses
	Totals    Totals

	lengths []int // rows in use of each response, counted at the first call of Length
}

// Listed holds one number per listed token. The inputs (see Input) say which columns fill a field.
type Listed struct {
	ID []int32

	LogP       []float64 // by the head: log π(id)
	Logit      []float64 // by the head: z[id]
	TargetLogP []float64 // by the head: log-prob under the target row

	OldLogP    []float64
	RefLogP    []float64
	RewardLogP []float64
	Advantage  []float64 // unused in the slot of the sampled token unless that is a candidate
	Prob       []float64
}

// Rows holds one number per row.
type Rows struct {
	LogZ           []float64 // by the head: logsumexp of the logits
	Entropy        []float64 // by the head: nats
	RestLogP       []float64 // by the head, if Spec.Rest: log mass of the tokens that are not in that list, 0 if it is empty
	TargetKL       []float64 // by the head, if Spec.Target: KL(target || model)
	TargetRestLogP []float64 // by the head, if both: the target row's log mass off the list
	Value          []float64 // by the scalar head

	Mask          []float64 // 1, or 0 where the row is in no loss and no denominator; nil: all 1
	Advantage     []float64 // of the sampled token
	RestAdvantage []float64 // of every token off the list
	OldLogZ       []float64
	OldValue      []float64 // of the value head at rollout time
	Return        []float64
	TeacherRest   []float64 // the teacher's mass off its list
}

// Responses holds one number per response.
type Responses struct {
	Role      []Role    // nil: all Sample
	Outcome   []float64 // 0 or 1, NaN where the verifier abstained
	GroupMean []float64 // mean outcome of the prompt's group
	Weight    []float64 // a weight of the response's loss; nil: all 1
}

// NewMicrobatch returns a microbatch of rows split into responses of the given lengths, one listed token a row, with
// the window over all rows.
func NewMicrobatch(lengths []int, tokens []int32) *Microbatch {
	mb := &Microbatch{Start: make([]int, 1, len(lengths)+1), Listed: Listed{ID: tokens}}
	for _, n := range lengths {
		mb.Start = append(mb.Start, mb.Start[len(mb.Start)-1]+n)
	}
	mb.Index()
	return mb
}

// Index fills Response from Start, List where it is nil, and sets the window to all rows.
func (mb *Microbatch) Index() {
	n := mb.N()
	mb.Response = make([]int, n)
	for b := 0; b+1 < len(mb.Start); b++ {
		for t := mb.Start[b]; t < mb.Start[b+1]; t++ {
			mb.Response[t] = b
		}
	}
	if mb.List == nil {
		mb.List = make([]int, n+1)
		for t := range mb.List {
			mb.List[t] = t
		}
	}
	mb.Lo, mb.Hi = 0, n
	mb.lengths = nil
}

// N is the number of rows.
func (mb *Microbatch) N() int { return mb.Start[len(mb.Start)-1] }

// B is the number of responses.
func (mb *Microbatch) B() int { return len(mb.Start) - 1 }

// Used reports whether the row is in the loss.
func (mb *Microbatch) Used(t int) bool { return mb.Rows.Mask == nil || mb.Rows.Mask[t] != 0 }

// Length is the number of used rows of response b. The mask must not change after the first call.
func (mb *Microbatch) Length(b int) int {
	if mb.lengths == nil {
		mb.lengths = make([]int, mb.B())
		for t, b := range mb.Response {
			if mb.Used(t) {
				mb.lengths[b]++
			}
		}
	}
	return mb.lengths[b]
}

// Last reports whether row t is the last of its response.
func (mb *Microbatch) Last(t int) bool { return t+1 == mb.Start[mb.Response[t]+1] }

// Sampled is the listed token of row t that was sampled.
func (mb *Microbatch) Sampled(t int) int { return mb.List[t] }

// CandidatesOf is the candidates' part of row t's list.
func (mb *Microbatch) CandidatesOf(t int) Span {
	if mb.Candidates == nil {
		return Span{}
	}
	return mb.Candidates[t]
}

// TeacherOf is the teacher's part of row t's list.
func (mb *Microbatch) TeacherOf(t int) Span {
	if mb.Teacher == nil {
		return Span{}
	}
	return mb.Teacher[t]
}

// RestSpan is the list of row t whose complement a loss wants measured.
func (mb *Microbatch) RestSpan(r RestOf, t int) Span {
	switch r {
	case SampledRest:
		return Span{mb.List[t], mb.List[t] + 1}
	case CandidateRest:
		return mb.CandidatesOf(t)
	case TeacherRest:
		return mb.TeacherOf(t)
	}
	return Span{}
}

// RoleOf is the role of response b.
func (mb *Microbatch) RoleOf(b int) Role {
	if mb.Responses.Role == nil {
		return Sample
	}
	return mb.Responses.Role[b]
}

// WeightOf is the weight of response b.
func (mb *Microbatch) WeightOf(b int) float64 {
	if mb.Responses.Weight == nil {
		return 1
	}
	return mb.Responses.Weight[b]
}

// OutcomeOf is the outcome of response b and whether it is a sample that has one.
func (mb *Microbatch) OutcomeOf(b int) (outcome float64, ok bool) {
	if mb.Responses.Outcome == nil || mb.RoleOf(b) != Sample {
		return 0, false
	}
	r := mb.Responses.Outcome[b]
	return r, !math.IsNaN(r)
}

// ResponsesIn is the range of responses that lie in the window.
func (mb *Microbatch) ResponsesIn() (lo, hi int) {
	if mb.Lo >= mb.Hi {
		return 0, 0
	}
	return mb.Response[mb.Lo], mb.Response[mb.Hi-1] + 1
}

// PairsIn is the range of pairs that lie in the window.
func (mb *Microbatch) PairsIn() (lo, hi int) {
	lo, hi = mb.ResponsesIn()
	return lo / 2, (hi + 1) / 2
}

// SetEnd is the end of the coupled set whose first row is t.
func (mb *Microbatch) SetEnd(c Coupling, t int) int {
	switch c {
	case Response:
		return mb.Start[mb.Response[t]+1]
	case Pair:
		return mb.Start[min(mb.Response[t]/2*2+2, mb.B())]
	}
	return t + 1
}

// Check reports the first field that the loss asks for and the microbatch does not hold in the right length. Fields
// that the head fills are not looked at.
func (mb *Microbatch) Check(s Spec) error {
	if len(mb.Start) == 0 || mb.Start[0] != 0 {
		return fmt.Errorf("losses: Start must begin with 0")
	}
	for b := 0; b < mb.B(); b++ {
		if mb.Start[b+1] < mb.Start[b] {
			return fmt.Errorf("losses: Start[%d] = %d is below Start[%d] = %d", b+1, mb.Start[b+1], b, mb.Start[b])
		}
	}
	n, b := mb.N(), mb.B()
	if len(mb.Response) != n || len(mb.List) != n+1 {
		return fmt.Errorf("losses: Response and List have %d and %d entries for %d rows; call Index", len(mb.Response), len(mb.List), n)
	}
	k := mb.List[n]
	for t := 0; t < n; t++ {
		if s.Heads&LM != 0 && mb.List[t+1] <= mb.List[t] {
			return fmt.Errorf("losses: row %d lists no token; the sampled token must be the first", t)
		}
		for _, span := range []Span{mb.CandidatesOf(t), mb.TeacherOf(t)} {
			if span.Len() != 0 && (span.Lo < mb.List[t] || span.Hi > mb.List[t+1] || span.Hi < span.Lo) {
				return fmt.Errorf("losses: row %d: span %d..%d lies outside its list %d..%d", t, span.Lo, span.Hi, mb.List[t], mb.List[t+1])
			}
		}
	}
	if s.Heads&LM != 0 && len(mb.Listed.ID) != k {
		return fmt.Errorf("losses: Listed.ID has %d entries, want %d", len(mb.Listed.ID), k)
	}
	if s.Coupling == Pair {
		if b%2 != 0 {
			return fmt.Errorf("losses: %d responses are not pairs", b)
		}
		for i := 0; i < b; i++ {
			want := Chosen
			if i%2 == 1 {
				want = Rejected
			}
			if got := mb.RoleOf(i); got != want {
				return fmt.Errorf("losses: response %d is %v, want %v: pairs are adjacent, the chosen one first", i, got, want)
			}
		}
	}
	if s.Reads(CandidateIDs) && len(mb.Candidates) != n {
		return fmt.Errorf("losses: Candidates has %d entries, want %d", len(mb.Candidates), n)
	}
	if s.Reads(TeacherIDs) && len(mb.Teacher) != n {
		return fmt.Errorf("losses: Teacher has %d entries, want %d", len(mb.Teacher), n)
	}
	for _, in := range s.Of(Sample) {
		if got, want := in.entries(mb); got != want {
			return fmt.Errorf("losses: the field of column %s has %d entries, want %d", in.Name, got, want)
		}
	}
	for _, f := range []struct {
		name      string
		got, want int
	}{
		{"Rows.Mask", len(mb.Rows.Mask), n}, {"Responses.Role", len(mb.Responses.Role), b}, {"Responses.Weight", len(mb.Responses.Weight), b},
	} {
		if f.got != 0 && f.got != f.want {
			return fmt.Errorf("losses: %s has %d entries, want %d", f.name, f.got, f.want)
		}
	}
	return nil
}
