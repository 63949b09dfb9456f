// Millrace turns prompts into a better policy: rollouts, outcome labels, prefix values, advantages and the model update as
// one typed dataflow of Apache Beam transforms over Arrow records.
package main

import (
	"os"

	"github.com/millrace/millrace/pipelines/command"
	"github.com/millrace/millrace/pipelines/telemetry"
	"github.com/millrace/millrace/runners"
)

func main() {
	if args := os.Args[1:]; runners.IsWorker(args) {
		os.Exit(runners.ServeWorker(args, telemetry.Worker))
	}
	os.Exit(command.Main(os.Args[1:], os.Stdout, os.Stderr))
}
