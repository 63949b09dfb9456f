package look

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/millrace/millrace/models/inbound"
	"github.com/millrace/millrace/pipelines/report"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/transforms/files"
)

// Watch serves the report page of a run that may go on, and follows it. It answers to this machine alone.
type Watch struct {
	dir *run.Dir

	mu    sync.Mutex
	state string // of the page
	page  []byte
}

// NewWatch serves a run.
func NewWatch(d *run.Dir) *Watch { return &Watch{dir: d} }

// ServeHTTP answers the page at / and where the run is at /state.
func (w *Watch) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	if why := foreign(r); why != "" {
		http.Error(out, why, http.StatusForbidden)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(out, "only GET is answered", http.StatusMethodNotAllowed)
		return
	}
	out.Header().Set("Cache-Control", "no-store")
	out.Header().Set("X-Content-Type-Options", "nosniff")
	out.Header().Set("Referrer-Policy", "no-referrer")
	out.Header().Set("X-Frame-Options", "DENY")
	live, err := liveOf(r.Context(), w.dir)
	if err != nil {
		http.Error(out, err.Error(), http.StatusInternalServerError)
		return
	}
	switch r.URL.Path {
	case "/state":
		out.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(out).Encode(live) // who has gone away needs no answer
	case "/":
		page, err := w.of(r.Context(), live)
		if err != nil {
			http.Error(out, err.Error(), http.StatusInternalServerError)
			return
		}
		out.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = out.Write(page)
	default:
		http.NotFound(out, r)
	}
}

// of is the page of a state, made once.
func (w *Watch) of(ctx context.Context, live report.Live) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.page != nil && w.state == live.State {
		return w.page, nil
	}
	done, err := w.dir.Committed(ctx)
	if err != nil {
		return nil, err
	}
	data := report.Data{Title: "Millrace run", Subtitle: "No iteration is committed yet.", Run: w.dir.Path}
	if len(done) > 0 {
		if data, err = ReportData(ctx, w.dir.Path); err != nil {
			return nil, err
		}
	}
	data.Live = &live
	var out bytes.Buffer
	if err := report.Write(&out, data); err != nil {
		return nil, err
	}
	w.state, w.page = live.State, out.Bytes()
	return w.page, nil
}

// liveOf says where a run is: what it has committed, which changes the page, and what it does just now.
func liveOf(ctx context.Context, d *run.Dir) (report.Live, error) {
	if _, err := run.Read(ctx, d.Path); err != nil { // it was moved or removed
		return report.Live{}, err
	}
	done, err := d.Committed(ctx)
	if err != nil {
		return report.Live{}, err
	}
	of := fmt.Sprint(len(done))
	if r, err := d.Recipe(ctx); err == nil {
		of = fmt.Sprintf("%d of %d", len(done), r.Iterations)
	}
	live := report.Live{State: of, Note: of + " iterations are committed."}
	begun, err := files.Below(ctx, d.IterPath(len(done)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return live, err
	}
	var last time.Time
	for _, f := range begun {
		if f.Modified.After(last) {
			last = f.Modified
		}
	}
	if !last.IsZero() {
		live.Note += fmt.Sprintf(" Iteration %d is under way; it last left something %s ago.", len(done),
			max(0, time.Since(last)).Round(time.Second))
	}
	return live, nil
}

// foreign says why a request is not answered: it names another host than this machine, or comes from the page of another site.
func foreign(r *http.Request) string {
	host := inbound.HostName(r.Host)
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Sprintf("%q is not this machine; open the address that `millrace watch` printed", r.Host)
	}
	return inbound.FromSite(r)
}
