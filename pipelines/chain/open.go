package chain

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/transforms/files"
)

// OpenAt opens other weights in the place of the model, which have its precision: what a run has made of it. What lies in a committed
// iteration is held to its manifest.
func OpenAt(ctx context.Context, m recipe.Model, path string) (models.Ref, error) {
	if err := commit.CheckPath(ctx, path); err != nil {
		return models.Ref{}, err
	}
	return openAt(ctx, m, path)
}

func openAt(ctx context.Context, m recipe.Model, path string) (models.Ref, error) {
	return Open(ctx, recipe.Model{Path: path, Precision: m.Precision}, "", 0)
}

// Committed is what an iteration of the run that goes on left of the model; the run was held to its manifests when it was taken up.
func Committed(ctx context.Context, m recipe.Model, dir, role string) (models.Ref, error) {
	return openAt(ctx, m, files.Join(dir, role))
}

// Open returns the model with its digest; a new one is drawn from the seed and written to dir first.
func Open(ctx context.Context, m recipe.Model, dir string, seed uint64) (models.Ref, error) {
	ref := m.Ref()
	if m.Remote() {
		return models.Identify(ctx, ref)
	}
	if m.New != nil {
		ref.Path = dir
		if err := write(ctx, m, dir, seed); err != nil {
			return models.Ref{}, fmt.Errorf("new model: %w", err)
		}
	}
	var err error
	if ref.Path, err = files.Abs(ref.Path); err != nil {
		return models.Ref{}, err
	}
	if files.IsURL(ref.Path) {
		return models.Identify(ctx, ref)
	}
	if ref.Digest, err = models.Digest(ref.Path); err != nil {
		return models.Ref{}, fmt.Errorf("model %s: %w", ref.Path, err)
	}
	return ref, nil
}

// Vocabulary loads the tokenizer of a model; nil when the model's directory does not exist yet. A model in a bucket is
// asked for its own only with buckets.
func Vocabulary(ctx context.Context, m recipe.Model, buckets bool) (tokenizer.Tokenizer, error) {
	switch {
	case m.New != nil:
		_, tok, err := m.Shape()
		return tok, err
	case m.Path == "":
		return nil, nil
	case m.Remote():
		return tokenizer.Load(m.Path)
	case files.IsURL(m.Path):
		if !buckets {
			return nil, nil
		}
	default:
		if _, err := os.Stat(m.Path); err != nil {
			return nil, nil
		}
	}
	return tokenizer.Open(ctx, m.Ref())
}

// shapeOf is the shape of a model, false when it is not known yet or not on this machine.
func shapeOf(m recipe.Model) (transformer.Config, bool) {
	if m.New != nil {
		c, _, err := m.Shape()
		return c, err == nil
	}
	if m.Path == "" || files.IsURL(m.Path) {
		return transformer.Config{}, false
	}
	c, err := local.ReadConfig(m.Path)
	return c, err == nil
}

func write(ctx context.Context, m recipe.Model, dir string, seed uint64) error {
	c, tok, err := m.Shape()
	if err != nil {
		return err
	}
	model, err := transformer.New(c, seed, false)
	if err != nil {
		return err
	}
	return SaveModel(ctx, dir, model, tok)
}

// SaveModel writes a model with its tokenizer to where the run lies.
func SaveModel(ctx context.Context, dir string, model *transformer.Model, tok tokenizer.Tokenizer) error {
	return files.WriteDirectory(ctx, dir, local.ConfigFiles(), func(dir string) error {
		return errors.Join(model.Save(dir), tok.Save(dir))
	})
}

// Existing is the directory, "" when there is none.
func Existing(ctx context.Context, dir string) (string, error) {
	if ok, err := files.Exists(ctx, dir); !ok {
		return "", err
	}
	return dir, nil
}
