package pipelines

import (
	"sync"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
)

var initOnce sync.Once

// beamInit freezes Beam's registry; pipelines can be built after it.
func beamInit() { initOnce.Do(beam.Init) }
