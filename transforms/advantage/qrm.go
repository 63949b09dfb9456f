package advantage

import "math"

// Scaled writes (x - mean) / std, x divided by the batch's standard deviation of its kind (Q-RM, arXiv 2505.23363; spec
// 1.5): token scores q_t = Z_t / std(Z), values V_t / std(V). The mean is 0 where nothing is to be centred; std 0, values
// without spread, leaves them undivided.
func Scaled(dst, x []float64, mean, std float64) {
	if std == 0 {
		std = 1
	}
	for t := range dst {
		dst[t] = (x[t] - mean) / std
	}
}

// Penalised writes q'_t = q_t - cKL·|log pi_old - log pi_ref|, Q-RM's token reward for PPO and its value head's target.
func Penalised(dst, q, oldLogp, refLogp []float64, cKL float64) {
	for t := range dst {
		dst[t] = q[t] - cKL*math.Abs(oldLogp[t]-refLogp[t])
	}
}

// OverValue writes Q-RM's advantage for PPO, a_t = q'_t - cV·v_t, v being the scaled values ([Scaled]).
func OverValue(a, q, v []float64, cV float64) {
	for t := range a {
		a[t] = q[t] - cV*v[t]
	}
}
