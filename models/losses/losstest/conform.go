package losstest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/models/losses"
)

// Conform holds a loss to its contract on random microbatches:
//
//   - its gradient is the derivative of its value, by finite differences through a small dense head;
//   - a window holds whatever coupled sets the head puts there: all at once and one by one give the same bits (so one pass
//     over the rows and two give the same), and so do other orders of the responses and other cuts into microbatches;
//   - it reads only the columns and lists that its Spec names, changes no input, and is a pure function;
//   - rows that are masked out, and roles it does not read, have no gradient and no influence;
//   - extreme numbers, empty denominators and missing outcomes give finite results;
//   - the weight of a Sum scales value and gradient.
func Conform(t *testing.T, l losses.Loss) {
	t.Run("finite differences", func(t *testing.T) { differences(t, l) })
	t.Run("window", func(t *testing.T) { window(t, l) })
	t.Run("cuts and order", func(t *testing.T) { cutsAndOrder(t, l) })
	t.Run("spec", func(t *testing.T) { readsItsSpec(t, l) })
	t.Run("pure", func(t *testing.T) { pure(t, l) })
	t.Run("mask", func(t *testing.T) { masked(t, l) })
	t.Run("extremes", func(t *testing.T) { extremes(t, l) })
	t.Run("weight", func(t *testing.T) { weight(t, l) })
}

const seeds = 6

// batch is a random microbatch that the loss can read: pairs where it reads chosen and rejected responses, samples where
// it reads those, both where it reads both without coupling.
func batch(l losses.Loss, seed uint64) (*losses.Microbatch, Dense) {
	spec := l.Spec()
	paired := slices.Contains(spec.Roles, losses.Chosen) || slices.Contains(spec.Roles, losses.Rejected)
	mb, d := Random(seed, 8, paired)
	if paired && slices.Contains(spec.Roles, losses.Sample) && spec.Coupling != losses.Pair {
		for b := range mb.Responses.Role {
			if b%4 < 2 {
				mb.Responses.Role[b] = losses.Sample
			}
		}
		mb.Totals = losses.Totals{}
		mb.Totals.Add(mb)
	}
	if spec.Target == nil {
		d.Target = nil
	}
	return mb, d
}

func differences(t *testing.T, l losses.Loss) {
	if anchored(l) {
		t.Skip("a part of it is without gradient, such as an anchor at the current logits: the value is no potential of the gradient")
	}
	const hidden, step, allowed = 3, 1e-6, 1e-6
	for seed := uint64(0); seed < seeds; seed++ {
		mb, d := batch(l, seed)
		r := rand.New(rand.NewPCG(seed, 2))
		n := mb.N()
		h, w, wv := normal(r, n*hidden, 1), normal(r, vocab*hidden, 1), normal(r, hidden, 1)
		forward := func() {
			for row := range n {
				d.Value[row] = dot(h[row*hidden:(row+1)*hidden], wv)
				for v := range vocab {
					d.Logits[row*vocab+v] = dot(h[row*hidden:(row+1)*hidden], w[v*hidden:(v+1)*hidden])
				}
			}
		}
		value := func() float64 {
			forward()
			loss, _, _ := d.Eval(l, mb)
			return loss
		}
		forward()
		_, dz, g := d.Eval(l, mb)
		dh, dw, dwv := make([]float64, len(h)), make([]float64, len(w)), make([]float64, hidden)
		for row := range n {
			for k := range hidden {
				dh[row*hidden+k] = g.Value[row] * wv[k]
				dwv[k] += g.Value[row] * h[row*hidden+k]
				for v := range vocab {
					dh[row*hidden+k] += dz[row*vocab+v] * w[v*hidden+k]
					dw[v*hidden+k] += dz[row*vocab+v] * h[row*hidden+k]
				}
			}
		}
		check := func(what string, x, dx []float64) {
			for i := range x {
				at := x[i]
				x[i] = at + step
				up := value()
				x[i] = at - step
				down := value()
				x[i] = at
				if want := (up - down) / (2 * step); !near(dx[i], want, allowed) {
					t.Fatalf("seed %d: d loss/d %s[%d] = %v, finite differences give %v", seed, what, i, dx[i], want)
				}
			}
		}
		check("hidden", h, dh)
		check("weight", w, dw)
		check("scalar weight", wv, dwv)
	}
}

// anchored reports a loss that regresses to its own current logits, or holds a part of itself without gradient.
func anchored(l losses.Loss) bool {
	if _, ok := l.(interface{ StopsGradient() }); ok {
		return true
	}
	f := reflect.Indirect(reflect.ValueOf(l))
	if f.Kind() != reflect.Struct {
		return false
	}
	f = f.FieldByName("Anchor")
	return f.IsValid() && f.String() == "current"
}

// sets evaluates the loss on one coupled set after another.
func sets(l losses.Loss, mb *losses.Microbatch, g *losses.Grad) float64 {
	loss, coupling := 0.0, l.Spec().Coupling
	for lo := 0; lo < mb.N(); lo = mb.Hi {
		mb.Lo, mb.Hi = lo, mb.SetEnd(coupling, lo)
		loss += l.Eval(mb, g)
	}
	mb.Lo, mb.Hi = 0, mb.N()
	return loss
}

func window(t *testing.T, l losses.Loss) {
	for seed := uint64(0); seed < seeds; seed++ {
		mb, d := batch(l, seed)
		whole, _, g := d.Eval(l, mb)
		one := losses.NewGrad(mb)
		loss := sets(l, mb, one)
		if !near(loss, whole, 1e-12) {
			t.Errorf("seed %d: set by set the loss is %v, at once %v", seed, loss, whole)
		}
		sameGrad(t, "set by set", one, g)
		for _, m := range g.Metrics {
			if o := one.Metrics.Get(m.Name); o.Count != m.Count || !near(o.Sum, m.Sum, 1e-12) {
				t.Errorf("seed %d: set by set metric %v, at once %v", seed, o, m)
			}
		}
	}
}

func cutsAndOrder(t *testing.T, l losses.Loss) {
	for seed := uint64(0); seed < seeds; seed++ {
		mb, d := batch(l, seed)
		whole, dz, g := d.Eval(l, mb)
		check := func(what string, order []int, groups int) {
			loss := 0.0
			for lo := 0; lo < len(order); lo += groups {
				part, pd := Reorder(mb, d, order[lo:lo+groups])
				value, pz, pg := pd.Eval(l, part)
				loss += value
				at := 0
				for _, b := range order[lo : lo+groups] {
					rows := mb.Start[b+1] - mb.Start[b]
					equal(t, what+": gradient of the logits", pz[at*d.V:(at+rows)*d.V], dz[mb.Start[b]*d.V:mb.Start[b+1]*d.V])
					equal(t, what+": gradient of the values", pg.Value[at:at+rows], g.Value[mb.Start[b]:mb.Start[b+1]])
					at += rows
				}
			}
			if !near(loss, whole, 1e-12) {
				t.Errorf("seed %d: %s: loss %v, want %v", seed, what, loss, whole)
			}
		}
		check("two microbatches", []int{0, 1, 2, 3, 4, 5, 6, 7}, 4)
		check("a microbatch a pair", []int{0, 1, 2, 3, 4, 5, 6, 7}, 2)
		check("another order", []int{6, 7, 2, 3, 4, 5, 0, 1}, 8)
	}
}

func readsItsSpec(t *testing.T, l losses.Loss) {
	spec := l.Spec()
	if spec.Heads == 0 || len(spec.Roles) == 0 {
		t.Fatal("the spec names no head or no role")
	}
	mb, d := batch(l, 1)
	whole, dz, _ := d.Eval(l, mb)
	mb, d = batch(l, 1)
	inputs := spec.Of(losses.Sample)
	for _, f := range slices.Concat(rowFields(mb), listedFields(mb), responseFields(mb)) {
		if !slices.ContainsFunc(inputs, func(in *losses.Input) bool { return in.Field != nil && in.Field(mb) == f }) {
			*f = nil
		}
	}
	if !spec.Reads(losses.CandidateIDs) {
		mb.Candidates = nil
	}
	if !spec.Reads(losses.TeacherIDs) {
		mb.Teacher = nil
	}
	if err := mb.Check(spec); err != nil {
		t.Fatal(err)
	}
	less, dLess, _ := d.Eval(l, mb)
	if less != whole {
		t.Errorf("with only the columns of the spec the loss is %v, with all %v", less, whole)
	}
	equal(t, "gradient with only the columns of the spec", dLess, dz)

	for _, in := range inputs {
		lists := map[losses.Per]*losses.Input{losses.PerCandidate: losses.CandidateIDs, losses.PerTeacher: losses.TeacherIDs}
		if list := lists[in.Per]; list != nil && !spec.Reads(list) {
			t.Errorf("the spec asks for %s but not for %s", in, list)
		}
		if in.Field == nil {
			continue
		}
		bad, _ := batch(l, 1)
		*in.Field(bad) = nil
		if err := bad.Check(losses.Spec{Heads: spec.Heads, Inputs: []*losses.Input{in}}); err == nil || !strings.Contains(err.Error(), in.Name) {
			t.Errorf("a microbatch without column %s is checked as %v", in, err)
		}
	}
}

func pure(t *testing.T, l losses.Loss) {
	mb, d := batch(l, 2)
	first, _, g := d.Eval(l, mb)
	before := snapshot(mb)
	again := losses.NewGrad(mb)
	if second := l.Eval(mb, again); second != first {
		t.Errorf("a second evaluation gives %v, the first %v", second, first)
	}
	sameGrad(t, "second evaluation", again, g)
	if before != snapshot(mb) {
		t.Error("the loss changed its input")
	}
	for _, m := range g.Metrics {
		if math.IsNaN(m.Sum) || math.IsInf(m.Sum, 0) || !strings.Contains(m.Name, "/") {
			t.Errorf("metric %+v", m)
		}
	}
	// Gradients add up.
	l.Eval(mb, again)
	for i := range g.A {
		g.A[i] *= 2
	}
	for i := range again.A {
		if !near(again.A[i], g.A[i], 1e-12) {
			t.Errorf("a second evaluation into the same Grad gives a[%d] = %v, want %v", i, again.A[i], g.A[i])
		}
	}
}

func snapshot(mb *losses.Microbatch) string {
	return fmt.Sprint(mb.Start, mb.Response, mb.List, mb.Candidates, mb.Teacher, mb.Lo, mb.Hi, mb.Listed, mb.Rows, mb.Responses, mb.Totals)
}

func masked(t *testing.T, l losses.Loss) {
	for seed := uint64(0); seed < seeds; seed++ {
		mb, d := batch(l, seed)
		loss, dz, g := d.Eval(l, mb)
		other, od := batch(l, seed)
		for row := range mb.N() {
			if mb.Used(row) && slices.Contains(l.Spec().Roles, mb.RoleOf(mb.Response[row])) {
				continue
			}
			for v, x := range dz[row*d.V : (row+1)*d.V] {
				if x != 0 {
					t.Errorf("seed %d: row %d is not in the loss but has gradient %v at %d", seed, row, x, v)
				}
			}
			if g.Value[row] != 0 {
				t.Errorf("seed %d: row %d is not in the loss but has a gradient of its value", seed, row)
			}
			for v := range od.V {
				od.Logits[row*od.V+v] *= -3
			}
			od.Value[row] += 5
			for _, f := range rowFields(other) {
				(*f)[row] += 7
			}
		}
		otherLoss, otherZ, _ := od.Eval(l, other)
		if otherLoss != loss {
			t.Errorf("seed %d: rows that are masked out change the loss from %v to %v", seed, loss, otherLoss)
		}
		equal(t, "gradient with other numbers in masked rows", otherZ, dz)
	}
}

func extremes(t *testing.T, l losses.Loss) {
	for name, change := range map[string]func(mb *losses.Microbatch, d *Dense){
		"huge logits":  func(mb *losses.Microbatch, d *Dense) { scale(d.Logits, 3e3); scale(d.Target, 3e3) },
		"equal logits": func(mb *losses.Microbatch, d *Dense) { clear(d.Logits); clear(d.Target) },
		"huge values":  func(mb *losses.Microbatch, d *Dense) { scale(d.Value, 1e6) },
		"far old":      func(mb *losses.Microbatch, d *Dense) { scale(mb.Listed.OldLogP, 1e3); scale(mb.Listed.RefLogP, 1e3) },
		"sure old":     func(mb *losses.Microbatch, d *Dense) { clear(mb.Listed.OldLogP); clear(mb.Listed.RefLogP) },
		"no advantage": func(mb *losses.Microbatch, d *Dense) { clear(mb.Rows.Advantage); clear(mb.Listed.Advantage) },
		"huge advantage": func(mb *losses.Microbatch, d *Dense) {
			scale(mb.Rows.Advantage, 1e5)
			scale(mb.Listed.Advantage, 1e5)
			scale(mb.Rows.RestAdvantage, 1e5)
		},
		"sure teacher": func(mb *losses.Microbatch, d *Dense) { clear(mb.Listed.Prob); clear(mb.Rows.TeacherRest) },
		"all masked":   func(mb *losses.Microbatch, d *Dense) { clear(mb.Rows.Mask); mb.Index(); mb.Totals = losses.Totals{} },
		"no outcomes": func(mb *losses.Microbatch, d *Dense) {
			for b := range mb.Responses.Outcome {
				mb.Responses.Outcome[b] = math.NaN()
			}
			mb.Totals = losses.Totals{}
			mb.Totals.Add(mb)
		},
		"all right": func(mb *losses.Microbatch, d *Dense) {
			for b := range mb.Responses.Outcome {
				mb.Responses.Outcome[b], mb.Responses.GroupMean[b] = 1, 1
			}
		},
		"no candidates": func(mb *losses.Microbatch, d *Dense) {
			clear(mb.Candidates)
			mb.Totals = losses.Totals{}
			mb.Totals.Add(mb)
		},
	} {
		mb, d := batch(l, 3)
		change(mb, &d)
		loss, dz, g := d.Eval(l, mb)
		for what, x := range map[string][]float64{"loss": {loss}, "gradient of the logits": dz, "gradient of the values": g.Value} {
			for i, v := range x {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					t.Errorf("%s: %s[%d] = %v", name, what, i, v)
					break
				}
			}
		}
		for _, m := range g.Metrics {
			if math.IsNaN(m.Sum) || math.IsInf(m.Sum, 0) {
				t.Errorf("%s: metric %+v", name, m)
			}
		}
	}
}

func weight(t *testing.T, l losses.Loss) {
	mb, d := batch(l, 4)
	loss, _, g := d.Eval(l, mb)
	quarter, err := losses.NewSum([]losses.Loss{l}, []float64{0.25})
	if err != nil {
		t.Fatal(err)
	}
	sum, _, gs := d.Eval(quarter, mb)
	if sum != loss/4 {
		t.Errorf("a quarter of the loss is %v, want %v", sum, loss/4)
	}
	for _, f := range [][]float64{g.A, g.B, g.E, g.Listed, g.Value} {
		scale(f, 0.25)
	}
	sameGrad(t, "a quarter", gs, g)
}

func scale(x []float64, by float64) {
	for i := range x {
		x[i] *= by
	}
}

func dot(x, y []float64) float64 {
	sum := 0.0
	for i, v := range x {
		sum += v * y[i]
	}
	return sum
}

func near(got, want, allowed float64) bool {
	return math.Abs(got-want) <= allowed*math.Max(1, math.Abs(want))
}

func equal(t *testing.T, what string, got, want []float64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s differs: %v, want %v", what, got, want)
	}
}

func sameGrad(t *testing.T, what string, got, want *losses.Grad) {
	t.Helper()
	equal(t, what+": a", got.A, want.A)
	equal(t, what+": b", got.B, want.B)
	equal(t, what+": d", got.Listed, want.Listed)
	equal(t, what+": values", got.Value, want.Value)
}
