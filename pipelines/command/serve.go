package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	_ "github.com/millrace/millrace/models/local" // opens model directories and GGUF files
	"github.com/millrace/millrace/models/serve"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/transforms/files"
)

// serveKey is the environment variable with the key that clients have to send.
const serveKey = "MILLRACE_SERVE_KEY"

func init() { commands = append(commands, newServe) }

func newServe(e *env) *cobra.Command {
	var addr, name, reload string
	var hosts []string
	var precision kernels.Precision
	var limits serve.Limits
	c := &cobra.Command{
		Use:   "serve MODEL",
		Short: "Offer a model to others over HTTP",
		Long: "Offer a model, a directory or a GGUF file, in the completions protocol of OpenAI-compatible servers, with token ids and\n" +
			"log-probs of prompts. Another millrace uses it as http://ADDR/v1?tokenizer=MODEL and gets the same bits as from the model itself.\n" +
			"Clients have to send the key in $" + serveKey + ", if that is set. SIGTERM and SIGINT let requests under way end, a second\n" +
			"one does not.",
		Example: "  millrace serve models/small --addr localhost:8000",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key := os.Getenv(serveKey)
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return &usageError{fmt.Errorf("--addr %q is not HOST:PORT", addr)}
			}
			if key == "" && host != "localhost" && !net.ParseIP(host).IsLoopback() {
				return &usageError{fmt.Errorf("--addr %s can be reached from other machines: set $%s to a key, or listen on localhost", addr, serveKey)}
			}
			open := func(ctx context.Context, path string) (models.Model, serve.Options, func() error, error) {
				return e.served(ctx, models.Ref{Path: path, Precision: precision}, name, key, hosts, limits)
			}
			if name == "" {
				name = strings.TrimSuffix(files.Base(args[0]), ".gguf")
			}
			var s interface {
				Serve(context.Context, net.Listener) error
				Close()
			}
			if reload != "" {
				if s, err = serve.NewSwap(cmd.Context(), args[0], reload, open); err != nil {
					return err
				}
			} else {
				model, o, release, err := open(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				defer func() { _ = release() }()
				if s, err = serve.New(model, o); err != nil {
					return err
				}
			}
			defer s.Close()
			l, err := net.Listen("tcp", addr)
			if err != nil {
				return err
			}
			fmt.Fprintf(e.err, "millrace: %s at http://%s/v1?model=%s\n", name, l.Addr(), name)
			context.AfterFunc(cmd.Context(), func() { signal.Reset(os.Interrupt, syscall.SIGTERM) })
			return s.Serve(cmd.Context(), l)
		},
	}
	c.Flags().StringVar(&addr, "addr", "localhost:8000", "where to listen; port 0 takes a free one")
	c.Flags().StringVar(&name, "name", "", "what the model is called (default: the name of its file or directory)")
	c.Flags().StringVar(&reload, "reload", "", "take other weights from below this directory, by POST /update_weights_from_disk as "+
		"SGLang has it")
	c.Flags().StringSliceVar(&hosts, "host", nil, "a name by which clients without a key may call this server, besides localhost")
	c.Flags().IntVar(&limits.MaxPrompt, "max-prompt", 1<<14, "tokens of a prompt at most")
	c.Flags().IntVar(&limits.MaxTokens, "max-tokens", 8192, "tokens of a response at most")
	c.Flags().IntVar(&limits.MaxWork, "max-work", 1<<18, "tokens of a request at most, its prompt and all its samples together")
	c.Flags().DurationVar(&limits.Grace, "grace", 30*time.Second, "for requests under way when the server is told to end")
	c.Flags().TextVar(&precision, "precision", kernels.Float32, "of the model's products: float32, bfloat16, bfloat16-tiles, or fast: "+
		"which of these is fast here")
	return c
}

// served opens a model as it is offered.
func (e *env) served(ctx context.Context, ref models.Ref, name, key string, hosts []string, limits serve.Limits) (models.Model,
	serve.Options, func() error, error) {
	model, err := models.Acquire(ctx, ref)
	if err != nil {
		return nil, serve.Options{}, nil, err
	}
	tok, err := tokenizer.Open(ctx, model.Ref)
	if err != nil {
		var none *tokenizer.Error
		if !errors.As(err, &none) {
			return nil, serve.Options{}, nil, errors.Join(err, model.Release())
		}
		fmt.Fprintf(e.err, "millrace: no text, token ids only: %v\n", err)
	}
	o := serve.Options{Name: name, Digest: model.Ref.Identity(), Tokenizer: tok, Key: key, Hosts: hosts, Limits: limits,
		Report: func(format string, args ...any) { fmt.Fprintf(e.err, "millrace: "+format+"\n", args...) }}
	if sized, ok := model.Model.(interface{ MaxPositions() int }); ok {
		o.MaxLen = sized.MaxPositions()
	}
	return model, o, model.Release, nil
}
