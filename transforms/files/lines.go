package files

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
)

// maxLinesBytes bounds a file of lines, which is read as a whole.
const maxLinesBytes = 1 << 30

// ReadLines reads a file of JSON objects, one a line.
func ReadLines[T any](ctx context.Context, path string) ([]T, error) {
	raw, err := Read(ctx, path, maxLinesBytes)
	if err != nil {
		return nil, err
	}
	var out []T
	for i, line := range bytes.Split(raw, []byte("\n")) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var item T
		if err := json.Unmarshal(line, &item); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, i+1, err)
		}
		out = append(out, item)
	}
	return out, nil
}

// WriteLines writes a file of JSON objects, one a line.
func WriteLines[T any](ctx context.Context, path string, items []T) error {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	for _, item := range items {
		if err := enc.Encode(item); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return Write(ctx, path, out.Bytes(), false)
}
