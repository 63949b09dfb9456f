package prompts

import (
	"reflect"
	"testing"

	"github.com/google/uuid"
)

// TestPacked: rows are read back as they were, with all of their fields, and damage is told.
func TestPacked(t *testing.T) {
	full := promptRow{prompt: "a\x00", answer: "b", extra: "c", messages: "d", hasAnswer: true, hasExtra: true, response: "é\n", outcome: 0.25,
		hasOutcome: true, difficulty: "e", id: "f", stepBytes: []int32{1, 300}, firstError: -1, promptTokens: []int32{0, 1 << 30},
		responseTokens: []int32{2}, lossMask: []int32{0, 1}, logProbs: []float32{-0.5, 0}, finish: "stop"}
	for i, v := 0, reflect.ValueOf(full); i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("%s is not tried", v.Type().Field(i).Name)
		}
	}
	id := uuid.NewSHA1(uuid.Nil, []byte("x"))
	g := group{id: id, short: shortID(id), rows: []promptRow{full, {}, {promptTokens: []int32{}}}}
	raw := g.appendTo(nil)
	got, err := groupOf(raw)
	if err != nil || !reflect.DeepEqual(got, g) {
		t.Errorf("%+v, %v; want %+v", got, err, g)
	}
	for n := range raw {
		if _, err := groupOf(raw[:n]); err == nil {
			t.Errorf("%d of %d bytes are read without an error", n, len(raw))
		}
	}
}
