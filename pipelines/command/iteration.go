package command

import (
	"context"
	"fmt"
	"strings"

	"github.com/millrace/millrace/pipelines/run"
)

// checkIteration refuses --iteration where nothing that is named has iterations: it would be left unread.
func checkIteration(ctx context.Context, iteration int, targets ...string) error {
	if iteration == -1 {
		return nil
	}
	if iteration < -1 {
		return &usageError{fmt.Errorf("--iteration %d: want an iteration from 0, or -1", iteration)}
	}
	for _, target := range targets {
		if _, err := run.Read(ctx, target); err == nil {
			return nil
		}
	}
	return &usageError{fmt.Errorf("--iteration %d is of a run; no run is named (%s)", iteration, strings.Join(targets, ", "))}
}
