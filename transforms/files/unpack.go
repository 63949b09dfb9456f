package files

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// packing is a way in which whole files are packed.
type packing struct {
	suffix, magic string
	open          func(io.Reader) (io.ReadCloser, error) // nil: not read
}

var packings = []packing{
	{".gz", "\x1f\x8b", func(r io.Reader) (io.ReadCloser, error) {
		d, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		return d, nil
	}},
	{".zst", "\x28\xb5\x2f\xfd", func(r io.Reader) (io.ReadCloser, error) {
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}},
	{".bz2", "BZh", nil},
	{".xz", "\xfd7zXZ\x00", nil},
	{".zip", "PK\x03\x04", nil},
}

// Suffix is what the name of a file says that it holds, such as .jsonl of a.JSONL.gz, in lower case.
func Suffix(name string) string {
	name = strings.ToLower(name)
	end := path.Ext(name)
	if slices.ContainsFunc(packings, func(p packing) bool { return p.suffix == end }) {
		end = path.Ext(strings.TrimSuffix(name, end))
	}
	return end
}

// OpenUnpacked opens a file of text for reading, unpacked where it is packed, whatever its name says. What it unpacks to is bounded
// by its size.
func OpenUnpacked(ctx context.Context, path string) (io.ReadCloser, error) {
	f, err := Open(ctx, path)
	if err != nil {
		return nil, err
	}
	counted := &countedReader{in: f}
	in := bufio.NewReaderSize(counted, 64<<10)
	head, err := in.Peek(1024)
	if err == nil || errors.Is(err, io.EOF) {
		err = NotData(head)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	for _, p := range packings {
		if !bytes.HasPrefix(head, []byte(p.magic)) {
			continue
		}
		if p.open == nil {
			return nil, errors.Join(fmt.Errorf("is packed (%s), and only .gz and .zst are unpacked here", p.suffix), f.Close())
		}
		r, err := p.open(in)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return &unpacked{in: r, from: counted, file: f}, nil
	}
	return &plainFile{in, f}, nil
}

type plainFile struct {
	io.Reader
	io.Closer
}

type countedReader struct {
	in io.Reader
	n  int64
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n += int64(n)
	return n, err
}

// unpacked stops where more came out of what was read of a file than any text packs to.
type unpacked struct {
	in   io.ReadCloser
	from *countedReader
	file io.Closer
	n    int64
}

// What a packed file may unpack to: this, or so many times its size where that is more.
const (
	maxUnpacked   = 64 << 20
	unpackedRatio = 1024
)

func unpackedBound(size int64) int64 { return max(maxUnpacked, unpackedRatio*size) }

func (u *unpacked) Read(p []byte) (int, error) {
	n, err := u.in.Read(p)
	u.n += int64(n)
	if bound := unpackedBound(u.from.n); u.n > bound {
		return 0, &BoundError{"the file", bound}
	}
	return n, err
}

func (u *unpacked) Close() error { return errors.Join(u.in.Close(), u.file.Close()) }

// NotData says what stands in the place of a file's data: a pointer of git-LFS, or a page that a server sent instead.
func NotData(head []byte) error {
	text := strings.ToLower(string(bytes.TrimSpace(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")))))
	switch {
	case strings.HasPrefix(text, "version https://git-lfs.github.com/spec/"):
		return errors.New("is a pointer of git-LFS, not the file itself; fetch it with: git lfs pull")
	case strings.HasPrefix(text, "<!doctype html"), strings.HasPrefix(text, "<html"):
		return errors.New("is an HTML page, not data; the server may have asked for a login")
	case strings.HasPrefix(string(head), "\xff\xfe") || strings.HasPrefix(string(head), "\xfe\xff"):
		return errors.New("is UTF-16; write it as UTF-8")
	}
	return nil
}
