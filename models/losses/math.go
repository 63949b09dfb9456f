package losses

import "math"

// softplus is log(1 + e^u).
func softplus(u float64) float64 { return math.Max(u, 0) + math.Log1p(math.Exp(-math.Abs(u))) }

// sigmoid is 1/(1 + e^-u), without overflow.
func sigmoid(u float64) float64 {
	if u >= 0 {
		return 1 / (1 + math.Exp(-u))
	}
	e := math.Exp(u)
	return e / (1 + e)
}

// logit is the inverse of sigmoid.
func logit(p float64) float64 { return math.Log(p) - math.Log1p(-p) }

func clamp(x, lo, hi float64) float64 { return math.Min(math.Max(x, lo), hi) }

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
