package look

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/gguf"
	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/regular"
	"github.com/millrace/millrace/models/safetensors"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/pipelines/show"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// Inspection is what a model or a file holds. What does not apply is left out.
type Inspection struct {
	Path      string            `json:"path"`
	Kind      string            `json:"kind"` // model, safetensors, gguf, parquet, arrow, ledger
	Digest    string            `json:"digest,omitempty"`
	Config    json.RawMessage   `json:"config,omitempty"` // of a model, as in config.json
	Tokenizer *TokenizerSummary `json:"tokenizer,omitempty"`
	Weights   int64             `json:"weights,omitempty"` // numbers in all tensors
	Bytes     int64             `json:"bytes,omitempty"`   // of the tensors as stored
	Tensors   []TensorSummary   `json:"tensors,omitempty"`
	Rows      int64             `json:"rows,omitempty"`
	RowGroups int               `json:"row_groups,omitempty"`
	Columns   []ColumnSummary   `json:"columns,omitempty"`
	Ledger    *show.Ledger      `json:"ledger,omitempty"`
	Meta      *schemas.Meta     `json:"meta,omitempty"` // of rows this program wrote: run, iteration, seed, lineage
	Metadata  map[string]string `json:"metadata,omitempty"`
	Problems  []string          `json:"problems,omitempty"` // parts that could not be read
}

// TokenizerSummary says what a tokenizer is.
type TokenizerSummary struct {
	Vocabulary   int     `json:"vocabulary"`
	EOS          []int32 `json:"eos"`
	BOS          int32   `json:"bos"`
	ChatTemplate bool    `json:"chat_template"`
	Digest       string  `json:"digest"` // of the vocabulary
}

// TensorSummary is one stored tensor.
type TensorSummary struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Shape []int  `json:"shape"`
}

// ColumnSummary is one column of a file.
type ColumnSummary struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Doc  string `json:"doc,omitempty"` // of columns that stages exchange
}

// Inspect says what a model directory, a weights file or a file of rows holds.
func Inspect(ctx context.Context, path string) (Inspection, error) {
	in := Inspection{Path: path}
	if found, err := chain.Existing(ctx, path); err != nil {
		return in, err
	} else if found == "" {
		return in, &fs.PathError{Op: "inspect", Path: path, Err: fs.ErrNotExist}
	}
	single, err := isFile(ctx, path)
	if err != nil {
		return in, err
	}
	switch {
	case !single:
		in.Kind = "model"
		err = in.fetched(ctx, in.model)
	case strings.HasSuffix(path, ".gguf"):
		in.Kind = "gguf"
		err = in.fetched(ctx, in.gguf)
	case strings.HasSuffix(path, ".safetensors"):
		in.Kind = "safetensors"
		err = in.fetched(ctx, in.weights)
	case files.Base(path) == run.LedgerName:
		in.Kind = "ledger"
		in.Ledger, err = run.ReadLedger(ctx, files.Parent(path))
	case strings.HasSuffix(path, "."+recordio.Parquet):
		in.Kind = recordio.Parquet
		err = in.parquet(ctx)
	case strings.HasSuffix(path, "."+recordio.Arrow):
		in.Kind = recordio.Arrow
		err = in.arrow(ctx)
	default:
		err = fmt.Errorf("%s: want a model directory, or a file ending in .safetensors, .gguf, .parquet or .arrow, or a %s", path, run.LedgerName)
	}
	return in, err
}

// isFile reports whether there is a file of that name, rather than a directory.
func isFile(ctx context.Context, path string) (bool, error) {
	if !files.IsURL(path) {
		info, err := os.Stat(path)
		return err == nil && !info.IsDir(), err
	}
	_, err := files.Stat(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// fetched looks at a model, or a part of one, on this machine.
func (in *Inspection) fetched(ctx context.Context, look func(path string) error) error {
	here, err := models.Fetch(ctx, models.Ref{Path: in.Path})
	if err != nil {
		return err
	}
	defer here.Release()
	return look(here.Path)
}

// part notes a part of a model that cannot be read: the others are still worth showing.
func (in *Inspection) part(name string, err error) {
	if err != nil {
		in.Problems = append(in.Problems, name+": "+err.Error())
	}
}

func (in *Inspection) model(path string) error {
	config, weights := local.ConfigFiles()[0], path
	if transformer.IsAdapter(path) {
		config, weights = local.ConfigFiles()[1], filepath.Join(path, transformer.AdapterWeights)
	}
	raw, err := regular.Read(filepath.Join(path, config), 1<<20)
	if err != nil {
		return fmt.Errorf("not a model directory: %w", err)
	}
	if !json.Valid(raw) {
		return fmt.Errorf("%s: %s is not valid JSON", in.Path, config)
	}
	in.Config = raw
	in.Digest, err = models.Digest(path)
	in.part("digest", err)
	in.part("weights", in.weights(weights))
	in.tokenizer(path)
	return nil
}

func (in *Inspection) tokenizer(path string) {
	tok, err := tokenizer.Load(path)
	if err != nil {
		in.part("tokenizer", err)
		return
	}
	in.Tokenizer = &TokenizerSummary{Vocabulary: tok.VocabSize(), EOS: tok.EOS(), BOS: tok.BOS(), ChatTemplate: tok.ChatTemplate() != "",
		Digest: tokenizer.VocabDigest(tok)}
}

func (in *Inspection) weights(path string) error {
	f, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	in.Metadata = f.Metadata()
	for _, name := range f.Names() {
		t, err := f.Tensor(name)
		if err != nil {
			return err
		}
		in.tensor(t.Name, string(t.DType), t.Shape, len(t.Data))
	}
	return nil
}

func (in *Inspection) tensor(name, typ string, shape []int, bytes int) {
	n := int64(1)
	for _, d := range shape {
		n *= int64(d)
	}
	in.Weights, in.Bytes = in.Weights+n, in.Bytes+int64(bytes)
	in.Tensors = append(in.Tensors, TensorSummary{Name: name, Type: typ, Shape: shape})
}

func (in *Inspection) gguf(path string) error {
	f, err := gguf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, name := range f.Names() {
		t, err := f.Tensor(name)
		if err != nil {
			return err
		}
		in.tensor(t.Name, fmt.Sprint(t.Type), t.Shape, len(t.Data))
	}
	in.Digest, err = models.Digest(path)
	in.part("digest", err)
	if c, err := f.Checkpoint(); err != nil {
		in.part("config", err)
	} else {
		in.Config = c.Config()
	}
	in.tokenizer(path)
	return nil
}

// parquet reads the footer only.
func (in *Inspection) parquet(ctx context.Context) error {
	err := files.ReadParquet(ctx, in.Path, func(r *files.ParquetFile) error {
		schema, err := pqarrow.FromParquet(r.MetaData().Schema, nil, r.MetaData().KeyValueMetadata())
		if err != nil {
			return err
		}
		in.Rows, in.RowGroups = r.NumRows(), r.NumRowGroups()
		in.schema(schema)
		in.part("metadata", in.meta(schema.Metadata()))
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", in.Path, err)
	}
	return nil
}

// arrow reads the whole stream: it has no footer.
func (in *Inspection) arrow(ctx context.Context) error {
	return recordio.ReadFile(ctx, in.Path, func(b stage.Batch) error {
		if in.Columns == nil {
			in.schema(b.Arrow().Schema())
			in.part("metadata", in.meta(b.Arrow().Schema().Metadata()))
		}
		in.Rows += int64(b.NumRows())
		return nil
	})
}

func (in *Inspection) schema(s *arrow.Schema) {
	for _, f := range s.Fields() {
		c := ColumnSummary{Name: f.Name, Type: fmt.Sprint(f.Type)}
		if known, ok := schemas.ByName(f.Name); ok {
			c.Doc = known.Doc
		}
		in.Columns = append(in.Columns, c)
	}
}

// meta reads what rows say about themselves, from a record of no rows and no columns.
func (in *Inspection) meta(md arrow.Metadata) error {
	if md.Len() == 0 {
		return nil
	}
	empty, err := schemas.FromArrow(array.NewRecord(arrow.NewSchema(nil, &md), nil, 0))
	if err != nil {
		return err
	}
	if m := empty.Meta(); m.Run != "" || len(m.Lineage) > 0 {
		in.Meta = &m
		return nil
	}
	in.Metadata = map[string]string{}
	for i, key := range md.Keys() {
		in.Metadata[key] = md.Values()[i]
	}
	return nil
}
