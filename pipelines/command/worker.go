package command

import (
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/telemetry"
	"github.com/millrace/millrace/runners"
)

func init() { commands = append(commands, newWorker) }

func newWorker(e *env) *cobra.Command {
	var listen string
	c := &cobra.Command{
		Use:   "worker",
		Short: "Serve a pool of workers for the TaskManager on this machine",
		Long: "Serve a pool of workers for the TaskManager on this machine (runner.flink.environment: external, runner.flink.pool: the\n" +
			"address). All workers of the pool share the loaded models, which are released when the job ends.",
		Example: "  millrace worker --listen localhost:50000",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			job, end := telemetry.Pool()
			defer end()
			return runners.ServePool(cmd.Context(), listen, func(at net.Addr) {
				fmt.Fprintf(e.err, "millrace worker: pool at %s\n", at)
			}, job)
		},
	}
	c.Flags().StringVar(&listen, "listen", "localhost:50000", "host:port; the pool trusts whoever reaches it")
	return c
}
