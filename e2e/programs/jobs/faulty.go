package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/models/remote"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// faultVariable says in a worker's environment how the stage fails: once, always, panic (once, in a goroutine of its own,
// which ends the process), exit (once), poison (a panic on one prompt in a hundred).
const faultVariable = "MILLRACE_FAULT"

// outcome is what a job of the faulty stage prints.
type outcome struct {
	Digest string `json:"digest"` // of the rows written
	Rows   int64  `json:"rows"`
	Dead   int64  `json:"dead"`
	Again  int    `json:"again"` // records that were worked on more than once, over all attempts in the directory
}

// faulty sends records of prompts through a stage that fails, and writes what comes out.
func faulty(ctx context.Context, o options) (any, error) {
	return written(ctx, o, func(s beam.Scope, store stage.Store) stage.Rows {
		c := prompts.Default()
		c.Count, c.PerRecord = o.shape.Records*o.shape.Groups, o.shape.Groups
		in, _ := prompts.Read(s, c, prompts.Window{Seed: 1, Count: c.Count, Meta: schemas.Meta{Run: "jobs"}})
		out, _ := stage.ApplyOnce(s, failing{Dir: o.dir}, store, in)
		return out
	})
}

// written runs a pipeline and writes its rows to one file.
func written(ctx context.Context, o options, build func(beam.Scope, stage.Store) stage.Rows) (outcome, error) {
	beam.Init()
	p, s := beam.NewPipelineWithRoot()
	store := stage.Store{Dir: filepath.Join(o.dir, "edges")}
	files := recordio.Output{Dir: o.dir, Name: "rows"}
	recordio.Write(s, files, store, build(s, store))
	result, err := o.execute(ctx, p)
	if err != nil {
		return outcome{}, err
	}
	if err := stage.Conserved(result); err != nil {
		return outcome{}, err
	}
	var out outcome
	for _, c := range stage.CountsOf(result) {
		out.Dead += c.Dead
		out.Rows = c.Out
	}
	raw, err := os.ReadFile(files.Path(0))
	if err != nil {
		return outcome{}, err
	}
	out.Digest = digest(raw)
	out.Again, err = again(o.dir)
	return out, errors.Join(err, os.RemoveAll(store.Dir))
}

func init() {
	stage.Register[failing]()
	stage.Register[asking]()
}

// failing is the stage: it measures prompts, and notes every record that it begins with.
type failing struct{ Dir string }

// Contract says which columns are read and added.
func (c *failing) Contract() schemas.Contract {
	return schemas.Contract{Name: "failing", Needs: []schemas.Descriptor{schemas.PromptID, schemas.Prompt, schemas.Source},
		Adds: []schemas.Descriptor{schemas.ResponseTokens}}
}

// Setup does nothing.
func (c *failing) Setup(context.Context) error { return nil }

// Lineage leaves out where the stage notes its work.
func (c *failing) Lineage() string { return "failing" }

// Map adds the bytes of the prompts, or fails.
func (c *failing) Map(_ context.Context, b stage.Batch, _ *stage.DeadLetters) (stage.Batch, error) {
	texts, sources := schemas.Prompt.Of(b), schemas.Source.Of(b)
	if err := note(c.Dir, sources.At(0)); err != nil {
		return b, err
	}
	rows := make([][]int32, b.NumRows())
	for i := range rows {
		if err := c.fail(sources.At(i)); err != nil {
			return b, err
		}
		for _, x := range []byte(texts.At(i)) {
			rows[i] = append(rows[i], int32(x))
		}
	}
	return b.With(schemas.ResponseTokens.FromRows(rows))
}

func (c *failing) fail(source string) error {
	fault := os.Getenv(faultVariable)
	if fault == "poison" {
		if strings.HasSuffix(source, "00") || strings.HasSuffix(source, "/0") {
			panic("poisoned row " + source)
		}
		return nil
	}
	if fault == "" || source != "chain/train/40" {
		return nil
	}
	if fault == "always" {
		return errors.New("the disk of the stage is on fire")
	}
	mark, err := os.OpenFile(filepath.Join(c.Dir, "failed"), os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	mark.Close()
	switch fault {
	case "panic":
		go panic("a goroutine of the stage")
		select {}
	case "exit":
		os.Exit(3)
	}
	return errors.New("the disk of the stage was away for a moment")
}

const noted = "worked.txt"

func note(dir, record string) error {
	f, err := os.OpenFile(filepath.Join(dir, noted), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, record)
	return errors.Join(err, f.Close())
}

// again counts the records that were begun more than once.
func again(dir string) (int, error) {
	f, err := os.Open(filepath.Join(dir, noted))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	times := map[string]int{}
	for s := bufio.NewScanner(f); s.Scan(); {
		times[s.Text()]++
	}
	n := 0
	for _, k := range times {
		n += k - 1
	}
	return n, nil
}

// endpoint samples from a remote model.
func endpoint(ctx context.Context, o options) (any, error) {
	return written(ctx, o, func(s beam.Scope, store stage.Store) stage.Rows {
		c := prompts.Default()
		c.Count, c.PerRecord = o.shape.Records*o.shape.Groups, o.shape.Groups
		in, _ := prompts.Read(s, c, prompts.Window{Seed: 1, Count: c.Count, Meta: schemas.Meta{Run: "jobs"}})
		out, _ := stage.ApplyOnce(s, asking{URL: o.endpoint, Samples: o.shape.Responses}, store, in)
		return out
	})
}

// asking samples responses of a remote model to prompts of the proving ground.
type asking struct {
	URL     string
	Samples int

	model *remote.Model
	tok   tokenizer.Tokenizer
}

// Contract says which columns are read and added.
func (c *asking) Contract() schemas.Contract {
	return schemas.Contract{Name: "asking", Needs: []schemas.Descriptor{schemas.PromptID, schemas.Prompt},
		Adds: []schemas.Descriptor{schemas.Response}}
}

// Setup finds out what the endpoint can do.
func (c *asking) Setup(ctx context.Context) (err error) {
	c.tok = tokenizer.NewProvingGround(false)
	c.model, err = remote.Open(ctx, c.URL, remote.Options{})
	return err
}

// Lineage leaves out where the endpoint is.
func (c *asking) Lineage() string { return "asking" }

// Map asks.
func (c *asking) Map(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	ids, texts := schemas.PromptID.Of(b), schemas.Prompt.Of(b)
	var requests []models.GenerateRequest
	for i := range b.NumRows() {
		tokens, err := c.tok.Encode(texts.At(i))
		if err != nil {
			return b, err
		}
		requests = append(requests, models.GenerateRequest{PromptID: ids[i], Prompt: append(slices.Clone(c.tok.Prefix()), tokens...),
			Seed:    uint64(keyed.New(1)),
			Samples: c.Samples, Sampling: models.Sampling{MaxNewTokens: 45, Stop: c.tok.EOS()}})
	}
	results, err := c.model.Generate(ctx, requests)
	if err != nil {
		return b, err
	}
	answers := make([]string, b.NumRows())
	for i, r := range results {
		if r.Err != nil {
			return b, r.Err
		}
		for _, response := range r.Responses {
			if response.Err != nil {
				return b, response.Err
			}
			answers[i] += tokenizer.Text(c.tok, response.Tokens) + "\n"
		}
	}
	return b.With(schemas.Response.From(answers))
}
