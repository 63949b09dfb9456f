package update

import (
	"slices"
	"testing"

	"github.com/millrace/millrace/schemas"
)

// Responses to a prompt share a microbatch whatever their order in the step, their prompt counts once, and every unit is there
// once.
func TestMicrobatches(t *testing.T) {
	const prompts, samples, promptLength, responseLength = 6, 4, 30, 5
	var p [][]int32
	for i := range prompts * samples {
		p = append(p, slices.Repeat([]int32{int32(i % prompts)}, promptLength))
	}
	record, err := schemas.NewRecord(schemas.Meta{Run: "test"}, schemas.PromptTokens.FromRows(p))
	if err != nil {
		t.Fatal(err)
	}
	tab := &table{record: record, prompt: schemas.PromptTokens.Of(record)}
	var step []unit
	for i := range p {
		step = append(step, unit{table: tab, row: i, responses: responseSides, tokens: promptLength + responseLength})
	}
	const group = promptLength + samples*responseLength
	for limit, want := range map[int]int{1: prompts * samples, group: prompts, 2 * group: prompts / 2, 100 * group: 1} {
		parts := microbatches(step, limit)
		if len(parts) != want {
			t.Errorf("limit %d: %d microbatches, want %d", limit, len(parts), want)
		}
		var all []int
		for _, part := range parts {
			for i, u := range part {
				all = append(all, u.row)
				if i > 0 && slices.Compare(part[i-1].prompt(), u.prompt()) > 0 {
					t.Errorf("limit %d: prompts are not together", limit)
				}
			}
		}
		slices.Sort(all)
		for i, row := range all {
			if i != row || len(all) != len(step) {
				t.Fatalf("limit %d: rows %v", limit, all)
			}
		}
	}
	// A prompt that is repeated a thousand times is bounded too.
	long := slices.Repeat(step[:1], 1000)
	if got := len(microbatches(long, 5100)); got < 2 {
		t.Errorf("%d repeated tokens in %d microbatch", 1000*(promptLength+responseLength), got)
	}
}
