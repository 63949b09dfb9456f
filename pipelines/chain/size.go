package chain

import (
	"math"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/schemas"
)

// Size estimates what one iteration holds. It is made from the recipe, and the lengths of its texts where these were measured: rows and
// records are exact as long as the source has that many prompts, tokens and bytes are upper bounds under Assumed.
type Size struct {
	Prompts int   `json:"prompts"`
	Records int   `json:"records"` // messages between stages, before any split for size
	Rows    int   `json:"rows"`    // responses
	Tokens  int64 `json:"tokens"`  // response tokens
	Bytes   int64 `json:"bytes"`   // of all rows with every column, uncompressed
	Files   int   `json:"files"`   // that the rows are written to
	Assumed `json:"assumed"`
}

// Assumed are lengths that the recipe bounds but does not fix.
type Assumed struct {
	PromptTokens   int `json:"prompt_tokens"`
	ResponseTokens int `json:"response_tokens"`
	Candidates     int `json:"candidates"` // listed tokens of a position, the sampled one included
}

// Lengths assumed where the recipe does not say. Chains of the proving ground are short; a problem in words takes about a
// hundred tokens.
const (
	chainPromptTokens   = 16
	chainResponseTokens = 45
	filePromptTokens    = 256
	fileResponseTokens  = 1024
	bytesPerTokenOfText = 4
	bytesOfShortText    = 16 // verdicts, reasons, answers
	bytesOfOffset       = 4  // a list's, one an item
)

// Lengths are what was measured of the texts of a source. The zero value knows nothing.
type Lengths struct {
	Prompts        int     `json:"prompts"`                   // measured
	PromptTokens   float64 `json:"prompt_tokens"`             // of one, the mean
	Longest        int     `json:"longest_prompt_tokens"`     //
	Responses      float64 `json:"responses,omitempty"`       // given to a prompt, the mean
	ResponseTokens float64 `json:"response_tokens,omitempty"` // of a given response, the mean
}

// SizeOf estimates what stages hold in one iteration of a recipe, whose texts have the measured lengths.
func SizeOf(r recipe.Recipe, stages []PlannedStage, measured Lengths) Size {
	chain := r.Prompts.Generates()
	count := r.Prompts.Count
	if b := r.Backfill(); b != nil {
		count *= b.Rounds // at most
	}
	s := Size{Prompts: count, Files: r.Output.Shards, Records: ceilDiv(count, max(r.Prompts.PerRecord, 1)),
		Assumed: Assumed{PromptTokens: filePromptTokens, ResponseTokens: fileResponseTokens, Candidates: 1}}
	if chain {
		s.PromptTokens, s.ResponseTokens = chainPromptTokens, chainResponseTokens
	}
	if measured.Prompts > 0 {
		s.PromptTokens = int(math.Ceil(measured.PromptTokens))
	}
	s.Rows = s.Prompts
	if Samples(r) {
		s.Rows *= r.Rollout.Samples
		s.PromptTokens = min(s.PromptTokens, r.Rollout.MaxPromptTokens)
		s.ResponseTokens = r.Rollout.MaxNewTokens
		s.Candidates += Sampling(r).CandidateK
	} else {
		if chain {
			s.Rows *= r.Prompts.PerPrompt()
		}
		if measured.Responses > 0 {
			s.Rows = int(math.Ceil(float64(s.Prompts) * measured.Responses))
			s.ResponseTokens = int(math.Ceil(measured.ResponseTokens))
		}
		s.ResponseTokens = min(s.ResponseTokens, r.Tokenize.MaxTokens)
	}
	s.Tokens = int64(s.Rows) * int64(s.ResponseTokens)
	seen := map[string]bool{}
	perRow := 0.0
	for _, p := range stages {
		for _, name := range p.Adds {
			if c, ok := schemas.ByName(name); ok && !seen[name] {
				seen[name] = true
				perRow += bytesOf(c, s.Assumed)
			}
		}
	}
	s.Bytes = int64(math.Ceil(perRow)) * int64(s.Rows)
	return s
}

// bytesOf is the size of a column's value of one row.
func bytesOf(c schemas.Column, a Assumed) float64 {
	n := 1.0
	for dim := range strings.SplitSeq(strings.Trim(c.Shape, "[]"), ", ") {
		switch dim {
		case "T":
			n *= float64(a.ResponseTokens)
		case "P":
			n *= float64(a.PromptTokens)
		case "K":
			n *= float64(a.Candidates)
		case "S":
			n *= float64(a.ResponseTokens) / 8
		}
	}
	size, offsets := 4.0, 0.0
	typ := c.Type
	for list, ok := typ.(*arrow.ListType); ok; list, ok = typ.(*arrow.ListType) {
		if typ = list.Elem(); offsets > 0 { // a list of lists has an offset for each position
			offsets += bytesOfOffset * float64(a.ResponseTokens)
		} else {
			offsets = bytesOfOffset
		}
	}
	switch t := typ.(type) {
	case *arrow.FixedSizeBinaryType:
		size = float64(t.ByteWidth)
	case *arrow.StringType:
		switch c.Name {
		case schemas.Prompt.Name:
			size = float64(bytesPerTokenOfText * a.PromptTokens)
		case schemas.Response.Name, schemas.Revised.Name:
			size = float64(bytesPerTokenOfText * a.ResponseTokens)
		default:
			size = bytesOfShortText
		}
	case arrow.FixedWidthDataType:
		size = float64(t.BitWidth()) / 8
	}
	return n*size + offsets
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }
