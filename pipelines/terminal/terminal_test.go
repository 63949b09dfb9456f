package terminal

import (
	"bytes"
	"os"
	"testing"
)

func TestCleanLeavesNothingThatControlsATerminal(t *testing.T) {
	for in, want := range map[string]string{
		"a5*2=0\n":           "a5*2=0⏎",
		"a\tb":               "a→b",
		"\x1b[2Jgone\a":      "·[2Jgone·",
		"\u202egnp.exe":      "·gnp.exe", // right-to-left override
		"π ≈ 3.14, 東京":       "π ≈ 3.14, 東京",
		"\r\x00\u0085\u2028": "····",
		"bad \xff byte":      "bad � byte",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestOnlyTerminalsAreCapable(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if Capable(file) || Capable(&bytes.Buffer{}) {
		t.Error("a file or a buffer is taken for a terminal")
	}
	if w := Width(file); w != 0 {
		t.Errorf("Width of a file = %d, want 0", w)
	}
}

// TestSettingsTurnATerminalPlain needs a terminal device; a pseudo-terminal's master side counts as one.
func TestSettingsTurnATerminalPlain(t *testing.T) {
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	defer tty.Close()
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm-256color")
	if !Capable(tty) {
		t.Skip("the pseudo-terminal's master side is not a terminal on this system")
	}
	t.Setenv("TERM", "dumb")
	if Capable(tty) {
		t.Error("TERM=dumb is ignored")
	}
	t.Setenv("TERM", "xterm-256color")
	t.Setenv("NO_COLOR", "1")
	if Capable(tty) {
		t.Error("NO_COLOR is ignored")
	}
}
