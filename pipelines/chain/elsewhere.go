package chain

import (
	"context"
	"errors"
	"io/fs"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/transforms/files"
)

// Models in buckets are fetched as the files of runs are.
func init() {
	models.RegisterElsewhere(models.Elsewhere{Scheme: "gs", List: listModel, Fetch: fetchModel})
}

// listModel describes the files of a model: those of a directory, or the one that the path names.
func listModel(ctx context.Context, path string) ([]models.RemoteFile, error) {
	listed, err := files.Below(ctx, path)
	if err == nil && len(listed) == 0 {
		var one files.Info
		if one, err = files.Stat(ctx, path); err == nil {
			listed = []files.Info{one}
		} else if errors.Is(err, fs.ErrNotExist) {
			err = nil // and no files
		}
	}
	out := make([]models.RemoteFile, len(listed))
	for i, f := range listed {
		out[i] = models.RemoteFile{Path: f.Path, Name: f.Name, Size: f.Size, SHA256: f.SHA256, Version: f.Version}
	}
	return out, err
}

func fetchModel(ctx context.Context, listed []models.RemoteFile, to string) error {
	wanted := make([]files.Info, len(listed))
	for i, f := range listed {
		wanted[i] = files.Info{Path: f.Path, Name: f.Name}
	}
	return files.Download(ctx, wanted, to)
}
