package target

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
)

const tol = 1e-9

func logSoftmax(z []float64) []float64 {
	top := slices.Max(z)
	sum := 0.0
	for _, x := range z {
		sum += math.Exp(x - top)
	}
	out := make([]float64, len(z))
	for i, x := range z {
		out[i] = x - top - math.Log(sum)
	}
	return out
}

// logTarget is log_softmax(log pi_old + A/beta), what the loss builds from listed advantages and the rest.
func logTarget(oldLogp []float64, ids []int32, a []float64, rest, beta float64) []float64 {
	z := make([]float64, len(oldLogp))
	for v := range z {
		z[v] = oldLogp[v] + rest/beta
	}
	for k, id := range ids {
		z[id] = oldLogp[id] + a[k]/beta
	}
	return logSoftmax(z)
}

func TestLCOGolden(t *testing.T) {
	for _, c := range golden.Load(t, "lco.json").Cases {
		form := golden.Get[string](t, c.Params, "advantages")
		if form == "outcome" {
			continue // the sampled token's advantage as it is; its enlarged beta belongs to the loss
		}
		t.Run(c.Name, func(t *testing.T) {
			beta := golden.Get[float64](t, c.Params, "beta")
			old := golden.Get[golden.Tensor](t, c.In, "old_logits")
			a := golden.Get[golden.Tensor](t, c.In, "A")
			n, vocab, k := old.Shape[0], old.Shape[1], a.Shape[1]
			key := "candidates"
			if form == "vocab_estimate" {
				key = "known"
			}
			slots := golden.Get[golden.Tensor](t, c.In, key).Int32()
			scaled, stds, full, logp := make([]float64, n*k), make([]float64, n), []float64{}, []float64{}
			for i := range n {
				oldLogp := logSoftmax(old.Data[i*vocab:][:vocab])
				ids, row, rowLogp := []int32{}, []float64{}, []float64{}
				for s, id := range slots[i*k:][:k] {
					if id >= 0 {
						ids, row, rowLogp = append(ids, id), append(row, a.Data[i*k+s]), append(rowLogp, oldLogp[id])
					}
				}
				rest := 0.0
				if form == "vocab_estimate" {
					rest = VocabEstimate(row, rowLogp, golden.Get[float64](t, c.Params, "min_rest"))
				} else {
					rest = golden.GetOr(t, c.Params, "unlisted", 0.0)
					stds[i] = Dense(row, golden.Get[string](t, c.Params, "loss") != "kld")
				}
				vector := slices.Repeat([]float64{rest}, vocab)
				at := 0
				for s, id := range slots[i*k:][:k] {
					if id >= 0 {
						scaled[i*k+s], vector[id] = row[at], row[at]
						at++
					}
				}
				full = append(full, vector...)
				logp = append(logp, logTarget(oldLogp, ids, row, rest, beta)...)
			}
			check := func(key string, got []float64) {
				if c.Out.Has(key) {
					golden.Close(t, key, got, golden.Get[golden.Tensor](t, c.Out, key).Data, tol)
				}
			}
			check("A_vocab", full)
			check("A_scaled", scaled)
			check("std", stds)
			check("log_target", logp)
		})
	}
}

// sparse cuts a full distribution to its k most probable tokens, as a scorer does.
func sparse(logp []float64, k int) (ids []int32, listed []float64, rest float64) {
	order := make([]int32, len(logp))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(logp[b], logp[a]) })
	for _, id := range order[:k] {
		listed = append(listed, logp[id])
	}
	off := 0.0
	for _, id := range order[k:] {
		off += math.Exp(logp[id])
	}
	return order[:k], listed, math.Log(off)
}

func TestSparseTeacherGolden(t *testing.T) {
	seen := 0
	for _, c := range golden.Load(t, "dckd.json").Cases {
		for _, side := range []string{"_w", "_l"} {
			if !c.In.Has("teacher_logits" + side) {
				continue
			}
			logits := golden.Get[golden.Tensor](t, c.In, "teacher_logits"+side)
			want := golden.Get[golden.Tensor](t, c.In, "teacher_p"+side)
			n, vocab, k := logits.Shape[0], logits.Shape[1], want.Shape[1]
			probs, rests, tokens := []float64{}, []float64{}, []float64{}
			for i := range n {
				ids, logp, restLogp := sparse(logSoftmax(logits.Data[i*vocab:][:vocab]), k)
				p := make([]float64, k)
				rests = append(rests, Sparse(p, logp, restLogp))
				probs = append(probs, p...)
				for _, id := range ids {
					tokens = append(tokens, float64(id))
				}
			}
			golden.Close(t, c.Name+" ids"+side, tokens, golden.Get[golden.Tensor](t, c.In, "teacher_ids"+side).Data, 0)
			golden.Close(t, c.Name+" p"+side, probs, want.Data, tol)
			golden.Close(t, c.Name+" rest"+side, rests, golden.Get[golden.Tensor](t, c.In, "teacher_rest"+side).Data, tol)
			seen++
		}
	}
	if seen == 0 {
		t.Error("no case of dckd.json carries the teacher's logits")
	}
}

func TestTeacherAdvantageGolden(t *testing.T) {
	for _, c := range golden.Load(t, "adpa.json").Cases {
		ids := golden.Get[golden.Tensor](t, c.In, "dpo_ids")
		p := golden.Get[golden.Tensor](t, c.In, "dpo_p").Data
		refIDs := golden.Get[golden.Tensor](t, c.In, "ref_ids")
		refP := golden.Get[golden.Tensor](t, c.In, "ref_p").Data
		n, k, rk := ids.Shape[0], ids.Shape[1], refIDs.Shape[1]
		var clip *Clip
		if golden.Get[bool](t, c.Params, "clip") {
			clip = &Clip{golden.Get[float64](t, c.Params, "clip_low"), golden.Get[float64](t, c.Params, "clip_high")}
		}
		a, tokens, refTokens := make([]float64, n*k), ids.Int32(), refIDs.Int32()
		for i := range n {
			TeacherAdvantage(a[i*k:][:k], tokens[i*k:][:k], p[i*k:][:k], refTokens[i*rk:][:rk], refP[i*rk:][:rk],
				golden.Get[float64](t, c.Params, "floor"), clip)
		}
		golden.Close(t, c.Name+" A", a, golden.Get[golden.Tensor](t, c.Out, "A").Data, tol)
	}
}

func TestVocabEstimateHasNoExpectedAdvantage(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for range 200 {
		k := 1 + r.IntN(4)
		a, logp := make([]float64, k), make([]float64, k)
		mass := 0.0
		for i := range a {
			p := r.Float64() * 0.9 / float64(k)
			a[i], logp[i] = r.NormFloat64(), math.Log(p)
			mass += p
		}
		rest := VocabEstimate(a, logp, 0.1)
		expected := (1 - mass) * rest
		for i := range a {
			expected += math.Exp(logp[i]) * a[i]
		}
		golden.CloseTo(t, "expected advantage", expected, 0, 1e-12)
	}
}

func TestDenseIsScaledAndCentred(t *testing.T) {
	a := []float64{1, 2, 6}
	std := Dense(a, true)
	golden.CloseTo(t, "std", std, math.Sqrt(7), 1e-12)
	golden.CloseTo(t, "sum", a[0]+a[1]+a[2], 0, 1e-12)
	for _, row := range [][]float64{{}, {3}, {2, 2, 2}} {
		if std := Dense(row, false); std != 0 || slices.ContainsFunc(row, func(x float64) bool { return x != 0 }) {
			t.Errorf("no spread: std %v, advantages %v", std, row)
		}
	}
}

func TestSparseNeverExceedsOne(t *testing.T) {
	p := make([]float64, 1)
	if rest := Sparse(p, []float64{1e-7}, math.Inf(-1)); p[0] != 1 || rest != 0 {
		t.Errorf("p %v, rest %v", p[0], rest)
	}
}
