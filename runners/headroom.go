package runners

import "sync"

// headroom is memory that nobody touches, so that none of it is ever resident; the garbage collector counts it as in use. A
// pipeline keeps few rows and makes many: without headroom, the collector would run whenever it had made 10 or 20 MB, and
// take a fifth of the processor time.
var headroom = sync.OnceValue(func() []byte { return make([]byte, 64<<20) })
