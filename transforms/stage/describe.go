package stage

import (
	"sync"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/millrace/millrace/schemas"
)

// MaxRecordBytes is the default upper limit of an encoded batch.
const MaxRecordBytes = 8 << 20

// Description is what is known about a PCollection of batches while the pipeline is built.
type Description struct {
	Known          *schemas.Known   // its columns; nil when they are not known, and are checked only when the pipeline runs
	MaxRecordBytes int              // upper limit of an encoded batch; 0 means the default
	Store          Store            // where its rows can be left for a stage that cannot be fused with this one's; may have no directory
	stored         beam.PCollection // descriptions of exactly its rows, in that store; not valid when they are not there
}

// Beam's PCollection has no room for a description, so it is kept beside it, for as many as a process builds in a while.
var descriptions = struct {
	sync.Mutex
	of    map[beam.PCollection]Description
	order []beam.PCollection
}{of: map[beam.PCollection]Description{}}

const maxDescriptions = 1 << 12

// Describe states what is known about a PCollection. Sources call it; Apply carries it on.
func Describe(p beam.PCollection, d Description) {
	t := &descriptions
	t.Lock()
	defer t.Unlock()
	if _, ok := t.of[p]; !ok {
		t.order = append(t.order, p)
	}
	t.of[p] = d
	for len(t.order) > maxDescriptions {
		delete(t.of, t.order[0])
		t.order = t.order[1:]
	}
}

// DescriptionOf returns what is known about a PCollection, nothing when nobody described it.
func DescriptionOf(p beam.PCollection) Description {
	descriptions.Lock()
	defer descriptions.Unlock()
	return descriptions.of[p]
}

func orDefault(limit int) int {
	if limit <= 0 {
		return MaxRecordBytes
	}
	return limit
}
