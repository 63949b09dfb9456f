package command

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace/millrace/pipelines/export"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/recipes"
	"github.com/millrace/millrace/schemas/setting"
)

// Marks before a block of code that has commands, see CONTRIBUTING.md. A block without one is of language sh, and e2e types it.
var (
	notRunMark     = regexp.MustCompile(`^<!-- not run: .+ -->$`)
	notCheckedMark = regexp.MustCompile(`^<!-- not checked: .+ -->$`)
)

// notRun marks the block of code that follows.
func notRun(why string) string { return "<!-- not run: " + why + " -->" }

// TestTypedCommands: a command that a page shows, in a block of code or amid a sentence, is one of the program's, with its flags, recipes
// and settings. Words in capitals stand for what a reader fills in.
func TestTypedCommands(t *testing.T) {
	root := filepath.Join("..", "..")
	pages, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Join(root, "docs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".md" {
			pages = append(pages, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c := checker{root: newRoot(&env{out: io.Discard, err: io.Discard}), schema: method.Schema()}
	c.root.InitDefaultCompletionCmd("bash")
	c.root.InitDefaultHelpFlag()
	c.root.InitDefaultVersionFlag()
	checked := 0
	for _, path := range pages {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(filepath.ToSlash(path), "../../")
		for _, typed := range typedIn(t, name, string(text)) {
			checked++
			if err := c.check(typed.words); err != nil {
				t.Errorf("%s:%d: %s: %v", name, typed.line, strings.Join(typed.words, " "), err)
			}
		}
	}
	if checked < 300 {
		t.Errorf("%d commands were found", checked)
	}
}

// typedCommand is a command of a page, without the program's name.
type typedCommand struct {
	line  int
	words []string
}

// typedIn finds the commands of a page.
func typedIn(t *testing.T, name, text string) (out []typedCommand) {
	t.Helper()
	lines := strings.Split(text, "\n")
	mark := ""
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		language, fenced := strings.CutPrefix(line, "```")
		if !fenced {
			if line != "" {
				mark = line
			}
			if strings.HasPrefix(lines[i], "    millrace ") || strings.HasPrefix(lines[i], "\tmillrace ") {
				t.Errorf("%s:%d: a command in an indented block; put it between lines of three backquotes", name, i+1)
			}
			// A sentence may break a command between two lines.
			paragraph := lines[i]
			if i+1 < len(lines) && strings.Count(paragraph, "`")%2 == 1 {
				paragraph += " " + strings.TrimSpace(lines[i+1])
			}
			for _, m := range inline.FindAllStringSubmatch(paragraph, -1) {
				for _, words := range commandsIn("millrace " + m[1]) {
					out = append(out, typedCommand{i + 1, words})
				}
			}
			continue
		}
		begin, first := i+1, len(out)
		var statement string
		for i++; i < len(lines) && !strings.HasPrefix(strings.TrimSpace(lines[i]), "```"); i++ {
			more, goesOn := strings.CutSuffix(lines[i], `\`)
			statement += strings.TrimSpace(more)
			if goesOn {
				statement += " "
				continue
			}
			for _, words := range commandsIn(statement) {
				out = append(out, typedCommand{i + 1, words})
			}
			statement = ""
		}
		switch here := len(out) > first; {
		case notCheckedMark.MatchString(mark):
			out = out[:first]
		case here && language != "sh" && !notRunMark.MatchString(mark):
			t.Errorf("%s:%d: a block of commands that no test types: make it one of language sh, or mark it (CONTRIBUTING.md)", name, begin)
		}
		mark = ""
	}
	return out
}

var inline = regexp.MustCompile("`millrace ([^`]*)`")

// commandsIn are the commands in a line of a shell that begin with the program's name, or with go run of it. A line that explains a command
// has at least two spaces before the words that do.
func commandsIn(line string) (out [][]string) {
	line = strings.TrimPrefix(line, "$ ")
	for _, program := range []string{"millrace", "./millrace", "go run ."} {
		rest, ok := strings.CutPrefix(line, program+" ")
		if !ok {
			continue
		}
		var words []string
		for _, w := range shellWords(rest) {
			if strings.HasPrefix(w, "[") || strings.Count(w, "[") != strings.Count(w, "]") {
				w = strings.Trim(w, "[]")
			}
			word, ends := strings.CutSuffix(w, ",")
			if word != "" && word != "millrace" {
				words = append(words, word)
			}
			if ends {
				out, words = append(out, words), nil
			}
		}
		return append(out, words)
	}
	return nil
}

// shellWords takes a line of a shell apart, up to a comment, a pipe or the like, or two spaces.
func shellWords(line string) (out []string) {
	word, there, quote := "", false, rune(0)
	depth := 0 // of $(
	for i, c := range line {
		switch {
		case quote == 0 && depth == 0 && (strings.ContainsRune("|;&>#", c) && !there || strings.HasPrefix(line[i:], "  ")):
			if there {
				out = append(out, word)
			}
			return out
		case quote == 0 && depth == 0 && c == ' ':
			out = append(out, word)
			word, there = "", false
			continue
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote == c:
			quote = 0
		case quote == 0 && strings.HasPrefix(line[i:], "$("):
			depth++
			word += "$"
		case quote == 0 && depth > 0 && c == ')':
			depth--
		default:
			word += string(c)
		}
		there = true
	}
	if there {
		out = append(out, word)
	}
	return out
}

// checker knows what can be typed.
type checker struct {
	root   *cobra.Command
	schema *setting.Schema
}

// standsFor is a word for what a reader fills in, such as RUN, RUN|FILE..., N or dots.
var standsFor = regexp.MustCompile(`^([A-Z]+(\.\.\.)?(\|[A-Z]+(\.\.\.)?)*|…|\.\.\.)$`)

// check says what is wrong with a command.
func (c checker) check(words []string) error {
	if len(words) == 0 || standsFor.MatchString(words[0]) {
		return nil
	}
	at, rest, err := c.root.Find(words)
	if err != nil {
		return err
	}
	if at == c.root && !strings.HasPrefix(words[0], "-") {
		return fmt.Errorf("there is no command %s", words[0])
	}
	var args []string
	given := map[string][]string{}
	for i := 0; i < len(rest); i++ {
		name, long := strings.CutPrefix(rest[i], "--")
		if !long || strings.HasPrefix(rest[i], "--=") {
			args = append(args, rest[i])
			continue
		}
		name, value, there := strings.Cut(name, "=")
		f := flagOf(at, name)
		if f == nil {
			return fmt.Errorf("there is no flag --%s", name)
		}
		if !there && f.NoOptDefVal == "" && i+1 < len(rest) {
			i++
			value, there = rest[i], true
		}
		given[name] = append(given[name], value)
		if there && !standsFor.MatchString(value) {
			if err := f.Value.Set(value); err != nil {
				return fmt.Errorf("--%s %s: %w", name, value, err)
			}
		}
	}
	return c.settings(at.Name(), args, given)
}

func flagOf(c *cobra.Command, name string) *pflag.Flag {
	if name == "help" {
		return c.Root().Flags().Lookup("help")
	}
	if f := c.Flags().Lookup(name); f != nil {
		return f
	}
	return c.InheritedFlags().Lookup(name)
}

// settings checks the recipe that a command names, and what --set changes.
func (c checker) settings(name string, args []string, given map[string][]string) error {
	sets := slices.DeleteFunc(slices.Clone(given["set"]), func(s string) bool {
		path, _, _ := strings.Cut(s, "=")
		return standsFor.MatchString(path) || path == "path"
	})
	switch name {
	case "export":
		return c.format(given["to"], sets)
	case "track":
		return c.tracker(given["to"], sets)
	}
	for _, set := range sets {
		path, _, ok := strings.Cut(set, "=")
		if !ok {
			return fmt.Errorf("--set %s: want path=value", set)
		}
		if !hasSetting(c.schema, path) {
			return fmt.Errorf("--set %s: there is no such setting", path)
		}
	}
	var recipe string
	switch {
	case len(args) > 0 && slices.Contains([]string{"run", "plan", "refresh", "recipes"}, name):
		recipe = args[0]
	case given["recipe"] != nil:
		recipe = given["recipe"][0]
	}
	if recipe == "" || standsFor.MatchString(recipe) || strings.HasSuffix(recipe, ".yaml") {
		return nil
	}
	if !slices.ContainsFunc(recipes.All(), func(e recipes.Embedded) bool { return e.Name == recipe }) {
		return fmt.Errorf("there is no recipe %s", recipe)
	}
	command := []string{"plan", recipe, "--recipe-only"}
	for _, set := range sets {
		if _, value, _ := strings.Cut(set, "="); !standsFor.MatchString(value) {
			command = append(command, "--set", set)
		}
	}
	if code, _, said := execute(command...); code != exitOK && name != "eval" { // what eval measures with need not train
		return fmt.Errorf("plan refuses it: %s", strings.TrimSpace(said))
	}
	return nil
}

// format checks the settings of an export.
func (c checker) format(to, sets []string) error {
	if to == nil || standsFor.MatchString(to[0]) {
		return nil
	}
	given, err := formatSettings(sets)
	if err != nil {
		return err
	}
	_, err = export.New(to[0], given)
	return err
}

// tracker checks the settings of a tracker.
func (c checker) tracker(to, sets []string) error {
	if to == nil || standsFor.MatchString(to[0]) {
		return nil
	}
	_, err := trackersOf(context.Background(), nil, to[0], sets)
	return err
}

// hasSetting looks for a setting by its path.
func hasSetting(s *setting.Schema, path string) bool {
	if path == "" {
		return true
	}
	key, rest, _ := strings.Cut(path, ".")
	key, index, listed := strings.Cut(key, "[")
	for _, of := range append(slices.Clone(s.OneOf), s) {
		next := of.Properties[key]
		if next == nil {
			continue
		}
		if listed && next.Items != nil && strings.HasSuffix(index, "]") {
			next = next.Items
		}
		if hasSetting(next, rest) || next.Properties == nil && next.OneOf == nil && rest != "" && next.Type == "object" {
			return true
		}
	}
	return false
}
