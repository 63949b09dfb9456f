package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/transforms/files"
)

// What a run keeps of its state beside rows and models are JSON files of one value each.

// writeState leaves a value in a file, for people to read too; durable for what a later call goes by after the machine has failed.
func writeState(ctx context.Context, path string, value any, durable bool) error {
	raw, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return files.Write(ctx, path, append(raw, '\n'), durable)
}

// readState reads such a file; nil where there is none. One of a committed iteration is held to its manifest.
func readState[T any](ctx context.Context, path string) (*T, error) {
	raw, err := files.Read(ctx, path, MaxStateBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = commit.CheckPath(ctx, path)
	}
	if err != nil {
		return nil, err
	}
	var out T
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &out, nil
}
