// Package recipes has the recipes that come with the program.
package recipes

import (
	"context"
	"embed"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
)

//go:embed *.yaml
var embedded embed.FS

// Embedded is a recipe that comes with the program.
type Embedded struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Summary string `json:"summary"` // the opening comment up to the first full stop or colon
	Text    string `json:"text"`
}

// All lists the recipes that come with the program, by name.
func All() []Embedded {
	entries, err := embedded.ReadDir(".")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	var out []Embedded
	for _, e := range entries {
		raw, err := embedded.ReadFile(e.Name())
		if err != nil {
			panic(err)
		}
		out = append(out, Embedded{Name: strings.TrimSuffix(e.Name(), ".yaml"), Kind: kindOf(raw), Summary: summaryOf(string(raw)),
			Text: string(raw)})
	}
	return out
}

// kindOf is the kind of run that a recipe names.
func kindOf(text []byte) string {
	var of struct{ Kind string }
	if err := yaml.Unmarshal(text, &of); err != nil {
		panic(err) // it is part of the program
	}
	return of.Kind
}

// summaryOf is the comment a recipe opens with, up to the first full stop or colon.
func summaryOf(text string) string {
	var words []string
	for line := range strings.Lines(text) {
		comment, ok := strings.CutPrefix(strings.TrimSpace(line), "#")
		if !ok {
			break
		}
		words = append(words, strings.Fields(comment)...)
	}
	for i, w := range words {
		if strings.HasSuffix(w, ".") || strings.HasSuffix(w, ":") {
			return strings.TrimRight(strings.Join(words[:i+1], " "), ".:")
		}
	}
	return strings.Join(words, " ")
}

// Open reads the recipe of a file, or else the one of that name that comes with the program.
func Open(ctx context.Context, name string, sets []string) (recipe.Recipe, error) {
	info, err := os.Stat(name)
	if err == nil && info.IsDir() { // of a run, perhaps
		name = files.Join(name, recipe.ConfigName)
		info, err = os.Stat(name)
		if err != nil {
			return recipe.Recipe{}, setting.Errorf("", "recipe %s: it is a directory without a %s", files.Parent(name), recipe.ConfigName)
		}
	}
	if files.IsURL(name) || err == nil && !info.IsDir() {
		return recipe.Load(ctx, name, sets)
	}
	all := All()
	i := slices.IndexFunc(all, func(e Embedded) bool { return e.Name == name })
	if i < 0 {
		names := make([]string, len(all))
		for k, e := range all {
			names[k] = e.Name
		}
		return recipe.Recipe{}, setting.Errorf("", "recipe %s: no such file, and no embedded recipe of that name%s", name, setting.Suggest(name,
			names))
	}
	r, err := recipe.Parse([]byte(all[i].Text), sets)
	return r, recipe.From(err, "embedded recipe "+name)
}

// MakerOf names the recipe that comes with the program and leaves a directory such as runs/warm-start/iter-00000/policy; "" where
// none does.
func MakerOf(dir string) string {
	for _, e := range All() {
		r, err := recipe.Parse([]byte(e.Text), nil)
		if err != nil {
			continue // which a test would say
		}
		if dir == r.Run || strings.HasPrefix(dir, r.Run+"/") {
			return e.Name
		}
	}
	return ""
}
