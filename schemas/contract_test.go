package schemas

import (
	"slices"
	"testing"
)

// A stage may put a column under another name, and a later one add what it was.
func TestRemoves(t *testing.T) {
	moved := Contract{Name: "moved", Needs: []Descriptor{OldLogP}, Adds: []Descriptor{SamplerLogP}, Removes: []Descriptor{OldLogP}}
	own := Contract{Name: "own", Adds: []Descriptor{OldLogP}}
	known, err := Chain([]Descriptor{PromptID, OldLogP}, moved, own)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range known.Columns {
		names = append(names, c.Name)
	}
	if want := []string{"prompt_id", "sampler_logp", "old_logp"}; !slices.Equal(names, want) {
		t.Errorf("columns %v, want %v", names, want)
	}
	if _, err := Chain([]Descriptor{PromptID, OldLogP}, own); err == nil {
		t.Error("a column that is there is added again")
	}
	other := Contract{Name: "other", Rows: OtherRows, Origin: []ID{PromptID}, Removes: []Descriptor{OldLogP}}
	if err := other.Check(); err == nil {
		t.Error("other rows have columns removed")
	}
}
