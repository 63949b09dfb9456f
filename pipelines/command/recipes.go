package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/recipes"
)

func init() { commands = append(commands, newRecipes) }

func newRecipes(e *env) *cobra.Command {
	var schema bool
	c := &cobra.Command{
		Use:     "recipes [NAME]",
		Short:   "List the recipes that come with the program, or print one",
		Example: "  millrace recipes\n  millrace recipes distrl\n  millrace recipes --schema",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if schema {
				if len(args) > 0 {
					return &usageError{errors.New("--schema describes all recipes; leave the name out")}
				}
				enc := json.NewEncoder(e.out)
				enc.SetIndent("", "  ")
				enc.SetEscapeHTML(false)
				return enc.Encode(method.Schema())
			}
			all := recipes.All()
			if len(args) == 0 {
				listed := make([]listedRecipe, len(all))
				for i, r := range all {
					listed[i] = listedRecipe{Embedded: r, Verb: method.Verb(r.Kind), Does: method.Summary(r.Kind)}
				}
				return e.print(listed, func(w io.Writer) { printRecipes(w, listed) })
			}
			for _, r := range all {
				if r.Name == args[0] {
					return e.print(r, func(w io.Writer) { fmt.Fprint(w, r.Text) })
				}
			}
			return &usageError{fmt.Errorf("no embedded recipe %q; see millrace recipes", args[0])}
		},
	}
	c.Flags().BoolVar(&schema, "schema", false, "print the JSON Schema of recipes, which editors check and complete them by")
	return c
}

// listedRecipe is a recipe with what its kind of run says of it.
type listedRecipe struct {
	recipes.Embedded
	Verb string `json:"verb"` // the command that runs it
	Does string `json:"does"` // what its kind does
}

// printRecipes lists recipes by kind, under the command that runs them and what the kind does.
func printRecipes(w io.Writer, all []listedRecipe) {
	for i, kind := range method.Kinds() {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "millrace %s RECIPE (kind %s): %s\n", method.Verb(kind), kind, method.Summary(kind))
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, r := range all {
			if r.Kind == kind {
				fmt.Fprintf(table, "  %s\t%s\n", r.Name, r.Summary)
			}
		}
		table.Flush()
	}
}
