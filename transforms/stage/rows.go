package stage

import (
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/millrace/millrace/schemas"
)

// MaxRecordBytes is the default upper limit of an encoded batch.
const MaxRecordBytes = 8 << 20

// Rows is a PCollection of batches with what is known of it while the pipeline is built. A source fills in what it knows;
// stages take Rows and return Rows. The zero Rows are none: IsValid tells.
type Rows struct {
	beam.PCollection
	Known          *schemas.Known   // their columns; nil when they are not known, and are checked only when the pipeline runs
	MaxRecordBytes int              // upper limit of an encoded batch; 0 means the default
	Store          Store            // where they can be left for a stage that cannot be fused with this one's; may have no directory
	stored         beam.PCollection // descriptions of exactly these rows, in that store; not valid when they are not there
}

// Flatten puts the batches of several collections into one, of which nothing is known.
func Flatten(s beam.Scope, parts ...Rows) Rows {
	all := make([]beam.PCollection, len(parts))
	for i, p := range parts {
		all[i] = p.PCollection
	}
	return Rows{PCollection: beam.Flatten(s, all...)}
}

func orDefault(limit int) int {
	if limit <= 0 {
		return MaxRecordBytes
	}
	return limit
}
