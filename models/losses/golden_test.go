package losses_test

import (
	"math"
	"slices"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/models/losses/losstest"
)

// The shared files are read where they are; testdata holds a few of their cases for a clone without them.
const tol = 1e-9

func tensor(t *testing.T, v golden.Values, key string) golden.Tensor {
	t.Helper()
	return golden.Get[golden.Tensor](t, v, key)
}

func data(t *testing.T, v golden.Values, key string) []float64 { return tensor(t, v, key).Data }

func number(t *testing.T, v golden.Values, key string) float64 {
	return golden.Get[float64](t, v, key)
}

// eachCase runs a subtest for every case of a golden file.
func eachCase(t *testing.T, file string, f func(t *testing.T, c golden.Case)) {
	for _, c := range golden.Load(t, file).Cases {
		t.Run(c.Name, func(t *testing.T) { f(t, c) })
	}
}

// build makes a loss from the named params of a case (renamed where the map says so).
func build(t *testing.T, name string, config map[string]any) losses.Loss {
	t.Helper()
	l, err := losses.New(name, config)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return l
}

// params picks keys of the case's params as a configuration.
func params(t *testing.T, c golden.Case, keys ...string) map[string]any {
	out := map[string]any{}
	for _, k := range keys {
		out[k] = golden.Get[any](t, c.Params, k)
	}
	return out
}

// packed is a microbatch of samples from the common layout of the golden files.
func packed(t *testing.T, c golden.Case) *losses.Microbatch {
	lengths, n := golden.Get[[]int](t, c.In, "lengths"), 0
	for _, length := range lengths {
		n += length
	}
	tokens := make([]int32, n) // any, where a loss reads none
	if c.In.Has("tokens") {
		tokens = tensor(t, c.In, "tokens").Int32()
	}
	mb := losses.NewMicrobatch(lengths, tokens)
	if c.In.Has("truncated") {
		for b, cut := range golden.Get[[]float64](t, c.In, "truncated") {
			for i := mb.Start[b]; i < mb.Start[b+1]; i++ {
				mb.Rows.Mask = append(mb.Rows.Mask, 1-cut)
			}
		}
	}
	return mb
}

func dense(t *testing.T, c golden.Case, keys ...string) losstest.Dense {
	d := losstest.Dense{}
	for _, k := range keys {
		z := tensor(t, c.In, k)
		d.V = z.Shape[1]
		d.Logits = append(d.Logits, z.Data...)
	}
	return d
}

func checkLoss(t *testing.T, c golden.Case, got float64) {
	t.Helper()
	golden.CloseTo(t, "loss", got, number(t, c.Out, "loss"), tol)
}

func TestSFTGolden(t *testing.T) {
	eachCase(t, "sft.json", func(t *testing.T, c golden.Case) {
		mb := packed(t, c)
		mb.Totals.Add(mb)
		loss, grad, _ := dense(t, c, "logits").Eval(build(t, "sft", params(t, c, "reduction")), mb)
		checkLoss(t, c, loss)
		golden.Close(t, "logp", mb.Listed.LogP, data(t, c.Out, "logp"), tol)
		golden.Close(t, "grad_logits", grad, data(t, c.Out, "grad_logits"), tol)
	})
}

func TestReinforceGolden(t *testing.T) {
	eachCase(t, "reinforce_rloo.json", func(t *testing.T, c golden.Case) {
		mb := packed(t, c)
		mb.Rows.Advantage = data(t, c.Out, "advantages")
		mb.Totals.Add(mb)
		loss, grad, _ := dense(t, c, "logits").Eval(build(t, "reinforce", params(t, c, "reduction")), mb)
		checkLoss(t, c, loss)
		golden.Close(t, "logp", mb.Listed.LogP, data(t, c.Out, "logp"), tol)
		golden.Close(t, "grad_logits", grad, data(t, c.Out, "grad_logits"), tol)
	})
}

func TestPPOGolden(t *testing.T) {
	eachCase(t, "ppo_surrogate.json", func(t *testing.T, c golden.Case) {
		mb := packed(t, c)
		mb.Listed.OldLogP, mb.Rows.Advantage = data(t, c.In, "old_logp"), data(t, c.In, "advantages")
		mb.Totals.Add(mb)
		l := build(t, "ppo", params(t, c, "eps_low", "eps_high", "dual_clip", "max_log_ratio", "reduction"))
		loss, grad, g := dense(t, c, "logits").Eval(l, mb)
		checkLoss(t, c, loss)
		golden.Close(t, "logp", mb.Listed.LogP, data(t, c.Out, "logp"), tol)
		golden.Close(t, "grad_logits", grad, data(t, c.Out, "grad_logits"), tol)
		golden.CloseTo(t, "clip_fraction", g.Metrics.Get("ppo/clip_fraction").Mean(), number(t, c.Out, "clip_fraction"), tol)
		golden.CloseTo(t, "dual_clip_fraction", g.Metrics.Get("ppo/dual_clip_fraction").Mean(), number(t, c.Out, "dual_clip_fraction"), tol)
		var ratios, us, branches []float64
		for i, logp := range mb.Listed.LogP {
			ratio, u, _, branch := l.(losses.PPO).Surrogate(logp, mb.Listed.OldLogP[i], mb.Rows.Advantage[i])
			ratios, us, branches = append(ratios, ratio), append(us, u), append(branches, float64(branch))
		}
		golden.Close(t, "ratio", ratios, data(t, c.Out, "ratio"), tol)
		golden.Close(t, "u", us, data(t, c.Out, "u"), tol)
		golden.Close(t, "branch", branches, data(t, c.Out, "branch"), 0)
	})
}

// The policy is read at the temperature of sampling: the loss over z/T, whose gradient by z is 1/T of that by z/T.
func TestGoldenTemperature(t *testing.T) {
	eachCase(t, "temperature.json", func(t *testing.T, c golden.Case) {
		mb := packed(t, c)
		mb.Listed.OldLogP, mb.Rows.Advantage = data(t, c.In, "old_logp"), data(t, c.In, "advantages")
		mb.Totals.Add(mb)
		head := dense(t, c, "logits")
		temperature := number(t, c.Params, "temperature")
		head.Logits = slices.Clone(head.Logits)
		for i := range head.Logits {
			head.Logits[i] /= temperature
		}
		loss, grad, _ := head.Eval(build(t, "ppo", params(t, c, "eps_low", "eps_high", "dual_clip", "max_log_ratio", "reduction")), mb)
		for i := range grad {
			grad[i] /= temperature
		}
		checkLoss(t, c, loss)
		golden.Close(t, "logp", mb.Listed.LogP, data(t, c.Out, "logp"), tol)
		golden.Close(t, "grad_logits", grad, data(t, c.Out, "grad_logits"), tol)
	})
}

// The ratio of a response is the geometric mean of its tokens'.
func TestGoldenGSPO(t *testing.T) {
	eachCase(t, "gspo.json", func(t *testing.T, c golden.Case) {
		mb := packed(t, c)
		mb.Listed.OldLogP = data(t, c.In, "old_logp")
		for b, a := range data(t, c.In, "A") {
			for range mb.Start[b+1] - mb.Start[b] {
				mb.Rows.Advantage = append(mb.Rows.Advantage, a)
			}
		}
		mb.Totals.Add(mb)
		l := build(t, "gspo", params(t, c, "eps_low", "eps_high", "max_log_ratio"))
		loss, grad, g := dense(t, c, "logits").Eval(l, mb)
		checkLoss(t, c, loss)
		golden.Close(t, "grad_logits", grad, data(t, c.Out, "grad_logits"), tol)
		var clipped, ratio, n float64
		for b, branch := range data(t, c.Out, "branch") {
			if mb.Length(b) > 0 {
				clipped, ratio, n = clipped+branch, ratio+data(t, c.Out, "ratio")[b], n+1
			}
		}
		golden.CloseTo(t, "clip_fraction", g.Metrics.Get("gspo/clip_fraction").Mean(), clipped/n, tol)
		golden.CloseTo(t, "ratio", g.Metrics.Get("gspo/ratio").Mean(), ratio/n, tol)
	})
}

func TestGoldenCISPO(t *testing.T) {
	eachCase(t, "cispo.json", func(t *testing.T, c golden.Case) {
		mb := packed(t, c)
		mb.Listed.OldLogP, mb.Rows.Advantage = data(t, c.In, "old_logp"), data(t, c.In, "advantages")
		mb.Totals.Add(mb)
		l := build(t, "cispo", params(t, c, "eps_low", "eps_high", "max_log_ratio", "reduction"))
		loss, grad, _ := dense(t, c, "logits").Eval(l, mb)
		checkLoss(t, c, loss)
		golden.Close(t, "grad_logits", grad, data(t, c.Out, "grad_logits"), tol)
		var weights []float64
		for i, logp := range mb.Listed.LogP {
			weights = append(weights, l.(losses.CISPO).Weight(logp, mb.Listed.OldLogP[i]))
		}
		golden.Close(t, "weight", weights, data(t, c.Out, "weight"), tol)
	})
}

func TestGoldenEntropy(t *testing.T) {
	eachCase(t, "entropy.json", func(t *testing.T, c golden.Case) {
		mb := packed(t, c)
		mb.Totals.Add(mb)
		loss, grad, _ := dense(t, c, "logits").Eval(build(t, "entropy", params(t, c, "reduction")), mb)
		checkLoss(t, c, loss)
		golden.Close(t, "entropy", mb.Rows.Entropy, data(t, c.Out, "entropy"), tol)
		golden.Close(t, "grad_logits", grad, data(t, c.Out, "grad_logits"), tol)
	})
}

// The teacher's tokens are listed beside the sampled one.
func TestGoldenOPD(t *testing.T) {
	eachCase(t, "opd.json", func(t *testing.T, c golden.Case) {
		mb := packed(t, c)
		ids := tensor(t, c.In, "teacher_ids")
		p, k := data(t, c.In, "teacher_p"), ids.Shape[1]
		sampled := mb.Listed.ID
		mb.List, mb.Listed.ID, mb.Listed.Prob = []int{0}, nil, nil
		for row, token := range sampled {
			lo := len(mb.Listed.ID) + 1
			mb.Listed.ID = append(append(mb.Listed.ID, token), ids.Int32()[row*k:(row+1)*k]...)
			mb.Listed.Prob = append(append(mb.Listed.Prob, 0), p[row*k:(row+1)*k]...)
			mb.Teacher = append(mb.Teacher, losses.Span{Lo: lo, Hi: lo + k})
			mb.List = append(mb.List, len(mb.Listed.ID))
		}
		mb.Rows.TeacherRest = data(t, c.In, "teacher_rest")
		mb.Totals.Add(mb)
		loss, grad, g := dense(t, c, "logits").Eval(build(t, "opd", nil), mb)
		checkLoss(t, c, loss)
		golden.Close(t, "grad_logits", grad, data(t, c.Out, "grad_logits"), 1e-8)
		mean := 0.0
		for _, x := range data(t, c.Out, "kl") {
			mean += x / float64(mb.N())
		}
		golden.CloseTo(t, "kl", g.Metrics.Get("opd/kl").Mean(), mean, tol)
	})
}

// candidates lists the golden slots [N,K] beside the sampled token; -1 is an empty slot. slots holds the position in the
// golden tensor of every listed token, -1 for a sampled token that is no candidate.
func candidates(t *testing.T, mb *losses.Microbatch, ids golden.Tensor, spans *[]losses.Span) (slots []int) {
	sampled := mb.Listed.ID
	k := ids.Shape[1]
	mb.List, mb.Listed.ID = []int{0}, nil
	*spans = nil
	for row, token := range sampled {
		lo := len(mb.Listed.ID)
		span := losses.Span{Lo: lo}
		for s, id := range ids.Int32()[row*k : (row+1)*k] {
			if id < 0 {
				continue
			}
			if len(mb.Listed.ID) == lo && id != token {
				mb.Listed.ID, slots, span.Lo = append(mb.Listed.ID, token), append(slots, -1), lo+1
			}
			mb.Listed.ID, slots = append(mb.Listed.ID, id), append(slots, row*k+s)
		}
		if len(mb.Listed.ID) == lo {
			mb.Listed.ID, slots, span.Lo = append(mb.Listed.ID, token), append(slots, -1), lo+1
		}
		span.Hi = len(mb.Listed.ID)
		*spans = append(*spans, span)
		mb.List = append(mb.List, span.Hi)
	}
	return slots
}

// gather picks the listed tokens' numbers from a golden [N,K] tensor, 0 for tokens it does not hold.
func gather(from []float64, slots []int) []float64 {
	out := make([]float64, len(slots))
	for i, s := range slots {
		if s >= 0 {
			out[i] = from[s]
		}
	}
	return out
}

// scatter is the inverse of gather, with a value for empty slots.
func scatter(from []float64, slots []int, n int, empty float64) []float64 {
	out := slices.Repeat([]float64{empty}, n)
	for i, s := range slots {
		if s >= 0 {
			out[s] = from[i]
		}
	}
	return out
}

// sampledInto writes one number per row into the slots of the sampled tokens.
func sampledInto(mb *losses.Microbatch, dst, rows []float64) {
	for row, x := range rows {
		dst[mb.Sampled(row)] = x
	}
}

func TestDistRLGolden(t *testing.T) {
	eachCase(t, "distrl.json", func(t *testing.T, c golden.Case) {
		mb := packed(t, c)
		ids := tensor(t, c.In, "candidates")
		slots := candidates(t, mb, ids, &mb.Candidates)
		mb.Listed.OldLogP = gather(data(t, c.In, "candidate_old_logp"), slots)
		mb.Listed.Advantage = gather(data(t, c.In, "candidate_advantages"), slots)
		sampledInto(mb, mb.Listed.OldLogP, data(t, c.In, "old_logp"))
		mb.Rows.Advantage = data(t, c.In, "advantages")
		mb.Totals.Add(mb)
		d := dense(t, c, "logits")

		tok := build(t, "ppo", params(t, c, "eps_low", "eps_high", "dual_clip", "max_log_ratio"))
		config := params(t, c, "mode", "dual_clip", "max_log_ratio")
		config["eps_low"], config["eps_high"] = number(t, c.Params, "dist_eps_low"), number(t, c.Params, "dist_eps_high")
		dist := build(t, "distrl", config)
		loss, _, _ := d.Eval(tok, mb)
		golden.CloseTo(t, "loss_tok", loss, number(t, c.Out, "loss_tok"), tol)
		loss, grad, _ := d.Eval(dist, mb)
		golden.CloseTo(t, "loss_dist", loss, number(t, c.Out, "loss_dist"), tol)
		golden.Close(t, "grad_logits_dist", grad, data(t, c.Out, "grad_logits_dist"), tol)
		whole, err := losses.NewSum([]losses.Loss{tok, dist}, []float64{1, number(t, c.Params, "alpha")})
		if err != nil {
			t.Fatal(err)
		}
		loss, grad, _ = d.Eval(whole, mb)
		checkLoss(t, c, loss)
		golden.Close(t, "grad_logits", grad, data(t, c.Out, "grad_logits"), tol)

		n := len(ids.Data)
		ratio, u, branch := make([]float64, len(slots)), make([]float64, len(slots)), make([]float64, len(slots))
		for i := range slots {
			r, x, _, b := dist.(losses.DistRL).Surrogate(mb.Listed.LogP[i], mb.Listed.OldLogP[i], mb.Listed.Advantage[i])
			ratio[i], u[i], branch[i] = r, x, float64(b)
		}
		golden.Close(t, "candidate_ratio", scatter(ratio, slots, n, 0), data(t, c.Out, "candidate_ratio"), tol)
		golden.Close(t, "candidate_u", scatter(u, slots, n, 0), data(t, c.Out, "candidate_u"), tol)
		golden.Close(t, "candidate_branch", scatter(branch, slots, n, -1), data(t, c.Out, "candidate_branch"), 0)
	})
}

func ipvrmBatch(t *testing.T, c golden.Case) *losses.Microbatch {
	mb := packed(t, c)
	mb.Responses.Outcome = golden.Get[[]float64](t, c.In, "rewards")
	mb.Listed.RefLogP = data(t, c.In, "ref_logp")
	mb.Listed.OldLogP = mb.Listed.RefLogP
	return mb
}

// gradLogP is dL/dl: for a loss on the sampled token's log-prob alone it is what Grad holds for that token.
func gradLogP(g *losses.Grad) []float64 { return g.Listed }

func TestIPVRMGolden(t *testing.T) {
	eachCase(t, "ipvrm_offline.json", func(t *testing.T, c golden.Case) {
		mb := ipvrmBatch(t, c)
		mb.Totals.Add(mb)
		loss, grad, g := dense(t, c, "logits").Eval(build(t, "ipvrm", params(t, c, "beta", "margin", "weights", "reduction")), mb)
		checkLoss(t, c, loss)
		golden.Close(t, "grad_l", gradLogP(g), data(t, c.Out, "grad_l"), tol)
		golden.Close(t, "grad_logits", grad, data(t, c.Out, "grad_logits"), tol)
		checkPerResponse(t, c, mb, build(t, "ipvrm", params(t, c, "beta", "margin", "weights")), func(int) float64 { return 1 })
	})
}

// checkPerResponse evaluates every response alone, which times the number of responses is its own loss.
func checkPerResponse(t *testing.T, c golden.Case, mb *losses.Microbatch, l losses.Loss, weight func(b int) float64) {
	t.Helper()
	got := make([]float64, mb.B())
	for b := range got {
		mb.Lo, mb.Hi = mb.Start[b], mb.Start[b+1]
		if mb.Lo < mb.Hi && weight(b) != 0 {
			got[b] = l.Eval(mb, losses.NewGrad(mb)) * mb.Totals.LabelledResponses / weight(b)
		}
	}
	want := slices.Clone(data(t, c.Out, "loss_per_response"))
	for b := range want {
		if weight(b) == 0 {
			want[b] = 0
		}
	}
	golden.Close(t, "loss_per_response", got, want, tol)
}

func TestIPVRMOnlineGolden(t *testing.T) {
	eachCase(t, "ipvrm_online.json", func(t *testing.T, c golden.Case) {
		mb := ipvrmBatch(t, c)
		n := golden.Get[int](t, c.Params, "n")
		for b := range mb.Responses.Outcome {
			mb.Responses.GroupMean = append(mb.Responses.GroupMean, data(t, c.Out, "mu")[b/n])
		}
		mb.Totals.Add(mb)
		config := params(t, c, "beta", "margin", "all_equal", "reference")
		config["adb"], config["dlw"] = golden.Get[bool](t, c.Params, "use_adb"), golden.Get[bool](t, c.Params, "use_dlw")
		l := build(t, "ipvrm_online", config)
		if config["reference"] == "old" {
			mb.Listed.RefLogP = nil
		} else {
			mb.Listed.OldLogP = nil
		}
		loss, grad, g := dense(t, c, "logits").Eval(l, mb)
		checkLoss(t, c, loss)
		golden.Close(t, "grad_l", gradLogP(g), data(t, c.Out, "grad_l"), tol)
		golden.Close(t, "grad_logits", grad, data(t, c.Out, "grad_logits"), tol)
		dlw := data(t, c.Out, "dlw")
		checkPerResponse(t, c, mb, l, func(b int) float64 { return dlw[b] })
	})
}

func TestImplicitPRMGolden(t *testing.T) {
	eachCase(t, "implicit_prm.json", func(t *testing.T, c golden.Case) {
		mb := ipvrmBatch(t, c)
		mb.Totals.Add(mb)
		l := build(t, "implicit_prm", params(t, c, "beta"))
		loss, grad, _ := dense(t, c, "logits").Eval(l, mb)
		checkLoss(t, c, loss)
		golden.Close(t, "grad_logits", grad, data(t, c.Out, "grad_logits"), tol)
		checkPerResponse(t, c, mb, l, func(int) float64 { return 1 })
	})
}

// pairs interleaves the two sides of a golden pair file: response 2p is chosen, 2p+1 rejected. The order gives, for every
// row of the microbatch, its row in the chosen rows followed by the rejected ones.
func pairs(t *testing.T, c golden.Case) (mb *losses.Microbatch, order []int) {
	lw, ll := golden.Get[[]int](t, c.In, "lengths_w"), golden.Get[[]int](t, c.In, "lengths_l")
	lengths, roles := []int{}, []losses.Role{}
	atW, atL := 0, 0
	for _, n := range lw {
		atL += n
	}
	for p := range lw {
		lengths, roles = append(lengths, lw[p], ll[p]), append(roles, losses.Chosen, losses.Rejected)
		for range lw[p] {
			order = append(order, atW)
			atW++
		}
		for range ll[p] {
			order = append(order, atL)
			atL++
		}
	}
	var ids []int32
	if c.In.Has("tokens_w") {
		both := append(tensor(t, c.In, "tokens_w").Int32(), tensor(t, c.In, "tokens_l").Int32()...)
		for _, row := range order {
			ids = append(ids, both[row])
		}
	}
	mb = losses.NewMicrobatch(lengths, ids)
	mb.Responses.Role = roles
	return mb, order
}

// sides reorders the concatenated _w and _l tensors of rows into the order of the microbatch.
func sides(t *testing.T, v golden.Values, key string, order []int) golden.Tensor {
	w, l := tensor(t, v, key+"_w"), tensor(t, v, key+"_l")
	both := append(slices.Clone(w.Data), l.Data...)
	width := 1
	if len(w.Shape) > 1 {
		width = w.Shape[1]
	}
	out := golden.Tensor{Shape: []int{len(order), width}}
	for _, row := range order {
		out.Data = append(out.Data, both[row*width:(row+1)*width]...)
	}
	return out
}

func TestDPOGolden(t *testing.T) {
	for name, file := range map[string]string{"dpo": "dpo.json", "dpo_rm": "dpo_rm.json"} {
		eachCase(t, file, func(t *testing.T, c golden.Case) {
			mb, order := pairs(t, c)
			config := params(t, c, "beta")
			config["reference"] = "frozen"
			mb.Listed.RefLogP = sides(t, c.In, "ref_logp", order).Data
			mb.Totals.Add(mb)
			z := sides(t, c.In, "logits", order)
			l := build(t, name, config)
			loss, grad, g := losstest.Dense{V: z.Shape[1], Logits: z.Data}.Eval(l, mb)
			checkLoss(t, c, loss)
			golden.Close(t, "grad_logits", grad, sides(t, c.Out, "grad_logits", order).Data, tol)
			golden.CloseTo(t, "accuracy", g.Metrics.Get(name+"/accuracy").Mean(), number(t, c.Out, "accuracy"), tol)
			checkPerPair(t, c, mb, l)
		})
	}
}

func checkPerPair(t *testing.T, c golden.Case, mb *losses.Microbatch, l losses.Loss) {
	t.Helper()
	var got []float64
	for p := 0; p < mb.B()/2; p++ {
		mb.Lo, mb.Hi = mb.Start[2*p], mb.Start[2*p+2]
		got = append(got, l.Eval(mb, losses.NewGrad(mb))*mb.Totals.Pairs)
	}
	golden.Close(t, "loss_per_pair", got, data(t, c.Out, "loss_per_pair"), tol)
}

func TestQRMGolden(t *testing.T) {
	eachCase(t, "q_rm.json", func(t *testing.T, c golden.Case) {
		kind := golden.Get[string](t, c.Params, "kind")
		if kind == "use" {
			t.Skip("how scores are used belongs to the advantages")
		}
		mb, order := pairs(t, c)
		mb.Totals.Add(mb)
		config := params(t, c, "beta", "gamma")
		if kind == "lm" {
			z := sides(t, c.In, "logits", order)
			l := build(t, "qrm_lm", config)
			loss, grad, _ := losstest.Dense{V: z.Shape[1], Logits: z.Data}.Eval(l, mb)
			checkLoss(t, c, loss)
			golden.Close(t, "Z", mb.Listed.LogP, sides(t, c.Out, "Z", order).Data, tol)
			golden.Close(t, "grad_logits", grad, sides(t, c.Out, "grad_logits", order).Data, tol)
			checkPerPair(t, c, mb, l)
			return
		}
		hidden, head := sides(t, c.In, "hidden", order), data(t, c.In, "head")
		d := losstest.Dense{Value: make([]float64, mb.N())}
		for row := range d.Value {
			for k, w := range head {
				d.Value[row] += w * hidden.Data[row*len(head)+k]
			}
		}
		l := build(t, "qrm", config)
		loss, _, g := d.Eval(l, mb)
		checkLoss(t, c, loss)
		golden.Close(t, "Z", d.Value, sides(t, c.Out, "Z", order).Data, tol)
		golden.Close(t, "grad_Z", g.Value, sides(t, c.Out, "grad_Z", order).Data, tol)
		gradHead, gradHidden := make([]float64, len(head)), make([]float64, len(hidden.Data))
		for row, dz := range g.Value {
			for k, w := range head {
				gradHead[k] += dz * hidden.Data[row*len(head)+k]
				gradHidden[row*len(head)+k] = dz * w
			}
		}
		golden.Close(t, "grad_head", gradHead, data(t, c.Out, "grad_head"), tol)
		golden.Close(t, "grad_hidden", gradHidden, sides(t, c.Out, "grad_hidden", order).Data, tol)
		checkPerPair(t, c, mb, l)
	})
}

func TestPPOWithValueHeadGolden(t *testing.T) {
	eachCase(t, "value_head_ppo.json", func(t *testing.T, c golden.Case) {
		mb := packed(t, c)
		mb.Listed.OldLogP, mb.Rows.Advantage = data(t, c.In, "old_logp"), data(t, c.Out, "advantages")
		mb.Rows.OldValue, mb.Rows.Return = data(t, c.In, "old_values"), data(t, c.Out, "returns")
		mb.Totals.Add(mb)
		d := dense(t, c, "logits")
		d.Value = data(t, c.In, "values")
		tok := build(t, "ppo", params(t, c, "eps_low", "eps_high", "dual_clip", "max_log_ratio"))
		value := build(t, "value", params(t, c, "eps_v"))
		loss, _, _ := d.Eval(value, mb)
		golden.CloseTo(t, "loss_value", loss, number(t, c.Out, "loss_value"), tol)
		whole, err := losses.NewSum([]losses.Loss{tok, value}, []float64{1, number(t, c.Params, "c_v")})
		if err != nil {
			t.Fatal(err)
		}
		loss, grad, g := d.Eval(whole, mb)
		checkLoss(t, c, loss)
		golden.Close(t, "grad_logits", grad, data(t, c.Out, "grad_logits"), tol)
		golden.Close(t, "grad_values", g.Value, data(t, c.Out, "grad_values"), tol)

		lm, scalar := losses.Split(whole)
		loss, gradLM, _ := d.Eval(lm, mb)
		golden.CloseTo(t, "loss_tok", loss, number(t, c.Out, "loss_tok"), tol)
		golden.Close(t, "grad_logits of the LM part", gradLM, grad, 0)
		_, _, gScalar := d.Eval(scalar, mb)
		golden.Close(t, "grad_values of the scalar part", gScalar.Value, g.Value, 0)
	})
}

// scaleDense is what the target stage does to the candidates' advantages of one row.
func scaleDense(a []float64, centre bool) {
	mean, n := 0.0, float64(len(a))
	for _, x := range a {
		mean += x / n
	}
	std := 0.0
	for _, x := range a {
		std += (x - mean) * (x - mean)
	}
	if std = math.Sqrt(std / (n - 1)); len(a) < 2 || std < 1e-12 {
		clear(a)
		return
	}
	for i := range a {
		if centre {
			a[i] -= mean
		}
		a[i] /= std
	}
}

func TestLCOGolden(t *testing.T) {
	eachCase(t, "lco.json", func(t *testing.T, c golden.Case) {
		form, kind := golden.Get[string](t, c.Params, "advantages"), golden.Get[string](t, c.Params, "loss")
		d := dense(t, c, "logits")
		old := data(t, c.In, "old_logits")
		n := len(d.Logits) / d.V
		known := data(t, c.In, "A")
		config := map[string]any{"advantages": form, "beta": number(t, c.Params, "beta"), "reduction": "token_mean"}
		if golden.Get[string](t, c.Params, "reduction") == "split_mean" {
			config["reduction"] = "split_mean"
		}
		for _, key := range []string{"negative_beta_factor", "min_rest", "agreement_threshold", "agreement_beta_factor"} {
			if c.Params.Has(key) {
				config[key] = number(t, c.Params, key)
			}
		}
		if kind != "kld" {
			config["anchor"] = golden.Get[string](t, c.Params, "anchor")
		} else {
			d.Target = old
		}

		var mb *losses.Microbatch
		switch form {
		case "outcome":
			mb = losses.NewMicrobatch([]int{n}, tensor(t, c.In, "tokens").Int32())
			mb.Rows.Advantage = known
		case "vocab_estimate":
			ids := tensor(t, c.In, "known")
			if ids.Shape[1] == 1 {
				mb = losses.NewMicrobatch([]int{n}, ids.Int32())
				mb.Rows.Advantage = known
				break
			}
			// More than one known token is the dense form of ready advantages.
			config["advantages"] = "dense"
			mb = losses.NewMicrobatch([]int{n}, make([]int32, n))
			slots := candidates(t, mb, ids, &mb.Candidates)
			mb.Listed.Advantage = gather(known, slots)
			mb.Rows.RestAdvantage = make([]float64, n)
			for row, span := range mb.Candidates {
				logp := losstest.LogSoftmax(old[row*d.V : (row+1)*d.V])
				mass, expected := 0.0, 0.0
				for i := span.Lo; i < span.Hi; i++ {
					p := math.Exp(logp[mb.Listed.ID[i]])
					mb.Listed.Advantage[i] *= 1 - p
					mass += p
					expected += p * mb.Listed.Advantage[i]
				}
				mb.Rows.RestAdvantage[row] = -expected / math.Max(1-mass, number(t, c.Params, "min_rest"))
			}
		case "dense":
			mb = losses.NewMicrobatch([]int{n}, make([]int32, n))
			slots := candidates(t, mb, tensor(t, c.In, "candidates"), &mb.Candidates)
			mb.Listed.Advantage = gather(known, slots)
			for _, span := range mb.Candidates {
				scaleDense(mb.Listed.Advantage[span.Lo:span.Hi], kind != "kld")
			}
			mb.Rows.RestAdvantage = slices.Repeat([]float64{golden.GetOr(t, c.Params, "unlisted", 0.0)}, n)
		}
		mb.Listed.OldLogP, mb.Listed.RewardLogP = make([]float64, len(mb.Listed.ID)), make([]float64, len(mb.Listed.ID))
		for row := range n {
			z := old[row*d.V : (row+1)*d.V]
			logp := losstest.LogSoftmax(z)
			mb.Rows.OldLogZ = append(mb.Rows.OldLogZ, z[0]-logp[0])
			for i := mb.List[row]; i < mb.List[row+1]; i++ {
				mb.Listed.OldLogP[i] = logp[mb.Listed.ID[i]]
			}
		}
		mb.Totals.Add(mb)

		l := build(t, "lco_"+kind, config)
		if c.In.Has("phi_logp") {
			// The file's log-probs of the sampled token belong to no token of its rows: list one more in the first slot.
			mb = withSampled(mb, data(t, c.In, "old_logp"), data(t, c.In, "phi_logp"))
			mb.Totals.Add(mb)
		}
		if err := mb.Check(l.Spec()); err != nil {
			t.Fatal(err)
		}
		loss, grad, _ := d.Eval(l, mb)
		checkLoss(t, c, loss)
		golden.Close(t, "grad_logits", grad, data(t, c.Out, "grad_logits"), tol)
		var each []float64
		for row := range n {
			weight := 1 / float64(n)
			if c.Out.Has("token_weight") {
				weight = data(t, c.Out, "token_weight")[row]
			}
			mb.Lo, mb.Hi = row, row+1
			each = append(each, l.Eval(mb, losses.NewGrad(mb))/weight)
		}
		golden.Close(t, "loss_per_token", each, data(t, c.Out, "loss_per_token"), tol)
	})
}

// withSampled puts one more token with the given log-probs into the first slot of every row.
func withSampled(mb *losses.Microbatch, oldLogP, rewardLogP []float64) *losses.Microbatch {
	out := losses.NewMicrobatch([]int{mb.N()}, make([]int32, mb.N()))
	out.Rows, out.List, out.Listed = mb.Rows, []int{0}, losses.Listed{}
	for row := range mb.N() {
		span := mb.CandidatesOf(row)
		lo := len(out.Listed.ID) + 1
		out.Listed.ID = append(append(out.Listed.ID, 0), mb.Listed.ID[span.Lo:span.Hi]...)
		out.Listed.OldLogP = append(append(out.Listed.OldLogP, oldLogP[row]), mb.Listed.OldLogP[span.Lo:span.Hi]...)
		out.Listed.RewardLogP = append(append(out.Listed.RewardLogP, rewardLogP[row]), mb.Listed.RewardLogP[span.Lo:span.Hi]...)
		out.Listed.Advantage = append(append(out.Listed.Advantage, 0), mb.Listed.Advantage[span.Lo:span.Hi]...)
		out.Candidates = append(out.Candidates, losses.Span{Lo: lo, Hi: len(out.Listed.ID)})
		out.List = append(out.List, len(out.Listed.ID))
	}
	return out
}

func TestDCKDGolden(t *testing.T) {
	eachCase(t, "dckd.json", func(t *testing.T, c golden.Case) {
		d := dense(t, c, "logits_w", "logits_l")
		nw, nl := tensor(t, c.In, "logits_w").Shape[0], tensor(t, c.In, "logits_l").Shape[0]
		mb := losses.NewMicrobatch([]int{nw, nl}, append(tensor(t, c.In, "tokens_w").Int32(), make([]int32, nl)...))
		mb.Responses.Role = []losses.Role{losses.Chosen, losses.Rejected}
		order := make([]int, nw+nl)
		for i := range order {
			order[i] = i
		}
		mb.List, mb.Listed.Prob = []int{0}, nil
		sampled, ids, prob := mb.Listed.ID, sides(t, c.In, "teacher_ids", order), sides(t, c.In, "teacher_p", order)
		mb.Listed.ID = nil
		for row, token := range sampled {
			k := ids.Shape[1]
			lo := len(mb.Listed.ID) + 1
			mb.Listed.ID = append(append(mb.Listed.ID, token), ids.Int32()[row*k:(row+1)*k]...)
			mb.Listed.Prob = append(append(mb.Listed.Prob, 0), prob.Data[row*k:(row+1)*k]...)
			mb.Teacher = append(mb.Teacher, losses.Span{Lo: lo, Hi: lo + k})
			mb.List = append(mb.List, lo+k)
		}
		mb.Rows.TeacherRest = sides(t, c.In, "teacher_rest", order).Data
		mb.Totals.Add(mb)
		l := build(t, "dckd", params(t, c, "l_c", "l_r", "student_floor", "teacher_floor", "ceiling"))
		loss, grad, g := d.Eval(l, mb)
		checkLoss(t, c, loss)
		golden.Close(t, "grad_logits", grad, sides(t, c.Out, "grad_logits", order).Data, tol)
		golden.CloseTo(t, "nll", g.Metrics.Get("dckd/nll").Mean(), number(t, c.Out, "nll"), tol)
		var rest []float64
		for _, r := range mb.Rows.RestLogP {
			rest = append(rest, math.Exp(r))
		}
		golden.Close(t, "student_rest", rest, sides(t, c.Out, "student_rest", order).Data, tol)
		for role, key := range map[losses.Role]string{losses.Chosen: "kl_w", losses.Rejected: "kl_l"} {
			if m := g.Metrics.Get("dckd/kl_" + role.String()); m.Count > 0 {
				sum := 0.0
				for _, x := range data(t, c.Out, key) {
					sum += x
				}
				golden.CloseTo(t, key, m.Sum, sum, tol)
			}
		}
	})
}

func TestADPAGolden(t *testing.T) {
	eachCase(t, "adpa.json", func(t *testing.T, c golden.Case) {
		d := dense(t, c, "logits_w", "logits_hat")
		tokens := tensor(t, c.In, "tokens_w").Int32()
		nw := len(tokens)
		lengths := append([]int{nw}, golden.Get[[]int](t, c.In, "lengths_hat")...)
		ids, advantage := tensor(t, c.In, "dpo_ids"), data(t, c.Out, "A")
		n, k := ids.Shape[0], ids.Shape[1]
		mb := losses.NewMicrobatch(lengths, append(tokens, make([]int32, n)...))
		mb.Responses.Role = append([]losses.Role{losses.Chosen}, slices.Repeat([]losses.Role{losses.Sample}, len(lengths)-1)...)
		sampled := mb.Listed.ID
		mb.List, mb.Listed.ID = []int{0}, nil
		for row, token := range sampled {
			mb.Listed.ID, mb.Listed.Advantage = append(mb.Listed.ID, token), append(mb.Listed.Advantage, 0)
			lo := len(mb.Listed.ID)
			if i := row - nw; i >= 0 {
				mb.Listed.ID = append(mb.Listed.ID, ids.Int32()[i*k:(i+1)*k]...)
				mb.Listed.Advantage = append(mb.Listed.Advantage, advantage[i*k:(i+1)*k]...)
			}
			mb.Teacher = append(mb.Teacher, losses.Span{Lo: lo, Hi: len(mb.Listed.ID)})
			mb.List = append(mb.List, len(mb.Listed.ID))
		}
		mb.Totals.Add(mb)
		loss, grad, g := d.Eval(build(t, "adpa", params(t, c, "gamma", "reduction")), mb)
		checkLoss(t, c, loss)
		want := append(slices.Clone(data(t, c.Out, "grad_logits_w")), data(t, c.Out, "grad_logits_hat")...)
		golden.Close(t, "grad_logits", grad, want, tol)
		golden.CloseTo(t, "nll", g.Metrics.Get("adpa/nll").Mean(), number(t, c.Out, "nll"), tol)
		expected := 0.0
		for _, x := range data(t, c.Out, "expected_A") {
			expected += x
		}
		golden.CloseTo(t, "expected_A", g.Metrics.Get("adpa/expected_advantage").Sum, expected, tol)
	})
}
