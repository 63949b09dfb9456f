package setting

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// Optional methods of a configuration, on its pointer.
type (
	// Defaulter fills in the defaults of a section that a recipe may leave out, or of an item of a list, before it is decoded.
	Defaulter interface{ SetDefaults() }
	// Decoder decodes itself: a section whose keys depend on a choice inside it. Tree is what YAML or JSON gave.
	Decoder interface {
		DecodeSetting(tree any, path string) error
	}
	// Validator checks what depends on several keys.
	Validator interface{ Validate() error }
)

var (
	rawMessage      = reflect.TypeFor[json.RawMessage]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// Decode copies a tree of maps, lists and scalars, as YAML or JSON give it, into what into points at, over the defaults it already
// holds. Keys that the struct does not have and values of another kind are Errors that start with the path. Keys of a field with
// the tag setting:"-" are not known: such a field follows from other settings.
func Decode(tree, into any, path string) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		panic("setting: Decode wants a pointer to a value")
	}
	return decode(tree, v.Elem(), path)
}

func decode(tree any, v reflect.Value, path string) error {
	if v.Kind() == reflect.Pointer {
		if tree == nil {
			return Errorf(path, "no value; want %s", kindName(v.Type()))
		}
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
			setDefaults(v.Elem())
		}
		return decode(tree, v.Elem(), path)
	}
	if d, ok := pointer[Decoder](v); ok {
		return d.DecodeSetting(tree, path)
	}
	if tree == nil {
		return Errorf(path, "no value; want %s", kindName(v.Type()))
	}
	if v.Type() == rawMessage || v.Kind() == reflect.Interface {
		return viaJSON(tree, v, path)
	}
	if d, ok := pointer[encoding.TextUnmarshaler](v); ok {
		text, ok := tree.(string)
		if !ok {
			return mismatch(tree, v.Type(), path)
		}
		if err := d.UnmarshalText([]byte(text)); err != nil {
			return In(path, err)
		}
		return nil
	}
	if _, ok := pointer[json.Unmarshaler](v); ok {
		return viaJSON(tree, v, path)
	}
	switch v.Kind() {
	case reflect.Struct:
		section, ok := tree.(map[string]any)
		if !ok {
			return mismatch(tree, v.Type(), path)
		}
		fields := Fields(v.Type())
		for _, key := range slices.Sorted(maps.Keys(section)) {
			i := slices.IndexFunc(fields, func(f Field) bool { return f.Key == key })
			if i < 0 || fields[i].Hidden != "" {
				return unknownKey(Join(path, key), key, fields, i)
			}
			if err := decode(section[key], v.FieldByIndex(fields[i].Index), Join(path, key)); err != nil {
				return err
			}
		}
	case reflect.Map:
		section, ok := tree.(map[string]any)
		if !ok {
			return mismatch(tree, v.Type(), path)
		}
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		for _, key := range slices.Sorted(maps.Keys(section)) {
			item := reflect.New(v.Type().Elem()).Elem()
			if err := decode(section[key], item, Join(path, key)); err != nil {
				return err
			}
			v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), item)
		}
	case reflect.Slice:
		list, ok := tree.([]any)
		if !ok {
			return mismatch(tree, v.Type(), path)
		}
		out := reflect.MakeSlice(v.Type(), len(list), len(list))
		for i, item := range list {
			setDefaults(out.Index(i))
			if err := decode(item, out.Index(i), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
		v.Set(out)
	default:
		return decodeScalar(tree, v, path)
	}
	return nil
}

func unknownKey(path, key string, fields []Field, at int) error {
	if at >= 0 {
		return Errorf(path, "is no setting of its own: it follows from %s", fields[at].Hidden)
	}
	var known []string
	for _, f := range fields {
		if f.Hidden == "" {
			known = append(known, f.Key)
		}
	}
	return Errorf(path, "unknown key%s", Suggest(key, known))
}

func decodeScalar(tree any, v reflect.Value, path string) error {
	given := reflect.ValueOf(tree)
	switch v.Kind() {
	case reflect.String:
		if given.Kind() == reflect.String {
			if !utf8.ValidString(given.String()) { // JSON would make another text of it
				return Errorf(path, "is not UTF-8")
			}
			v.SetString(given.String())
			return nil
		}
	case reflect.Bool:
		if given.Kind() == reflect.Bool {
			v.SetBool(given.Bool())
			return nil
		}
	case reflect.Float32, reflect.Float64:
		x, ok := number(given)
		if !ok {
			break
		}
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return Errorf(path, "%v is not finite", x)
		}
		if v.OverflowFloat(x) {
			return Errorf(path, "%v is too large", x)
		}
		if v.Kind() == reflect.Float32 && x != 0 && float32(x) == 0 {
			return Errorf(path, "%v is too small; single precision has no number between it and 0", x)
		}
		v.SetFloat(x)
		return nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		x, ok := whole(given)
		if !ok {
			break
		}
		if v.OverflowInt(x) {
			return Errorf(path, "%v is too large", tree)
		}
		v.SetInt(x)
		return nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if given.CanUint() && !v.OverflowUint(given.Uint()) {
			v.SetUint(given.Uint())
			return nil
		}
		if x, ok := whole(given); ok && x >= 0 && !v.OverflowUint(uint64(x)) {
			v.SetUint(uint64(x))
			return nil
		}
	}
	return mismatch(tree, v.Type(), path)
}

func number(v reflect.Value) (float64, bool) {
	switch {
	case v.CanFloat():
		return v.Float(), true
	case v.CanInt():
		return float64(v.Int()), true
	case v.CanUint():
		return float64(v.Uint()), true
	}
	return 0, false
}

// whole takes whole numbers only; JSON has no others than floats.
func whole(v reflect.Value) (int64, bool) {
	switch {
	case v.CanInt():
		return v.Int(), true
	case v.CanUint():
		return int64(v.Uint()), v.Uint() <= math.MaxInt64
	case v.CanFloat():
		x := v.Float()
		return int64(x), x == math.Trunc(x) && math.Abs(x) < 1<<53
	}
	return 0, false
}

func viaJSON(tree any, v reflect.Value, path string) error {
	raw, err := json.Marshal(tree)
	if err == nil {
		err = json.Unmarshal(raw, v.Addr().Interface())
	}
	return In(path, err)
}

// pointer returns the value's pointer as an I, where it is one.
func pointer[I any](v reflect.Value) (I, bool) {
	if v.CanAddr() {
		if i, ok := v.Addr().Interface().(I); ok {
			return i, true
		}
	}
	var none I
	return none, false
}

func setDefaults(v reflect.Value) {
	if d, ok := pointer[Defaulter](v); ok {
		d.SetDefaults()
	}
}

func mismatch(tree any, typ reflect.Type, path string) error {
	text := fmt.Sprint(tree)
	if len(text) > 60 {
		text = text[:60] + "..."
	}
	return Errorf(path, "%s is not %s", text, kindName(typ))
}

func kindName(typ reflect.Type) string {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
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
	}
	return "a whole number"
}

// Field is a setting of a struct.
type Field struct {
	Key    string
	Index  []int // for reflect's FieldByIndex
	Type   reflect.Type
	Doc    string   // what it means: the tag doc
	Range  Interval // of a number, or of each in a list: the tag range
	Enum   []string // of a text, or of each in a list: the tag enum
	Hidden string   // what it follows from, where it is no setting of its own: the tag follows
	// Filled says that what a recipe gives is not empty, a text or a list: the tag filled.
	Filled bool
}

// Fields lists the settings of a struct type in the order of its fields, those of embedded structs in their place.
func Fields(typ reflect.Type) []Field {
	var out []Field
	for i := range typ.NumField() {
		f := typ.Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case key == "-" || !f.IsExported() && !f.Anonymous:
		case f.Anonymous && key == "" && f.Type.Kind() == reflect.Struct:
			for _, inner := range Fields(f.Type) {
				inner.Index = append([]int{i}, inner.Index...)
				out = append(out, inner)
			}
		case !f.IsExported():
		default:
			if key == "" {
				key = f.Name
			}
			own := Field{Key: key, Index: []int{i}, Type: f.Type, Doc: f.Tag.Get("doc"), Hidden: f.Tag.Get("follows"),
				Filled: f.Tag.Get("filled") != ""}
			if text := f.Tag.Get("range"); text != "" {
				own.Range = mustInterval(text)
			}
			if text, ok := f.Tag.Lookup("enum"); ok {
				own.Enum = strings.Split(text, ",")
			}
			out = append(out, own)
		}
	}
	return out
}
