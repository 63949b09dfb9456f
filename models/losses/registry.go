package losses

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"sort"
	"strings"
)

// Configured is a loss whose struct is its configuration: exported fields with json tags, the keys of a recipe.
type Configured interface {
	Loss
	// Validate returns an error that starts with the key, such as "eps_low: 1.5 is not in [0, 1)".
	Validate() error
}

var registry = map[string]Configured{}

// Register makes a loss known under a name, with its defaults. It panics on a name taken or on invalid defaults.
func Register(name string, defaults Configured) {
	if _, ok := registry[name]; ok {
		panic("losses: " + name + " is registered twice")
	}
	if t := reflect.TypeOf(defaults); t.Kind() != reflect.Struct {
		panic("losses: " + name + " must be a struct value")
	}
	if err := defaults.Validate(); err != nil {
		panic("losses: defaults of " + name + ": " + err.Error())
	}
	registry[name] = defaults
}

// Names lists the registered losses in alphabetical order.
func Names() []string {
	names := make([]string, 0, len(registry))
	for name := range registry {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// Keys lists the configuration keys of a loss in the order of its struct, and its defaults.
func Keys(name string) (keys []string, defaults []any) {
	l, ok := registry[name]
	if !ok {
		return nil, nil
	}
	v := reflect.ValueOf(l)
	eachKey(v.Type(), nil, func(key string, index []int) {
		keys = append(keys, key)
		defaults = append(defaults, v.FieldByIndex(index).Interface())
	})
	return keys, defaults
}

// New returns the loss of that name, its defaults overridden by config (as decoded from YAML). An unknown name or key is
// an error that suggests the nearest one.
func New(name string, config map[string]any) (Loss, error) {
	defaults, ok := registry[name]
	if !ok {
		return nil, fmt.Errorf("name: no loss is called %q%s", name, Suggest(name, Names()))
	}
	out := reflect.New(reflect.TypeOf(defaults))
	out.Elem().Set(reflect.ValueOf(defaults))
	if err := decode(out, config); err != nil {
		return nil, err
	}
	l := out.Elem().Interface().(Configured)
	if err := l.Validate(); err != nil {
		return nil, err
	}
	return l, nil
}

func decode(out reflect.Value, config map[string]any) error {
	keys := map[string]reflect.Type{}
	known := []string{}
	eachKey(out.Type().Elem(), nil, func(key string, index []int) {
		keys[key] = out.Type().Elem().FieldByIndex(index).Type
		known = append(known, key)
	})
	given := make([]string, 0, len(config))
	for key := range config {
		given = append(given, key)
	}
	sort.Strings(given)
	for _, key := range given {
		want, ok := keys[key]
		if !ok {
			return fmt.Errorf("%s: unknown key%s", key, Suggest(key, known))
		}
		if config[key] == nil {
			return fmt.Errorf("%s: has no value, want %s", key, kindName(want))
		}
		raw, err := json.Marshal(map[string]any{key: config[key]})
		if err == nil {
			d := json.NewDecoder(bytes.NewReader(raw))
			d.DisallowUnknownFields()
			err = d.Decode(out.Interface())
		}
		if err != nil {
			var number *json.UnsupportedValueError
			if errors.As(err, &number) {
				return fmt.Errorf("%s: %s is not finite", key, number.Str)
			}
			return fmt.Errorf("%s: %v is not %s", key, config[key], kindName(want))
		}
	}
	return nil
}

// eachKey visits the json keys of a struct, embedded structs included.
func eachKey(t reflect.Type, prefix []int, f func(key string, index []int)) {
	for i := 0; i < t.NumField(); i++ {
		field := t.Field(i)
		index := append(append([]int{}, prefix...), i)
		if field.Anonymous && field.Type.Kind() == reflect.Struct {
			eachKey(field.Type, index, f)
			continue
		}
		if key, _, _ := strings.Cut(field.Tag.Get("json"), ","); key != "" && key != "-" {
			f(key, index)
		}
	}
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Float64:
		return "a number"
	case reflect.Int:
		return "a whole number"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	}
	return t.String()
}

// Suggest ends an error about a word that is not known: with the known word nearest to it, or with all of them when none is
// near.
func Suggest(word string, known []string) string {
	word = strings.ToLower(word)
	best, at := math.MaxInt, ""
	for _, k := range known {
		if d := distance(word, k); d < best {
			best, at = d, k
		}
	}
	switch {
	case len(known) == 0:
		return "; there are none"
	case best <= max(2, len(at)/3):
		return fmt.Sprintf("; did you mean %q?", at)
	}
	return "; known: " + strings.Join(known, ", ")
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// Checks that Validate methods share.

func inRange(key string, x, lo, hi float64) error {
	if !(x >= lo && x <= hi) {
		return fmt.Errorf("%s: %v is not in [%v, %v]", key, x, lo, hi)
	}
	return nil
}

func atLeast(key string, x, lo float64) error {
	if !(x >= lo) || math.IsInf(x, 0) {
		return fmt.Errorf("%s: %v is not a finite number of at least %v", key, x, lo)
	}
	return nil
}

func above(key string, x, lo float64) error {
	if !(x > lo) || math.IsInf(x, 0) {
		return fmt.Errorf("%s: %v is not a finite number above %v", key, x, lo)
	}
	return nil
}

func oneOf(key, x string, known ...string) error {
	for _, k := range known {
		if x == k {
			return nil
		}
	}
	return fmt.Errorf("%s: %q is not one of %s%s", key, x, strings.Join(known, ", "), didYouMean(x, known))
}

func didYouMean(word string, known []string) string {
	if s := Suggest(word, known); strings.HasPrefix(s, "; did") {
		return s
	}
	return ""
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
