package recipe

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/millrace/millrace/schemas/setting"
)

// sections are those of other modules: by key, a value that holds the defaults.
var sections = map[string]any{}

// RegisterSection makes a section of another module known to recipes. The value holds the defaults; its type says which keys there
// are, and its tags and its method Validate what is allowed (package setting). A recipe that has the section has such a value in
// Extra. It panics on a key that is taken.
func RegisterSection(key string, defaults any) {
	if _, taken := sections[key]; taken || slices.ContainsFunc(setting.Fields(reflect.TypeFor[Recipe]()),
		func(f setting.Field) bool { return f.Key == key }) {
		panic(fmt.Sprintf("recipe: section %q is registered twice", key))
	}
	if t := reflect.TypeOf(defaults); t == nil || t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("recipe: section %q: register a struct value, which holds the defaults", key))
	}
	sections[key] = defaults
}

// Section returns a section of another module; false where the recipe does not have it.
func Section[T any](r Recipe, key string) (T, bool) {
	v, ok := r.Extra[key].(T)
	return v, ok
}

// decode fills the recipe from a tree.
func (r *Recipe) decode(tree map[string]any) error {
	own := map[string]any{}
	for key, value := range tree {
		defaults, registered := sections[key]
		if !registered {
			own[key] = value
			continue
		}
		v := reflect.New(reflect.TypeOf(defaults))
		v.Elem().Set(reflect.ValueOf(defaults))
		if err := setting.Decode(value, v.Interface(), key); err != nil {
			return err
		}
		if r.Extra == nil {
			r.Extra = map[string]any{}
		}
		r.Extra[key] = v.Elem().Interface()
	}
	r.given = tree
	return setting.Decode(own, r, "")
}
