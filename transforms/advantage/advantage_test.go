package advantage

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/transforms/series"
)

const tol = 1e-9

func data(t *testing.T, v golden.Values, key string) []float64 {
	t.Helper()
	return golden.Get[golden.Tensor](t, v, key).Data
}

func num(t *testing.T, v golden.Values, key string) float64 {
	t.Helper()
	return golden.Get[float64](t, v, key)
}

// offsets returns where each packed response starts, and the end.
func offsets(lengths []int) []int {
	start := make([]int, 1, len(lengths)+1)
	for i, n := range lengths {
		start = append(start, start[i]+n)
	}
	return start
}

// kept turns 0/1 flags of truncated responses into those that count.
func kept(truncated []int) []bool {
	keep := make([]bool, len(truncated))
	for i, cut := range truncated {
		keep[i] = cut == 0
	}
	return keep
}

func packed(t *testing.T, c golden.Case) (start []int, keep []bool) {
	t.Helper()
	start = offsets(golden.Get[[]int](t, c.In, "lengths"))
	if c.In.Has("truncated") {
		return start, kept(golden.Get[[]int](t, c.In, "truncated"))
	}
	return start, slices.Repeat([]bool{true}, len(start)-1)
}

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

// listing orders a row's tokens as a rollout stores them: the sampled token, then the others from most to least probable.
func listing(logp []float64, sampled int) []int {
	ids := []int{}
	for id := range logp {
		if id != sampled {
			ids = append(ids, id)
		}
	}
	slices.SortStableFunc(ids, func(a, b int) int { return cmp.Compare(logp[b], logp[a]) })
	return append([]int{sampled}, ids...)
}

// keptSlots cuts a row's listing as a rollout does: the sampled token in slot 0 always stays, the others while their
// probability is at least pMin, up to k slots in all.
func keptSlots(oldLogp []float64, k int, pMin float64) int {
	for i := 1; i < min(k, len(oldLogp)); i++ {
		if math.Exp(oldLogp[i]) < pMin {
			return i
		}
	}
	return min(k, len(oldLogp))
}

func TestTDGolden(t *testing.T) {
	for _, c := range golden.Load(t, "td_advantages.json").Cases {
		t.Run(c.Name, func(t *testing.T) {
			start, keep := packed(t, c)
			k, beta, eps := golden.Get[int](t, c.Params, "K"), num(t, c.Params, "beta"), num(t, c.Params, "eps")
			pMin, zeroLast := num(t, c.Params, "p_min"), golden.Get[bool](t, c.Params, "zero_last_td")
			old, phi := golden.Get[golden.Tensor](t, c.In, "old_logits"), golden.Get[golden.Tensor](t, c.In, "phi_logits")
			ref := golden.GetOr(t, c.In, "ref_logits", old)
			tokens := golden.Get[golden.Tensor](t, c.In, "tokens").Int32()
			n, vocab := old.Shape[0], old.Shape[1]

			ids := slices.Repeat([]float64{-1}, n*k)
			mask, oldLogp, phiLogp, refLogp := make([]float64, n*k), make([]float64, n*k), make([]float64, n*k), make([]float64, n*k)
			sampledPhi, sampledRef, mass := make([]float64, n), make([]float64, n), make([]float64, n)
			for b := range keep {
				for i := start[b]; i < start[b+1]; i++ {
					lo, lp, lr := logSoftmax(old.Data[i*vocab:][:vocab]), logSoftmax(phi.Data[i*vocab:][:vocab]), logSoftmax(ref.Data[i*vocab:][:vocab])
					sampledPhi[i], sampledRef[i] = lp[tokens[i]], lr[tokens[i]]
					if !keep[b] || i == start[b+1]-1 {
						continue // the last token and truncated responses have no candidate update
					}
					order := listing(lo, int(tokens[i]))
					slots := make([]float64, len(order))
					for s, id := range order {
						slots[s] = lo[id]
					}
					for s, id := range order[:keptSlots(slots, k, pMin)] {
						at := i*k + s
						ids[at], mask[at] = float64(id), 1
						oldLogp[at], phiLogp[at], refLogp[at] = lo[id], lp[id], lr[id]
						mass[i] += math.Exp(lo[id])
					}
				}
			}
			td, sampled, v := make([]float64, n*k), make([]float64, n), make([]float64, n)
			TD(td, phiLogp, refLogp, beta)
			TD(sampled, sampledPhi, sampledRef, beta)
			var totals Totals
			for b, ok := range keep {
				row := sampled[start[b]:start[b+1]]
				if zeroLast {
					ZeroLast(row)
				}
				series.Running(v[start[b]:start[b+1]], row)
				if ok {
					totals.AddTD(row, 1)
				}
			}
			sigma := SigmaV(totals.Value)
			norm, normSampled := make([]float64, n*k), make([]float64, n)
			Normalise(norm, td, sigma, eps)
			Normalise(normSampled, sampled, sigma, eps)

			for name, got := range map[string][]float64{
				"candidates": ids, "candidate_mask": mask, "candidate_old_logp": oldLogp, "candidate_phi_logp": phiLogp,
				"A_td": td, "A_norm": norm, "A_td_sampled": sampled, "V": v, "A_norm_sampled": normSampled, "candidate_mass": mass,
			} {
				golden.Close(t, name, got, data(t, c.Out, name), tol)
			}
			golden.CloseTo(t, "sigma_V", sigma, num(t, c.Out, "sigma_V"), tol)
		})
	}
}

// estimates runs either mode of algorithms.md 3.3 over a whole batch, as a stage does: constants first, then every group.
type estimates struct {
	sigmaV                    float64
	v, mean, std, raw, whited []float64
}

func runGAE(mode string, td []float64, start []int, keep []bool, n int, rate, eps float64) estimates {
	td = slices.Clone(td)
	e := estimates{v: make([]float64, len(td)), raw: make([]float64, len(td))}
	var totals Totals
	for b, ok := range keep {
		row := td[start[b]:start[b+1]]
		if mode == "batch" {
			ZeroLast(row)
		}
		series.Running(e.v[start[b]:start[b+1]], row)
		if ok {
			totals.AddTD(row, rate)
		}
	}
	e.sigmaV = SigmaV(totals.Value)
	if mode == "batch" {
		mean, sigma := totals.BatchGAE()
		e.mean, e.std = []float64{mean}, []float64{sigma}
		BatchGAE(e.raw, td, start, keep, mean, sigma, rate, eps)
		e.whited = slices.Clone(e.raw)
		m, v := totals.Whitening(eps)
		Whiten(e.whited, start, keep, m, v)
		return e
	}
	norm := make([]float64, len(td))
	Normalise(norm, td, e.sigmaV, eps)
	for g := 0; g < len(keep); g += n {
		mean, std := GroupGAE(e.raw, norm, start[g:g+n+1], keep[g:g+n], rate, eps)
		e.mean, e.std = append(e.mean, mean), append(e.std, std)
	}
	e.whited = e.raw
	return e
}

func TestGAEGolden(t *testing.T) {
	for _, c := range golden.Load(t, "gae.json").Cases {
		t.Run(c.Name, func(t *testing.T) {
			start, keep := packed(t, c)
			mode, n := golden.Get[string](t, c.Params, "mode"), golden.Get[int](t, c.Params, "n")
			rate, eps := num(t, c.Params, "gamma")*num(t, c.Params, "lambda"), num(t, c.Params, "eps")
			td := data(t, c.In, "A_td_sampled")
			e := runGAE(mode, td, start, keep, n, rate, eps)
			golden.CloseTo(t, "sigma_V", e.sigmaV, num(t, c.Out, "sigma_V"), tol)
			golden.Close(t, "V", e.v, data(t, c.Out, "V"), tol)
			golden.Close(t, "mean", e.mean, data(t, c.Out, "mean"), tol)
			golden.Close(t, "std", e.std, data(t, c.Out, "std"), tol)
			golden.Close(t, "A_gae_raw", e.raw, data(t, c.Out, "A_gae_raw"), tol)
			golden.Close(t, "A_gae", e.whited, data(t, c.Out, "A_gae"), tol)
			// delta_hat is the estimate at rate 0.
			flat := runGAE(mode, td, start, keep, n, 0, eps)
			golden.Close(t, "delta_hat", flat.raw, data(t, c.Out, "delta_hat"), tol)
		})
	}
}

func TestCombinedGolden(t *testing.T) {
	for _, c := range golden.Load(t, "combined_advantage.json").Cases {
		t.Run(c.Name, func(t *testing.T) {
			start, keep := packed(t, c)
			mode, n := golden.Get[string](t, c.Params, "mode"), golden.Get[int](t, c.Params, "n")
			rate, eps := num(t, c.Params, "gamma")*num(t, c.Params, "lambda"), num(t, c.Params, "eps")
			rewards := golden.Get[[]float64](t, c.In, "rewards")
			mu, sd := data(t, c.Out, "mu"), data(t, c.Out, "sd")
			outcome, mask := make([]float64, len(rewards)), make([]float64, start[len(keep)])
			for b, r := range rewards {
				outcome[b] = Relative(r, mu[b/n], sd[b/n], eps)
				for i := start[b]; keep[b] && i < start[b+1]; i++ {
					mask[i] = 1
				}
			}
			e := runGAE(mode, data(t, c.In, "A_td_sampled"), start, keep, n, rate, eps)
			a := make([]float64, len(e.whited))
			Combine(a, outcome, e.whited, start, keep, num(t, c.Params, "c_out"), num(t, c.Params, "c_gae"))
			golden.Close(t, "A_out", outcome, data(t, c.Out, "A_out"), tol)
			golden.Close(t, "A_gae", e.whited, data(t, c.Out, "A_gae"), tol)
			golden.Close(t, "mask", mask, data(t, c.Out, "mask"), tol)
			golden.Close(t, "advantages", a, data(t, c.Out, "advantages"), tol)
		})
	}
}

func TestBaselinesGolden(t *testing.T) {
	for _, c := range golden.Load(t, "reinforce_rloo.json").Cases {
		kind := golden.Get[string](t, c.Params, "kind")
		if kind == "token_weights" {
			golden.Close(t, c.Name, data(t, c.In, "weights"), data(t, c.Out, "advantages"), tol)
			continue
		}
		start, keep := packed(t, c)
		rewards, n := data(t, c.In, "rewards"), golden.Get[int](t, c.Params, "n")
		baseline := make([]float64, len(rewards))
		for g := 0; g < len(rewards); g += n {
			switch kind {
			case "mean_baseline":
				MeanBaseline(baseline[g:g+n], rewards[g:g+n], keep[g:g+n])
			case "rloo":
				LeaveOneOut(baseline[g:g+n], rewards[g:g+n], keep[g:g+n])
			}
		}
		golden.Close(t, c.Name+" baseline", baseline, data(t, c.Out, "baseline"), tol)
		a := make([]float64, start[len(keep)])
		for b := range keep {
			for i := start[b]; i < start[b+1]; i++ {
				a[i] = rewards[b] - baseline[b]
			}
		}
		golden.Close(t, c.Name+" advantages", a, data(t, c.Out, "advantages"), tol)
	}
}

func TestPPOGolden(t *testing.T) {
	for _, c := range golden.Load(t, "value_head_ppo.json").Cases {
		t.Run(c.Name, func(t *testing.T) {
			start, keep := packed(t, c)
			old, ref, v := data(t, c.In, "old_logp"), data(t, c.In, "ref_logp"), data(t, c.In, "old_values")
			rewards := golden.Get[[]float64](t, c.In, "rewards")
			n := len(old)
			r, delta, a, ret := make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
			abs := golden.Get[string](t, c.Params, "kl") == "abs"
			for b := range keep {
				lo, hi := start[b], start[b+1]
				TokenRewards(r[lo:hi], old[lo:hi], ref[lo:hi], rewards[b], num(t, c.Params, "c_kl"), abs)
				ValueGAE(delta[lo:hi], a[lo:hi], ret[lo:hi], r[lo:hi], v[lo:hi], num(t, c.Params, "gamma"), num(t, c.Params, "lambda"))
			}
			golden.Close(t, "token_rewards", r, data(t, c.Out, "token_rewards"), tol)
			golden.Close(t, "delta", delta, data(t, c.Out, "delta"), tol)
			golden.Close(t, "advantages_raw", a, data(t, c.Out, "advantages_raw"), tol)
			golden.Close(t, "returns", ret, data(t, c.Out, "returns"), tol)
			if golden.Get[bool](t, c.Params, "whiten") {
				m := series.MomentsOf(a)
				Whiten(a, start, keep, m.Mean(), m.SampleVar())
			}
			golden.Close(t, "advantages", a, data(t, c.Out, "advantages"), tol)
		})
	}
}

func TestQRMGolden(t *testing.T) {
	for _, c := range golden.Load(t, "q_rm.json").Cases {
		if golden.Get[string](t, c.Params, "kind") != "use" {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			z, v := data(t, c.In, "Z"), data(t, c.In, "values")
			old, ref := data(t, c.In, "old_logp"), data(t, c.In, "ref_logp")
			centre := golden.Get[bool](t, c.Params, "subtract_mean")
			n := len(z)
			q, kl, qkl, scaled, a := make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
			scale := func(dst, x []float64) {
				m := series.MomentsOf(x)
				mean := 0.0
				if centre {
					mean = m.Mean()
				}
				Scaled(dst, x, mean, m.Std())
			}
			scale(q, z)
			Penalised(qkl, q, old, ref, num(t, c.Params, "c_kl"))
			scale(scaled, v)
			OverValue(a, qkl, scaled, num(t, c.Params, "c_v"))
			Penalised(kl, make([]float64, n), old, ref, -1)
			golden.CloseTo(t, "std_Z", series.MomentsOf(z).Std(), num(t, c.Out, "std_Z"), tol)
			golden.CloseTo(t, "std_values", series.MomentsOf(v).Std(), num(t, c.Out, "std_values"), tol)
			for name, got := range map[string][]float64{
				"q": q, "kl": kl, "q_kl": qkl, "value_target": qkl, "values_scaled": scaled, "advantages": a, "reinforce_weights": q,
			} {
				golden.Close(t, name, got, data(t, c.Out, name), tol)
			}
		})
	}
}

// random draws a batch of groups of n responses.
func random(r *rand.Rand, groups, n int) (td []float64, lengths []int, keep []bool) {
	for range groups * n {
		length := 1 + r.IntN(7)
		lengths, keep = append(lengths, length), append(keep, r.IntN(6) > 0)
		for range length {
			td = append(td, r.NormFloat64())
		}
	}
	return td, lengths, keep
}

func TestTotalsDoNotDependOnTheSplit(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	for range 50 {
		td, lengths, keep := random(r, 1+r.IntN(4), 3)
		start := offsets(lengths)
		var whole Totals
		parts := make([]Totals, 1+r.IntN(4))
		for _, b := range r.Perm(len(keep)) {
			if keep[b] {
				whole.AddTD(td[start[b]:start[b+1]], 0.9)
			}
		}
		for b := range keep {
			if keep[b] {
				parts[r.IntN(len(parts))].AddTD(td[start[b]:start[b+1]], 0.9)
			}
		}
		var merged Totals
		for _, p := range parts {
			merged.Merge(p)
		}
		m1, s1 := whole.BatchGAE()
		m2, s2 := merged.BatchGAE()
		w1, v1 := whole.Whitening(1e-6)
		w2, v2 := merged.Whitening(1e-6)
		if m1 != m2 || s1 != s2 || w1 != w2 || v1 != v2 {
			t.Fatalf("constants differ: %v %v %v %v and %v %v %v %v", m1, s1, w1, v1, m2, s2, w2, v2)
		}
	}
}

func TestWhiteningIsThatOfTheEstimates(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 9))
	for _, rate := range []float64{0, 0.5, 0.95, 1} {
		td, lengths, keep := random(r, 4, 3)
		keep[0] = true
		start := offsets(lengths)
		e := runGAE("batch", td, start, keep, 3, rate, 1e-6)
		var m series.Moments
		for b, ok := range keep {
			for i := start[b]; i < start[b+1]; i++ {
				if ok {
					m.Add(e.whited[i])
				} else if e.whited[i] != 0 {
					t.Fatal("a masked response has an advantage")
				}
			}
		}
		golden.CloseTo(t, fmt.Sprint("mean at rate ", rate), m.Mean(), 0, 1e-9)
		golden.CloseTo(t, fmt.Sprint("variance at rate ", rate), m.SampleVar(), 1, 1e-6)
	}
}

func TestGroupAdvantagesSumToZeroAndIgnoreOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 9))
	for range 50 {
		n := 2 + r.IntN(6)
		td, lengths, keep := random(r, 1, n)
		start := offsets(lengths)
		a := make([]float64, len(td))
		GroupGAE(a, td, start, keep, 0, 1e-6)
		sum := 0.0
		for _, x := range a {
			sum += x
		}
		golden.CloseTo(t, "sum of the group's normalised deltas", sum, 0, 1e-9)

		GroupGAE(a, td, start, keep, 0.9, 1e-6)
		order := r.Perm(n)
		var td2 []float64
		var lengths2 []int
		var keep2 []bool
		for _, b := range order {
			td2, lengths2, keep2 = append(td2, td[start[b]:start[b+1]]...), append(lengths2, lengths[b]), append(keep2, keep[b])
		}
		start2, a2 := offsets(lengths2), make([]float64, len(td))
		GroupGAE(a2, td2, start2, keep2, 0.9, 1e-6)
		for i, b := range order {
			if !slices.Equal(a2[start2[i]:start2[i+1]], a[start[b]:start[b+1]]) {
				t.Fatal("the order of the responses changes an advantage")
			}
		}

		rewards, mean, loo := make([]float64, n), make([]float64, n), make([]float64, n)
		var outcomes series.Moments
		for b := range rewards {
			rewards[b] = float64(r.IntN(2))
			outcomes.Add(rewards[b])
		}
		all := slices.Repeat([]bool{true}, n)
		MeanBaseline(mean, rewards, all)
		LeaveOneOut(loo, rewards, all)
		sumMean, sumLoo, sumGRPO := 0.0, 0.0, 0.0
		for b, x := range rewards {
			sumMean += x - mean[b]
			sumLoo += x - loo[b]
			sumGRPO += Relative(x, outcomes.Mean(), outcomes.Std(), 1e-6)
		}
		golden.Close(t, "sums of outcome advantages", []float64{sumMean, sumLoo, sumGRPO}, []float64{0, 0, 0}, 1e-9)
	}
}
