package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/netutil"

	"github.com/millrace/millrace/pipelines/look"
)

func init() { commands = append(commands, newWatch) }

func newWatch(e *env) *cobra.Command {
	var port int
	c := &cobra.Command{
		Use:   "watch RUN",
		Short: "Serve the report page of a run on this machine, and follow the run as it goes",
		Long: "Serve the report page of a run at an address of this machine alone and follow the run: curves, alarms, rollouts coloured by\n" +
			"value, dead letters and the ledger change when an iteration is committed. The page loads nothing from elsewhere. Ends with Ctrl-C.",
		Example: "  millrace watch runs/distrl",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			d, err := openRun(ctx, args[0])
			if err != nil {
				return err
			}
			l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				return &usageError{fmt.Errorf("--port %d: %w", port, err)}
			}
			const connections = 64
			server := &http.Server{Handler: look.NewWatch(d), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute,
				MaxHeaderBytes: 64 << 10}
			stop := context.AfterFunc(ctx, func() { _ = server.Close() })
			defer stop()
			fmt.Fprintf(e.out, "http://%s/\n", l.Addr())
			if err := server.Serve(netutil.LimitListener(l, connections)); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
	}
	c.Flags().IntVar(&port, "port", 0, "port of 127.0.0.1; 0: a free one")
	return c
}
