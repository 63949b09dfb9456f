package pipelines

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/models/losses"
)

// ConfigError says which setting of a recipe is wrong, and what would be right.
type ConfigError struct {
	Path string // such as update.losses[1].p_min
	Why  string
}

func (e *ConfigError) Error() string {
	if e.Path == "" {
		return e.Why
	}
	return e.Path + ": " + e.Why
}

func configErrorf(path, format string, args ...any) error {
	return &ConfigError{Path: path, Why: fmt.Sprintf(format, args...)}
}

// maxRecipeBytes bounds a recipe file; real ones are a few KB.
const maxRecipeBytes = 1 << 20

// parseYAML reads a recipe as a tree of maps, lists and scalars.
func parseYAML(raw []byte) (map[string]any, error) {
	var tree map[string]any
	if len(raw) > maxRecipeBytes {
		return nil, configErrorf("", "recipe of %d bytes; at most %d are read", len(raw), maxRecipeBytes)
	}
	if err := yaml.Unmarshal(raw, &tree); err != nil {
		return nil, configErrorf("", "not valid YAML: %v", err)
	}
	if tree == nil {
		tree = map[string]any{}
	}
	return tree, nil
}

// setPath applies one --set path=value to a tree. The value is read as YAML, so numbers, booleans and lists work.
func setPath(tree map[string]any, assignment string) error {
	path, text, ok := strings.Cut(assignment, "=")
	if !ok || path == "" {
		return configErrorf("--set "+assignment, "want path=value, such as update.optimizer.lr=1e-4")
	}
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		return configErrorf(path, "--set value %q is not valid YAML", text)
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
				return configErrorf(at, "--set: %q is not an index of this list of %d", key, len(n))
			}
			if last {
				n[index] = value
				return nil
			}
			node = n[index]
		default:
			return configErrorf(at, "--set: %s is not a section", strings.Join(keys[:i], "."))
		}
	}
	return nil
}

func splitPath(path string) ([]string, error) {
	path = strings.ReplaceAll(strings.ReplaceAll(path, "[", "."), "]", "")
	keys := strings.Split(path, ".")
	if slices.Contains(keys, "") {
		return nil, configErrorf(path, "--set: empty name in the path")
	}
	return keys, nil
}

// decodeStrict copies a tree into the struct that into points at, over the defaults it already holds. Unknown keys and
// values of the wrong kind are errors that start with the path.
func decodeStrict(tree map[string]any, into any, path string) error {
	if err := checkTree(tree, reflect.TypeOf(into).Elem(), path); err != nil {
		return err
	}
	raw, err := json.Marshal(tree)
	if err != nil {
		return configErrorf(path, "%v", err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return configErrorf(path, "%v", err)
	}
	return nil
}

var rawMessage = reflect.TypeFor[json.RawMessage]()
var jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

func checkTree(node any, typ reflect.Type, path string) error {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if node == nil {
		return configErrorf(path, "no value; want %s", kindName(typ))
	}
	if typ == rawMessage || typ.Kind() == reflect.Interface || reflect.PointerTo(typ).Implements(jsonUnmarshaler) {
		return nil
	}
	mismatch := func() error {
		text := fmt.Sprint(node)
		if len(text) > 60 {
			text = text[:60] + "..."
		}
		return configErrorf(path, "%s is not %s", text, kindName(typ))
	}
	if value, ok := reflect.New(typ).Interface().(encoding.TextUnmarshaler); ok {
		text, ok := node.(string)
		if !ok {
			return mismatch()
		}
		if err := value.UnmarshalText([]byte(text)); err != nil {
			return configErrorf(path, "%v", err) // which the decoder would say without the path
		}
		return nil
	}
	switch typ.Kind() {
	case reflect.Struct:
		section, ok := node.(map[string]any)
		if !ok {
			return mismatch()
		}
		fields := structKeys(typ)
		for _, key := range sortedKeys(section) {
			field, ok := fields[key]
			if !ok {
				return configErrorf(join(path, key), "unknown key%s", losses.Suggest(key, sortedKeys(fields)))
			}
			if err := checkTree(section[key], field, join(path, key)); err != nil {
				return err
			}
		}
	case reflect.Map:
		section, ok := node.(map[string]any)
		if !ok {
			return mismatch()
		}
		for _, key := range sortedKeys(section) {
			if err := checkTree(section[key], typ.Elem(), join(path, key)); err != nil {
				return err
			}
		}
	case reflect.Slice:
		list, ok := node.([]any)
		if !ok {
			return mismatch()
		}
		for i, item := range list {
			if err := checkTree(item, typ.Elem(), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case reflect.String:
		if _, ok := node.(string); !ok {
			return mismatch()
		}
	case reflect.Bool:
		if _, ok := node.(bool); !ok {
			return mismatch()
		}
	case reflect.Float32, reflect.Float64:
		switch node.(type) {
		case float64, int, int64, uint64:
		default:
			return mismatch()
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		switch node.(type) {
		case int, int64, uint64:
		default:
			return mismatch()
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if v := reflect.ValueOf(node); !v.CanUint() && !(v.CanInt() && v.Int() >= 0) {
			return mismatch()
		}
	}
	return nil
}

// structKeys maps the keys of a config struct to the types of its fields, embedded structs included.
func structKeys(typ reflect.Type) map[string]reflect.Type {
	keys := map[string]reflect.Type{}
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case f.Anonymous && name == "":
			for k, v := range structKeys(f.Type) {
				keys[k] = v
			}
		case name == "":
			keys[f.Name] = f.Type
		default:
			keys[name] = f.Type
		}
	}
	return keys
}

func kindName(typ reflect.Type) string {
	if reflect.PointerTo(typ).Implements(textUnmarshaler) {
		return "text"
	}
	switch typ.Kind() {
	case reflect.Struct, reflect.Map:
		return "a section of keys"
	case reflect.Slice:
		return "a list"
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number of at least 0"
	default:
		return "a whole number"
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
