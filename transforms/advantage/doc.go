// Package advantage turns scores, values and outcomes into the advantages that policy updates learn from.
//
// The functions are plain float64 mathematics over the tokens of packed responses; each names its source.
package advantage
