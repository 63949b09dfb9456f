package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
)

// Exit codes of the program.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2   // wrong command line, recipe or setting
	exitDead        = 3   // finished or stopped with more dead rows than allowed, or with findings of a strict doctor
	exitInterrupted = 130 // SIGINT or SIGTERM; the run can be resumed
)

// deadAnywhere is what exitDead means. A command says of itself when it ends so, if at all.
const deadAnywhere = "more dead rows than limits.dead_share allows, or findings of doctor --strict"

// exits say what the codes mean.
var exits = []struct {
	code    int
	meaning string
}{
	{exitOK, "done"},
	{exitFailed, "failed; where the command makes a run, the same command goes on after the last commit"},
	{exitUsage, "a wrong command line, recipe or setting: the message begins with its path and says what would be right"},
	{exitDead, deadAnywhere},
	{exitInterrupted, "interrupted; where the command makes a run, the same command goes on after the last commit"},
}

// exitText is the table of exit codes in the help of the program.
func exitText() string {
	var out strings.Builder
	out.WriteString("Exit codes:\n")
	for _, e := range exits {
		fmt.Fprintf(&out, "  %-4d %s\n", e.code, e.meaning)
	}
	return strings.TrimRight(out.String(), "\n")
}

// whenDead is the annotation of commands that end with exitDead: when they do.
const whenDead = "when dead"

// endsDead says of a command when it ends with exitDead.
func endsDead(c *cobra.Command, when string) { c.Annotations = map[string]string{whenDead: when} }

// deadRows is what commands that run a recipe say.
const deadRows = "more rows of an iteration died than `limits.dead_share` allows; `millrace show RUN --dead` says which, and why"

func exitCode(err error) int {
	var config *setting.Error
	var usage *usageError
	var dead *run.DeadShareError
	var found *foundError
	var notBuilt *files.NotBuiltError
	switch {
	case errors.As(err, &config), errors.As(err, &usage), errors.As(err, &notBuilt):
		return exitUsage
	case errors.As(err, &dead), errors.As(err, &found):
		return exitDead
	}
	return exitFailed
}

// usageError marks a mistake on the command line.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }
