package command

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"reflect"
	"strconv"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/export"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/replay"
)

// runsBehind is how many runs a run may stand behind, each of the rows of the one before.
const runsBehind = 8

// originOf is what a run's recipe says of the rows of its iterations. Of a run whose config.yaml is no recipe nothing is known.
func originOf(ctx context.Context, d *run.Dir, iterations []int) (export.Origin, error) {
	return originBehind(ctx, d, iterations, runsBehind)
}

func originBehind(ctx context.Context, d *run.Dir, iterations []int, depth int) (export.Origin, error) {
	var out export.Origin
	r, err := recipe.Load(ctx, files.Join(d.Path, recipe.ConfigName), nil)
	if err != nil {
		return out, nil //nolint:nilerr // any text that names what is computed is a config.yaml
	}
	out.Chat = &export.Chat{Template: r.Chat.Template, System: r.Chat.System, Instruction: r.Chat.Instruction,
		Variables: json.RawMessage(r.Chat.Variables)}
	if !r.Prompts.Brings(schemas.Response) {
		s := r.Rollout.Sampling
		out.Sampling = &export.Sampling{Temperature: written(s.Temperature), Greedy: s.Greedy, TopP: written(s.TopP), TopK: s.TopK,
			MinNewTokens: s.MinNewTokens}
		if s.Temperature == 0 {
			out.Sampling.Temperature = 1
		}
	}
	if rows, ok := r.Prompts.Of.(replay.Batch); ok && rows.LogProbs == nil {
		out.Sampling = sampledBy(ctx, rows.Path, depth)
	}
	at := cmp.Or(r.Policy.Path, r.Policy.Tokenizer)
	for _, i := range iterations {
		dir := files.Join(d.IterPath(i), chain.PolicyRole)
		there, err := files.Exists(ctx, dir)
		if err != nil {
			return out, err
		}
		if there {
			at = dir
		}
	}
	out.Tokenizer, out.ChatTemplate = tokenizerDigests(ctx, at)
	return out, nil
}

// sampledBy is how the rows of runs were sampled, such as those that were scored; nil where that is not known, or not the same of all.
func sampledBy(ctx context.Context, paths []string, depth int) (out *export.Sampling) {
	for i, path := range paths {
		d, err := run.Read(ctx, path)
		if err != nil || depth == 0 {
			return nil // files, or a run that has gone
		}
		of, err := originBehind(ctx, d, nil, depth-1)
		if err != nil || of.Sampling == nil || i > 0 && !reflect.DeepEqual(out, of.Sampling) {
			return nil
		}
		out = of.Sampling
	}
	return out
}

// written is a number as the recipe has it, 0.7 and not the nearest float32.
func written(x float32) float64 {
	y, _ := strconv.ParseFloat(strconv.FormatFloat(float64(x), 'g', -1, 32), 64)
	return y
}

// tokenizerDigests are the SHA-256 of a model's tokenizer and of its chat template, "" where there is none, or the model has gone: an
// export does not need it.
func tokenizerDigests(ctx context.Context, model string) (file, template string) {
	if u, err := url.Parse(model); err == nil && u.Query().Has("tokenizer") {
		model = u.Query().Get("tokenizer")
	}
	for _, name := range []string{"tokenizer.json", "millrace_tokenizer.json"} {
		info, err := files.Stat(ctx, files.Join(model, name))
		if err != nil {
			continue
		}
		if file, err = files.Digest(ctx, info); err != nil {
			return "", ""
		}
		break
	}
	if file == "" {
		return "", ""
	}
	t, err := tokenizer.Open(ctx, models.Ref{Path: model})
	if err != nil || t.ChatTemplate() == "" {
		return file, ""
	}
	sum := sha256.Sum256([]byte(t.ChatTemplate()))
	return file, hex.EncodeToString(sum[:])
}
