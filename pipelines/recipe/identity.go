package recipe

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"
)

// free are the settings that change nothing of what an iteration computes: how many there are, what ends the run, how a policy is
// measured. A run goes on with other ones. What a reward model's gate reads is not among them.
func free(kind string, gated bool) [][]string {
	out := [][]string{{"iterations"}, {"keep"}, {"audit", "max_gap"}, {"importance", "limit"}}
	for _, key := range []string{"dead_share", "repeated_share", "idle", "kl", "echo_share", "entropy", "length_factor"} {
		out = append(out, []string{"limits", key})
	}
	if kind != "refresh" && !gated {
		return append(out, []string{"evaluate"})
	}
	out = append(out, []string{"evaluate", "best"}, []string{"evaluate", "sets"})
	if kind != "refresh" { // which promotes the models that it measures, and no others
		out = append(out, []string{"evaluate", "every"})
	}
	return out
}

// Identity is a resolved recipe without the settings that a run may go on with other ones of: by its digest a run is known. A text that
// is no recipe, as a method of another module may have, is its own identity.
func Identity(raw []byte) []byte {
	tree := treeOf(raw)
	if tree == nil {
		return raw
	}
	kind, _ := tree["kind"].(string)
	reward, _ := tree["reward"].(map[string]any)
	for _, path := range free(kind, reward["refresh"] != nil) {
		section := tree
		for _, key := range path[:len(path)-1] {
			section, _ = section[key].(map[string]any)
		}
		delete(section, path[len(path)-1])
	}
	out, err := yaml.Marshal(tree)
	if err != nil {
		return raw
	}
	return out
}

// treeOf is a recipe as a tree, nil for another text.
func treeOf(raw []byte) map[string]any {
	var tree map[string]any
	if err := yaml.Unmarshal(raw, &tree); err != nil || tree["kind"] == nil || tree["prompts"] == nil {
		return nil
	}
	return tree
}

// Change is a setting that differs between two recipes; null where one does not have it.
type Change struct {
	Path string `json:"path"`
	Was  any    `json:"was"`
	Is   any    `json:"is"`
}

func (c Change) String() string {
	return fmt.Sprintf("%s: %s, was %s", c.Path, short(c.Is), short(c.Was))
}

// short is a value on one line.
func short(value any) string {
	if value == nil {
		return "nothing"
	}
	const most = 120
	text := inline(value)
	if len(text) > most {
		text = text[:most] + "…"
	}
	return text
}

// Changes are the settings in which two resolved recipes differ, in the order of their paths.
func Changes(was, is []byte) []Change { return changes("", treeOf(was), treeOf(is)) }

func changes(at string, was, is map[string]any) (out []Change) {
	keys := slices.Collect(maps.Keys(was))
	for key := range is {
		if _, ok := was[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		path := key
		if at != "" {
			path = at + "." + key
		}
		a, inA := was[key].(map[string]any)
		b, inB := is[key].(map[string]any)
		switch {
		case inA && inB:
			out = append(out, changes(path, a, b)...)
		case !equal(was[key], is[key]):
			out = append(out, Change{path, was[key], is[key]})
		}
	}
	return out
}

// equal compares values as they are written.
func equal(a, b any) bool {
	x, err1 := yaml.Marshal(a)
	y, err2 := yaml.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// Before is the value that was, on one line.
func (c Change) Before() string { return short(c.Was) }

// After is the value that is, on one line.
func (c Change) After() string { return short(c.Is) }
