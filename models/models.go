// Package models is the seam between language models and the stages that use them: what can be asked of a model
// (Generator, Scorer, Trainable), how a model is named in a stage's configuration (Ref), and the cache that loads it once
// a process (Acquire).
//
// A model sees token ids only; text belongs to the tokenizer. All log-probs are natural logarithms at temperature 1 over
// the full vocabulary, whatever the sampling parameters were; those of a generator that is Defined are what it says, and a ScoreRequest
// may ask for another temperature.
package models

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/schemas/setting"
)

// Ref names a model in configurations and lineage: where it lies, the digest of its content (see Digest), and in what its
// products are computed. An empty digest accepts whatever lies there.
type Ref struct {
	Path      string            `json:"path"`
	Digest    string            `json:"digest,omitempty"`
	Precision kernels.Precision `json:"precision,omitempty"`
}

// Identity names what computes, wherever it lies: the digest, and the precision where that is not float32. The same weights
// at two precisions are two models, whose log-probs differ.
func (r Ref) Identity() string {
	if r.Precision == kernels.Float32 {
		return r.Digest
	}
	return r.Digest + "+" + r.Precision.String()
}

// Sequence is one prompt with one response, as token ids.
type Sequence struct {
	Prompt   []int32
	Response []int32
}

// LeastTemperature is the smallest one that logits are divided by. In single precision, which ends at 3.4e38, a logit of up to 3.4e8
// over it is a number still, and with it every product on the way; logits of models lie many orders of magnitude below.
const LeastTemperature = 1e-30

// Sampling says how the next token is drawn. The zero value of a field turns that filter off; the zero Temperature means 1.
type Sampling struct {
	Temperature  float32 `json:"temperature" range:"[0,inf)" doc:"logits are divided by it; 0: 1; else at least 1e-30, at which a logit of 3.4e8 divided by it is still finite in single precision"`
	Greedy       bool    `json:"greedy" doc:"take the most probable token, of equals the smaller id, whatever the temperature"`
	TopP         float32 `json:"top_p" range:"[0,1]" doc:"keep the smallest set of tokens with at least this mass; 0 or 1: all"`
	TopK         int     `json:"top_k" range:"[0,inf)" doc:"keep the k most probable tokens; 0: all"`
	MaxNewTokens int     `json:"max_new_tokens" range:"[1,1e7]" doc:"tokens of a response at most, the stop token counted"`
	MinNewTokens int     `json:"min_new_tokens" range:"[0,inf)" doc:"tokens before which no stop token is drawn"`
	Stop         []int32 `json:"stop,omitempty" doc:"ids of tokens that end a response, which they are part of; none: the model's own"`
	// The generator must know the model's tokenizer.
	StopStrings []string `json:"stop_strings,omitempty" doc:"texts that end a response with the token that completes one, from min_new_tokens on"`

	// Slot 0 is the sampled token, then come the most probable others, descending.
	CandidateK    int     `json:"candidate_k" range:"[0,inf)" doc:"tokens stored at every position, the sampled one and the most probable others; 0: none"`
	CandidateMinP float32 `json:"candidate_min_p" range:"[0,1]" doc:"least probability of a stored token that was not sampled"`
}

// Validate names the first key that does not go with the others.
func (s Sampling) Validate() error {
	if s.MinNewTokens > s.MaxNewTokens {
		return setting.Errorf("min_new_tokens", "%d is above max_new_tokens = %d", s.MinNewTokens, s.MaxNewTokens)
	}
	if s.Temperature != 0 && s.Temperature < LeastTemperature {
		return setting.Errorf("temperature", "%v is below %v: logits divided by it are not finite in single precision; set greedy for the most "+
			"probable token", s.Temperature, LeastTemperature)
	}
	if slices.Contains(s.StopStrings, "") {
		return setting.Errorf("stop_strings", "one is empty")
	}
	return nil
}

// Written is the number that a setting in single precision was written as: 0.7, where the setting is 0.699999988.
func Written(x float32) float64 {
	out, _ := strconv.ParseFloat(strconv.FormatFloat(float64(x), 'g', -1, 32), 64)
	return out
}

// GenerateRequest asks for Samples responses to one prompt. What sample i is depends on (Seed, PromptID, FirstSample+i),
// the prompt and the sampling parameters alone, not on the other requests or on the machine.
type GenerateRequest struct {
	PromptID    [16]byte
	Prompt      []int32 // at least one token
	Seed        uint64  // the run's seed (and iteration, if it is to differ between iterations)
	FirstSample int     // index of the first sample
	Samples     int
	Sampling    Sampling

	// OnToken, when set, is told every token as soon as it is drawn: token index t (0-based) of a sample, with its log-prob. Calls
	// come from one goroutine at a time, and sampling waits for them. Generators that cannot tell never call it.
	OnToken func(sample, t int, token int32, logP float32)

	// Gone, when set, is closed once nobody waits for the responses any more: the request then ends with ErrGone, before the next
	// token. Generators that cannot stop never look at it.
	Gone <-chan struct{}
}

// ErrGone is how a request ends that nobody waits for any more.
var ErrGone = errors.New("nobody waits for the answer any more")

// Left reports whether nobody waits any more; gone is nil where nobody says so.
func Left(gone <-chan struct{}) bool {
	select {
	case <-gone:
		return true
	default:
		return false
	}
}

// FinishReason says why a response ended.
type FinishReason uint8

const (
	FinishUnknown FinishReason = iota
	FinishStop                 // a stop token was drawn, or a stop string completed
	FinishLength               // MaxNewTokens or the model's context was reached
	FinishError                // see Response.Err
)

func (f FinishReason) String() string {
	switch f {
	case FinishStop:
		return "stop"
	case FinishLength:
		return "length"
	case FinishError:
		return "error"
	}
	return "unknown"
}

// Response is one sampled response of T tokens.
type Response struct {
	Sample int
	Tokens []int32 // [T]
	Finish FinishReason
	LogP   []float32 // [T] log-prob of each token (old_logp); nil where the generator cannot tell
	LogZ   []float32 // [T] logsumexp of the logits it was drawn from (old_logz); nil where the generator cannot tell

	// Candidates of token t: CandidateIDs[CandidateStart[t]:CandidateStart[t+1]], likewise their log-probs.
	CandidateStart []int32 // [T+1], nil when none were asked for
	CandidateIDs   []int32
	CandidateLogP  []float32

	Err error // with FinishError: what went wrong with this response
}

// GenerateResult holds the responses to one request, in sample order; or Err, when the request itself cannot be served
// (an empty prompt, a token outside the vocabulary).
type GenerateResult struct {
	Responses []Response
	Err       error
}

// Generator samples responses. The returned slice has one result per request, in order. The error is the world's fault
// (context ended, endpoint gone) and leaves no usable result; a request's own fault is in its result.
type Generator interface {
	Generate(ctx context.Context, requests []GenerateRequest) ([]GenerateResult, error)
}

// Defined is a Generator whose log-probs need not be the model's own: it says at which temperature they are, and over which of the
// most probable tokens (1 and 0: all of them), for such sampling.
type Defined interface {
	LogPAt(s Sampling) (temperature, topP float64, topK int)
}

// Asked is a request that came by itself.
type Asked struct {
	GenerateRequest
	Client string               // who asked: what there is to share is shared between clients, and then between their requests
	Answer func(GenerateResult) // told the result once, unless sampling ends with an error
}

// Continuous is a Generator that takes requests while others are under way. None can take all there is: a client gets at most half
// of what the others have left. Their responses are those of Generate.
type Continuous interface {
	// GenerateAsTheyCome asks for further requests before every token, and returns when next gives none while nothing is under way.
	GenerateAsTheyCome(ctx context.Context, next func() []Asked) error
}

// ScoreRequest asks what a model thinks of a given response of T tokens.
type ScoreRequest struct {
	Sequence

	// Listed tokens: token t has the ids ListIDs[ListStart[t]:ListStart[t+1]] scored at its position, besides the response
	// token itself. ListStart is [T+1], or nil for none. Negative ids are empty slots, their log-prob is 0.
	ListStart []int32
	ListIDs   []int32

	Temperature float64 // the logits are divided by it; 0: 1

	TopK int // also give the k most probable tokens at every position (0: none), all of them in a smaller vocabulary

	Values     bool // also give the scalar head's output at every token; an error when the model has none
	ValueAfter bool // read the hidden state after the token instead of before it

	Gone <-chan struct{} // as of a GenerateRequest
}

// ScoreResult answers one ScoreRequest.
type ScoreResult struct {
	LogP     []float32 // [T] of the response tokens
	LogZ     []float32 // [T] logsumexp of the logits; nil where the scorer cannot tell
	Entropy  []float32 // [T] nats; nil where the scorer cannot tell
	ListLogP []float32 // as ListIDs

	// k is TopK, or the size of a smaller vocabulary.
	TopIDs      []int32   // [T*k], descending probability, ties to the smaller id
	TopLogP     []float32 // [T*k]
	TopRestLogP []float32 // [T] log of the probability mass outside the k; -Inf when they are the whole vocabulary

	Values []float32 // [T]

	Err error // the request's own fault: the other fields are nil
}

// Scorer computes log-probs of given responses. Results and errors as for Generator.
type Scorer interface {
	Score(ctx context.Context, requests []ScoreRequest) ([]ScoreResult, error)
}

// Packed is a varlen batch without padding: sequence b is Tokens[Starts[b]:Starts[b+1]], its positions count from 0.
type Packed struct {
	Tokens []int32 // [T]
	Starts []int   // [B+1], Starts[0] = 0
}

// Pack lays the sequences back to back, prompt before response.
func Pack(sequences []Sequence) Packed {
	p := Packed{Starts: make([]int, 1, len(sequences)+1)}
	n := 0
	for _, s := range sequences {
		n += len(s.Prompt) + len(s.Response)
	}
	p.Tokens = make([]int32, 0, n)
	for _, s := range sequences {
		p.Tokens = append(append(p.Tokens, s.Prompt...), s.Response...)
		p.Starts = append(p.Starts, len(p.Tokens))
	}
	return p
}

// Tensor is a named view into the flat parameters and gradients of a Trainable.
type Tensor struct {
	Name  string // the name in the checkpoint, such as model.norm.weight
	Shape []int
	Param []float32
	Grad  []float32 // nil until gradients are used
}

// Trainable is a model whose weights can be changed. It is owned by its user and not shared (Acquire gives shared,
// read-only models).
//
// The hidden row of token i of a sequence (counted over prompt and response) is the final norm's output after that token:
// with a prompt of p tokens, row p+t-1 scores response token t (0-based), row p+t is the state after it.
type Trainable interface {
	// HiddenSize and VocabSize are D and V.
	HiddenSize() int
	VocabSize() int

	// Precision is that of the products, the head's too, which whoever drives the head has to keep.
	Precision() kernels.Precision

	// Params and Grads are the trainable weights and their gradients, one flat allocation each with the same layout.
	// Tensors names the parts, in layout order. ZeroGrads clears the gradients.
	Params() []float32
	Grads() []float32
	Tensors() []Tensor
	ZeroGrads()

	// Forward runs the sequences and returns their hidden rows [T,D], valid until the next call. Backward takes dL/dH for
	// the rows of the last Forward (it may overwrite dh) and accumulates into Grads.
	Forward(batch Packed) ([]float32, error)
	Backward(dh []float32) error

	// Head is the LM head's weight [V,D] and its gradient (nil when it is frozen). With tied embeddings they are the
	// embedding's. ScalarHead is [D] and its gradient, or nil when the model has none.
	Head() (w, dw []float32)
	ScalarHead() (w, dw []float32)

	// Save writes the model as a directory that Load of the same package, Acquire, and Hugging Face transformers read.
	Save(dir string) error
}

// Model is what Acquire returns: a shared, read-only model that samples and scores.
type Model interface {
	Generator
	Scorer
	Close() error
}
