package safetensors

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/millrace/millrace/models/regular"
)

// openIndex opens the shards that an index names. The index decides: a tensor is read from the shard its weight_map
// gives, and what a shard holds beyond that is left alone.
func openIndex(path string) (_ *File, err error) {
	bad := func(tensor, format string, args ...any) error {
		return &Error{Path: path, Tensor: tensor, Problem: fmt.Sprintf(format, args...)}
	}
	text, err := regular.Read(path, maxHeader)
	if long := (*regular.TooLongError)(nil); errors.As(err, &long) {
		return nil, bad("", "the index is longer than the limit of %d bytes", maxHeader)
	}
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	weights, err := parseIndex(path, text)
	if err != nil {
		return nil, err
	}
	shards := map[string]*File{}
	f := &File{path: path, tensors: make(map[string]Tensor, len(weights))}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	files := make([]string, 0, len(weights))
	for _, file := range weights {
		files = append(files, file)
	}
	slices.Sort(files)
	for _, file := range slices.Compact(files) {
		s, err := openSingle(filepath.Join(filepath.Dir(path), file))
		if err != nil {
			return nil, err
		}
		shards[file] = s
		f.release = append(f.release, s.release...)
		if f.meta == nil {
			f.meta = s.meta
		}
	}
	for name, file := range weights {
		t, ok := shards[file].tensors[name]
		if !ok {
			return nil, bad(name, "the index says it is in %s, which does not hold it", file)
		}
		f.tensors[name] = t
	}
	f.sortNames()
	return f, nil
}

// parseIndex returns the weight_map of an index: tensor name to shard, a plain file name beside the index.
func parseIndex(path string, text []byte) (map[string]string, error) {
	bad := func(tensor, format string, args ...any) error {
		return &Error{Path: path, Tensor: tensor, Problem: fmt.Sprintf(format, args...)}
	}
	if !utf8.Valid(text) {
		return nil, bad("", "index is not valid UTF-8")
	}
	var weights map[string]string
	err := eachMember(text, func(key string, raw json.RawMessage) error {
		if key != "weight_map" {
			return nil
		}
		weights = map[string]string{}
		return eachMember(raw, func(name string, v json.RawMessage) error {
			var file string
			if err := json.Unmarshal(v, &file); err != nil {
				return bad(name, "weight_map entry is not a file name")
			}
			// The index comes with the weights: it must not reach outside their directory, on any platform.
			if !strings.HasSuffix(file, ".safetensors") || strings.ContainsAny(file, "/\\:\x00") || strings.HasPrefix(file, ".") {
				return bad(name, "weight_map entry %q is not the plain name of a .safetensors file beside the index", file)
			}
			weights[name] = file
			return nil
		})
	})
	if _, ok := err.(*Error); ok {
		return nil, err
	}
	if err != nil {
		return nil, bad("", "index: %v", err)
	}
	if len(weights) == 0 {
		return nil, bad("", "index has no weight_map")
	}
	return weights, nil
}
