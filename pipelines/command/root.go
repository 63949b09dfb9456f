// Package command is the command line: one file a command, each a thin layer over package pipelines. Results go to standard
// output, progress and logs to standard error.
package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/pipelines/telemetry"
	"github.com/millrace/millrace/pipelines/terminal"
	"github.com/millrace/millrace/schemas/setting"
)

// env is what a command reads and writes besides its flags.
type env struct {
	out, err io.Writer
	json     bool
}

// commands is the table of all commands; a new one is a file and a line here.
var commands = []func(*env) *cobra.Command{}

// Main runs the program with the arguments after its name and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer slog.SetDefault(slog.Default())
	telemetry.SetLogs(stderr, telemetry.Default().Log)
	root := newRoot(&env{out: stdout, err: stderr})
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "millrace: interrupted; the same command again goes on from the last committed iteration")
		return exitInterrupted
	}
	fmt.Fprintf(stderr, "millrace: %s\n", terminal.Text(err.Error()))
	return exitCode(err)
}

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:           "millrace",
		Short:         "Dataflow for reasoning RL: from prompts to a better policy",
		Long:          "Dataflow for reasoning RL: from prompts to a better policy.\n\n" + exitText(),
		Version:       run.Version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				var names []string
				for _, c := range cmd.Commands() {
					names = append(names, c.Name())
				}
				return &usageError{fmt.Errorf("unknown command %q%s; see millrace --help", args[0], setting.Nearest(args[0], names))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().BoolVar(&e.json, "json", false, "print the result as JSON")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &usageError{fmt.Errorf("%w%s", err, nearestFlag(c, err))}
	})
	for _, command := range commands {
		c := command(e)
		if args := c.Args; args != nil {
			c.Args = func(cmd *cobra.Command, given []string) error {
				if err := args(cmd, given); err != nil {
					return &usageError{fmt.Errorf("%w; usage: %s", err, cmd.UseLine())}
				}
				return nil
			}
		}
		root.AddCommand(c)
	}
	return root
}

// nearestFlag ends an error about a flag that is not known.
func nearestFlag(c *cobra.Command, err error) string {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return ""
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
	return setting.Nearest("--"+unknown.GetSpecifiedName(), names)
}

// print writes a result: as JSON when asked, else through text, in which nothing can act on a terminal: answers, names and messages
// are other people's.
func (e *env) print(result any, text func(io.Writer)) error {
	if !e.json {
		var all bytes.Buffer
		text(&all)
		_, err := io.WriteString(e.out, terminal.Text(all.String()))
		return err
	}
	enc := json.NewEncoder(e.out)
	enc.SetIndent("", "  ")
	return enc.Encode(result)
}
