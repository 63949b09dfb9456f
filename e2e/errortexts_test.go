package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/millrace/millrace/schemas"
)

// errorText is a title of docs/troubleshooting.md that quotes an error.
var errorText = regexp.MustCompile("(?m)^### `(.+)`$")

// TestErrorTexts: what docs/troubleshooting.md quotes is what the program says, and every reason of dead letters is there. Three dots stand
// for any text.
func TestErrorTexts(t *testing.T) {
	page := markdown(t)["docs/troubleshooting.md"]
	said := texts(t)
	quoted := errorText.FindAllStringSubmatch(page, -1)
	for _, m := range quoted {
		parts := strings.Split(m[1], "…")
		for i, part := range parts {
			parts[i] = regexp.QuoteMeta(part)
		}
		if !regexp.MustCompile(strings.Join(parts, ".*")).MatchString(said) {
			t.Errorf("docs/troubleshooting.md: nothing says %q", m[1])
		}
	}
	if len(quoted) < 40 {
		t.Errorf("%d errors are quoted", len(quoted))
	}
	for _, reason := range schemas.Reasons {
		if !strings.Contains(page, "| `"+string(reason)+"` |") {
			t.Errorf("docs/troubleshooting.md lacks the reason %s of dead letters", reason)
		}
	}
}

// texts are the texts in the sources of the program, one a line. What is joined is one text, with dots for what is no constant.
func texts(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	var text func(e ast.Expr) string
	text = func(e ast.Expr) string {
		switch e := e.(type) {
		case *ast.BasicLit:
			if s, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
				return strings.ReplaceAll(s, "\n", " ")
			}
		case *ast.BinaryExpr:
			if e.Op == token.ADD {
				return text(e.X) + text(e.Y)
			}
		}
		return "…"
	}
	for _, root := range []string{"pipelines", "transforms", "models", "runners", "schemas", "kernels"} {
		err := filepath.WalkDir(filepath.Join("..", root), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				e, ok := n.(ast.Expr)
				if !ok {
					return true
				}
				s := text(e)
				if s != "…" {
					out.WriteString(s + "\n")
				}
				return s == "…"
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}
