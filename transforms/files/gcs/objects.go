// Package gcs is Cloud Storage as the store of gs:// paths. A program imports it, through package clouds, for that alone.
package gcs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/storage"
	"github.com/googleapis/gax-go/v2"
	"github.com/millrace/millrace/transforms/files"
	"golang.org/x/sync/errgroup"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
)

// objects are the files of Cloud Storage, gs://bucket/name, through its client rather than Beam's filesystem of that name:
// that one opens a client a file, does not try an upload again, has no preconditions, and takes ? and % in names for those
// of a URL.
//
// An object is uploaded from a temporary file, so that whatever fails is done again from the start, and carries the SHA-256
// of its content as metadata: the two are written in one step, so one is never without the other. A reader that reaches the
// end checks it.
type objects struct{}

func init() { files.Register("gs", objects{}) }

// sumKey is the key of an object's metadata that holds the SHA-256 of its content.
const sumKey = "sha256"

const (
	// idleLimit ends a download of which nothing has come for so long.
	idleLimit = 2 * time.Minute
	// requestLimit bounds a request, with all its repetitions, that carries no content.
	requestLimit = 5 * time.Minute
	// slowestUpload is the rate in bytes a second below which an upload is given up.
	slowestUpload = 128 << 10
	// requestsAtOnce are under way where many objects are removed.
	requestsAtOnce = 8
	listPage       = 1000
)

// retries say how often a request that failed for a passing reason is sent again: for about half a minute.
var retries = struct {
	attempts int
	backoff  gax.Backoff
}{10, gax.Backoff{Initial: 250 * time.Millisecond, Max: 10 * time.Second, Multiplier: 2}}

// clients holds a client for each place that STORAGE_EMULATOR_HOST has named; there is one in all but tests.
var clients = struct {
	sync.Mutex
	open map[string]*client
}{open: map[string]*client{}}

type client struct {
	*storage.Client
	anonymous error // why there are no credentials
}

func openClient() (*client, error) {
	host := os.Getenv("STORAGE_EMULATOR_HOST")
	clients.Lock()
	defer clients.Unlock()
	if c := clients.open[host]; c != nil {
		return c, nil
	}
	c := &client{}
	// The client outlives whoever opened it.
	s, err := storage.NewClient(context.Background(), option.WithScopes(storage.ScopeReadWrite))
	if err != nil { // without credentials what is public can be read
		c.anonymous = err
		if s, err = storage.NewClient(context.Background(), option.WithoutAuthentication()); err != nil {
			return nil, fmt.Errorf("cloud storage: %w", err)
		}
	}
	// Every write is of a whole object and so can be repeated; where it has a precondition, see lease.write.
	s.SetRetry(storage.WithPolicy(storage.RetryAlways), storage.WithErrorFunc(passing), storage.WithMaxAttempts(retries.attempts),
		storage.WithBackoff(retries.backoff))
	c.Client = s
	clients.open[host] = c
	return c, nil
}

// at finds the object that a path names.
func (objects) at(path string) (*client, *storage.ObjectHandle, error) {
	bucket, name, err := splitObject(path)
	if err == nil && name == "" {
		err = errors.New("want gs://bucket/path")
	}
	if err != nil {
		return nil, nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	c, err := openClient()
	if err != nil {
		return nil, nil, err
	}
	return c, c.Bucket(bucket).Object(name), nil
}

var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$`)

func splitObject(path string) (bucket, name string, err error) {
	bucket, name, _ = strings.Cut(strings.TrimPrefix(path, "gs://"), "/")
	if !bucketName.MatchString(bucket) {
		return "", "", fmt.Errorf("%q is not the name of a bucket; want gs://bucket/path", bucket)
	}
	return bucket, name, nil
}

// objectError says what went wrong with an object, by its name.
func (c *client) objectError(op, path string, err error) error {
	var api *googleapi.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, storage.ErrObjectNotExist):
		err = &storeError{fs.ErrNotExist, "there is no such object"}
	case errors.Is(err, storage.ErrBucketNotExist):
		err = &storeError{fs.ErrNotExist, "there is no such bucket"}
	case errors.As(err, &api) && (api.Code == http.StatusForbidden || api.Code == http.StatusUnauthorized):
		text := "permission denied: " + strings.TrimSpace(api.Message)
		if c.anonymous != nil {
			text += "; no credentials were found: " + c.anonymous.Error()
		}
		err = &storeError{fs.ErrPermission, text}
	case errors.As(err, &api) && api.Code == http.StatusNotFound:
		err = &storeError{fs.ErrNotExist, strings.TrimSpace(api.Message)}
	case errors.As(err, &api) && api.Code == http.StatusPreconditionFailed:
		err = errPrecondition
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// errPrecondition says that an object is not what a request expected it to be.
var errPrecondition = errors.New("somebody else has written the object")

// storeError is an error of the store that stands for one of io/fs.
type storeError struct {
	is   error
	text string
}

func (e *storeError) Error() string { return e.text }
func (e *storeError) Unwrap() error { return e.is }

func (o objects) Open(ctx context.Context, path string) (io.ReadCloser, error) {
	c, object, err := o.at(path)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	idle := time.AfterFunc(idleLimit, func() { cancel(fmt.Errorf("nothing came for %v", idleLimit)) })
	r, err := object.NewReader(ctx)
	if err != nil {
		idle.Stop()
		err = c.objectError("read", path, because(ctx, err))
		cancel(nil)
		return nil, err
	}
	out := &objectReader{Reader: r, path: path, client: c, ctx: ctx, cancel: cancel, idle: idle}
	for key, value := range r.Metadata() {
		if strings.EqualFold(key, sumKey) {
			out.want, out.sum = value, sha256.New()
		}
	}
	return out, nil
}

// because is the reason why a context ended, where that is what the error says.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		return cause
	}
	return err
}

// objectReader checks the content of an object as it is read.
type objectReader struct {
	*storage.Reader
	path   string
	client *client
	ctx    context.Context // of the download: its cause says why it ended
	cancel context.CancelCauseFunc
	idle   *time.Timer
	want   string
	sum    hash.Hash
}

func (r *objectReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.idle.Reset(idleLimit)
	if r.sum != nil {
		r.sum.Write(p[:n])
		if err == io.EOF && hex.EncodeToString(r.sum.Sum(nil)) != r.want {
			err = errors.New("its content has another SHA-256 than it was written with")
		}
	}
	if err != nil && err != io.EOF {
		err = r.client.objectError("read", r.path, because(r.ctx, err))
	}
	return n, err
}

func (r *objectReader) Close() error {
	r.idle.Stop()
	defer r.cancel(nil)
	return r.Reader.Close()
}

// create begins an object in a temporary file.
func (o objects) Create(ctx context.Context, path string) (files.Pending, error) {
	if _, _, err := o.at(path); err != nil {
		return nil, err
	}
	f, err := files.UnnamedFile()
	if err != nil {
		return nil, err
	}
	return &newObject{ctx: ctx, path: path, file: f, sums: newSums()}, nil
}

type newObject struct {
	ctx  context.Context // of the upload
	path string
	file *os.File
	*sums
}

func (f *newObject) Write(p []byte) (int, error) {
	n, err := f.file.Write(p)
	f.sums.Write(p[:n])
	return n, err
}

func (f *newObject) Commit(bool) error {
	defer f.file.Close()
	_, err := upload(f.ctx, f.path, f.file, f.sums, nil)
	return err
}

func (f *newObject) Abort() { f.file.Close() }

// Upload writes an object with the content of a file that is read twice rather than copied to another temporary file.
func (objects) Upload(ctx context.Context, path string, from io.ReadSeeker) error {
	s := newSums()
	if _, err := io.Copy(s, from); err != nil {
		return err
	}
	_, err := upload(ctx, path, from, s, nil)
	return err
}

// sums are what an upload is checked by.
type sums struct {
	sha hash.Hash
	crc hash.Hash32
	n   int64
}

func newSums() *sums {
	return &sums{sha: sha256.New(), crc: crc32.New(crc32.MakeTable(crc32.Castagnoli))}
}

func (s *sums) Write(p []byte) (int, error) {
	s.sha.Write(p)
	s.crc.Write(p)
	s.n += int64(len(p))
	return len(p), nil
}

func (s *sums) hex() string { return hex.EncodeToString(s.sha.Sum(nil)) }

// upload writes an object whose content has these sums, which the store checks. The client repeats the chunks of a large
// object; a small one, and what it does not count among passing failures, is begun again here.
func upload(ctx context.Context, path string, from io.ReadSeeker, s *sums, only *storage.Conditions) (*storage.ObjectAttrs, error) {
	c, object, err := objects{}.at(path)
	if err != nil {
		return nil, err
	}
	if only != nil {
		object = object.If(*only)
	}
	if s.n < googleapi.DefaultUploadChunkSize {
		object = object.Retryer(storage.WithPolicy(storage.RetryNever))
	}
	ctx, cancel := context.WithTimeout(ctx, requestLimit+time.Duration(s.n/slowestUpload)*time.Second)
	defer cancel()
	pauses := retries.backoff
	for attempt := 1; ; attempt++ {
		var a *storage.ObjectAttrs
		if _, err = from.Seek(0, io.SeekStart); err == nil {
			a, err = send(ctx, object, from, s)
		}
		if err == nil {
			return a, nil
		}
		if !passing(err) || attempt == retries.attempts || gax.Sleep(ctx, pauses.Pause()) != nil {
			return nil, c.objectError("write", path, err)
		}
	}
}

func send(ctx context.Context, object *storage.ObjectHandle, from io.Reader, s *sums) (*storage.ObjectAttrs, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := object.NewWriter(ctx)
	w.Metadata = map[string]string{sumKey: s.hex()}
	w.ContentType = "application/octet-stream"
	w.CRC32C, w.SendCRC32C = s.crc.Sum32(), true
	w.ChunkSize = int(min(googleapi.DefaultUploadChunkSize,
		s.n/googleapi.MinUploadChunkSize*googleapi.MinUploadChunkSize+googleapi.MinUploadChunkSize))
	if _, err := io.Copy(w, from); err != nil {
		cancel() // what is not finished never appears
		w.Close()
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return w.Attrs(), nil
}

// passing reports whether a failure may pass. A connection that ends without an answer is one, which the client takes to be
// for good.
func passing(err error) bool { return storage.ShouldRetry(err) || errors.Is(err, io.EOF) }

func infoOf(path, name string, a *storage.ObjectAttrs) files.Info {
	return files.Info{Path: path, Name: name, Size: a.Size, Modified: a.Updated, SHA256: a.Metadata[sumKey], Version: fmt.Sprint(a.Generation)}
}

func (o objects) Stat(ctx context.Context, path string) (files.Info, error) {
	c, object, err := o.at(path)
	if err != nil {
		return files.Info{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	a, err := object.Attrs(ctx)
	if err != nil {
		return files.Info{}, c.objectError("stat", path, err)
	}
	return infoOf(path, files.Base(path), a), nil
}

func (o objects) Below(ctx context.Context, dir string) ([]files.Info, error) {
	dir = strings.TrimRight(dir, "/") + "/"
	return o.list(ctx, dir, func(path string) (string, bool) { return strings.TrimPrefix(path, dir), true })
}

// list returns the objects whose path begins with the prefix and which keep names.
func (objects) list(ctx context.Context, prefix string, keep func(path string) (name string, ok bool)) ([]files.Info, error) {
	bucket, name, err := splitObject(prefix)
	if err != nil {
		return nil, &fs.PathError{Op: "list", Path: prefix, Err: err}
	}
	c, err := openClient()
	if err != nil {
		return nil, err
	}
	query := &storage.Query{Prefix: name}
	if err := query.SetAttrSelection([]string{"Name", "Size", "Updated", "Generation", "Metadata"}); err != nil {
		return nil, err
	}
	var out []files.Info
	var page []*storage.ObjectAttrs
	for token, first := "", true; first || token != ""; first = false {
		limited, cancel := context.WithTimeout(ctx, requestLimit)
		page, token, err = nextPage(iterator.NewPager(c.Bucket(bucket).Objects(limited, query), listPage, token))
		cancel()
		if err != nil {
			return nil, c.objectError("list", prefix, err)
		}
		for _, a := range page {
			if strings.HasSuffix(a.Name, "/") {
				continue // what consoles make to show a folder
			}
			path := "gs://" + bucket + "/" + a.Name
			if name, ok := keep(path); ok {
				out = append(out, infoOf(path, name, a))
			}
		}
	}
	return out, nil
}

func nextPage(p *iterator.Pager) (page []*storage.ObjectAttrs, token string, err error) {
	token, err = p.NextPage(&page)
	return page, token, err
}

// glob asks for all objects that begin as the pattern does up to its first wildcard. ** goes over slashes, as Beam has it.
func (o objects) Glob(ctx context.Context, pattern string) ([]string, error) {
	at := strings.IndexAny(pattern, "*?[")
	if at < 0 {
		if _, err := o.Stat(ctx, pattern); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		return []string{pattern}, nil
	}
	matches, err := globPattern(pattern)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", pattern, err)
	}
	found, err := o.list(ctx, pattern[:at], func(path string) (string, bool) { return "", matches.MatchString(path) })
	var out []string
	for _, f := range found {
		out = append(out, f.Path)
	}
	return out, err
}

// globPattern turns a glob into a regular expression.
func globPattern(glob string) (*regexp.Regexp, error) {
	var out strings.Builder
	out.WriteString("^")
	for len(glob) > 0 {
		switch {
		case strings.HasPrefix(glob, "**/"):
			out.WriteString("(?:.*/)?")
			glob = glob[3:]
			continue
		case strings.HasPrefix(glob, "**"):
			out.WriteString(".*")
			glob = glob[2:]
			continue
		case glob[0] == '*':
			out.WriteString("[^/]*")
		case glob[0] == '?':
			out.WriteString("[^/]")
		case glob[0] == '[':
			set, rest, ok := strings.Cut(glob[1:], "]")
			if !ok || set == "" {
				return nil, errors.New("the set [...] is not closed")
			}
			if set[0] == '!' {
				set = "^" + set[1:]
			}
			out.WriteString("[" + set + "]")
			glob = rest
			continue
		default:
			n := strings.IndexAny(glob, "*?[")
			if n < 0 {
				n = len(glob)
			}
			out.WriteString(regexp.QuoteMeta(glob[:n]))
			glob = glob[n:]
			continue
		}
		glob = glob[1:]
	}
	return regexp.Compile(out.String() + "$")
}

func (o objects) Remove(ctx context.Context, gone []files.Info) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(requestsAtOnce)
	for _, f := range gone {
		g.Go(func() error {
			c, object, err := o.at(f.Path)
			if err != nil {
				return err
			}
			limited, cancel := context.WithTimeout(ctx, requestLimit)
			defer cancel()
			err = object.Delete(limited)
			if errors.Is(err, storage.ErrObjectNotExist) {
				return nil // a repetition of what went through
			}
			return c.objectError("remove", f.Path, err)
		})
	}
	return g.Wait()
}
