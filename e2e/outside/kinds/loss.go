package kinds

import (
	"github.com/millrace/millrace/models/losses"
)

// Entropic is a loss: the negative log-likelihood of responses, scaled.
type Entropic struct {
	Scale float64 `json:"scale" range:"(0,inf)" doc:"of the likelihood"`
}

func init() { losses.Register("entropic", Entropic{Scale: 1}) }

// Validate finds nothing that the ranges do not say.
func (l Entropic) Validate() error { return nil }

// Spec asks for the sampled token and its advantage, so that only rows that are learned from enter.
func (l Entropic) Spec() losses.Spec {
	return losses.Spec{Heads: losses.LM, Roles: []losses.Role{losses.Sample}, Inputs: []*losses.Input{losses.ResponseTokens, losses.Advantage}}
}

// Eval adds the loss of the window.
func (l Entropic) Eval(mb *losses.Microbatch, g *losses.Grad) float64 {
	loss := 0.0
	for t := mb.Lo; t < mb.Hi; t++ {
		if !mb.Used(t) {
			continue
		}
		w := l.Scale * mb.Rows.Advantage[t] / mb.Totals.Tokens
		i := mb.Sampled(t)
		g.LogP(t, i, -w)
		loss -= w * mb.Listed.LogP[i]
	}
	return loss
}
