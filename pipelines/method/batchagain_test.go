package method_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/recipe"
)

// The recipes of docs that train on rows of a run do so as they stand, and without their last line it is said what is missing.
func TestABatchAgain(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	rows := given(t, "grpo", dir, "iterations=1", "evaluate.every=0")
	if err := iterate(t.Context(), rows, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\n(kind: train\n.*?)```")
	for _, page := range []string{"jobs.md", "sampling.md"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
		if err != nil {
			t.Fatal(err)
		}
		found := block.FindStringSubmatch(string(text))
		if found == nil {
			t.Fatalf("%s has no such recipe", page)
		}
		load := func(text string) (recipe.Recipe, error) {
			return recipe.Parse([]byte(text), []string{"run=" + filepath.Join(dir, page), "policy.path=" + rows.Policy.Path,
				"prompts.batch.path=" + rows.Run})
		}
		r, err := load(found[1])
		if err != nil {
			t.Fatalf("%s: %v", page, err)
		}
		if err := iterate(t.Context(), r, progress.Silent()); err != nil {
			t.Errorf("%s: %v", page, err)
		}
		short, _, _ := strings.Cut(found[1], "evaluate:")
		if r, err = load(short); err == nil {
			_, err = method.New(r)
		}
		if err == nil || !strings.HasPrefix(err.Error(), "evaluate.split: ") || !strings.Contains(err.Error(), "evaluate.every") {
			t.Errorf("%s without its last line: %v", page, err)
		}
	}
}
