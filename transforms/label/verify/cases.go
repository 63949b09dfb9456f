package verify

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// A JudgedCase is one line of a file of cases: a reference answer, a response, and whether that response is right. Kind may name the
// verifier that judges it; any other text is a label. Prompt and Truncated are what a verifier may be told beside it.
type JudgedCase struct {
	Line      int    `json:"line"`
	Kind      string `json:"kind,omitempty"`
	Gold      string `json:"gold"`
	Response  string `json:"response"`
	Prompt    string `json:"prompt,omitempty"`
	Truncated bool   `json:"truncated,omitempty"`
	Correct   bool   `json:"correct"`
	Result    Result `json:"result"`
}

// Agreement is what verifiers made of a file of cases. A case without a decision counts as not judged correct; one on which its verifier
// failed agrees with nothing.
type Agreement struct {
	Cases          int          `json:"cases"`
	Agree          int          `json:"agree"`
	Share          float64      `json:"share"`
	FalsePositives []JudgedCase `json:"false_positives"` // judged correct, and are not
	FalseNegatives []JudgedCase `json:"false_negatives"` // are correct, and not judged so
	Failed         []JudgedCase `json:"failed"`          // their verifier ended, or answered what cannot be read
}

// Judge holds the verifier that of returns for a kind against JSON lines with gold, response, correct and kind.
func Judge(ctx context.Context, of func(kind string) (Verifier, error), in io.Reader) (Agreement, error) {
	sum := Agreement{FalsePositives: []JudgedCase{}, FalseNegatives: []JudgedCase{}, Failed: []JudgedCase{}}
	known := map[string]Verifier{}
	defer func() {
		for _, v := range known {
			if c, ok := v.(io.Closer); ok {
				c.Close()
			}
		}
	}()
	sc := bufio.NewScanner(in)
	sc.Buffer(make([]byte, 0, 1<<16), MaxLine)
	line := 0
	for sc.Scan() {
		line++
		if len(bytes.TrimSpace(sc.Bytes())) == 0 {
			continue
		}
		c, err := readCase(sc.Bytes())
		if err != nil {
			return sum, fmt.Errorf("line %d: %w", line, err)
		}
		c.Line = line
		v := known[c.Kind]
		if v == nil {
			if v, err = of(c.Kind); err != nil {
				return sum, fmt.Errorf("line %d: %w", line, err)
			}
			known[c.Kind] = v
		}
		c.Result, err = v.Verify(ctx, Gold{Answer: c.Gold}, Response{Text: c.Response, Truncated: c.Truncated, Prompt: c.Prompt})
		failed := false
		if row := (*RowError)(nil); errors.As(err, &row) {
			c.Result, failed = Result{Verdict: Budget, Reason: row.Message}, row.Fault == FaultVerifier
		} else if err != nil {
			return sum, fmt.Errorf("line %d: %w", line, err)
		}
		sum.Cases++
		switch judged := c.Result.Verdict == Correct; {
		case failed:
			sum.Failed = append(sum.Failed, c)
		case judged == c.Correct:
			sum.Agree++
		case judged:
			sum.FalsePositives = append(sum.FalsePositives, c)
		default:
			sum.FalseNegatives = append(sum.FalseNegatives, c)
		}
	}
	if err := sc.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("line %d is longer than %d bytes", line+1, MaxLine)
		}
		return sum, err
	}
	if sum.Cases == 0 {
		return sum, errors.New("there is no case in it; a case is a line of JSON with gold, response, correct and kind")
	}
	if len(sum.Failed) == sum.Cases {
		return sum, fmt.Errorf("the verifier failed on every case; line %d: %s", sum.Failed[0].Line, sum.Failed[0].Result.Reason)
	}
	sum.Share = float64(sum.Agree) / float64(sum.Cases)
	return sum, nil
}

func readCase(raw []byte) (JudgedCase, error) {
	var c struct {
		Gold, Response *string
		Correct        *bool
		Kind, Prompt   string
		Truncated      bool
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return JudgedCase{}, err
	}
	if c.Gold == nil || c.Response == nil || c.Correct == nil {
		return JudgedCase{}, errors.New("a case needs the fields gold and response, which are texts, and correct, which is true or false")
	}
	return JudgedCase{Kind: c.Kind, Gold: *c.Gold, Response: *c.Response, Prompt: c.Prompt, Truncated: c.Truncated, Correct: *c.Correct}, nil
}

// KindOf chooses the verifier of a case: the kind that the case names, if there is one of that name, else usual.
func KindOf(usual string, v Verifier) func(kind string) (Verifier, error) {
	return func(kind string) (Verifier, error) {
		if kind == usual || !slices.Contains(Names(), kind) {
			return v, nil
		}
		return New(kind, nil)
	}
}
