// Package target computes what a distillation or logit-control loss pulls the policy towards: LCO's advantages over the
// listed tokens, a teacher's sparse distribution for DCKD, and the log-ratio of two teachers for ADPA. A target is a value
// apart from the loss that consumes it, so it is stored once and serves any student.
package target
