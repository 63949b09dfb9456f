package stage_test

import (
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// TestRowsCarryWhatIsKnown: through stages and exchanges, and to nothing but what they make.
func TestRowsCarryWhatIsKnown(t *testing.T) {
	_, s := beam.NewPipelineWithRoot()
	store := stage.Store{Dir: t.TempDir()}
	in := stagetest.Source(s, []stage.Batch{prompts(t, "a")})
	in.Known, in.MaxRecordBytes = &schemas.Known{Columns: []schemas.Column{schemas.PromptID.Describe(), schemas.Prompt.Describe()}}, 12345

	doubled, dead := stage.ApplyOnce(s, Doubler{}, store, in)
	if !doubled.Known.Has(schemas.ResponseTokens.Name) || !doubled.Known.Has(schemas.Prompt.Name) || doubled.MaxRecordBytes != 12345 ||
		doubled.Store != store {
		t.Errorf("after ApplyOnce: %+v", doubled)
	}
	if in.Known.Has(schemas.ResponseTokens.Name) || dead.Known != nil || !dead.IsValid() {
		t.Errorf("the rows before: %v; the dead letters: %+v", in.Known, dead)
	}
	if again := stage.Exchange(s, store, doubled); again.PCollection != doubled.PCollection {
		t.Error("rows that have just come through the store are exchanged again")
	}
	repeated, _ := stage.Apply(s, Repeats{}, doubled)
	if !repeated.Known.Has(schemas.MeanValue.Name) || repeated.MaxRecordBytes != 12345 || repeated.Store != store {
		t.Errorf("after Apply: %+v", repeated)
	}
	exchanged := stage.Exchange(s, store, repeated)
	if exchanged.PCollection == repeated.PCollection {
		t.Error("rows that a stage has made since are taken for those in the store")
	}
	if exchanged.Known != repeated.Known || exchanged.MaxRecordBytes != 12345 {
		t.Errorf("after Exchange: %+v", exchanged)
	}
	if both := stage.Flatten(s, exchanged, repeated); !both.IsValid() || both.Known != nil || both.Store.Dir != "" {
		t.Errorf("after Flatten: %+v", both)
	}
}
