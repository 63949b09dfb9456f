package command

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is printed of other people's texts does not act on a terminal, whatever the command, in results as in errors.
func TestNothingActsOnATerminal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cases.jsonl")
	line, err := json.Marshal(map[string]any{"gold": "1", "response": "\x1b[2J2", "correct": true, "kind": "\x1b]0;gone\a"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(line, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"verify", "--cases", file}, {"verify", "1", "the answer is \x1b[2J\u202e2"}, {"plan", "no-such\x1b[2J-recipe"}, {"\x1b[2J"},
		{"plan", "grpo", "--set", "policy.path=a\x1b[2J"}, {"show", "a\x1b[2J"},
	} {
		var out, problems bytes.Buffer
		Main(args, &out, &problems)
		if all := out.String() + problems.String(); strings.ContainsAny(all, "\x1b\a\u202e") || all == "" {
			t.Errorf("%q prints %q", args, all)
		}
	}
}

func TestVersion(t *testing.T) { want(t, exitOK, []string{"millrace version "}, "--version") }

// A list of recipes says which command runs each, and what its kind does.
func TestRecipesSayTheirCommand(t *testing.T) {
	want(t, exitOK, []string{"millrace refresh RECIPE (kind refresh): train a reward model", "millrace run RECIPE (kind policy): ",
		"  ipvrm-refresh "}, "recipes")
	want(t, exitOK, []string{`"verb": "refresh"`, `"kind": "refresh"`}, "recipes", "--json")
}

// A folder of runs is no run; the error names those inside.
func TestRunsInsideAFolderAreNamed(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"grpo", "distrl"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "config.yaml"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, command := range []string{"show", "report", "retry"} {
		want(t, exitUsage, []string{"it holds the runs " + filepath.Join(dir, "distrl") + ", " + filepath.Join(dir, "grpo")}, command, dir)
	}
}

// A loss of the field that is not here is not taken for a misspelt one that is.
func TestLossesThatAreNotHere(t *testing.T) {
	want(t, exitUsage, []string{"odds-ratio", "new-loss.md"}, "plan", "grpo", "--recipe-only", "--set",
		"update.losses=[{name: orpo}]")
}

// An export into a run is refused: the run tidies what is not its own, and holds the rest to its manifests.
func TestNoExportIntoARun(t *testing.T) {
	dir, _ := aRun(t)
	for _, out := range []string{dir, filepath.Join(dir, "export"), filepath.Join(dir, "iter-00000", "rows")} {
		want(t, exitUsage, []string{"lies in the run", "outside"}, "export", dir, "--to", "jsonl", "--out", out)
		if _, err := os.Stat(filepath.Join(out, "export.json")); err == nil {
			t.Errorf("%s holds an export", out)
		}
	}
}
