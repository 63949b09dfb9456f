package losstest

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/millrace/millrace/models/losses"
)

// Vocabulary of random microbatches.
const vocab = 9

// Random returns a microbatch in which every field that a loss may read holds plausible random numbers, with the given
// number of pairs (chosen, rejected) or samples, and the head to evaluate it on. Some rows are masked out, some responses
// have no outcome, some rows no candidates; the sampled token is also among the teacher's in some rows.
func Random(seed uint64, responses int, paired bool) (*losses.Microbatch, Dense) {
	r := rand.New(rand.NewPCG(seed, 1))
	var lengths []int
	for range responses {
		lengths = append(lengths, 1+r.IntN(5))
	}
	mb := losses.NewMicrobatch(lengths, nil)
	n := mb.N()
	d := Dense{V: vocab, Logits: normal(r, n*vocab, 1), Target: normal(r, n*vocab, 1), Value: normal(r, n, 1)}
	mb.List = []int{0}
	for b := range responses {
		outcome := float64(r.IntN(2))
		if r.IntN(6) == 0 {
			outcome = math.NaN()
		}
		mb.Responses.Outcome = append(mb.Responses.Outcome, outcome)
		mb.Responses.GroupMean = append(mb.Responses.GroupMean, float64(r.IntN(5))/4)
		mb.Responses.Weight = append(mb.Responses.Weight, 0.5+r.Float64())
		role := losses.Sample
		if paired {
			role = losses.Chosen + losses.Role(b%2)
		}
		mb.Responses.Role = append(mb.Responses.Role, role)
		used := 1.0
		if r.IntN(5) == 0 {
			used = 0
		}
		for t := mb.Start[b]; t < mb.Start[b+1]; t++ {
			mask := used
			if r.IntN(8) == 0 {
				mask = 0
			}
			mb.Rows.Mask = append(mb.Rows.Mask, mask)
			addRow(r, mb, d.Logits[t*vocab:(t+1)*vocab])
		}
	}
	// Inputs that nothing above has numbers for.
	for i, of := range [][]*[]float64{responseFields(mb), rowFields(mb), listedFields(mb)} {
		for _, f := range of {
			if *f == nil {
				*f = normal(r, []int{mb.B(), n, len(mb.Listed.ID)}[i], 1)
			}
		}
	}
	mb.Totals.Add(mb)
	return mb, d
}

func addRow(r *rand.Rand, mb *losses.Microbatch, z []float64) {
	logp := LogSoftmax(z)
	list := func(id int, prob float64) {
		l := &mb.Listed
		l.ID = append(l.ID, int32(id))
		l.OldLogP = append(l.OldLogP, logp[id]+0.2*r.NormFloat64())
		l.RefLogP = append(l.RefLogP, logp[id]+0.2*r.NormFloat64())
		l.RewardLogP = append(l.RewardLogP, logp[id]+0.2*r.NormFloat64())
		l.Advantage = append(l.Advantage, r.NormFloat64())
		l.Prob = append(l.Prob, prob)
	}
	ids := r.Perm(vocab)
	k := 1 + r.IntN(3)
	lo := len(mb.Listed.ID)
	for _, id := range ids[:k] {
		list(id, 0)
	}
	if candidates := (losses.Span{Lo: lo, Hi: lo + k}); k > 1 || r.IntN(2) == 0 {
		mb.Candidates = append(mb.Candidates, candidates)
	} else {
		mb.Candidates = append(mb.Candidates, losses.Span{})
	}
	lo, rest := len(mb.Listed.ID), 1.0
	for _, id := range r.Perm(vocab)[:3] {
		p := rest * (0.2 + 0.6*r.Float64())
		list(id, p)
		rest -= p
	}
	mb.Teacher = append(mb.Teacher, losses.Span{Lo: lo, Hi: lo + 3})
	mb.List = append(mb.List, len(mb.Listed.ID))
	rows := &mb.Rows
	rows.TeacherRest = append(rows.TeacherRest, rest)
	rows.Advantage = append(rows.Advantage, r.NormFloat64())
	rows.RestAdvantage = append(rows.RestAdvantage, -r.Float64())
	rows.OldLogZ = append(rows.OldLogZ, math.Log(vocab)+0.5*r.NormFloat64())
	rows.OldValue = append(rows.OldValue, 0.3*r.NormFloat64())
	rows.Return = append(rows.Return, r.NormFloat64())
}

func normal(r *rand.Rand, n int, scale float64) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = scale * r.NormFloat64()
	}
	return out
}

// Part cuts the responses [lo,hi) of a microbatch out as one of its own, with the same totals.
func Part(mb *losses.Microbatch, d Dense, lo, hi int) (*losses.Microbatch, Dense) {
	order := make([]int, 0, hi-lo)
	for b := lo; b < hi; b++ {
		order = append(order, b)
	}
	return Reorder(mb, d, order)
}

// Reorder returns the named responses, in that order, as a microbatch with the same totals.
func Reorder(mb *losses.Microbatch, d Dense, order []int) (*losses.Microbatch, Dense) {
	out := &losses.Microbatch{Start: []int{0}, List: []int{0}, Totals: mb.Totals}
	od := Dense{V: d.V}
	for _, b := range order {
		out.Start = append(out.Start, out.N()+mb.Start[b+1]-mb.Start[b])
		in, to := &mb.Responses, &out.Responses
		to.Role = pick(to.Role, in.Role, b, b+1)
		to.Weight = pick(to.Weight, in.Weight, b, b+1)
		for i, from := range responseFields(mb) {
			*responseFields(out)[i] = pick(*responseFields(out)[i], *from, b, b+1)
		}
		lo, hi := mb.Start[b], mb.Start[b+1]
		out.Rows.Mask = pick(out.Rows.Mask, mb.Rows.Mask, lo, hi)
		for i, from := range rowFields(mb) {
			*rowFields(out)[i] = pick(*rowFields(out)[i], *from, lo, hi)
		}
		od.Logits = pick(od.Logits, d.Logits, lo*d.V, hi*d.V)
		od.Target = pick(od.Target, d.Target, lo*d.V, hi*d.V)
		od.Value = pick(od.Value, d.Value, lo, hi)
		for t := lo; t < hi; t++ {
			shift := len(out.Listed.ID) - mb.List[t]
			for i, from := range listedFields(mb) {
				*listedFields(out)[i] = pick(*listedFields(out)[i], *from, mb.List[t], mb.List[t+1])
			}
			out.Listed.ID = pick(out.Listed.ID, mb.Listed.ID, mb.List[t], mb.List[t+1])
			out.List = append(out.List, len(out.Listed.ID))
			if mb.Candidates != nil {
				out.Candidates = append(out.Candidates, moved(mb.Candidates[t], shift))
			}
			if mb.Teacher != nil {
				out.Teacher = append(out.Teacher, moved(mb.Teacher[t], shift))
			}
		}
	}
	out.Index()
	return out, od
}

func moved(s losses.Span, shift int) losses.Span {
	if s.Len() == 0 {
		return losses.Span{}
	}
	return losses.Span{Lo: s.Lo + shift, Hi: s.Hi + shift}
}

func pick[T any](dst, src []T, lo, hi int) []T {
	if src == nil {
		return dst
	}
	return append(dst, src[lo:hi]...)
}

// fields are the fields that inputs fill and that have one number of what is named, each once.
func fields(mb *losses.Microbatch, per ...losses.Per) []*[]float64 {
	var out []*[]float64
	for _, in := range losses.Inputs {
		if in.Field != nil && slices.Contains(per, in.Per) && !slices.Contains(out, in.Field(mb)) {
			out = append(out, in.Field(mb))
		}
	}
	return out
}

func rowFields(mb *losses.Microbatch) []*[]float64 { return fields(mb, losses.PerRow) }

func listedFields(mb *losses.Microbatch) []*[]float64 {
	return fields(mb, losses.PerSampled, losses.PerCandidate, losses.PerTeacher)
}

func responseFields(mb *losses.Microbatch) []*[]float64 { return fields(mb, losses.PerResponse) }
