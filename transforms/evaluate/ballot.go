package evaluate

import (
	"encoding/binary"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// ballot gathers one prompt's responses by what they say: the same tokens, and the same final answer.
type ballot struct {
	responses, answers classes
}

// classes counts what is alike, in the order in which it was first seen.
type classes struct {
	at      map[string]int
	n       []int
	outcome []float64 // of the first of each class
}

func (c *classes) add(key string, outcome float64) {
	if c.at == nil {
		c.at = map[string]int{}
	}
	k, ok := c.at[key]
	if !ok {
		k = len(c.n)
		c.at[key], c.n, c.outcome = k, append(c.n, 0), append(c.outcome, outcome)
	}
	c.n[k]++
}

// add takes in row i, which has the outcome.
func (v *ballot) add(b stage.Batch, i int, outcome float64) {
	var key []byte
	for _, id := range schemas.ResponseTokens.Of(b).Row(i) {
		key = binary.LittleEndian.AppendUint32(key, uint32(id))
	}
	v.responses.add(string(key), outcome)
	if !b.Has(schemas.Extracted) {
		return
	}
	if extracted := schemas.Extracted.Of(b); extracted.Valid(i) {
		v.answers.add(extracted.At(i), outcome)
	}
}

// random is the mean outcome of the distinct responses.
func (v *ballot) random() float64 {
	sum := 0.0
	for _, x := range v.responses.outcome {
		sum += x
	}
	return sum / float64(max(1, len(v.responses.outcome)))
}

// majority is the outcome of the most frequent answer, of equally frequent ones the first; nil without an answer. Answers are
// told apart by their text.
func (v *ballot) majority() *float64 {
	best := -1
	for k, n := range v.answers.n {
		if best < 0 || n > v.answers.n[best] {
			best = k
		}
	}
	if best < 0 {
		return nil
	}
	return &v.answers.outcome[best]
}
