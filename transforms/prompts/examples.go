package prompts

// What an inspection keeps of a source's prompts at most.
const (
	maxExamples     = 512
	maxExampleBytes = 8 << 20
)

// examples keeps groups at even distances, however many there are: whenever there are too many it drops every second one and takes
// half as many from there on.
type examples struct {
	kept   []Example
	stride int // every so manyth group is kept
	seen   int
	bytes  int
}

func (e *examples) add(g group) {
	e.stride = max(e.stride, 1)
	e.seen++
	if (e.seen-1)%e.stride != 0 {
		return
	}
	x := Example{Prompt: g.rows[0].prompt, Messages: g.rows[0].messages}
	for _, r := range g.rows {
		if r.response != "" {
			x.Responses = append(x.Responses, r.response)
		}
	}
	e.kept = append(e.kept, x)
	e.bytes += x.bytes()
	for len(e.kept) > 1 && (len(e.kept) > maxExamples || e.bytes > maxExampleBytes) {
		left := e.kept[:0]
		e.bytes = 0
		for i, x := range e.kept {
			if i%2 == 0 {
				left = append(left, x)
				e.bytes += x.bytes()
			}
		}
		clear(e.kept[len(left):])
		e.kept, e.stride = left, 2*e.stride
	}
}

func (x Example) bytes() int {
	n := len(x.Prompt) + len(x.Messages)
	for _, r := range x.Responses {
		n += len(r)
	}
	return n
}
