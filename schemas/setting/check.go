package setting

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Interval is a range of numbers, such as [1,inf) or (0,1].
type Interval struct {
	Lo, Hi         float64
	LoOpen, HiOpen bool
	text           string
}

// Given reports whether the interval bounds anything.
func (i Interval) Given() bool { return i.text != "" }

func (i Interval) String() string { return strings.ReplaceAll(i.text, ",", ", ") }

// Holds reports whether x lies in the interval.
func (i Interval) Holds(x float64) bool {
	return (x > i.Lo || !i.LoOpen && x == i.Lo) && (x < i.Hi || !i.HiOpen && x == i.Hi)
}

// check returns an error in the words of the bound that x breaks.
func (i Interval) check(path string, x any, n float64) error {
	switch {
	case i.Holds(n):
		return nil
	case math.IsInf(i.Hi, 1) && i.LoOpen:
		return Errorf(path, "%v is not above %v", x, i.Lo)
	case math.IsInf(i.Hi, 1):
		return Errorf(path, "%v is not at least %v", x, i.Lo)
	}
	return Errorf(path, "%v is not in %v", x, i)
}

func mustInterval(text string) Interval {
	lo, hi, ok := strings.Cut(strings.Trim(text, "[]()"), ",")
	i := Interval{text: text, LoOpen: strings.HasPrefix(text, "("), HiOpen: strings.HasSuffix(text, ")")}
	var err1, err2 error
	i.Lo, err1 = strconv.ParseFloat(lo, 64)
	i.Hi, err2 = strconv.ParseFloat(hi, 64)
	if !ok || err1 != nil || err2 != nil {
		panic(fmt.Sprintf("setting: range %q is not an interval such as [0,1) or (0,inf)", text))
	}
	return i
}

// Check holds a configuration to the ranges and choices of its tags and to its methods Validate, those of the parts before that of
// the whole, and returns the first Error.
func Check(config any) error { return check(reflect.ValueOf(config), "") }

var decoder = reflect.TypeFor[Decoder]()

func check(v reflect.Value, path string) error {
	if !v.IsValid() { // an interface that holds nothing
		return nil
	}
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	if reflect.PointerTo(v.Type()).Implements(decoder) { // its fields are not its settings: it checks them itself
		return In(path, validate(v))
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, f := range Fields(v.Type()) {
			if err := checkField(f, v.FieldByIndex(f.Index), Join(path, f.Key)); err != nil {
				return err
			}
		}
	case reflect.Slice:
		if !structured(v.Type().Elem()) {
			return nil
		}
		for i := range v.Len() {
			if err := check(v.Index(i), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	return In(path, validate(v))
}

func validate(v reflect.Value) error {
	if !v.CanAddr() {
		own := reflect.New(v.Type()).Elem()
		own.Set(v)
		v = own
	}
	if c, ok := v.Addr().Interface().(Validator); ok {
		return c.Validate()
	}
	return nil
}

func structured(typ reflect.Type) bool {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	return typ.Kind() == reflect.Struct || typ.Kind() == reflect.Interface
}

func checkField(f Field, v reflect.Value, path string) error {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if f.Range.Given() {
		if x, ok := number(v); ok {
			if err := f.Range.check(path, v.Interface(), x); err != nil {
				return err
			}
		}
	}
	if f.Enum != nil && v.Kind() == reflect.String && !slices.Contains(f.Enum, v.String()) {
		return OneOf(path, v.String(), f.Enum...)
	}
	if v.Kind() == reflect.Slice && (f.Enum != nil || f.Range.Given()) { // the tags are those of the items
		for i := range v.Len() {
			if err := checkField(f, v.Index(i), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	}
	return check(v, path)
}
