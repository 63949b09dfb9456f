package pipelines

import (
	"context"
	"errors"
	"io/fs"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/transforms/stage"
)

// Models in buckets are fetched as the files of runs are.
func init() {
	models.RegisterElsewhere(models.Elsewhere{Scheme: "gs", List: listModel, Fetch: fetchModel})
}

// listModel describes the files of a model: those of a directory, or the one that the path names.
func listModel(ctx context.Context, path string) ([]models.RemoteFile, error) {
	files, err := stage.FilesBelow(ctx, path)
	if err == nil && len(files) == 0 {
		var one stage.FileInfo
		if one, err = stage.Stat(ctx, path); err == nil {
			files = []stage.FileInfo{one}
		} else if errors.Is(err, fs.ErrNotExist) {
			err = nil // and no files
		}
	}
	out := make([]models.RemoteFile, len(files))
	for i, f := range files {
		out[i] = models.RemoteFile{Path: f.Path, Name: f.Name, Size: f.Size, SHA256: f.SHA256, Version: f.Version}
	}
	return out, err
}

func fetchModel(ctx context.Context, files []models.RemoteFile, to string) error {
	wanted := make([]stage.FileInfo, len(files))
	for i, f := range files {
		wanted[i] = stage.FileInfo{Path: f.Path, Name: f.Name}
	}
	return stage.Download(ctx, wanted, to)
}
