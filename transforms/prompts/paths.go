package prompts

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
)

// Paths name the files of a source: one path or several, each a file, a folder or a pattern such as data/part-*.parquet.
type Paths []string

// DecodeSetting reads one path or a list of them.
func (p *Paths) DecodeSetting(tree any, at string) error {
	switch v := tree.(type) {
	case string:
		*p = Paths{v}
		return nil
	case []any:
		out := make(Paths, len(v))
		for i, item := range v {
			text, ok := item.(string)
			if !ok {
				return setting.Errorf(fmt.Sprintf("%s[%d]", at, i), "want a path")
			}
			out[i] = text
		}
		*p = out
		return nil
	}
	return setting.Errorf(at, "want a path, or a list of paths")
}

// SettingSchema describes both ways.
func (p *Paths) SettingSchema() *setting.Schema {
	return &setting.Schema{OneOf: []*setting.Schema{{Type: "string"}, {Type: "array", Items: &setting.Schema{Type: "string"}}}}
}

// MarshalJSON writes a single path as text.
func (p Paths) MarshalJSON() ([]byte, error) {
	if len(p) == 1 {
		return json.Marshal(p[0])
	}
	if len(p) == 0 {
		return []byte(`""`), nil
	}
	return json.Marshal([]string(p))
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (p *Paths) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*p = nil
		if one != "" {
			*p = Paths{one}
		}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(p))
}

func (p Paths) String() string { return strings.Join(p, ", ") }

// Formats of files, and the endings that tell them, before one of a packed file.
const (
	formatLines   = "jsonl"
	formatArray   = "json"
	formatParquet = "parquet"
	formatArrow   = "arrow"
)

var formatOf = map[string]string{".jsonl": formatLines, ".ndjson": formatLines, ".json": formatArray, ".parquet": formatParquet,
	".arrow": formatArrow}

// formatFor is the format of a file, "" where nothing tells it.
func (f File) formatFor(name string) string {
	if f.Format != "" {
		return f.Format
	}
	return formatOf[files.Suffix(name)]
}

// validatePaths refuses paths that cannot be of data; a folder has any name.
func (f File) validatePaths() error {
	if len(f.Path) == 0 || slices.Contains(f.Path, "") {
		return setting.Errorf("path", "missing; want a .jsonl, .json, .parquet or .arrow file, a folder, a pattern, or a list of them")
	}
	for i, p := range f.Path {
		if end := path.Ext(strings.TrimRight(p, "/")); f.formatFor(p) == "" && end != "" && !strings.ContainsAny(end, "*?[]") {
			return setting.Errorf("format", "%q; want jsonl, json, parquet or arrow, as the name %s does not tell", f.Format, p)
		}
		if slices.Contains(f.Path[:i], p) {
			return setting.Errorf("path", "%s is named twice", p)
		}
	}
	return nil
}

// Paths are the files that are read, in order.
func (f File) Paths(ctx context.Context) ([]string, error) {
	var out []string
	for _, p := range f.Path {
		found, err := files.Expand(ctx, p, func(name string) bool { return f.formatFor(name) != "" })
		if err != nil {
			return nil, err
		}
		for _, name := range found {
			if f.formatFor(name) == "" {
				return nil, setting.Errorf("format", "missing; want jsonl, json, parquet or arrow, as the name %s does not tell", name)
			}
			if !slices.Contains(out, name) { // two patterns may match one file
				out = append(out, name)
			}
		}
	}
	return out, nil
}

func (f File) name() string {
	if f.Name != "" || len(f.Path) == 0 {
		return f.Name
	}
	return path.Base(f.Path[0])
}
