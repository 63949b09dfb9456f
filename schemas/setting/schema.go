package setting

import (
	"encoding/json"
	"math"
	"reflect"
)

// Schema is the part of JSON Schema (draft 2020-12) that describes settings: editors complete from it, and docs/settings.md is
// made of it.
type Schema struct {
	Draft       string             `json:"$schema,omitempty"`
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        string             `json:"type,omitempty"`
	Const       any                `json:"const,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Default     any                `json:"default,omitempty"`
	Minimum     *float64           `json:"minimum,omitempty"`
	Maximum     *float64           `json:"maximum,omitempty"`
	Above       *float64           `json:"exclusiveMinimum,omitempty"`
	Below       *float64           `json:"exclusiveMaximum,omitempty"`
	MinLength   int                `json:"minLength,omitempty"`
	MinItems    int                `json:"minItems,omitempty"`
	Items       *Schema            `json:"items,omitempty"`
	Properties  map[string]*Schema `json:"properties,omitempty"`
	Order       []string           `json:"-"` // of the properties, as the struct has them
	Required    []string           `json:"required,omitempty"`
	OneOf       []*Schema          `json:"oneOf,omitempty"`
	Closed      *bool              `json:"additionalProperties,omitempty"` // false: no other keys
	Range       string             `json:"-"`                              // in words
	Optional    bool               `json:"-"`                              // a section that is there only where a recipe has it
}

// Described is implemented by what decodes itself: it says what it reads.
type Described interface{ SettingSchema() *Schema }

var closed = false

// SchemaOf describes a configuration; the value holds the defaults.
func SchemaOf(config any) *Schema {
	v := reflect.New(reflect.TypeOf(config)).Elem()
	v.Set(reflect.ValueOf(config))
	return schemaOf(v)
}

func schemaOf(v reflect.Value) *Schema {
	if v.Kind() == reflect.Pointer {
		inner := reflect.New(v.Type().Elem()).Elem()
		if v.IsNil() {
			setDefaults(inner)
		} else {
			inner.Set(v.Elem())
		}
		return schemaOf(inner)
	}
	if d, ok := pointer[Described](v); ok {
		return d.SettingSchema()
	}
	if v.Type() == rawMessage || v.Kind() == reflect.Interface || v.Kind() == reflect.Map {
		return &Schema{Type: "object"}
	}
	if v.Type().Implements(textMarshaler) || reflect.PointerTo(v.Type()).Implements(textUnmarshaler) {
		return &Schema{Type: "string", Default: defaultOf(v)}
	}
	switch v.Kind() {
	case reflect.Struct:
		s := &Schema{Type: "object", Properties: map[string]*Schema{}, Closed: &closed}
		for _, f := range Fields(v.Type()) {
			if f.Hidden == "" {
				s.add(f, v.FieldByIndex(f.Index))
			}
		}
		return s
	case reflect.Slice:
		item := reflect.New(v.Type().Elem()).Elem()
		setDefaults(item)
		return &Schema{Type: "array", Items: schemaOf(item), Default: defaultOf(v)}
	case reflect.String:
		return &Schema{Type: "string", Default: defaultOf(v)}
	case reflect.Bool:
		return &Schema{Type: "boolean", Default: defaultOf(v)}
	case reflect.Float32, reflect.Float64:
		return &Schema{Type: "number", Default: defaultOf(v)}
	}
	out := &Schema{Type: "integer", Default: defaultOf(v)}
	if v.CanUint() {
		out.Minimum = new(float64)
	}
	return out
}

func (s *Schema) add(f Field, v reflect.Value) {
	own := schemaOf(v)
	if own.Description == "" {
		own.Description = f.Doc
	}
	own.Optional = f.Type.Kind() == reflect.Pointer
	held := own
	if own.Type == "array" {
		held = own.Items
	}
	if f.Enum != nil {
		held.Enum = f.Enum
	}
	if f.Filled && own.Type == "array" {
		own.MinItems = 1
	} else if f.Filled {
		own.MinLength = 1
	}
	if f.Range.Given() {
		held.Range = f.Range.String()
		held.bound(f.Range)
	}
	s.Properties[f.Key] = own
	s.Order = append(s.Order, f.Key)
	if checkField(f, v, "") != nil && own.Properties == nil && own.OneOf == nil { // it has to be given
		s.require(f.Key)
	}
}

// require says of a property that it has no default.
func (s *Schema) require(key string) {
	s.Properties[key].Default = nil
	s.Required = append(s.Required, key)
}

func (s *Schema) bound(i Interval) {
	lo, hi := i.Lo, i.Hi
	if !math.IsInf(lo, -1) {
		if i.LoOpen {
			s.Above = &lo
		} else {
			s.Minimum = &lo
		}
	}
	if !math.IsInf(hi, 1) {
		if i.HiOpen {
			s.Below = &hi
		} else {
			s.Maximum = &hi
		}
	}
}

var textMarshaler = reflect.TypeFor[interface{ MarshalText() ([]byte, error) }]()

// defaultOf is a default as JSON has it; nil where there is none.
func defaultOf(v reflect.Value) any {
	if v.Kind() == reflect.Slice && v.Len() == 0 {
		return nil
	}
	raw, err := json.Marshal(v.Interface())
	if err != nil {
		return nil
	}
	var out any
	if json.Unmarshal(raw, &out) != nil {
		return nil
	}
	return out
}

// SchemaFlat describes a section that DecodeFlat reads: for each kind, the keys that it has.
func (k *Kinds[T]) SchemaFlat(fallback string) *Schema {
	s := &Schema{Type: "object", Properties: map[string]*Schema{k.key: {Type: "string", Enum: k.Names()}}, Order: []string{k.key}}
	if fallback != "" {
		s.Properties[k.key].Default = fallback
	} else {
		s.Required = []string{k.key}
	}
	s.Properties[k.key].Description = k.what + "; its own keys stand beside it"
	for _, name := range k.Names() {
		own := schemaOf(k.fresh(name))
		own.Title = name
		own.Properties[k.key] = &Schema{Const: name}
		if name != fallback { // else a section without a name would fit every kind that has its keys
			own.Required = append(own.Required, k.key)
		}
		s.OneOf = append(s.OneOf, own)
	}
	return s
}
