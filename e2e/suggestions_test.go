package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// suggested finds a command of the program that a message suggests.
var suggested = regexp.MustCompile("millrace ((?:run|refresh|recipes|probe|show|--help)[^`;\n]*)")

// runsIn runs the program in a directory, wants an exit code of it, and gives what it says.
func runsIn(t *testing.T, binary, dir string) func(code int, args ...string) string {
	return func(code int, args ...string) string {
		t.Helper()
		cmd := exec.Command(binary, args...)
		cmd.Dir = dir
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Fatalf("millrace %s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, out)
		}
		return string(out)
	}
}

// TestSuggestedCommands: a command that a message suggests does what it is suggested for.
func TestSuggestedCommands(t *testing.T) {
	binary, dir := program(t), t.TempDir()
	copyModel(t, filepath.Join("..", quickstartFolder, "policy"), filepath.Join(dir, "policy"))
	small := []string{"--set", "policy.path=policy", "--set", "iterations=1", "--set", "prompts.count=4", "--set", "evaluate.every=0",
		"--set", "limits.idle=0"}
	in := runsIn(t, binary, dir)
	// follow runs what a message suggests, with further arguments.
	follow := func(message string, more ...string) {
		t.Helper()
		all := suggested.FindAllStringSubmatch(message, -1) // lines of progress name the command that ran
		if all == nil {
			t.Fatalf("%q suggests no command", message)
		}
		command, _, _ := strings.Cut(all[len(all)-1][1], " (")
		in(0, append(strings.Fields(command), more...)...)
	}

	// A recipe whose model another recipe makes.
	follow(in(2, "plan", "grpo"), "--set", "prompts.count=8", "--set", "update.steps=1", "--set", "evaluate.every=0", "--set", "limits.idle=0")
	in(0, "plan", "grpo")

	// A run directory that was made with another recipe.
	in(0, append([]string{"run", "grpo", "--set", "run=made"}, small...)...)
	follow(in(2, append([]string{"run", "grpo", "--set", "run=made", "--set", "seed=9"}, small...)...))

	// A recipe that is no refresh.
	said := in(2, append([]string{"refresh", "grpo", "--set", "run=other"}, small...)...)
	if !strings.Contains(said, "`millrace run` runs this recipe") {
		t.Errorf("%q", said)
	}
	in(0, append([]string{"run", "grpo", "--set", "run=other"}, small...)...)

	// Names that there are not.
	follow(in(2, "recipes", "gropo"))
	follow(in(2, "rum"))

	// Rows that were set aside: the settings that retry prints make a recipe read them again.
	lines := `{"q": "1a+2b=", "a": "3"}` + "\n" + `{"q": "` + strings.Repeat("1", 60) + `", "a": "1"}` + "\n"
	if err := os.WriteFile(filepath.Join(dir, "p.jsonl"), []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	file := append([]string{"--set", "prompts={source: file, split: all, count: 2, file: {path: p.jsonl, fields: {prompt: q, answer: a}}}",
		"--set", "limits.dead_share=1"}, small[:6]...)
	file = append(file, "--set", "evaluate.every=0")
	in(0, append([]string{"run", "grpo", "--set", "run=dead", "--set", "rollout.max_prompt_tokens=20"}, file...)...)
	said = in(0, "retry", "dead")
	m := suggested.FindStringSubmatch(said)
	if m == nil {
		t.Fatalf("%q", said)
	}
	words, err := exec.Command("sh", "-c", `printf '%s\n' `+m[1]).Output() // as a shell takes them
	if err != nil {
		t.Fatal(err)
	}
	args := strings.Split(strings.TrimSpace(string(words)), "\n")
	args = append(args, "--set", "run=again", "--set", "limits.dead_share=1", "--set", "prompts.count=1", "--set", "evaluate.every=0")
	in(0, append(args, small[:4]...)...)
}
