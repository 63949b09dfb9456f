package prompts

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/millrace/millrace/transforms/files"
)

// spool is what a source has, in a temporary file that is gone with the process: the rows of each prompt with their fields read, and
// those that are set aside. Sources are read once, and windows are taken of their spools.
type spool struct {
	file   *os.File
	out    *bufio.Writer
	at     int64
	groups []spooled
	bad    []int64
	rows   int // of the source
	again  int // of these, repetitions beyond the first of a prompt
}

// spooled is where the rows of a prompt lie.
type spooled struct {
	short uint64
	at    int64
	size  int
	test  bool
}

// spools are those of the last sources that were read.
var spools struct {
	sync.Mutex
	held []*spoolEntry
}

type spoolEntry struct {
	sync.Mutex
	key string
	of  *spool
}

// maxSpools is how many are kept; a file whose spool is dropped is closed when nobody reads it any more.
const maxSpools = 8

// spoolOf reads a source, unless it has been read and its files are what they were.
func spoolOf(ctx context.Context, f File) (*spool, error) {
	key, err := spoolKey(ctx, f)
	if err != nil {
		return nil, err
	}
	spools.Lock()
	at := slices.IndexFunc(spools.held, func(e *spoolEntry) bool { return e.key == key })
	entry := &spoolEntry{key: key}
	if at >= 0 {
		entry = spools.held[at]
		spools.held = slices.Delete(spools.held, at, at+1)
	}
	if spools.held = append(spools.held, entry); len(spools.held) > maxSpools {
		spools.held = slices.Delete(spools.held, 0, 1)
	}
	spools.Unlock()
	entry.Lock()
	defer entry.Unlock()
	if entry.of == nil {
		entry.of, err = fillSpool(ctx, f)
	}
	return entry.of, err
}

func spoolKey(ctx context.Context, f File) (string, error) {
	f.MaxRecordBytes = 0
	paths, err := f.Paths(ctx)
	if err != nil {
		return "", err
	}
	tests, err := f.Tests(ctx)
	if err != nil {
		return "", err
	}
	paths = append(paths, tests...)
	stamp, err := files.Stamp(ctx, paths)
	if err != nil {
		return "", err
	}
	raw, err := json.Marshal([]any{f, stamp})
	return string(raw), err
}

func fillSpool(ctx context.Context, f File) (*spool, error) {
	file, err := files.UnnamedFile()
	if err != nil {
		return nil, err
	}
	p := &spool{file: file, out: bufio.NewWriterSize(file, 1<<20)}
	s := scanner{file: f}
	var packed []byte
	s.group = func(g group) error {
		packed = g.appendTo(packed[:0])
		p.groups = append(p.groups, spooled{g.short, p.at, len(packed), f.test(g.rows[0])})
		p.at += int64(len(packed))
		_, err := p.out.Write(packed)
		return err
	}
	s.bad = func(row badRow) error {
		p.bad = append(p.bad, p.at)
		raw, err := json.Marshal(row)
		if err != nil {
			return err
		}
		return p.put(raw)
	}
	err = s.scan(ctx)
	if err == nil {
		err = p.out.Flush()
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	p.rows, p.again, p.out = s.rows, s.again, nil
	return p, nil
}

func (p *spool) put(raw []byte) error {
	size := binary.AppendUvarint(nil, uint64(len(raw)))
	p.at += int64(len(size) + len(raw))
	_, err := p.out.Write(size)
	if err == nil {
		_, err = p.out.Write(raw)
	}
	return err
}

// group reads the rows of a prompt back.
func (p *spool) group(at spooled) (group, error) {
	raw := make([]byte, at.size)
	if _, err := p.file.ReadAt(raw, at.at); err != nil {
		return group{}, err
	}
	return groupOf(raw)
}

func (p *spool) badRow(at int64) (row badRow, err error) {
	in := bufio.NewReader(io.NewSectionReader(p.file, at, 1<<62))
	size, err := binary.ReadUvarint(in)
	if err != nil {
		return row, err
	}
	raw := make([]byte, size)
	if _, err = io.ReadFull(in, raw); err == nil {
		err = json.Unmarshal(raw, &row)
	}
	return row, err
}

// named is an error that names the path, once.
func named(path string, err error) error {
	var has *fs.PathError
	if errors.As(err, &has) && has.Path == path {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}
