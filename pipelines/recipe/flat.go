package recipe

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Flat is a resolved recipe as a list: the value of every setting by its path, such as update.losses[0].name. Lists of values that are no
// sections stay together. It is nil for a text that is no recipe.
func Flat(raw []byte) map[string]string {
	tree := treeOf(raw)
	if tree == nil {
		return nil
	}
	out := map[string]string{}
	flatten("", tree, out)
	return out
}

func flatten(at string, value any, into map[string]string) {
	switch v := value.(type) {
	case map[string]any:
		for key, item := range v {
			path := key
			if at != "" {
				path = at + "." + key
			}
			flatten(path, item, into)
		}
		if len(v) > 0 {
			return
		}
	case []any:
		sections := false
		for i, item := range v {
			if _, sections = item.(map[string]any); sections {
				flatten(fmt.Sprintf("%s[%d]", at, i), item, into)
			}
		}
		if sections {
			return
		}
	case string:
		into[at] = v
		return
	}
	into[at] = inline(value)
}

// inline is a value as YAML on one line.
func inline(value any) string {
	node := yaml.Node{}
	if err := node.Encode(value); err != nil {
		return fmt.Sprint(value)
	}
	node.Style = yaml.FlowStyle
	raw, err := yaml.Marshal(&node)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(bytes.TrimSpace(raw))
}
