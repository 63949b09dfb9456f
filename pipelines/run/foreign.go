package run

import (
	"context"
	"slices"
	"strings"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/telemetry"
	"github.com/millrace/millrace/transforms/files"
)

const (
	// ReportName is the page of a run, which `millrace report` writes into its directory.
	ReportName = "report.html"
	// RetryName is the folder of rows that `millrace retry` takes out of dead letters.
	RetryName = "retry"
)

// Foreign lists what lies in a directory and no run writes there: files of others, further runs.
func Foreign(ctx context.Context, dir string) ([]string, error) {
	listed, err := files.Below(ctx, dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, f := range listed {
		top, _, below := strings.Cut(f.Name, "/")
		if !written(top, below) && !slices.Contains(out, top) {
			out = append(out, top)
		}
	}
	return out, nil
}

// written reports whether runs write a file, or a folder, of that name into their directory.
func written(name string, folder bool) bool {
	if folder {
		return iterPattern.MatchString(name) || strings.HasPrefix(name, chain.StartPrefix) || strings.HasPrefix(name, measure.ScratchPrefix) ||
			files.IsTemporary(name) || slices.Contains([]string{ConfigsName, telemetry.Dir, RetryName, chain.HandoverName}, name)
	}
	return files.IsTemporary(name) || slices.Contains([]string{recipe.ConfigName, BestName, ForkName, ReportName, files.LockName}, name)
}
