package prompts

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
)

// group is the rows of one prompt.
type group struct {
	id    uuid.UUID
	short uint64
	rows  []promptRow
	raws  [][]byte // the rows of the file that they came of, where these are kept
}

// promptRow is a row with its fields read.
type promptRow struct {
	prompt, answer, extra string
	messages              string // of the prompt; "" where it is a text
	hasAnswer, hasExtra   bool
	response              string
	outcome               float32
	hasOutcome            bool
	difficulty            string
	id                    string // "" where the prompt says who it is
	stepBytes             []int32
	firstError            int32
	// Of rows with token ids.
	promptTokens, responseTokens, lossMask []int32
	logProbs                               []float32
	finish                                 string
}

// identity is what tells prompts apart: the text, or the ids of a prompt that comes as such alone.
func (r promptRow) identity() string {
	if r.prompt == "" && r.promptTokens != nil {
		return fmt.Sprint(r.promptTokens)
	}
	return r.prompt
}

// scanner goes through the files and gives the groups, and the rows that are bad.
type scanner struct {
	file  File
	group func(group) error
	bad   func(badRow) error // nil: passed over
	look  func(rawRow) error // at every row first; may be nil
	left  func(error)        // told of Parquet columns that rows come without; may be nil
	tests *testItems         // whose problems are taken out; nil: none
	keep  bool               // the rows of a group as they were
	rows  int

	several bool // files
	in      string
	open    group
	seen    map[uint64]bool // whether it was repeated
	again   int             // further repetitions of prompts that were repeated
}

// badRow is a row that is set aside.
type badRow struct {
	Where  string // file and line
	Reason schemas.Reason
	Why    string
	Raw    []byte // nil of a repeated prompt
}

func (s *scanner) scan(ctx context.Context) error {
	s.seen = map[uint64]bool{}
	paths, err := s.file.Paths(ctx)
	if err != nil {
		return err
	}
	s.several = len(paths) > 1
	if d := s.file.Decontaminate; d != nil && s.group != nil {
		if s.tests, err = d.readTests(ctx); err != nil {
			return err
		}
	}
	for _, path := range paths {
		s.in = path
		err := s.one(ctx, path, func(row rawRow) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return s.add(row)
		})
		if err != nil {
			var has *files.ParquetError // which has the path
			if errors.As(err, &has) || errors.Is(err, errInspected) {
				return err
			}
			return named(path, err)
		}
	}
	return s.close()
}

// one reads a file.
func (s *scanner) one(ctx context.Context, path string, emit func(rawRow) error) error {
	f := s.file
	asks := f.Fields.asks
	if of := layouts[f.Layout]; of != nil {
		emit, asks = unfolded(of, emit), func(string) bool { return true }
	}
	kind := f.formatFor(path)
	if kind == formatParquet {
		return readParquet(ctx, path, asks, s.left, emit)
	}
	if kind == formatArrow {
		in, err := files.Open(ctx, path)
		if err != nil {
			return err
		}
		return errors.Join(readArrow(in, emit), in.Close())
	}
	in, err := files.OpenUnpacked(ctx, path)
	if err != nil {
		return err
	}
	read := readLines
	if kind == formatArray {
		read = readArray
	}
	return errors.Join(read(in, f.maxLine(), emit), in.Close())
}

func (f File) maxLine() int {
	if f.MaxLineBytes == 0 {
		return 1 << 20
	}
	return f.MaxLineBytes
}

func (s *scanner) add(row rawRow) error {
	s.rows++
	if s.look != nil {
		if err := s.look(row); err != nil {
			return err
		}
	}
	if row.err != nil {
		return s.refuse(row, row.err)
	}
	g, err := s.file.group(row.fields, s.rows)
	if err != nil {
		return s.refuse(row, err)
	}
	if err := s.contaminated(g.rows[0]); err != nil {
		return s.refuse(row, err)
	}
	if s.keep {
		g.raws = [][]byte{row.raw()}
	}
	if fields := s.file.Fields; len(s.open.rows) > 0 && s.open.id == g.id && fields.answered() {
		if fields.responses() {
			s.open.rows, s.open.raws = append(s.open.rows, g.rows...), append(s.open.raws, g.raws...)
		}
		return nil
	}
	if err := s.close(); err != nil {
		return err
	}
	if repeated, again := s.seen[g.short]; again {
		if s.file.Fields.answered() {
			return s.refuse(row, bad(schemas.ReasonMismatch,
				"the prompt was there before, but not right before: rows of one prompt must lie side by side, or "+
					"file.ungrouped (--ungrouped) takes each by itself"))
		}
		if repeated { // a file may have hundreds of each prompt
			s.again++
			return nil
		}
		s.seen[g.short] = true
		return s.refuse(row, bad(schemas.ReasonRepeated, "the prompt and its answer were there before; name a field that differs as "+
			"file.fields.id to take both (further repetitions of this prompt are counted as filtered)"))
	}
	s.seen[g.short] = false
	s.open = g
	return nil
}

func (s *scanner) refuse(row rawRow, err error) error {
	if s.bad == nil {
		return nil
	}
	b := badRow{Where: s.where(row.number), Reason: schemas.ReasonUnreadable, Why: err.Error()}
	var re *rowError
	if errors.As(err, &re) {
		b.Reason = re.reason
	}
	if b.Reason != schemas.ReasonRepeated {
		b.Raw = row.raw()
	}
	return s.bad(b)
}

// where names a row: by the source, and by the file where there are several; by the file alone where the source has the name of the first.
func (s *scanner) where(number int) string {
	name := s.file.name()
	switch {
	case s.several && s.file.Name == "" && len(s.file.Path) > 1:
		name = files.Base(s.in)
	case s.several:
		name += "/" + files.Base(s.in)
	}
	return fmt.Sprintf("%s:%d", name, number)
}

// group is the group that a row begins, the so manyth of the source.
func (f File) group(fields map[string]any, row int) (group, error) {
	rows, err := f.Fields.read(fields)
	if err != nil {
		return group{}, err
	}
	source := f.name()
	if rows[0].id != "" {
		source += "/" + rows[0].id
	}
	if f.Ungrouped {
		source = fmt.Sprintf("%s/%d", source, row)
	}
	id := PromptID(rows[0].identity(), rows[0].answer, source)
	return group{id: id, short: shortID(id), rows: rows}, nil
}

// shortID is 62 bits of a hash of the content.
func shortID(id uuid.UUID) uint64 { return binary.LittleEndian.Uint64(id[8:]) }

func (s *scanner) close() error {
	g := s.open
	s.open = group{}
	if len(g.rows) == 0 {
		return nil
	}
	return s.group(g)
}
