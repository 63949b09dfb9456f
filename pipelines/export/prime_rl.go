package export

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/tinylib/msgp/msgp"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/stage"
)

// PrimeRL writes what prime-rl's orchestrator hands to its trainer on a filesystem: of every step a file for each rank, with a list of
// microbatches. The trainer reads them as they are.
type PrimeRL struct {
	Sampled
	SeqLen  int    `json:"seq_len" range:"[2,1e9]" doc:"tokens of a microbatch at most, that of the trainer; longer responses are left out"`
	Ranks   int    `json:"ranks" range:"[1,65536]" doc:"data-parallel ranks of the trainer"`
	Step    int    `json:"step" range:"[-1,1e9]" doc:"number of the first step, which the other iterations with rows follow; -1: a step has the number of its iteration"`
	EnvName string `json:"env_name" doc:"environment that the trainer's metrics name"`
}

func init() { Register("prime-rl", PrimeRL{SeqLen: 2048, Ranks: 1, Step: -1, EnvName: "millrace"}) }

// Validate refuses the name that the trainer has for all environments together.
func (f PrimeRL) Validate() error {
	if f.EnvName == "" || f.EnvName == "all" {
		return setting.Errorf("env_name", "is %q; want a name, which must not be all: the trainer's own sums have that one", f.EnvName)
	}
	return nil
}

const leftSeqLen = "longer than seq_len"

// Prepare asks for token ids, log-probs at the temperature of sampling and advantages.
func (f PrimeRL) Prepare(of Origin, heads []stage.Batch) (Format, error) {
	if err := withoutPairs("prime-rl", heads); err != nil {
		return nil, err
	}
	if err := need("prime-rl", heads, schemas.PromptTokens, schemas.ResponseTokens, schemas.Advantage); err != nil {
		return nil, err
	}
	return f, f.check("prime-rl", false, of, heads)
}

// LogProbs are those of the sampled tokens.
func (f PrimeRL) LogProbs(head stage.Batch) []schemas.Descriptor {
	return []schemas.Descriptor{sampledColumn(head)}
}

// Begin writes nothing before the first step.
func (f PrimeRL) Begin(ctx context.Context, dir string) (Writer, error) {
	s, err := newSpool()
	if err != nil {
		return nil, err
	}
	return &primeRL{PrimeRL: f, ctx: ctx, dir: dir, next: f.Step, files: s}, nil
}

// primeRL packs responses into microbatches in the order of their prompts. A microbatch is written when the next response does not fit
// into it, so that one is in memory; those of a rank wait in a temporary file, since their number comes before them.
type primeRL struct {
	PrimeRL
	ctx   context.Context
	dir   string
	step  int
	next  int // number of the next step; -1: its iteration's
	ranks []*rank
	open  microbatch
	dealt int // microbatches of the step
	first microbatch
	files *spool
}

type rank struct {
	file *os.File
	out  *msgp.Writer
	n    uint32
}

// microbatch is responses one after the other.
type microbatch struct {
	samples     []tokens
	length      int
	temperature float32
}

// Step begins a step.
func (w *primeRL) Step(iteration int) error {
	w.step = iteration
	if w.next >= 0 {
		w.step = w.next
	}
	w.dealt, w.open, w.first = 0, microbatch{}, microbatch{}
	for range w.Ranks {
		f, err := files.UnnamedFile()
		if err != nil {
			return err
		}
		w.ranks = append(w.ranks, &rank{file: f, out: msgp.NewWriter(f)})
	}
	return nil
}

// Write packs the rows of a batch.
func (w *primeRL) Write(b stage.Batch) (map[string]int, error) {
	left, rows := map[string]int{}, tokensOf(b, true, true)
	def, _ := schemas.LogPOf(b, sampledColumn(b)) // there, as Prepare has seen
	for i := range b.NumRows() {
		t, why := rows(i)
		n := len(t.prompt) + len(t.response)
		if why == "" && n > w.SeqLen {
			why = leftSeqLen
		}
		if why != "" {
			left[why]++
			continue
		}
		if w.open.length+n > w.SeqLen || w.open.length > 0 && w.open.temperature != float32(def.Temperature) {
			if err := w.deal(); err != nil {
				return nil, err
			}
		}
		w.open.samples, w.open.length = append(w.open.samples, t), w.open.length+n
		w.open.temperature = float32(def.Temperature)
	}
	return left, nil
}

// deal gives the open microbatch to the next rank.
func (w *primeRL) deal() error {
	if w.open.length == 0 {
		return nil
	}
	if w.dealt == 0 {
		w.first = microbatch{samples: w.open.samples[:1], length: len(w.open.samples[0].prompt) + len(w.open.samples[0].response),
			temperature: w.open.temperature}
	}
	r := w.ranks[w.dealt%w.Ranks]
	w.dealt++
	r.n++
	err := w.open.write(r.out, w.EnvName, true)
	w.open = microbatch{}
	return err
}

// End writes the files of the step. All ranks take equally many microbatches; one that would have fewer gets one that teaches nothing.
func (w *primeRL) End() (map[string]int, error) {
	if err := w.deal(); err != nil {
		return nil, err
	}
	for w.dealt > 0 && w.dealt%w.Ranks != 0 {
		r := w.ranks[w.dealt%w.Ranks]
		w.dealt++
		r.n++
		if err := w.first.write(r.out, w.EnvName, false); err != nil {
			return nil, err
		}
	}
	if w.dealt > 0 && w.next >= 0 {
		w.next++ // an iteration without rows takes no number, for which the trainer would wait
	}
	for i, r := range w.ranks {
		if w.dealt > 0 {
			if err := w.put(i, r); err != nil {
				return nil, err
			}
		}
		r.file.Close()
	}
	w.ranks = nil
	return nil, nil
}

// put ends the file of a rank.
func (w *primeRL) put(i int, r *rank) error {
	if err := r.out.Flush(); err != nil {
		return err
	}
	if _, err := r.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	w.files.begin(files.Join(w.dir, "rollouts", fmt.Sprintf("step_%d", w.step), fmt.Sprintf("rank_%d.bin", i)))
	if _, err := w.files.Write(msgp.AppendArrayHeader(nil, r.n)); err != nil {
		return err
	}
	_, err := io.Copy(w.files, r.file)
	return err
}

// Close puts the files under their names, step by step, as the trainer waits for them.
func (w *primeRL) Close() ([]string, error) {
	if len(w.files.parts) == 0 {
		return nil, setting.Errorf("rows", "none can be written, so there is no step")
	}
	return w.files.commit(w.ctx)
}

// Abort leaves nothing behind.
func (w *primeRL) Abort() {
	for _, r := range w.ranks {
		r.file.Close()
	}
	w.files.drop()
}

// microbatchFields are those that prime-rl's MicroBatch has no default for, in their order, in which they are told apart: input_ids,
// loss_mask, advantages, inference_logprobs, position_ids, sequence_lengths, temperatures, env_names, seq_lens.
const microbatchFields = 9

// write writes a microbatch. What stands at a position is of the token there, whose choice the token before it led to; a prompt has no
// log-probs and no advantages. One that is not to teach has no token in its mask.
func (m microbatch) write(to *msgp.Writer, env string, teach bool) error {
	out := &msgpack{to: to}
	out.list(microbatchFields)
	out.each(m, func(s tokens, i int) { out.integer(s.prompt[i]) }, func(s tokens, i int) { out.integer(s.response[i]) })
	out.each(m, func(tokens, int) { out.truth(false) }, func(s tokens, i int) { out.truth(teach && s.counts(i)) })
	out.each(m, func(tokens, int) { out.float(0) }, func(s tokens, i int) {
		if teach {
			out.float(s.advantages[i])
		} else {
			out.float(0)
		}
	})
	out.each(m, func(tokens, int) { out.float(0) }, func(s tokens, i int) { out.float(s.logp[i]) })
	out.each(m, func(_ tokens, i int) { out.integer(int32(i)) }, func(s tokens, i int) { out.integer(int32(len(s.prompt) + i)) })
	out.lengths(m)
	// The trainer divides the logits at a position, from which the next token was drawn: the last of a prompt counts too.
	same := func(tokens, int) { out.float(m.temperature) }
	out.each(m, same, same)
	name := func(tokens, int) { out.text(env) }
	out.each(m, name, name)
	out.lengths(m)
	return out.err
}

// msgpack writes until the first error.
type msgpack struct {
	to  *msgp.Writer
	err error
}

func (m *msgpack) keep(err error) {
	if m.err == nil {
		m.err = err
	}
}

func (m *msgpack) list(n int)      { m.keep(m.to.WriteArrayHeader(uint32(n))) }
func (m *msgpack) integer(x int32) { m.keep(m.to.WriteInt32(x)) }
func (m *msgpack) float(x float32) { m.keep(m.to.WriteFloat32(x)) }
func (m *msgpack) truth(x bool)    { m.keep(m.to.WriteBool(x)) }
func (m *msgpack) text(s string)   { m.keep(m.to.WriteString(s)) }

// each writes a list over all tokens.
func (m *msgpack) each(of microbatch, prompt, response func(s tokens, i int)) {
	m.list(of.length)
	for _, s := range of.samples {
		for i := range s.prompt {
			prompt(s, i)
		}
		for i := range s.response {
			response(s, i)
		}
	}
}

// lengths writes those of the responses with their prompts.
func (m *msgpack) lengths(of microbatch) {
	m.list(len(of.samples))
	for _, s := range of.samples {
		m.integer(int32(len(s.prompt) + len(s.response)))
	}
}
