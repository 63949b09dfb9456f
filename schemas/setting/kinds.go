package setting

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Kinds are the kinds of a thing that a recipe chooses by name: losses, verifiers, sources, advantages. Each is a type, mostly a
// struct, whose value at registration holds its defaults and whose keys are its own, and which is a T.
type Kinds[T any] struct {
	what string // in messages, such as "loss"
	key  string // that holds the name in a recipe, such as "kind"
	of   map[string]T
	lack map[string]string
}

// NewKinds makes an empty registry.
func NewKinds[T any](what, key string) *Kinds[T] {
	return &Kinds[T]{what: what, key: key, of: map[string]T{}, lack: map[string]string{}}
}

// Lacks names what is known elsewhere and is not among these kinds, with a word on it: who asks for it has not misspelt anything.
func (k *Kinds[T]) Lacks(name, what string) { k.lack[name] = what }

// Register makes a kind known. It panics on a name that is taken and on a pointer: those are mistakes of the program. Defaults may
// break the kind's own ranges: then a recipe has to give what they leave open.
func (k *Kinds[T]) Register(name string, defaults T) {
	if _, ok := k.of[name]; ok {
		panic(fmt.Sprintf("%s %q is registered twice", k.what, name))
	}
	if t := reflect.TypeOf(defaults); t == nil || t.Kind() == reflect.Pointer {
		panic(fmt.Sprintf("%s %q: register a value, which holds the defaults", k.what, name))
	}
	k.of[name] = defaults
}

// fresh is a kind of its own with the defaults, which can be set.
func (k *Kinds[T]) fresh(name string) reflect.Value {
	v := reflect.New(reflect.TypeOf(k.of[name])).Elem()
	v.Set(reflect.ValueOf(k.of[name]))
	return v
}

// Names lists the kinds in alphabetical order.
func (k *Kinds[T]) Names() []string { return slices.Sorted(maps.Keys(k.of)) }

// Key is the key that holds the name of the kind.
func (k *Kinds[T]) Key() string { return k.key }

// Defaults returns a kind as it was registered.
func (k *Kinds[T]) Defaults(name string) (T, bool) {
	d, ok := k.of[name]
	return d, ok
}

// Known checks the name of a kind.
func (k *Kinds[T]) Known(name string) error {
	if _, ok := k.of[name]; ok {
		return nil
	}
	if what, ok := k.lack[strings.ToLower(name)]; ok {
		return Errorf(k.key, "%q (%s) is not among the kinds of %s here; those are %s", name, what, k.what, strings.Join(k.Names(), ", "))
	}
	return Errorf(k.key, "no %s is called %q%s", k.what, name, Suggest(name, k.Names()))
}

// New returns the kind of that name, its defaults overridden by the keys of the tree. Errors are relative to the section.
// A nil tree gives the defaults.
func (k *Kinds[T]) New(name string, tree any) (T, error) {
	var none T
	if err := k.Known(name); err != nil {
		return none, err
	}
	v := k.fresh(name)
	if section, ok := tree.(map[string]any); ok && v.Kind() == reflect.Struct {
		if err := k.notOfKind(name, section); err != nil {
			return none, err
		}
	}
	if tree != nil {
		if err := decode(tree, v, ""); err != nil {
			return none, err
		}
	}
	if err := check(v, ""); err != nil {
		return none, err
	}
	return v.Interface().(T), nil
}

// notOfKind says of a key that only other kinds have which ones those are.
func (k *Kinds[T]) notOfKind(name string, tree map[string]any) error {
	has := func(name, key string) bool {
		t := reflect.TypeOf(k.of[name])
		return t.Kind() == reflect.Struct && slices.ContainsFunc(Fields(t), func(f Field) bool { return f.Key == key && f.Hidden == "" })
	}
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		if slices.ContainsFunc(Fields(reflect.TypeOf(k.of[name])), func(f Field) bool { return f.Key == key }) {
			continue
		}
		var others []string
		for _, other := range k.Names() {
			if has(other, key) {
				others = append(others, other)
			}
		}
		if len(others) > 0 {
			return Errorf(key, "is not read by %s %s; it belongs to %s", k.what, name, strings.Join(others, ", "))
		}
	}
	return nil
}

// DecodeFlat decodes a section that holds the name of the kind beside the kind's own keys, such as {kind: grpo, eps: 0.1}. An
// empty name in the section stands for fallback.
func (k *Kinds[T]) DecodeFlat(tree any, path, fallback string) (name string, out T, err error) {
	section, ok := tree.(map[string]any)
	if !ok {
		return "", out, Errorf(path, "%v is not a section of keys with %s", tree, k.key)
	}
	own := maps.Clone(section)
	delete(own, k.key)
	name = fallback
	if given, ok := section[k.key]; ok {
		if name, ok = given.(string); !ok {
			return "", out, Errorf(Join(path, k.key), "%v is not text", given)
		}
	}
	if name == "" {
		return "", out, Errorf(Join(path, k.key), "is missing%s", Suggest("", k.Names()))
	}
	out, err = k.New(name, own)
	return name, out, In(path, err)
}

// EncodeFlat is the JSON that DecodeFlat reads.
func (k *Kinds[T]) EncodeFlat(name string, of T) ([]byte, error) {
	fields := map[string]any{}
	v := reflect.ValueOf(of)
	if v.IsValid() {
		for _, f := range Fields(v.Type()) {
			if f.Hidden == "" || !v.FieldByIndex(f.Index).IsZero() {
				fields[f.Key] = v.FieldByIndex(f.Index).Interface()
			}
		}
	}
	fields[k.key] = name
	return json.Marshal(fields)
}

// UnmarshalFlat reads what EncodeFlat wrote, fields that follow from other settings included: it is how a configuration comes to
// the workers.
func (k *Kinds[T]) UnmarshalFlat(raw []byte) (name string, out T, err error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return "", out, err
	}
	if err := json.Unmarshal(fields[k.key], &name); err != nil {
		return "", out, Errorf(k.key, "is missing")
	}
	if err := k.Known(name); err != nil {
		return "", out, err
	}
	v := k.fresh(name)
	delete(fields, k.key)
	rest, err := json.Marshal(fields)
	if err == nil {
		err = json.Unmarshal(rest, v.Addr().Interface())
	}
	if err != nil {
		return "", out, err
	}
	return name, v.Interface().(T), nil
}

// DecodeNested decodes settings that kinds share, beside a section that is named after the kind, such as {source: chain, chain:
// {...}}. Name tells the kind once shared is filled. A section of another kind is an error: nothing would read it.
func (k *Kinds[T]) DecodeNested(tree any, path string, shared any, name func() string) (of T, err error) {
	section, ok := tree.(map[string]any)
	if !ok {
		return of, Errorf(path, "%v is not a section of keys", tree)
	}
	own := maps.Clone(section)
	maps.DeleteFunc(own, func(key string, _ any) bool {
		_, kind := k.of[key]
		return kind
	})
	if err := Decode(own, shared, path); err != nil {
		return of, err
	}
	if err := In(path, k.Known(name())); err != nil {
		return of, err
	}
	for _, other := range k.Names() {
		if _, given := section[other]; given && other != name() {
			return of, Errorf(Join(path, other), "is not read: %s is %s", Join(path, k.key), name())
		}
	}
	of, err = k.New(name(), section[name()])
	return of, In(Join(path, name()), err)
}

// EncodeNested is the JSON of shared settings beside a section that is named after the kind, such as {source: chain, chain: {...}}.
func (k *Kinds[T]) EncodeNested(shared any, name string, of T) ([]byte, error) {
	raw, err := json.Marshal(shared)
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // whole numbers stay whole
	if err := d.Decode(&fields); err != nil {
		return nil, err
	}
	if name != "" {
		fields[name] = of
	}
	return json.Marshal(fields)
}

// UnmarshalNested reads what EncodeNested wrote; name tells the kind once shared is filled.
func (k *Kinds[T]) UnmarshalNested(raw []byte, shared any, name func() string) (of T, err error) {
	if err := json.Unmarshal(raw, shared); err != nil || name() == "" {
		return of, err
	}
	if err := k.Known(name()); err != nil {
		return of, err
	}
	var sections map[string]json.RawMessage
	if err := json.Unmarshal(raw, &sections); err != nil {
		return of, err
	}
	v := k.fresh(name())
	if section, ok := sections[name()]; ok {
		if err := json.Unmarshal(section, v.Addr().Interface()); err != nil {
			return of, err
		}
	}
	return v.Interface().(T), nil
}

// SchemaNested describes shared settings beside the section of each kind, without those that are left out.
func (k *Kinds[T]) SchemaNested(shared any, without ...string) *Schema {
	s := SchemaOf(shared)
	for _, name := range k.Names() {
		if slices.Contains(without, name) {
			continue
		}
		own := schemaOf(k.fresh(name))
		own.Description = fmt.Sprintf("settings where %s is %s", k.key, name)
		s.Properties[name] = own
		s.Order = append(s.Order, name)
	}
	if own := s.Properties[k.key]; own != nil {
		own.Enum = slices.DeleteFunc(k.Names(), func(name string) bool { return slices.Contains(without, name) })
		if name, ok := own.Default.(string); ok && !slices.Contains(own.Enum, name) {
			s.require(k.key)
		}
	}
	return s
}
