package remote

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// cache keeps the answers to requests as files named by the SHA-256 of what was asked: of whom, which weights the server says it
// serves, and the whole request, seed and sample numbers included. A replayed bundle finds its answers and samples nothing again.
// Only answers that were checked are kept.
type cache struct {
	dir string // none when empty
}

// key names a request.
func (c cache) key(base, weights, path string, body any) (string, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return "", fmt.Errorf("remote: %w", err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%s", base, weights, path, text))
	return hex.EncodeToString(sum[:]), nil
}

func (c cache) path(key string) string { return filepath.Join(c.dir, key[:2], key+".json") }

// get returns a kept answer. A file that cannot be read is as good as none.
func (c cache) get(key string) ([]byte, bool) {
	if c.dir == "" {
		return nil, false
	}
	text, err := os.ReadFile(c.path(key))
	return text, err == nil && json.Valid(text)
}

// put keeps an answer; the file appears complete or not at all.
func (c cache) put(key string, text []byte) error {
	if c.dir == "" {
		return nil
	}
	path := c.path(key)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("remote: cache: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".*.tmp")
	if err != nil {
		return fmt.Errorf("remote: cache: %w", err)
	}
	_, err = tmp.Write(text)
	if e := tmp.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
		return fmt.Errorf("remote: cache: %w", err)
	}
	return nil
}
