// Package setting is what every part that people configure is written against: one typed error that names the setting, one strict
// decoder, ranges and choices that are said once, as tags of a field, and read by the decoder, by the checks, by the JSON Schema and
// by the docs alike, and a registry of kinds that are chosen by name.
//
// A configuration is a struct whose exported fields have json tags, the keys of a recipe:
//
//	type Config struct {
//		Samples int     `json:"samples" range:"[1,inf)" doc:"responses a prompt"`
//		Norm    string  `json:"norm" enum:"l1,l2" doc:"norm of the gradient"`
//		Share   float64 `json:"share" range:"(0,1]" doc:"share of rows that are kept"`
//	}
//
// Its value before decoding holds the defaults. What depends on several keys belongs into a method Validate() error, whose errors
// are made by Errorf.
package setting

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// Error says which setting is wrong, and what would be right.
type Error struct {
	Path string // such as update.losses[1].p_min; "" for the whole
	Why  string
}

func (e *Error) Error() string {
	if e.Path == "" {
		return e.Why
	}
	return e.Path + ": " + e.Why
}

// Errorf makes an Error.
func Errorf(path, format string, args ...any) error {
	return &Error{Path: path, Why: fmt.Sprintf(format, args...)}
}

// In places an error of a part under the path of the whole: an Error of key p_min in losses[1] is one of losses[1].p_min. Other
// errors become an Error at the path. Nil stays nil.
func In(path string, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return &Error{Path: Join(path, e.Path), Why: e.Why}
	}
	return &Error{Path: path, Why: err.Error()}
}

// Join puts a key or an index such as [1] after a path.
func Join(path, key string) string {
	switch {
	case path == "":
		return key
	case key == "" || strings.HasPrefix(key, "["):
		return path + key
	}
	return path + "." + key
}

// First returns the first error that is not nil.
func First(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// OneOf checks that x is one of the known words.
func OneOf(path, x string, known ...string) error {
	for _, k := range known {
		if x == k {
			return nil
		}
	}
	return Errorf(path, "%q is not one of %s%s", x, strings.Join(known, ", "), Nearest(x, known))
}

// Suggest ends an error about a word that is not known: with the known word nearest to it, or with all of them when none is near.
func Suggest(word string, known []string) string {
	if s := Nearest(word, known); s != "" {
		return s
	}
	if len(known) == 0 {
		return "; there are none"
	}
	return "; known: " + strings.Join(known, ", ")
}

// Nearest ends an error about a word that is not known with the known word that differs by at most a third of its letters, where there is
// one. Words of four letters and fewer may differ by one: between gspo and dpo lie two, and they have nothing to do with each other.
func Nearest(word string, known []string) string {
	word = strings.ToLower(word)
	best, at := math.MaxInt, ""
	for _, k := range known {
		if d := distance(word, strings.ToLower(k)); d < best {
			best, at = d, k
		}
	}
	allowed := max(2, len(at)/3)
	if min(len(at), len(word)) <= 4 {
		allowed = 1
	}
	if best > allowed {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", at)
}

// distance is the least number of letters to put in, take out or replace, and of neighbours to swap, none twice (optimal string alignment).
func distance(a, b string) int {
	var before []int // the row before that before row
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
