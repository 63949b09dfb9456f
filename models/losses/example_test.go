package losses_test

import (
	"fmt"
	"log"
	"math"

	"github.com/millrace/millrace/models/losses"
)

// Focal is the negative log-likelihood of a token, less where the model is sure of it already,
//
//	L = −mean_t (1 − p_t)^γ log p_t,  p_t = π(y_t)
type Focal struct {
	Gamma float64 `json:"gamma" range:"[0,inf)" doc:"how much less the tokens count that the model is sure of"`
}

func init() { losses.Register("focal", Focal{Gamma: 2}) }

// Spec asks for the log-prob of the sampled token of every row.
func (l Focal) Spec() losses.Spec {
	return losses.Spec{Heads: losses.LM, Roles: []losses.Role{losses.Sample}, Inputs: []*losses.Input{losses.ResponseTokens}}
}

// Eval adds the loss of the window. The gradient through log p is ∂L/∂log p = −(1 − p)^γ + γ (1 − p)^(γ−1) p log p.
func (l Focal) Eval(mb *losses.Microbatch, g *losses.Grad) float64 {
	loss := 0.0
	for t := mb.Lo; t < mb.Hi; t++ {
		b := mb.Response[t]
		if !mb.Used(t) || mb.RoleOf(b) != losses.Sample {
			continue
		}
		i, w := mb.Sampled(t), mb.WeightOf(b)/mb.Totals.RoleTokens[losses.Sample]
		logP := mb.Listed.LogP[i]
		p := math.Exp(logP)
		unsure := -math.Expm1(logP) // 1 − p
		loss -= w * math.Pow(unsure, l.Gamma) * logP
		d := -math.Pow(unsure, l.Gamma)
		if l.Gamma > 0 && unsure > 0 {
			d += l.Gamma * math.Pow(unsure, l.Gamma-1) * p * logP
		}
		g.LogP(t, i, w*d)
		g.Metrics.Add("focal/sure", p, 1)
	}
	return loss
}

// A loss of one's own is a struct that is registered. It is configured by its keys, as in a recipe, and told a few numbers a
// token; what it says of them a head (package heads) makes into gradients of the model.
func ExampleRegister() {
	loss, err := losses.New("focal", map[string]any{"gamma": 1})
	if err != nil {
		log.Fatal(err)
	}
	// Two responses, of two tokens and of one, with the log-probs that a model gives them.
	mb := losses.NewMicrobatch([]int{2, 1}, []int32{7, 8, 9})
	mb.Listed.LogP = []float64{math.Log(0.5), math.Log(0.9), math.Log(0.1)}
	mb.Totals.Add(mb)
	g := losses.NewGrad(mb)
	fmt.Printf("loss %.4f\n", loss.Eval(mb, g))
	for t := range mb.N() {
		fmt.Printf("p %.1f: d %.4f\n", math.Exp(mb.Listed.LogP[t]), g.Listed[t])
	}
	_, err = losses.New("focal", map[string]any{"gama": 1})
	fmt.Println(err)
	// Output:
	// loss 0.8098
	// p 0.5: d -0.2822
	// p 0.9: d -0.0649
	// p 0.1: d -0.3768
	// gama: unknown key; did you mean "gamma"?
}
