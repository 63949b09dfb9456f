package pipelines

import (
	"context"
	"embed"
	"errors"
	"os"
	"path"
	"strings"

	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/transforms/stage"
)

//go:embed recipes/*.yaml
var embedded embed.FS

const embeddedDir = "recipes"

// EmbeddedRecipe is a recipe that comes with the program.
type EmbeddedRecipe struct {
	Name    string `json:"name"`
	Summary string `json:"summary"` // the opening comment up to the first full stop or colon
	Text    string `json:"text"`
}

// EmbeddedRecipes lists the recipes that come with the program, by name.
func EmbeddedRecipes() []EmbeddedRecipe {
	entries, err := embedded.ReadDir(embeddedDir)
	if err != nil {
		panic(err) // the folder is part of the program
	}
	var out []EmbeddedRecipe
	for _, e := range entries {
		raw, err := embedded.ReadFile(path.Join(embeddedDir, e.Name()))
		if err != nil {
			panic(err)
		}
		out = append(out, EmbeddedRecipe{Name: strings.TrimSuffix(e.Name(), ".yaml"), Summary: summaryOf(string(raw)), Text: string(raw)})
	}
	return out
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

// OpenRecipe is LoadRecipe for a file, or else for the embedded recipe of that name.
func OpenRecipe(ctx context.Context, name string, sets []string) (Recipe, error) {
	if info, err := os.Stat(name); stage.IsURL(name) || err == nil && !info.IsDir() {
		return LoadRecipe(ctx, name, sets)
	}
	var names []string
	for _, e := range EmbeddedRecipes() {
		if e.Name != name {
			names = append(names, e.Name)
			continue
		}
		r, err := ParseRecipe([]byte(e.Text), sets)
		var c *ConfigError
		if errors.As(err, &c) {
			return Recipe{}, &ConfigError{Path: c.Path, Why: c.Why + " (embedded recipe " + name + ")"}
		}
		return r, err
	}
	return Recipe{}, configErrorf("", "recipe %s: no such file, and no embedded recipe of that name%s", name, losses.Suggest(name, names))
}
