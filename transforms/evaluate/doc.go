// Package evaluate measures policies and reward models: avg@k and pass@k, Best-of-N, calibration of prefix values,
// ProcessBench's step F1, and paired comparisons of two runs. Every figure comes with its count, and with its standard
// error over prompts where it is a mean over prompts.
package evaluate
