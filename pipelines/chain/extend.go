package chain

import (
	"maps"
	"slices"

	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// made makes the nodes of stages of other modules from their sections, by key.
var made = map[string]func(section any) Node{}

// Register makes a stage of another module known to recipes: a recipe that has a section of that key has the stage in its chain,
// set up by the section, as early as its contract allows and before the stages that need what it adds. It registers the stage
// with Beam too. Call it once, in the init function of the stage's package.
func Register[M any, P stage.MapperPtr[M]](key string, defaults M) {
	stage.Register[M, P]()
	recipe.RegisterSection(key, defaults)
	made[key] = func(section any) Node {
		m := section.(M)
		return Node{Contract: P(&m).Contract(), Section: key,
			Add: func(f *Flow) { f.Then(stage.Apply[M, P](f.Scope, m, f.Rows)) }}
	}
}

// extra are the nodes of other modules' sections, in the order of their keys.
func extra(r recipe.Recipe) []Node {
	var out []Node
	for _, key := range slices.Sorted(maps.Keys(r.Extra)) {
		if make, ok := made[key]; ok {
			out = append(out, make(r.Extra[key]))
		}
	}
	return out
}

// Arrange puts further nodes into a chain, each as early as its contract allows: after the last of the nodes that add what it
// needs. Among further nodes those that others need come first. A node whose needs nobody adds comes last before the rows are
// kept, where Plan says so.
func Arrange(nodes, further []Node) []Node {
	out := slices.Clone(nodes)
	left := slices.Clone(further)
	for len(left) > 0 {
		k, at := 0, -1
		for i := range left {
			if p := earliest(out, left[i].Contract); p >= 0 {
				k, at = i, p
				break
			}
		}
		if at < 0 {
			at = slices.IndexFunc(out, func(n Node) bool { return n.Contract.Name == keepName })
			if at < 0 {
				at = len(out)
			}
		}
		out = slices.Insert(out, at, left[k])
		left = slices.Delete(left, k, k+1)
	}
	return out
}

// earliest is the first place at which all that a stage needs is there, -1 where it never is. Stages that make other rows of
// which the needed columns are gone end the search.
func earliest(nodes []Node, c schemas.Contract) int {
	var known schemas.Known
	for i := 0; ; i++ {
		if i > 0 && !slices.ContainsFunc(c.Needs, func(d schemas.Descriptor) bool { return !known.Has(d.Describe().Name) }) {
			return i
		}
		if i == len(nodes) {
			return -1
		}
		next, err := known.Then(nodes[i].Contract)
		if err != nil {
			return -1
		}
		known = next
	}
}
