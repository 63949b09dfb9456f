package command

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/models/remote"
)

func init() { commands = append(commands, newProbe) }

func newProbe(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "probe URL",
		Short: "Find out what an OpenAI-compatible endpoint can do",
		Long: "Find out what an endpoint such as http://localhost:8000/v1 can do, with a handful of short requests: token ids, log-probs of\n" +
			"samples and of prompts, several samples at once, seeds. Keys are read from $MILLRACE_API_KEY or $OPENAI_API_KEY.",
		Example: "  millrace probe http://localhost:8000/v1",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			caps, err := remote.Probe(cmd.Context(), args[0], remote.Options{Attempts: 3})
			if err != nil {
				return err
			}
			return e.print(caps, func(w io.Writer) { fmt.Fprint(w, caps) })
		},
	}
}
