package command

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runJob runs a command with --json and reads what it says.
func runJob(t *testing.T, into any, args ...string) {
	t.Helper()
	var out, said bytes.Buffer
	if code := Main(append(args, "--json"), &out, &said); code != exitOK {
		t.Fatalf("%v: exit code %d: %s", args, code, said.String())
	}
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
}

// lineFile writes a file of lines.
func lineFile(t *testing.T, name string, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLabelDeduplicates: copies are filtered before they are judged; every row is there, dead or filtered.
func TestLabelDeduplicates(t *testing.T) {
	path := lineFile(t, "rows.jsonl",
		`{"question": "a", "answer": "1", "response": "it is 1"}`, `{"question": "a", "answer": "1", "response": "it  is 1 "}`,
		`{"question": "a", "answer": "1", "response": "it is 2"}`, `{"question": "b", "answer": "1", "response": "it is 1"}`, "no JSON")
	var done jobResult
	runJob(t, &done, "label", path, "--out", filepath.Join(t.TempDir(), "out"), "--deduplicate", "text", "--count", "1",
		"--set", "limits.dead_share=1")
	if done.Rows != 3 || done.Filtered != 1 || done.Dead != 1 || done.Metrics["train_accuracy"] < 0.6 {
		t.Errorf("%+v, want 3 rows of which 2 are right, one that is filtered and one that is dead", done)
	}
}

// TestLabelIsShown: a job without a model has its page, and rows whose tokens nobody knows; no text of a row acts on the page.
func TestLabelIsShown(t *testing.T) {
	path := lineFile(t, "rows.jsonl", `{"question": "a", "answer": "1", "response": "<script>alert(1)</script> it is 1"}`,
		`{"question": "a", "answer": "1", "response": "it is 2"}`)
	dir := filepath.Join(t.TempDir(), "out")
	var done jobResult
	runJob(t, &done, "label", path, "--out", dir)
	if text := want(t, exitOK, []string{"it is 1", "it is 2"}, "show", dir); strings.Contains(text, "0.000") {
		t.Errorf("numbers that nobody knows: %s", text)
	}
	want(t, exitOK, nil, "report", dir)
	page, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil || !strings.Contains(string(page), "&lt;script&gt;alert(1)") || strings.Contains(string(page), "<script>alert(1)") {
		t.Errorf("%v: the page of %d bytes", err, len(page))
	}
}

// TestSteps: the job goes on with the same command to the same result, and sets aside what it cannot read.
func TestSteps(t *testing.T) {
	path := lineFile(t, "rows.jsonl",
		`{"question": "5a*2b*6c-6d+8=", "answer": "2", "response": "a5*2=0\nb0*6=0\nc0-6=4\nd4+8=2\n#2"}`,
		`{"question": "5a*2b*6c-6d+8=", "answer": "2", "response": "a5*2=0\nb0*6=0\nc0-6=5\nd5+8=3\n#3"}`,
		`{"question": "5a+2b+6c-6=", "answer": "7", "response": "a5+2=8\nb8+6=4\nc4-6=8\n#8"}`,
		"no JSON")
	args := []string{"steps", path, "--policy", "../quickstart/policy", "--verifier", "proving_ground", "--max-new-tokens", "64",
		"--audit", "1", "--count", "1", "--out", filepath.Join(t.TempDir(), "out"), "--set", "limits.dead_share=1"}
	var done, again stepsResult
	runJob(t, &done, args...)
	if done.Rows != 3 || done.Dead != 1 || done.Labelled+done.Unknown != 3 || done.Wrong < 1 || done.Swept != done.Wrong ||
		done.Continuations == 0 {
		t.Errorf("%+v", done)
	}
	runJob(t, &again, args...)
	a, _ := json.Marshal(done)
	if b, _ := json.Marshal(again); !bytes.Equal(a, b) {
		t.Errorf("%s, and the same command again: %s", a, b)
	}
	var out, said bytes.Buffer
	for want, args := range map[string][]string{"steps.search": {"--policy", "../quickstart/policy", "--search", "linear"}, "--policy": nil} {
		said.Reset()
		args = append([]string{"steps", path, "--out", filepath.Join(t.TempDir(), "out")}, args...)
		if code := Main(args, &out, &said); code != exitUsage || !strings.Contains(said.String(), want) {
			t.Errorf("%v: exit code %d: %s", args, code, said.String())
		}
	}
}

// TestLabelLogs: logs of requests and responses are judged as they are, by their texts and by their ids.
func TestLabelLogs(t *testing.T) {
	text := lineFile(t, "text.jsonl",
		`{"answer": "7", "request": {"messages": [{"role": "user", "content": "5a+2="}]}, "response": {"choices": [{"message": {"role": "assistant", "content": "a5+2=7\n#7"}, "finish_reason": "stop"}, {"message": {"role": "assistant", "content": "#8"}, "finish_reason": "length"}]}}`,
		`{"answer": "7", "request": {"messages": [{"role": "user", "content": "5a+2="}]}, "response": {"error": {"message": "overloaded"}}}`)
	ids := lineFile(t, "ids.jsonl", `{"answer": "7", "request": {"prompt": "5a+2=", "temperature": 1}, "response": {"choices": [{"prompt_token_ids": [1, 2], "token_ids": [3, 4], "logprobs": {"token_logprobs": [-1, -2]}}]}}`)
	for _, c := range []struct {
		args []string
		rows int
		dead int
	}{
		{[]string{text}, 2, 1},
		{[]string{ids, "--tokenizer", "../quickstart/policy"}, 1, 0},
	} {
		var done jobResult
		runJob(t, &done, append([]string{"label", "--verifier", "proving_ground", "--out", filepath.Join(t.TempDir(), "out"),
			"--set", "limits.dead_share=1"}, c.args...)...)
		if done.Rows != c.rows || done.Dead != c.dead {
			t.Errorf("%v: %+v, want %d rows and %d dead", c.args, done, c.rows, c.dead)
		}
	}
}

// TestRelabelOfARun: rows of all iterations of a run are judged again.
func TestRelabelOfARun(t *testing.T) {
	path := lineFile(t, "rows.jsonl", `{"question": "a", "answer": "0.5", "response": "it is 1/2"}`,
		`{"question": "b", "answer": "2", "response": "it is 3"}`, `{"question": "c", "answer": "4", "response": "4"}`)
	dir := filepath.Join(t.TempDir(), "out")
	var done jobResult
	runJob(t, &done, "label", path, "--out", dir, "--count", "2")
	var again struct {
		Rows    int
		Changes map[string]int
	}
	runJob(t, &again, "relabel", dir, "--verifier", "exact", "--out", filepath.Join(t.TempDir(), "again"))
	if again.Rows != 3 || again.Changes["correct -> incorrect"] != 1 {
		t.Errorf("%+v, want 3 rows, and 1/2 is not 0.5 as text", again)
	}
	want(t, exitUsage, nil, "relabel", dir, "--out", dir)
}

// Rows with steps need a tokenizer, and say so.
func TestLabelOfSteps(t *testing.T) {
	path := lineFile(t, "rows.jsonl", `{"id": "1", "problem": "a", "steps": ["b", "c"], "label": 1, "final_answer_correct": false}`)
	want(t, exitUsage, []string{"--tokenizer", "steps"}, "label", path, "--out", filepath.Join(t.TempDir(), "out"))
}

// A file whose name does not tell its format is read as what is said of it.
func TestFormatOfAFile(t *testing.T) {
	path := lineFile(t, "rows", `{"question": "a", "answer": "1", "response": "it is 1"}`)
	out := filepath.Join(t.TempDir(), "out")
	want(t, exitUsage, []string{"prompts.file.format"}, "label", path, "--out", out)
	want(t, exitUsage, []string{"prompts.file.format", "csv"}, "label", path, "--out", out, "--set", "prompts.file.format=csv")
	want(t, exitUsage, []string{"--format"}, "doctor", path)
	want(t, exitUsage, []string{"--format", "csv"}, "doctor", path, "--format", "csv")
	want(t, exitOK, nil, "label", path, "--out", out, "--set", "prompts.file.format=jsonl")
	want(t, exitOK, nil, "doctor", path, "--format", "jsonl")
}
