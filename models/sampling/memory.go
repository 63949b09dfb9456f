package sampling

import (
	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models/transformer"
)

// Bytes estimates what a sampler of default options holds beside its model while it draws so many responses, of sequences of so many
// tokens with their prompts.
func Bytes(c transformer.Config, p kernels.Precision, responses, tokens int) int64 {
	o := Options{}.withDefaults()
	live := min(responses, o.MaxSequences)
	caches := min(int64(live)*transformer.CacheBytes(c, p, tokens), int64(o.MaxCacheBytes))
	logits := 4 * int64(min(live, max(1, maxLogits/c.Vocab))) * int64(c.Vocab)
	return caches + logits + transformer.ForwardBytes(c, min(o.MaxPrefill, responses*tokens))
}
