package command

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/recipes"
)

func TestRecipePages(t *testing.T) {
	papers := paperPages(t)
	all := recipes.All()
	pages := map[string]string{}
	var index pageText
	fmt.Fprintf(&index, "# Recipes\n\nEvery recipe that comes with the program, by what its kind does, with what was measured of it. The "+
		"pages are\nwritten from the recipes (`%s`); `millrace recipes NAME` prints\none. What a recipe says "+
		"can be changed with `--set path=value` ([settings.md](../settings.md)). What runs\nof the proving ground cost is in "+
		"[results.md](../results.md#cost).\n\n", writePages)
	for _, kind := range method.Kinds() {
		fmt.Fprintf(&index, "## Kind `%s`\n\n`millrace %s RECIPE`: %s.\n\n| recipe | what it is | measured |\n|---|---|---|\n",
			kind, method.Verb(kind), mdText(method.Summary(kind)))
		for _, e := range all {
			if e.Kind != kind {
				continue
			}
			r := readRecipe(t, e)
			fmt.Fprintf(&index, "| [`%s`](%s.md) | %s | %s |\n", e.Name, e.Name, linked(e.Summary), tableText(strings.Join(r.measured, " ")))
			pages["recipes/"+e.Name+".md"] = r.page(papers)
		}
		index.WriteString("\n")
	}
	pages["recipes/README.md"] = index.text()
	holdPages(t, pages, "recipes")
}

// recipeText is a recipe with its opening comment taken apart.
type recipeText struct {
	recipes.Embedded
	about, reported, measured []string // paragraphs: what it is, what papers report, what was measured here
	commands                  []string // that the comment tells, each with its line breaks
	yaml                      string
	from                      []string // commands that make the models that it goes on with, in their order
	reads                     []string // files and models that no recipe makes
}

// readRecipe takes a recipe apart. Of the opening comment lines that begin with Measured, Paper or Reported begin such a part, up to the
// end of the paragraph, and lines that are indented are commands.
func readRecipe(t *testing.T, e recipes.Embedded) (out recipeText) {
	t.Helper()
	out.Embedded = e
	part := &out.about
	begin := true
	rest := e.Text
	for line := range strings.Lines(e.Text) {
		comment, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "#")
		if !ok {
			break
		}
		rest = rest[len(line):]
		text := strings.TrimPrefix(comment, " ")
		switch {
		case text == "":
			part, begin = &out.about, true
			continue
		case strings.HasPrefix(text, "  "):
			text = strings.TrimPrefix(text, "  ")
			if n := len(out.commands); n > 0 && strings.HasSuffix(out.commands[n-1], `\`) {
				out.commands[n-1] += "\n" + text
			} else {
				out.commands = append(out.commands, text)
			}
			continue
		case strings.HasPrefix(text, "Measured"):
			part, begin = &out.measured, true
		case strings.HasPrefix(text, "Paper"), strings.HasPrefix(text, "Reported"):
			part, begin = &out.reported, true
		}
		if begin {
			*part = append(*part, text)
		} else {
			(*part)[len(*part)-1] += " " + text
		}
		begin = false
	}
	out.yaml = rest
	out.lookUp(t)
	return out
}

// lookUp finds what the recipe reads.
func (r *recipeText) lookUp(t *testing.T) {
	t.Helper()
	all := recipes.All()
	var before func(e recipes.Embedded) (others []string)
	before = func(e recipes.Embedded) (others []string) {
		var tree yaml.Node
		if err := yaml.Unmarshal([]byte(e.Text), &tree); err != nil {
			t.Fatal(err)
		}
		for _, path := range pathsIn(&tree) {
			name := recipes.MakerOf(path)
			if name == "" {
				others = append(others, path)
				continue
			}
			maker := all[slices.IndexFunc(all, func(e recipes.Embedded) bool { return e.Name == name })]
			command := commandOf(t, maker, path)
			if name == e.Name || slices.Contains(r.from, command) {
				continue
			}
			before(maker)
			r.from = append(r.from, command)
		}
		return others
	}
	r.reads = slices.DeleteFunc(before(r.Embedded), func(path string) bool { // what the comment's own commands make
		return makes(strings.Join(r.commands, " "), path)
	})
}

// makes says that a text has a command whose run leaves a model there.
func makes(text, path string) bool {
	run, _, _ := strings.Cut(path, "/iter-")
	return strings.Contains(text, " run="+run+" ")
}

// toldBy names the recipe whose comment has the command that makes a model.
func toldBy(path string) string {
	for _, e := range recipes.All() {
		if makes(e.Text, path) {
			return "; [" + e.Name + "](" + e.Name + ".md) has the command that does"
		}
	}
	return ""
}

// commandOf is the command that makes a model of a recipe's run, of as many iterations as that takes.
func commandOf(t *testing.T, e recipes.Embedded, path string) string {
	t.Helper()
	of, err := recipe.Parse([]byte(e.Text), nil)
	if err != nil {
		t.Fatal(err)
	}
	command := "millrace " + method.Verb(e.Kind) + " " + e.Name
	if m := iterationOf.FindStringSubmatch(path); m != nil {
		if n, err := strconv.Atoi(m[1]); err != nil {
			t.Error(err)
		} else if n >= of.Iterations {
			command += fmt.Sprintf(" --set iterations=%d", n+1)
		}
	}
	return command
}

var iterationOf = regexp.MustCompile(`/iter-(\d+)/`)

// pathsIn are the values of keys named path, in their order, each once.
func pathsIn(n *yaml.Node) (out []string) {
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && n.Content[i-1].Value == "path" && c.Kind == yaml.ScalarNode {
			out = append(out, c.Value)
		}
		out = append(out, pathsIn(c)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// page is the page of the recipe.
func (r *recipeText) page(papers map[string]string) string {
	var p pageText
	fmt.Fprintf(&p, "# %s\n\n", r.Name)
	for _, paragraph := range r.about {
		if text, ok := strings.CutSuffix(paragraph, ":"); ok { // the commands it leads to are below
			paragraph = text + "."
		}
		p.WriteString(linked(paragraph) + "\n\n")
	}
	var of []string
	for _, id := range arXiv.FindAllString(strings.Join(r.about, " "), -1) {
		if link := papers[strings.TrimPrefix(id, "arXiv ")]; link != "" && !slices.Contains(of, link) {
			of = append(of, link)
		}
	}
	if of != nil {
		fmt.Fprintf(&p, "The paper, and where it is here: %s.\n\n", strings.Join(of, ", "))
	}
	p.WriteString("## Run it\n\n")
	for _, path := range r.reads {
		fmt.Fprintf(&p, "It reads `%s`, which no recipe makes%s.\n\n", path, toldBy(path))
	}
	if r.from != nil {
		p.WriteString("The recipes before it make the models that it goes on with; what is there already is not made again.\n\n")
	}
	p.WriteString(notRun("e2e/recipes_test.go checks every recipe, and TestRecipesComputeWhatTheyDid runs a small form of it") + "\n```\n")
	commands := r.from
	for _, command := range append(slices.Clone(r.commands), "millrace "+method.Verb(r.Kind)+" "+r.Name) {
		if !slices.Contains(commands, command) {
			commands = append(commands, command)
		}
	}
	p.WriteString(strings.Join(commands, "\n") + "\n")
	p.WriteString("```\n\n")
	for _, part := range []struct {
		title string
		texts []string
	}{{"What was reported", r.reported}, {"What was measured", r.measured}} {
		if part.texts != nil {
			fmt.Fprintf(&p, "## %s\n\n", part.title)
			for _, text := range part.texts {
				p.WriteString(linked(text) + "\n\n")
			}
		}
	}
	fmt.Fprintf(&p, "## The recipe\n\n`pipelines/recipes/%s.yaml`, without the comment that it opens with; its keys are in [settings.md](../settings.md).\n\n"+
		"```yaml\n%s\n```\n", r.Name, strings.Trim(r.yaml, "\n"))
	return p.text()
}

var (
	arXiv    = regexp.MustCompile(`(?:arXiv )?\b\d{4}\.\d{5}\b`)
	docsPage = regexp.MustCompile(`\bdocs/([a-z-]+\.md)\b`)
)

// linked is a text of a comment in Markdown, with links to the papers and pages that it names.
func linked(text string) string {
	text = arXiv.ReplaceAllStringFunc(mdText(text), func(id string) string {
		return "[" + id + "](https://arxiv.org/abs/" + strings.TrimPrefix(id, "arXiv ") + ")"
	})
	return docsPage.ReplaceAllString(text, "[docs/$1](../$1)")
}

// tableText is such a text in a table, without what every measurement begins with.
func tableText(text string) string {
	for _, opening := range []string{"Measured (docs/results.md, ", "Measured, "} {
		text = strings.ReplaceAll(text, opening, "")
	}
	return linked(strings.ReplaceAll(text, " seeds, mean ± sd):", " seeds:"))
}

// paperPages link to the pages of papers, by the numbers of arXiv that their titles have.
func paperPages(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("..", "..", "docs", "papers", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		title, _, _ := strings.Cut(strings.TrimPrefix(string(raw), "# "), "\n")
		name, _, _ := strings.Cut(title, " (")
		for _, id := range arXiv.FindAllString(title, -1) {
			out[strings.TrimPrefix(id, "arXiv ")] = "[" + name + "](../papers/" + filepath.Base(path) + ")"
		}
	}
	return out
}
