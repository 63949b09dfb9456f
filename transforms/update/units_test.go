package update

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// groupRows is a record of the named rows: "a0" is sample 0 of prompt a. Rows in null have no advantage, those in masked no
// token that counts.
func groupRows(t *testing.T, null, masked string, names ...string) stage.Batch {
	t.Helper()
	var prompts, responses []uuid.UUID
	var samples []int32
	var promptTokens, tokens, masks [][]int32
	var logp, advantage [][]float32
	var valid []bool
	for _, name := range names {
		prompt := uuid.NewSHA1(uuid.NameSpaceOID, []byte(name[:1]))
		prompts, responses = append(prompts, prompt), append(responses, uuid.NewSHA1(prompt, []byte(name)))
		samples = append(samples, int32(name[1]-'0'))
		promptTokens, tokens = append(promptTokens, []int32{1, 2}), append(tokens, []int32{3, 4, int32(name[1])})
		logp, advantage = append(logp, []float32{-1, -2, -3}), append(advantage, []float32{1, 0, -1})
		valid = append(valid, !strings.Contains(null, name))
		mask := []int32{1, 1, 0}
		if strings.Contains(masked, name) {
			mask = []int32{0, 0, 0}
		}
		masks = append(masks, mask)
	}
	b, err := schemas.NewRecord(schemas.Meta{}, schemas.PromptID.From(prompts), schemas.ResponseID.From(responses),
		schemas.Sample.From(samples),
		schemas.PromptTokens.FromRows(promptTokens), schemas.ResponseTokens.FromRows(tokens), schemas.OldLogP.FromRows(logp),
		schemas.Advantage.FromRows(advantage, valid...), schemas.TokenMask.FromRows(masks))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What a group-relative update learns from are the rows that have an advantage, also where only some rows of a group have
// one or its rows lie in several records; the order is that of the ids, whatever the records.
func TestUnitsOfMixedAndPartialGroups(t *testing.T) {
	loss, err := Config{Losses: []Term{{Name: "ppo", Weight: 1}}}.Loss()
	if err != nil {
		t.Fatal(err)
	}
	names := func(batches ...stage.Batch) (out []string, left int) {
		units, without, err := unitsOf(batches, loss.Spec(), 0)
		for _, n := range without {
			left += n
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range units {
			out = append(out, u.table.record.RowIDs()[u.row].String())
		}
		return out, left
	}
	const null, masked = "a1 c0 c1", "d0" // a in part, c as a whole (all right or all wrong), d without a token that counts
	whole, left := names(groupRows(t, null, masked, "a0", "a1", "a2", "b0", "b1", "c0", "c1", "d0", "d1"))
	if len(whole) != 5 || left != 4 {
		t.Fatalf("%d rows and %d left out, want 5 and 4", len(whole), left)
	}
	parts, left := names(groupRows(t, null, masked, "c0", "c1"), groupRows(t, null, masked, "d1", "d0", "a2"),
		groupRows(t, null, masked, "b1"),
		groupRows(t, null, masked, "a1", "a0"), groupRows(t, null, masked, "b0"))
	if !slices.Equal(parts, whole) || left != 4 {
		t.Errorf("in other records: %v and %d left out, want %v", parts, left, whole)
	}
	if none, left := names(groupRows(t, null, masked, "c0", "c1")); len(none) != 0 || left != 2 {
		t.Errorf("a group of which nothing can be learned gives %d rows, %d left out", len(none), left)
	}
	_, _, err = unitsOf([]stage.Batch{groupRows(t, "", "", "a0", "b0"), groupRows(t, "", "", "b0")}, loss.Spec(), 0)
	if err == nil || !strings.Contains(err.Error(), "arrives twice") {
		t.Errorf("a row that is there twice: %v", err)
	}
}
