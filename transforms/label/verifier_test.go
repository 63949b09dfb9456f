package label

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/schemas"
)

// settings makes the configuration of a kind with its defaults changed by f.
func settings(kind string, f func(*VerifierConfig)) VerifierConfig {
	c := DefaultVerifier(kind)
	if f != nil {
		f(&c)
	}
	return c
}

func ask(answer, response string) Question {
	return Question{Prompt: "?", Answer: answer, HasAnswer: true, Response: response}
}

func TestVerdicts(t *testing.T) {
	exactAfter := settings("exact", func(c *VerifierConfig) { c.Exact.After = "####" })
	folded := settings("exact", func(c *VerifierConfig) { c.Exact.Fold = true })
	num := settings("numeric", nil)
	numAfter := settings("numeric", func(c *VerifierConfig) { c.Numeric = NumericConfig{After: "answer:", Absolute: 0.5} })
	letter := settings("choice", nil)
	field := settings("json", func(c *VerifierConfig) { c.JSON.Field = "result.value" })
	item := settings("json", func(c *VerifierConfig) { c.JSON.Field = "items.1" })
	group := settings("regexp", func(c *VerifierConfig) { c.Regexp.Pattern = `final: (\w+)` })
	literal := settings("regexp", func(c *VerifierConfig) { c.Regexp.Pattern = `^so {answer}$` })
	for _, c := range []struct {
		config                              VerifierConfig
		answer, response, verdict, extacted string
	}{
		{settings("exact", nil), "42", " 42\n", Correct, "42"},
		{settings("exact", nil), "42", "the 42", Incorrect, "the 42"},
		{exactAfter, "42", "#### 7\n so\n#### 42\nbye", Correct, "42"},
		{exactAfter, "42", "42", UnparsableResponse, ""},
		{folded, "Yes", "YES", Correct, "YES"},
		{num, "1234.5", "it is 1,234.5", Correct, "1,234.5"},
		{num, "1234.5", "first 3 then 1234.6", Incorrect, "1234.6"},
		{num, "0.5", "50%", Correct, "50%"},
		{num, "-3", "so \u22123", Correct, "\u22123"},
		{num, "1e3", "1000.", Correct, "1000."},
		{num, "3", "no idea", UnparsableResponse, ""},
		{num, "three", "3", UnparsableAnswer, ""},
		{num, "NaN", "NaN", UnparsableAnswer, ""},
		{num, "3", "1e999", UnparsableResponse, "1e999"},
		{numAfter, "3", "answer: 3.4 (of 7)", Correct, "3.4"},
		{letter, "B", "A is tempting, but the answer is (B).", Correct, "B"},
		{letter, "B", "The answer is B", Correct, "B"},
		{letter, "(B)", "**Answer: C**", Incorrect, "C"},
		{letter, "C", "I considered A. Then C", Correct, "C"},
		{letter, "C", "because nothing fits", UnparsableResponse, ""},
		{letter, "A", `\boxed{A}`, Correct, "A"},
		{letter, "Z", "A", UnparsableAnswer, ""},
		{letter, "B", "A B", Correct, "B"},
		{field, "7", `{"result": {"value": 7.0}}`, Correct, "7.0"},
		{field, "seven", "Here:\n```json\n{\"result\": {\"value\": \"seven\"}}\n```", Correct, "seven"},
		{field, "7", `{"result": {"value": 6}} no, {"result": {"value": 7}}`, Correct, "7"},
		{field, "7", `{"value": 7}`, UnparsableResponse, ""},
		{field, "7", strings.Repeat("{", 100000), UnparsableResponse, ""},
		{field, "7", strings.Repeat("x", 2<<20), Budget, ""},
		{field, "[1, 2]", `{"result": {"value": [1, 2.0]}}`, Correct, "[1,2.0]"},
		{field, "true", `{"result": {"value": true}}`, Correct, "true"},
		{field, "true", `{"result": {"value": false}}`, Incorrect, "false"},
		{item, "b", `{"items": ["a", "b"]}`, Correct, "b"},
		{group, "two", "final: one, final: two", Correct, "two"},
		{group, "two", "final: one", Incorrect, "one"},
		{group, "two", "two", UnparsableResponse, ""},
		{literal, "a.b", "so a.b", Correct, "so a.b"},
		{literal, "a.b", "so axb", Incorrect, ""},
		{settings("proving_ground", nil), "0", "", UnparsableAnswer, ""},
	} {
		v, err := New(c.config)
		if err != nil {
			t.Fatal(err)
		}
		j, err := v.Verify(t.Context(), ask(c.answer, c.response))
		if err != nil || j.Verdict != c.verdict || j.Extracted != c.extacted {
			t.Errorf("%s: answer %.20q, response %.40q: %s, found %q (%v); want %s, %q", c.config.Kind, c.answer, c.response, j.Verdict, j.Extracted, err, c.verdict, c.extacted)
		}
	}
}

func TestProvingGroundJudgesSteps(t *testing.T) {
	v, err := New(settings("proving_ground", nil))
	if err != nil {
		t.Fatal(err)
	}
	q := Question{Prompt: "5a*2b*6=", Answer: "0", HasAnswer: true, Response: "a5*2=0\nb0*6=1\n#1"}
	j, err := v.Verify(t.Context(), q)
	if err != nil || j.Verdict != Incorrect || !j.Judged || j.FirstError != 1 || len(j.StepEnds) != 3 || j.StepEnds[0] != 7 {
		t.Errorf("%+v, %v", j, err)
	}
	q.Answer = "7"
	if j, _ := v.Verify(t.Context(), q); j.Verdict != UnparsableAnswer {
		t.Errorf("an answer that is not the chain's: %+v", j)
	}
}

func TestBadSettingsAreRefused(t *testing.T) {
	for want, c := range map[string]VerifierConfig{
		"kind":                  {Kind: "oracle"},
		"numeric.absolute":      {Kind: "numeric", Numeric: NumericConfig{Absolute: -1}},
		"choice.options":        {Kind: "choice", Choice: ChoiceConfig{Options: "AAB"}},
		"json.field":            {Kind: "json"},
		"regexp.pattern":        {Kind: "regexp", Regexp: RegexpConfig{Pattern: "("}},
		"command.argv":          {Kind: "command"},
		"command.seconds":       {Kind: "command", Command: CommandConfig{Argv: []string{"true"}}},
		"http.url":              {Kind: "http", HTTP: HTTPConfig{URL: "ftp://x", Seconds: 1, Attempts: 1}},
		"http.attempts":         {Kind: "http", HTTP: HTTPConfig{URL: "http://x", Seconds: 1}},
		"http.url: holds a use": {Kind: "http", HTTP: HTTPConfig{URL: "http://me:secret@x", Seconds: 1, Attempts: 1}},
	} {
		if _, err := New(c); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: error %v, want one of %s", c, err, want)
		}
	}
}

func TestVersionTellsSettingsApart(t *testing.T) {
	a, _ := New(settings("numeric", nil))
	b, _ := New(settings("numeric", func(c *VerifierConfig) { c.Numeric.Relative = 0.1 }))
	again, _ := New(settings("numeric", nil))
	if a.Version() == b.Version() || a.Version() != again.Version() {
		t.Errorf("versions %s, %s, %s", a.Version(), b.Version(), again.Version())
	}
}

// TestCommandHelper is the program the command verifier runs: this test binary, told by its last argument what to do.
func TestCommandHelper(t *testing.T) {
	mode := os.Args[len(os.Args)-1]
	if !strings.HasPrefix(mode, "mode=") {
		t.Skip("only run as a verifier command")
	}
	var q Question
	if err := json.NewDecoder(os.Stdin).Decode(&q); err != nil {
		os.Exit(3)
	}
	switch strings.TrimPrefix(mode, "mode=") {
	case "equal":
		verdict := Incorrect
		if q.Answer == q.Response {
			verdict = Correct
		}
		json.NewEncoder(os.Stdout).Encode(map[string]any{"verdict": verdict, "extracted": q.Response, "first_error": -1, "step_ends": []int{len(q.Response)}})
	case "environment":
		json.NewEncoder(os.Stdout).Encode(map[string]any{"verdict": Correct, "extracted": strings.Join(os.Environ(), " ")})
	case "sleep":
		time.Sleep(time.Minute)
	case "flood":
		for range 1000 {
			os.Stdout.WriteString(strings.Repeat("x", 1000))
		}
	case "fail":
		os.Stderr.WriteString("went wrong")
		os.Exit(1)
	case "nonsense":
		os.Stdout.WriteString(`{"verdict": "maybe"}`)
	}
	os.Exit(0)
}

func commandVerifier(t *testing.T, mode string, seconds float64) Verifier {
	t.Helper()
	v, err := New(settings("command", func(c *VerifierConfig) {
		c.Command.Argv = []string{os.Args[0], "-test.run=TestCommandHelper", "--", "mode=" + mode}
		c.Command.Seconds, c.Command.OutputBytes, c.Command.MemoryMiB = seconds, 10000, 0
	}))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestCommand(t *testing.T) {
	t.Setenv("SECRET_OF_TEST", "leaked")
	for mode, want := range map[string]string{"equal": Correct, "environment": Correct, "flood": Budget} {
		j, err := commandVerifier(t, mode, 60).Verify(t.Context(), ask("x", "x"))
		if err != nil || j.Verdict != want {
			t.Errorf("%s: %+v, %v; want %s", mode, j, err, want)
		}
		if strings.Contains(j.Extracted, "leaked") {
			t.Error("the command sees the environment")
		}
		if mode == "equal" && (!j.Judged || j.FirstError != -1 || len(j.StepEnds) != 1) {
			t.Errorf("steps are lost: %+v", j)
		}
	}
	for _, mode := range []string{"fail", "nonsense"} {
		_, err := commandVerifier(t, mode, 60).Verify(t.Context(), ask("x", "x"))
		var row *RowError
		if !errors.As(err, &row) || row.Reason != schemas.ReasonModel {
			t.Errorf("%s: error %v", mode, err)
		}
	}
	if j, err := commandVerifier(t, "sleep", 0.2).Verify(t.Context(), ask("x", "x")); err != nil || j.Verdict != Budget {
		t.Errorf("sleep: %+v, %v", j, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := commandVerifier(t, "equal", 60).Verify(ctx, ask("x", "x")); err == nil {
		t.Error("a cancelled run gives a verdict")
	}
}

func TestHTTP(t *testing.T) {
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := calls.Add(1)
		raw, _ := io.ReadAll(r.Body)
		var q Question
		if json.Unmarshal(raw, &q) != nil || r.Header.Get("Authorization") != "Bearer key-of-test" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		switch {
		case q.Response == "busy" && n < 3:
			w.WriteHeader(http.StatusServiceUnavailable)
		case q.Response == "down":
			w.WriteHeader(http.StatusInternalServerError)
		case q.Response == "refused":
			w.WriteHeader(http.StatusUnprocessableEntity)
		case q.Response == "html":
			io.WriteString(w, "<html>")
		default:
			io.WriteString(w, `{"verdict": "correct"}`)
		}
	}))
	defer server.Close()
	t.Setenv("KEY_OF_TEST", "key-of-test")
	c := settings("http", func(c *VerifierConfig) {
		c.HTTP = HTTPConfig{URL: server.URL, KeyEnv: "KEY_OF_TEST", Seconds: 10, Attempts: 3}
	})
	made, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	v := made.(httpVerifier)
	v.wait = time.Millisecond
	for response, wantCalls := range map[string]int32{"fine": 1, "busy": 3} {
		calls.Store(0)
		if j, err := v.Verify(t.Context(), ask("x", response)); err != nil || j.Verdict != Correct || calls.Load() != wantCalls {
			t.Errorf("%s: %+v, %v after %d calls", response, j, err, calls.Load())
		}
	}
	for response, wantCalls := range map[string]int32{"down": 3, "refused": 1, "html": 1} {
		calls.Store(0)
		_, err := v.Verify(t.Context(), ask("x", response))
		var row *RowError
		if err == nil || errors.As(err, &row) != (wantCalls == 1) || calls.Load() != wantCalls {
			t.Errorf("%s: %v after %d calls, want %d", response, err, calls.Load(), wantCalls)
		}
	}
	t.Setenv("KEY_OF_TEST", "")
	if _, err := New(c); err == nil {
		t.Error("a missing key is not noticed")
	}
}

func FuzzVerifiers(f *testing.F) {
	f.Add("42", "#### 42")
	f.Add("B", "the answer is (B)")
	f.Add(`{"a": 1}`, `{"result": {"value": {"a": 1.0}}}`)
	f.Add("1e3", "-1,000.5e99%")
	var vs []Verifier
	for _, c := range []VerifierConfig{
		settings("exact", nil), settings("numeric", nil), settings("choice", nil), settings("proving_ground", nil),
		settings("json", func(c *VerifierConfig) { c.JSON.Field = "result.value" }),
		settings("regexp", func(c *VerifierConfig) { c.Regexp.Pattern = `({answer})` }),
	} {
		v, err := New(c)
		if err != nil {
			f.Fatal(err)
		}
		vs = append(vs, v)
	}
	f.Fuzz(func(t *testing.T, answer, response string) {
		for _, v := range vs {
			a, err := v.Verify(t.Context(), ask(answer, response))
			if err != nil {
				t.Fatal(err)
			}
			b, _ := v.Verify(t.Context(), ask(answer, response))
			if a.Verdict != b.Verdict || a.Extracted != b.Extracted {
				t.Fatalf("%s decides %+v, then %+v", v.Version(), a, b)
			}
		}
	})
}
