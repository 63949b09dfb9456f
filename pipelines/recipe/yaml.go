package recipe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
)

// Load reads a recipe file and applies path=value settings. Errors are setting.Errors: they start with the path of the setting,
// such as update.losses[1].p_min. The config.yaml of a run is a recipe whose run is the directory it lies in.
func Load(ctx context.Context, path string, sets []string) (Recipe, error) {
	raw, err := files.Read(ctx, path, maxRecipeBytes)
	if err != nil {
		return Recipe{}, setting.Errorf("", "%v", err)
	}
	if files.Base(path) == ConfigName {
		sets = append([]string{Set("run", files.Parent(path))}, sets...)
	}
	r, err := Parse(raw, sets)
	return r, From(err, path)
}

// ConfigName is the file of a run that holds its recipe.
const ConfigName = "config.yaml"

// From says of an error in a setting which recipe has it.
func From(err error, recipe string) error {
	var e *setting.Error
	if errors.As(err, &e) {
		return &setting.Error{Path: e.Path, Why: e.Why + " (" + recipe + ")"}
	}
	return err
}

// Parse is Load on the text of a recipe. What depends on the kind is checked when a method is made of it.
func Parse(raw []byte, sets []string) (Recipe, error) {
	tree, err := parseYAML(raw)
	if err != nil {
		return Recipe{}, err
	}
	for _, s := range sets {
		if err := setPath(tree, s); err != nil {
			return Recipe{}, err
		}
	}
	r := Default()
	if err := r.decode(tree); err != nil {
		return Recipe{}, err
	}
	return r, setting.Check(r)
}

// maxRecipeBytes bounds a recipe file; real ones are a few KB.
const maxRecipeBytes = 1 << 20

// parseYAML reads a recipe as a tree of maps, lists and scalars.
func parseYAML(raw []byte) (map[string]any, error) {
	var tree map[string]any
	if len(raw) > maxRecipeBytes {
		return nil, setting.Errorf("", "recipe of %d bytes; at most %d are read", len(raw), maxRecipeBytes)
	}
	in := yaml.NewDecoder(bytes.NewReader(raw))
	if err := in.Decode(&tree); err != nil && err != io.EOF {
		return nil, setting.Errorf("", "not valid YAML: %v", err)
	}
	var more any
	if err := in.Decode(&more); err != io.EOF {
		return nil, setting.Errorf("", "holds more than one YAML document (---); a recipe is one")
	}
	if tree == nil {
		tree = map[string]any{}
	}
	return tree, nil
}

// Set is a path=value setting whose value is a text as it stands, whatever YAML would make of it.
func Set(path, text string) string { return path + "=" + strconv.Quote(text) }

// setPath applies one --set path=value to a tree. The value is read as YAML, so numbers, booleans and lists work; null takes a key that the
// recipe has out of it.
func setPath(tree map[string]any, assignment string) error {
	path, text, ok := strings.Cut(assignment, "=")
	if !ok || path == "" {
		return setting.Errorf("--set "+assignment, "want path=value, such as update.optimizer.lr=1e-4")
	}
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		return setting.Errorf(path, "--set value %q is not valid YAML", text)
	}
	keys, err := splitPath(path)
	if err != nil {
		return err
	}
	var node any = tree
	for i, key := range keys {
		last := i == len(keys)-1
		at := strings.Join(keys[:i+1], ".")
		switch n := node.(type) {
		case map[string]any:
			if last && text == "null" {
				if _, ok := n[key]; !ok {
					return setting.Errorf(at, "--set: the recipe has no such key that null could take out")
				}
				delete(n, key)
				return nil
			}
			if last {
				n[key] = value
				return nil
			}
			if n[key] == nil {
				n[key] = map[string]any{}
			}
			node = n[key]
		case []any:
			index, err := strconv.Atoi(key)
			if err != nil || index < 0 || index >= len(n) {
				return setting.Errorf(at, "--set: %q is not an index of this list of %d", key, len(n))
			}
			if last {
				n[index] = value
				return nil
			}
			node = n[index]
		default:
			return setting.Errorf(at, "--set: %s is not a section", strings.Join(keys[:i], "."))
		}
	}
	return nil
}

func splitPath(path string) ([]string, error) {
	path = strings.ReplaceAll(strings.ReplaceAll(path, "[", "."), "]", "")
	keys := strings.Split(path, ".")
	if slices.Contains(keys, "") {
		return nil, setting.Errorf(path, "--set: empty name in the path")
	}
	return keys, nil
}
