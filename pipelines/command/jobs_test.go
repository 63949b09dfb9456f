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
