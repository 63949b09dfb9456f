// Package buckettest is a small Cloud Storage in memory, as far as Millrace speaks to it: the JSON interface (list, get,
// insert in one request or resumably, delete, preconditions on generations) and reads through the XML interface, as
// https://cloud.google.com/storage/docs/json_api describes them. Faults can be injected, and its clock set forward.
package buckettest

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Server is a Cloud Storage with one bucket, Bucket.
type Server struct {
	mu         sync.Mutex
	objects    map[string]object
	uploads    map[string]*uploading
	generation int64
	ahead      time.Duration
	faults     []*Fault
	requests   []string
}

// Bucket is the name of the one bucket there is.
const Bucket = "millrace-test"

type object struct {
	content    []byte
	generation int64
	updated    time.Time
	metadata   map[string]string
	kind       string
}

type uploading struct {
	name    string
	only    url.Values
	about   about
	content bytes.Buffer
}

// about is what an upload says of its object.
type about struct {
	Name        string            `json:"name"`
	Metadata    map[string]string `json:"metadata"`
	ContentType string            `json:"contentType"`
	CRC32C      string            `json:"crc32c"`
}

// Fault makes requests fail. It applies to those whose method is Method ("" any) and whose path, unescaped, holds Path.
type Fault struct {
	Method, Path string
	Skip         int // so many of them go through first
	Times        int // so many of them fail then; negative: all
	Status       int // the answer; 0: the connection is cut
	// After cuts the connection in the middle of the answer, when so many bytes of content have been sent.
	After int
	// Done lets the request do its work before it fails: the answer is lost.
	Done bool
}

// New is a server that has no objects.
func New() *Server {
	return &Server{objects: map[string]object{}, uploads: map[string]*uploading{}, generation: 1000}
}

// Start starts a server for a test, and has the clients of this process and of those it starts speak to it.
func Start(t testing.TB) *Server {
	s := New()
	http := httptest.NewServer(s)
	t.Cleanup(http.Close)
	t.Setenv("STORAGE_EMULATOR_HOST", strings.TrimPrefix(http.URL, "http://"))
	return s
}

// Advance sets the server's clock forward.
func (s *Server) Advance(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead += by
}

// Inject adds a fault.
func (s *Server) Inject(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// Objects are the contents of the objects whose names begin with a prefix.
func (s *Server) Objects(prefix string) map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]byte{}
	for name, o := range s.objects {
		if strings.HasPrefix(name, prefix) {
			out[name] = o.content
		}
	}
	return out
}

// Put writes an object as another program would, without metadata; nil content removes it.
func (s *Server) Put(name string, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if content == nil {
		delete(s.objects, name)
		return
	}
	s.put(name, about{}, content)
}

// Damage replaces the content of an object and leaves its metadata, which no client can do.
func (s *Server) Damage(name string, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[name]
	o.content = content
	s.objects[name] = o
}

// Requests are the requests so far, as METHOD path?name, where name is that of an object which is uploaded, and forgets them.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.requests
	s.requests = nil
	return out
}

func (s *Server) put(name string, a about, content []byte) object {
	s.generation++
	o := object{content: content, generation: s.generation, updated: time.Now().Add(s.ahead).UTC(), metadata: a.Metadata, kind: a.ContentType}
	s.objects[name] = o
	return o
}

// ServeHTTP answers a request. A POST to /advance?by=DURATION sets the clock forward.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/advance" {
		by, err := time.ParseDuration(r.URL.Query().Get("by"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.Advance(by)
		return
	}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path+"?"+r.URL.Query().Get("name"))
	fault := s.fault(r)
	if fault != nil && !fault.Done && fault.After == 0 {
		s.mu.Unlock()
		fail(w, fault.Status)
		return
	}
	answer := httptest.NewRecorder()
	s.answer(answer, r, raw)
	s.mu.Unlock()
	if fault != nil && fault.Done {
		fail(w, fault.Status)
		return
	}
	for k, v := range answer.Header() {
		w.Header()[k] = v
	}
	body := answer.Body.Bytes()
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(answer.Code)
	if fault != nil && fault.After < len(body) {
		w.Write(body[:fault.After])
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	w.Write(body)
}

func fail(w http.ResponseWriter, status int) {
	if status == 0 {
		panic(http.ErrAbortHandler) // which cuts the connection
	}
	refuse(w, status, "injected fault")
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"code":%d,"message":%q,"errors":[{"message":%q,"reason":"test"}]}}`, status, message, message)
}

func (s *Server) fault(r *http.Request) *Fault {
	at := r.URL.Path + "?" + r.URL.Query().Get("name")
	for _, f := range s.faults {
		if f.Method != "" && f.Method != r.Method || !strings.Contains(at, f.Path) || f.Times == 0 {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		f.Times--
		return f
	}
	return nil
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, raw []byte) {
	path := r.URL.Path
	if upload, ok := strings.CutPrefix(path, "/upload/storage/v1/b/"); ok {
		bucket, _, _ := strings.Cut(upload, "/")
		s.upload(w, r, bucket, raw)
		return
	}
	if rest, ok := strings.CutPrefix(path, "/storage/v1/b/"); ok {
		bucket, rest, _ := strings.Cut(rest, "/")
		name, one := strings.CutPrefix(rest, "o/")
		switch {
		case bucket != Bucket:
			refuse(w, http.StatusNotFound, "The specified bucket does not exist.")
		case !one:
			s.list(w, r.URL.Query())
		default:
			s.object(w, r, name)
		}
		return
	}
	bucket, name, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/") // the XML interface
	if bucket != Bucket {
		http.Error(w, "<Error><Code>NoSuchBucket</Code></Error>", http.StatusNotFound)
		return
	}
	s.read(w, r, name)
}

func (s *Server) list(w http.ResponseWriter, q url.Values) {
	var names []string
	for name := range s.objects {
		if strings.HasPrefix(name, q.Get("prefix")) && name > q.Get("pageToken") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	limit, err := strconv.Atoi(q.Get("maxResults"))
	if err != nil || limit > 100 {
		limit = 100 // so that lists of tests have pages
	}
	out := map[string]any{"kind": "storage#objects"}
	if len(names) > limit {
		names = names[:limit]
		out["nextPageToken"] = names[limit-1]
	}
	items := []any{}
	for _, name := range names {
		items = append(items, describe(name, s.objects[name]))
	}
	out["items"] = items
	json.NewEncoder(w).Encode(out)
}

func describe(name string, o object) map[string]any {
	sum := md5.Sum(o.content)
	return map[string]any{
		"kind": "storage#object", "bucket": Bucket, "name": name, "contentType": o.kind, "metadata": o.metadata,
		"generation": strconv.FormatInt(o.generation, 10), "metageneration": "1", "size": strconv.Itoa(len(o.content)),
		"updated": o.updated.Format(time.RFC3339Nano), "timeCreated": o.updated.Format(time.RFC3339Nano),
		"crc32c": checksum(o.content), "md5Hash": base64.StdEncoding.EncodeToString(sum[:]),
	}
}

func checksum(content []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli))))
}

// allowed holds an object against the preconditions of a request.
func (s *Server) allowed(w http.ResponseWriter, name string, q url.Values) bool {
	want := q.Get("ifGenerationMatch")
	if want == "" || want == strconv.FormatInt(s.objects[name].generation, 10) {
		return true
	}
	refuse(w, http.StatusPreconditionFailed, "At least one of the pre-conditions you specified did not hold.")
	return false
}

func (s *Server) object(w http.ResponseWriter, r *http.Request, name string) {
	o, ok := s.objects[name]
	if !ok {
		refuse(w, http.StatusNotFound, "No such object: "+Bucket+"/"+name)
		return
	}
	if !s.allowed(w, name, r.URL.Query()) {
		return
	}
	switch {
	case r.Method == http.MethodDelete:
		delete(s.objects, name)
		w.WriteHeader(http.StatusNoContent)
	case r.URL.Query().Get("alt") == "media":
		s.read(w, r, name)
	case r.Method == http.MethodGet:
		json.NewEncoder(w).Encode(describe(name, o))
	default:
		refuse(w, http.StatusMethodNotAllowed, r.Method)
	}
}

func (s *Server) read(w http.ResponseWriter, r *http.Request, name string) {
	o, ok := s.objects[name]
	if g := r.URL.Query().Get("generation"); !ok || g != "" && g != strconv.FormatInt(o.generation, 10) {
		http.Error(w, "<Error><Code>NoSuchKey</Code></Error>", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("X-Goog-Generation", strconv.FormatInt(o.generation, 10))
	h.Set("X-Goog-Metageneration", "1")
	h.Set("X-Goog-Hash", "crc32c="+checksum(o.content))
	h.Set("X-Goog-Stored-Content-Length", strconv.Itoa(len(o.content)))
	h.Set("X-Goog-Stored-Content-Encoding", "identity")
	for k, v := range o.metadata {
		h.Set("X-Goog-Meta-"+k, v)
	}
	h.Set("Content-Type", o.kind)
	http.ServeContent(w, r, "", o.updated, bytes.NewReader(o.content))
}

func (s *Server) upload(w http.ResponseWriter, r *http.Request, bucket string, raw []byte) {
	q := r.URL.Query()
	if id := q.Get("upload_id"); id != "" {
		s.resume(w, r, id, raw)
		return
	}
	if bucket != Bucket {
		refuse(w, http.StatusNotFound, "The specified bucket does not exist.")
		return
	}
	switch q.Get("uploadType") {
	case "multipart":
		a, content, err := parts(r, raw)
		if err != nil {
			refuse(w, http.StatusBadRequest, err.Error())
			return
		}
		s.finish(w, orName(a.Name, q), q, a, content)
	case "resumable":
		var a about
		if err := json.Unmarshal(raw, &a); err != nil {
			refuse(w, http.StatusBadRequest, err.Error())
			return
		}
		id := fmt.Sprint("upload-", len(s.uploads))
		s.uploads[id] = &uploading{name: orName(a.Name, q), only: q, about: a}
		w.Header().Set("Location", "http://"+r.Host+r.URL.Path+"?uploadType=resumable&upload_id="+id+"&name="+url.QueryEscape(orName(a.Name, q)))
	default:
		refuse(w, http.StatusBadRequest, "uploadType "+q.Get("uploadType"))
	}
}

func orName(name string, q url.Values) string {
	if name == "" {
		return q.Get("name")
	}
	return name
}

func parts(r *http.Request, raw []byte) (a about, content []byte, err error) {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return a, nil, err
	}
	in := multipart.NewReader(bytes.NewReader(raw), params["boundary"])
	first, err := in.NextPart()
	if err == nil {
		err = json.NewDecoder(first).Decode(&a)
	}
	if err != nil {
		return a, nil, err
	}
	second, err := in.NextPart()
	if err != nil {
		return a, nil, err
	}
	content, err = io.ReadAll(second)
	return a, content, err
}

// resume takes a chunk, or says how much has come.
func (s *Server) resume(w http.ResponseWriter, r *http.Request, id string, raw []byte) {
	u := s.uploads[id]
	if u == nil {
		refuse(w, http.StatusGone, "no such upload")
		return
	}
	have := int64(u.content.Len())
	var first, last int64
	given, total, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Content-Range"), "bytes "), "/")
	if given != "*" {
		if _, err := fmt.Sscanf(given, "%d-%d", &first, &last); err != nil || first > have {
			refuse(w, http.StatusBadRequest, "Content-Range "+r.Header.Get("Content-Range"))
			return
		}
		u.content.Write(raw[have-first:]) // what came twice is left out
		have = int64(u.content.Len())
	}
	if size, err := strconv.ParseInt(total, 10, 64); err == nil && size == have {
		delete(s.uploads, id)
		s.finish(w, u.name, u.only, u.about, u.content.Bytes())
		return
	}
	if have > 0 {
		w.Header().Set("Range", fmt.Sprintf("bytes=0-%d", have-1))
	}
	w.Header().Set("X-Http-Status-Code-Override", "308")
	if r.Header.Get("X-GUploader-No-308") != "yes" {
		w.WriteHeader(http.StatusPermanentRedirect)
	}
}

func (s *Server) finish(w http.ResponseWriter, name string, q url.Values, a about, content []byte) {
	if !s.allowed(w, name, q) {
		return
	}
	if a.CRC32C != "" && a.CRC32C != checksum(content) {
		refuse(w, http.StatusBadRequest, "Provided CRC32C \""+a.CRC32C+"\" doesn't match calculated CRC32C \""+checksum(content)+"\".")
		return
	}
	json.NewEncoder(w).Encode(describe(name, s.put(name, a, content)))
}
