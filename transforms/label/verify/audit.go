package verify

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// Disagreement is one pair that two verifiers judge differently.
type Disagreement struct {
	Line     int    `json:"line"` // of the input, from 1
	Gold     string `json:"gold"`
	Response string `json:"response"`
	A        Result `json:"a"`
	B        Result `json:"b"`
}

// Summary counts an audit: pairs by A's and B's verdict.
type Summary struct {
	A, B     string                    // versions
	Pairs    int                       // read
	Differ   int                       // written
	Verdicts map[string]map[string]int // by name of A's verdict, then B's
}

// MaxLine bounds one line of an audited file.
const MaxLine = 64 << 20

// Audit runs two verifiers over JSON lines with "gold" (or "answer") and "response" and writes the pairs they judge
// differently, as JSON lines in the order of the input. It streams: memory does not grow with the file.
func Audit(ctx context.Context, a, b Verifier, in io.Reader, out io.Writer) (Summary, error) {
	sum := Summary{A: a.Version(), B: b.Version(), Verdicts: map[string]map[string]int{}}
	sc := bufio.NewScanner(in)
	sc.Buffer(make([]byte, 0, 1<<16), MaxLine)
	w := bufio.NewWriter(out)
	line := 0
	for {
		batch, size := make([]Disagreement, 0, 256), 0
		for len(batch) < cap(batch) && size < 8<<20 && sc.Scan() {
			line++
			if len(sc.Bytes()) == 0 {
				continue
			}
			size += len(sc.Bytes())
			var p struct {
				Gold, Answer, Response *string
			}
			if err := json.Unmarshal(sc.Bytes(), &p); err != nil {
				return sum, fmt.Errorf("verify: audit: line %d: %w", line, err)
			}
			if p.Gold == nil {
				p.Gold = p.Answer
			}
			if p.Gold == nil || p.Response == nil {
				return sum, fmt.Errorf("verify: audit: line %d: needs the fields gold (or answer) and response", line)
			}
			batch = append(batch, Disagreement{Line: line, Gold: *p.Gold, Response: *p.Response})
		}
		if len(batch) == 0 {
			break
		}
		if err := judge(ctx, a, b, batch); err != nil {
			return sum, err
		}
		for _, d := range batch {
			sum.Pairs++
			row := sum.Verdicts[d.A.Verdict.String()]
			if row == nil {
				row = map[string]int{}
				sum.Verdicts[d.A.Verdict.String()] = row
			}
			row[d.B.Verdict.String()]++
			if d.A.Verdict == d.B.Verdict {
				continue
			}
			sum.Differ++
			j, err := json.Marshal(d)
			if err != nil {
				return sum, fmt.Errorf("verify: audit: line %d: %w", d.Line, err)
			}
			w.Write(j)
			w.WriteByte('\n')
		}
		if err := w.Flush(); err != nil {
			return sum, fmt.Errorf("verify: audit: %w", err)
		}
	}
	if err := sc.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("line %d is longer than %d bytes", line+1, MaxLine)
		}
		return sum, fmt.Errorf("verify: audit: %w", err)
	}
	return sum, nil
}

// judge fills in both results of every pair.
func judge(ctx context.Context, a, b Verifier, batch []Disagreement) error {
	workers := min(runtime.GOMAXPROCS(0), len(batch))
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := 0; w < workers; w++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := w; i < len(batch); i += workers {
				d := &batch[i]
				var err error
				if d.A, err = a.Verify(ctx, Gold{d.Gold}, Response{Text: d.Response}); err == nil {
					d.B, err = b.Verify(ctx, Gold{d.Gold}, Response{Text: d.Response})
				}
				if err != nil {
					errs[w] = fmt.Errorf("line %d: %w", d.Line, err)
					return
				}
			}
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}
