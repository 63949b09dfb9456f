package verify

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func serviceOf(t *testing.T, settings string, handle http.HandlerFunc) *HTTP {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	v, err := New("http", json.RawMessage(fmt.Sprintf(`{"url": %q%s}`, s.URL+"/judge?token=hidden", settings)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.(*HTTP).Close() })
	return v.(*HTTP)
}

func TestHTTP(t *testing.T) {
	var busy, requests atomic.Int32
	t.Setenv("VERIFIER_KEY", "secret")
	answer := func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		in := bufio.NewScanner(r.Body)
		for in.Scan() {
			var q question
			json.Unmarshal(in.Bytes(), &q)
			var gold string
			json.Unmarshal(q.Gold, &gold)
			switch gold {
			case "busy":
				if busy.Add(1) < 3 {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				fmt.Fprintf(w, `{"id": %d, "verdict": "correct", "rule": "patience", "score": 7}`+"\n", q.ID)
			case "html":
				io.WriteString(w, "<html>welcome</html>")
			case "none":
			case "empty":
				fmt.Fprintf(w, `{"id": %d}`+"\n", q.ID)
			case "bad":
				w.WriteHeader(http.StatusUnprocessableEntity)
				io.WriteString(w, "no such unit")
				return
			case "refused":
				w.WriteHeader(http.StatusForbidden)
				io.WriteString(w, "not with Bearer secret")
			case "large":
				w.Write(bytes.Repeat([]byte(" "), 2<<20))
			case "slow":
				time.Sleep(700 * time.Millisecond)
			default:
				fmt.Fprintf(w, `{"id": %d, "verdict": "incorrect", "extracted": %q}`+"\n", q.ID, q.Response)
			}
		}
	}
	v := serviceOf(t, `, "key_env": "VERIFIER_KEY", "seconds": 0.5, "attempts": 3`, answer)
	if strings.Contains(v.Version(), "secret") {
		t.Error("the version holds the key")
	}
	for gold, want := range map[string]Verdict{"busy": Correct, "other": Incorrect} {
		r, err := v.Verify(context.Background(), Gold{gold}, Response{Text: "x"})
		if err != nil || r.Verdict != want || (gold == "busy") != (r.Score != nil) {
			t.Errorf("%s: %+v, %v", gold, r, err)
		}
	}
	for gold, rows := range map[string]bool{"html": false, "none": false, "empty": true, "bad": true, "refused": false,
		"large": false, "slow": true} {
		r, err := v.Verify(context.Background(), Gold{gold}, Response{Text: "x"})
		var row *RowError
		if err == nil || errors.As(err, &row) != rows {
			t.Errorf("%s: %+v, error %v; the row's: %v", gold, r, err, rows)
		} else if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: the message holds a key: %v", gold, err)
		}
	}
	requests.Store(0)
	batched := serviceOf(t, `, "key_env": "VERIFIER_KEY", "batch": 16, "connections": 1`, answer)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			text := fmt.Sprint(i)
			gold := "other"
			if i == 77 {
				gold = "bad"
			}
			r, err := batched.Verify(context.Background(), Gold{gold}, Response{Text: text})
			if (err != nil) != (i == 77) || err == nil && r.Extracted != text {
				t.Errorf("%d: %+v, %v", i, r, err)
			}
		})
	}
	wg.Wait()
	if n := requests.Load(); n > 150 {
		t.Errorf("%d requests for 200 rows in batches of 16", n)
	}
}

// A redirect is no place to send a key to, and no service lies where a cloud keeps credentials.
func TestHTTPGuards(t *testing.T) {
	t.Setenv("VERIFIER_KEY", "secret")
	var reached atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer other.Close()
	v := serviceOf(t, `, "key_env": "VERIFIER_KEY"`, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	if _, err := v.Verify(context.Background(), Gold{"x"}, Response{Text: "x"}); err == nil ||
		!strings.Contains(err.Error(), "redirect") || reached.Load() {
		t.Errorf("redirect: %v, followed: %v", err, reached.Load())
	}
	for _, url := range []string{"http://169.254.169.254/latest", "http://[fe80::1]/", "http://[fe80::1%25eth0]/",
		"http://[::ffff:169.254.1.1]/", "http://metadata.google.internal/",
		"http://METADATA.google.internal./", "http://[fd00:ec2::254]/", "http://user:pass@example.com/", "file:///x", "ftp://example.com"} {
		_, err := New("http", json.RawMessage(fmt.Sprintf(`{"url": %q}`, url)))
		if err == nil || !strings.HasPrefix(err.Error(), "url") || strings.Contains(err.Error(), "pass@") {
			t.Errorf("%s: error %v, want one of url", url, err)
		}
	}
}
