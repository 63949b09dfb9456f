package look

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"

	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/pipelines/show"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// RolloutQuery chooses rows of an iteration.
type RolloutQuery struct {
	Prompt string // the beginning of a prompt's id; "" for every prompt
	Rows   int    // at most so many; 0: all
	// Contrast takes from every prompt one right and one wrong response, as far as there are, instead of all of them.
	Contrast bool
	// Value gives rows without prefix values theirs; nil: they stay without.
	Value func(context.Context, stage.Batch) (stage.Batch, error)
}

// Rollouts reads rollouts of an iteration with what the chain of stages knows of them. Tokens are decoded with the tokenizer of the
// model that the iteration left, or where it trained none, of the policy.
func Rollouts(ctx context.Context, d *run.Dir, number int, q RolloutQuery) ([]show.Rollout, error) {
	dir := d.IterPath(number)
	tok, err := iterationTokenizer(ctx, d, dir)
	if err != nil {
		return nil, err
	}
	paths, err := run.RowFiles(ctx, dir, chain.BatchName)
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%s holds no %s-*.parquet", dir, chain.BatchName)
	}
	var out []show.Rollout
	err = readUntilEnough(ctx, paths, func(b stage.Batch) error {
		rows := q.pick(b)
		if q.Rows > 0 {
			rows = rows[:min(len(rows), q.Rows-len(out))]
		}
		if q.Value != nil && !b.Has(schemas.PCorrect) && len(rows) > 0 {
			var err error
			if b, err = b.Take(rows); err == nil {
				b, err = q.Value(ctx, b)
			}
			if err != nil {
				return err
			}
			for i := range rows {
				rows[i] = i
			}
		}
		for _, i := range rows {
			r, err := rolloutOf(b, i, tok)
			if err != nil {
				return err
			}
			out = append(out, r)
		}
		if q.Rows > 0 && len(out) == q.Rows {
			return errEnough
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// errEnough ends the reading of files early.
var errEnough = errors.New("enough rows")

// readUntilEnough gives f every batch of the files, one after the other, until f returns errEnough.
func readUntilEnough(ctx context.Context, paths []string, f func(stage.Batch) error) error {
	for _, file := range paths {
		if err := recordio.ReadFile(ctx, file, f); errors.Is(err, errEnough) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// pick lists the rows of a batch that the query asks for.
func (q RolloutQuery) pick(b stage.Batch) []int {
	var out []int
	ids := schemas.PromptID.Of(b)
	outcomes, err := schemas.Outcome.Find(b)
	labeled := err == nil
	for i := 0; i < len(ids); {
		taken := map[float32]bool{}
		first := i
		for ; i < len(ids) && ids[i] == ids[first]; i++ {
			if !strings.HasPrefix(ids[i].String(), strings.ToLower(q.Prompt)) {
				continue
			}
			if q.Contrast && labeled {
				outcome, known := outcomes.At(i)
				if !known || taken[outcome] {
					continue
				}
				taken[outcome] = true
			}
			out = append(out, i)
		}
	}
	return out
}

// iterationTokenizer loads the tokenizer of the model that an iteration trained, or of the policy that the run started from; nil where the
// run has neither, as one that judges the texts of others.
func iterationTokenizer(ctx context.Context, d *run.Dir, dir string) (tokenizer.Tokenizer, error) {
	for _, role := range []string{chain.PolicyRole, chain.RewardRole} {
		tok, err := tokenizer.Open(ctx, models.Ref{Path: files.Join(dir, role)})
		if err == nil {
			return tok, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("no tokenizer to decode the rows with: %w", err)
		}
	}
	r, err := d.Recipe(ctx)
	if err != nil {
		return nil, err
	}
	if r.Policy.Empty() {
		return nil, nil
	}
	start, err := method.StartPolicy(ctx, r, d.Path)
	if err != nil {
		return nil, fmt.Errorf("no tokenizer to decode the rows with: %w", err)
	}
	return tokenizer.Open(ctx, start)
}

// rolloutOf turns a row into what people read. Columns that the row does not have are left unknown; a response whose tokens are not known
// is one.
func rolloutOf(b stage.Batch, i int, tok tokenizer.Tokenizer) (show.Rollout, error) {
	r := show.Rollout{Name: rowName(b, i)}
	if texts, err := schemas.Prompt.Find(b); err == nil {
		r.Prompt = texts.At(i)
	}
	if texts, err := schemas.Answer.Find(b); err == nil {
		r.Answer = texts.At(i)
	}
	if outcomes, err := schemas.Outcome.Find(b); err == nil {
		if y, ok := outcomes.At(i); ok {
			right := y > 0.5
			r.Outcome = &right
		} else {
			r.Undecided = undecided(b, i)
		}
	}
	if errs, err := schemas.FirstError.Find(b); err == nil {
		if at, ok := errs.At(i); ok {
			step := int(at)
			r.FirstError = &step
		}
	}
	ids, err := schemas.ResponseTokens.Find(b)
	if err == nil && tok == nil {
		err = errors.New("column response is missing, and no model has a tokenizer for response_tokens")
	}
	if err != nil { // nothing is known of tokens
		texts, missing := schemas.Response.Find(b)
		if missing != nil {
			return r, err
		}
		unknown := math.NaN()
		r.Tokens = []show.Token{{Text: texts.At(i), LogP: unknown, Value: unknown, PCorrect: unknown, Advantage: unknown}}
		return r, nil
	}
	tokens := ids.Row(i)
	logp, value := perToken(b, schemas.OldLogP, i), perToken(b, schemas.Value, i)
	p, adv := perToken(b, schemas.PCorrect, i), perToken(b, schemas.Advantage, i)
	candidates := candidatesOf(b, i, tok)
	text := tokenizer.NewStream(tok)
	r.Tokens = make([]show.Token, len(tokens))
	for t, id := range tokens {
		r.Tokens[t] = show.Token{Text: text.Next(id), LogP: at(logp, t), Value: at(value, t), PCorrect: at(p, t), Advantage: at(adv, t),
			Candidates: at2(candidates, t)}
	}
	if n := len(tokens); n > 0 {
		r.Tokens[n-1].Text += text.Flush()
	}
	return r, nil
}

func rowName(b stage.Batch, i int) string {
	name := fmt.Sprintf("iteration %d", b.Meta().Iteration)
	if ids, err := schemas.PromptID.Find(b); err == nil {
		name += ", prompt " + ids[i].String()
	}
	if samples, err := schemas.Sample.Find(b); err == nil {
		if s, ok := samples.At(i); ok {
			name += fmt.Sprintf(", sample %d", s)
		}
	}
	return name
}

// undecided is why a verifier decided nothing, as far as the row says.
func undecided(b stage.Batch, i int) string {
	if texts, err := schemas.VerdictReason.Find(b); err == nil && texts.Valid(i) && texts.At(i) != "" {
		return texts.At(i)
	}
	if texts, err := schemas.Verdict.Find(b); err == nil {
		return texts.At(i)
	}
	return ""
}

func perToken(b stage.Batch, c schemas.List[float32], i int) []float32 {
	v, err := c.Find(b)
	if err != nil || !v.Valid(i) {
		return nil
	}
	return v.Row(i)
}

func at(xs []float32, t int) float64 {
	if t >= len(xs) {
		return math.NaN()
	}
	return float64(xs[t])
}

func at2(xs [][]show.Candidate, t int) []show.Candidate {
	if t >= len(xs) {
		return nil
	}
	return xs[t]
}

// candidatesOf lists the candidate tokens of every position of a row.
func candidatesOf(b stage.Batch, i int, tok tokenizer.Tokenizer) [][]show.Candidate {
	ids, err := schemas.CandidateIDs.Find(b)
	if err != nil || !ids.Valid(i) {
		return nil
	}
	listed := ids.Row(i)
	logp, adv := perListed(b, schemas.CandidateOldLogP, i), perListed(b, schemas.CandidateAdvantage, i)
	out := make([][]show.Candidate, listed.Len())
	for t := range out {
		for k, id := range listed.Row(t) {
			out[t] = append(out[t], show.Candidate{Text: tok.Decode([]int32{id}), LogP: at(row(logp, t), k), Advantage: at(row(adv, t), k)})
		}
	}
	return out
}

func perListed(b stage.Batch, c schemas.Nested[float32], i int) schemas.Lists[float32] {
	v, err := c.Find(b)
	if err != nil || !v.Valid(i) {
		return schemas.Lists[float32]{}
	}
	return v.Row(i)
}

func row(v schemas.Lists[float32], t int) []float32 {
	if t >= v.Len() {
		return nil
	}
	return v.Row(t)
}

// DeadLetters reads the rows that the stages of an iteration set aside, at most limit of them (0: all, below 0: none), and counts all.
// The iteration need not be committed.
func DeadLetters(ctx context.Context, d *run.Dir, number, limit int) (out []show.DeadLetter, tally show.DeadTally, err error) {
	dir, err := d.Begun(ctx, number)
	if err != nil {
		return nil, nil, err
	}
	paths, err := run.RowFiles(ctx, dir, chain.DeadName)
	if err != nil {
		return nil, nil, err
	}
	tally = show.DeadTally{}
	err = readUntilEnough(ctx, paths, func(b stage.Batch) error {
		stages, reasons, messages, ids := schemas.DeadStage.Of(b), schemas.DeadReason.Of(b), schemas.DeadMessage.Of(b), schemas.DeadRowID.Of(b)
		attempts, rows := schemas.DeadAttempts.Of(b), schemas.DeadRow.Of(b)
		for i := range b.NumRows() {
			if tally.Add(stages.At(i), reasons.At(i)); limit != 0 && len(out) >= limit {
				continue
			}
			out = append(out, show.DeadLetter{Stage: stages.At(i), Reason: reasons.At(i), Message: messages.At(i), RowID: ids.At(i),
				Attempts: int(attempts.Values[i]), Row: rowJSON(rows.At(i))})
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return out, tally, nil
}

// rowJSON is a row of a dead letter as a JSON object; input that could not be read is {"raw": text}.
func rowJSON(raw []byte) json.RawMessage {
	var b stage.Batch
	if err := b.UnmarshalBinary(raw); err != nil || b.NumRows() == 0 {
		return nil
	}
	if unread, err := schemas.DeadRaw.Find(b); err == nil {
		text, err := json.Marshal(map[string]string{schemas.DeadRaw.Name: strings.ToValidUTF8(string(unread.At(0)), "\uFFFD")})
		if err != nil {
			return nil
		}
		return text
	}
	var out bytes.Buffer
	if err := array.RecordToJSON(b.Arrow(), &out); err != nil {
		return nil
	}
	return bytes.TrimSpace(out.Bytes())
}
