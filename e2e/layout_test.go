package e2e

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/millrace/millrace"

// allowed is the import table of docs/architecture.md: which of our packages, and which outside modules, a package may
// import. The longest matching prefix of the importing package decides. "std" is the standard library; an entry that ends
// in "/..." allows the package and everything below it. Tests may also import e2e/golden.
var allowed = map[string][]string{
	"":                         {"std", "pipelines/...", "runners/...", "ext/..."},
	"kernels":                  {"std", "kernels/...", "gonum.org/v1/gonum/blas/...", "golang.org/x/sys/cpu"},
	"schemas":                  {"std", "schemas", "github.com/apache/arrow/go/v15/...", "github.com/google/uuid"},
	"models":                   {"std", "models/...", "kernels", "ext/..."},
	"models/losses":            {"std", "models/losses/..."},
	"transforms":               {"std", "transforms/stage", "transforms/series", "schemas", "models/...", "kernels", "ext/..."},
	"transforms/series":        {"std"},
	"transforms/evaluate":      {"std", "transforms/stage", "transforms/series", "transforms/totals", "schemas", "ext/..."},
	"transforms/revise":        {"std", "transforms/stage", "transforms/series", "transforms/totals", "schemas", "models/...", "ext/..."},
	"transforms/advantage":     {"std", "transforms/stage", "transforms/series", "transforms/totals", "schemas", "ext/..."},
	"transforms/stage":         {"std", "transforms/stage/...", "schemas", "ext/..."},
	"transforms/continuation":  {"std", "transforms/stage", "transforms/provingground", "schemas", "models/...", "ext/..."},
	"transforms/label":         {"std", "transforms/stage", "transforms/series", "transforms/label/...", "transforms/provingground", "schemas", "ext/..."},
	"transforms/label/verify":  {"std", "transforms/label/verify/..."},
	"transforms/prompts":       {"std", "transforms/stage", "transforms/provingground", "schemas", "models/...", "ext/..."},
	"transforms/provingground": {"std"},
	"pipelines":                {"std", "pipelines/...", "transforms/...", "models/...", "schemas", "kernels", "runners", "ext/..."},
	"runners":                  {"std", "runners/...", "ext/..."},
	"e2e":                      {"std", "e2e/...", "pipelines/...", "transforms/...", "models/...", "schemas", "kernels", "runners", "ext/..."},
}

type goPackage struct {
	ImportPath                         string
	Standard                           bool
	Imports, TestImports, XTestImports []string
}

func TestImportTable(t *testing.T) {
	packages := listPackages(t)
	for _, p := range packages {
		rel := relative(p.ImportPath)
		if strings.Contains(rel, "internal/gen") {
			continue
		}
		rules := rulesFor(rel)
		for _, imp := range p.Imports {
			if !permitted(imp, rel, rules) {
				t.Errorf("%s imports %s, which the import table does not allow (allowed: %s)", orMain(rel), imp, strings.Join(rules, ", "))
			}
		}
		for _, imp := range append(slices.Clone(p.TestImports), p.XTestImports...) {
			r := relative(imp)
			fromKit := strings.HasSuffix(r, "test") || strings.HasPrefix(r, "e2e/golden")
			if strings.HasPrefix(imp, module) && !fromKit && imp != p.ImportPath && !permitted(imp, rel, rules) {
				t.Errorf("the tests of %s import %s, which the import table does not allow", orMain(rel), imp)
			}
		}
		if base := filepath.Base(rel); base == "util" || base == "utils" || base == "common" || base == "helpers" {
			t.Errorf("package %s is named after nothing it does", rel)
		}
	}
}

// TestTopLevel holds the owner's list of top-level folders.
func TestTopLevel(t *testing.T) {
	out, err := exec.Command("git", "-C", "..", "ls-tree", "--name-only", "-d", "HEAD").Output()
	if err != nil {
		t.Skipf("not a git checkout: %v", err)
	}
	fixed := []string{"pipelines", "transforms", "models", "kernels", "runners", "schemas", "docs", "e2e"}
	for dir := range strings.FieldsSeq(string(out)) {
		if !strings.HasPrefix(dir, ".") && !slices.Contains(fixed, dir) {
			t.Errorf("top-level folder %s is not one of %s", dir, strings.Join(fixed, ", "))
		}
	}
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-e", "-json=ImportPath,Standard,Imports,TestImports,XTestImports", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p goPackage
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	return packages
}

func relative(importPath string) string {
	return strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/")
}

func orMain(rel string) string {
	if rel == "" {
		return "main"
	}
	return rel
}

func rulesFor(rel string) []string {
	for at := rel; ; at = at[:max(strings.LastIndex(at, "/"), 0)] {
		if rules, ok := allowed[at]; ok {
			return rules
		}
	}
}

func permitted(imp, from string, rules []string) bool {
	ours := strings.HasPrefix(imp, module)
	std := !ours && !strings.Contains(strings.SplitN(imp, "/", 2)[0], ".")
	rel := relative(imp)
	if ours && (rel == from || strings.HasPrefix(rel, from+"/") && from != "") {
		return true // a package and its own sub-packages are one part
	}
	for _, rule := range rules {
		prefix, below := strings.CutSuffix(rule, "/...")
		switch {
		case rule == "std":
			if std {
				return true
			}
		case rule == "ext/...":
			if !std && !ours {
				return true
			}
		case rel == prefix || imp == prefix:
			return true
		case below && (strings.HasPrefix(rel, prefix+"/") || strings.HasPrefix(imp, prefix+"/")):
			return true
		}
	}
	return false
}
