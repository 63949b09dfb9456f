package e2e

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const module = "github.com/millrace/millrace"

// allowed is the import table of docs/architecture.md: which of our packages, and which outside modules, a package may
// import. The longest matching prefix of the importing package decides. "std" is the standard library; an entry that ends
// in "/..." allows the package and everything below it. Tests may also import e2e/golden, and runners to run what they test.
var allowed = map[string][]string{
	"":                {"std", "pipelines/...", "runners/...", "transforms/files/clouds", "ext/..."},
	"kernels":         {"std", "kernels/...", "gonum.org/v1/gonum/blas/...", "golang.org/x/sys/cpu"},
	"schemas":         {"std", "schemas", "github.com/apache/arrow/go/v15/...", "github.com/google/uuid"},
	"schemas/setting": {"std"},
	"models":          {"std", "models/...", "kernels", "schemas/setting", "ext/..."},
	"models/losses":   {"std", "models/losses/...", "schemas/setting"},

	"transforms":              stages("transforms/series", "models/...", "kernels"),
	"transforms/series":       {"std"},
	"transforms/evaluate":     stages("transforms/series", "transforms/totals"),
	"transforms/revise":       stages("transforms/series", "transforms/totals", "models/..."),
	"transforms/advantage":    stages("transforms/series", "transforms/totals"),
	"transforms/files":        {"std", "transforms/files/...", "models/regular", "ext/..."},
	"transforms/stage":        stages("transforms/stage/..."),
	"transforms/continuation": stages("transforms/provingground", "transforms/label/verify", "models/..."),
	"transforms/label":        stages("transforms/series", "transforms/label/...", "transforms/provingground", "models", "models/keyed"),
	"transforms/label/verify": {"std", "transforms/label/verify/...", "transforms/provingground", "transforms/textchains", "models/outbound",
		"schemas/setting"},
	"transforms/prompts":       stages("transforms/provingground", "transforms/textchains", "models/..."),
	"transforms/replay":        stages("transforms/prompts", "transforms/recordio"),
	"transforms/provingground": {"std"},
	"transforms/textchains":    {"std"},
	"runners":                  {"std", "runners/...", "models", "schemas/setting", "ext/..."},

	// The roof: command, then look, run and method, then chain, then recipe. A run knows methods as an interface.
	"pipelines":         nil, // each room has its own line; their tests may use all of them
	"pipelines/command": roof("pipelines/...", "models/...", "kernels", "runners"),
	"pipelines/quickstart": roof("pipelines/look", "pipelines/method", "pipelines/run", "pipelines/recipe", "pipelines/recipes",
		"pipelines/progress", "models/..."),
	"pipelines/look": roof("pipelines/commit", "pipelines/run", "pipelines/method", "pipelines/measure", "pipelines/chain", "pipelines/recipe",
		"pipelines/report", "pipelines/show", "pipelines/telemetry", "models/...", "kernels", "runners"),
	"pipelines/method": roof("pipelines/commit", "pipelines/run", "pipelines/external", "pipelines/measure", "pipelines/preflight",
		"pipelines/chain", "pipelines/recipe", "pipelines/show", "pipelines/progress", "models/..."),
	"pipelines/run": roof("pipelines/commit", "pipelines/measure", "pipelines/chain", "pipelines/recipe", "pipelines/progress",
		"pipelines/telemetry/...", "pipelines/show", "runners"),
	"pipelines/external":  roof("pipelines/chain", "pipelines/progress", "models/...", "kernels"),
	"pipelines/commit":    roof(),
	"pipelines/measure":   roof("pipelines/chain", "pipelines/recipe", "models/..."),
	"pipelines/preflight": roof("pipelines/commit", "pipelines/chain", "pipelines/recipe", "models/..."),
	"pipelines/chain": roof("pipelines/commit", "pipelines/recipe", "pipelines/progress", "pipelines/telemetry", "models/...", "kernels",
		"runners"),
	"pipelines/export":    roof(),
	"pipelines/doctor":    roof(),
	"pipelines/recipes":   roof("pipelines/recipe"),
	"pipelines/recipe":    roof("pipelines/telemetry", "models/...", "kernels", "runners"),
	"pipelines/telemetry": roof("pipelines/telemetry/...", "models/outbound", "runners"),
	"pipelines/progress":  {"std", "pipelines/terminal", "ext/..."},
	"pipelines/report":    {"std", "pipelines/show", "ext/..."},
	"pipelines/show":      {"std", "pipelines/terminal", "ext/..."},
	"pipelines/terminal":  {"std", "models/outbound", "ext/..."},

	"e2e": {"std", "e2e/...", "pipelines/...", "transforms/...", "models/...", "schemas/...", "kernels", "runners", "ext/..."},
}

// stages is what any stage may import, and what these may besides.
func stages(besides ...string) []string {
	return append(besides, "std", "transforms/stage", "transforms/files", "transforms/files/parquetrows", "schemas", "schemas/setting",
		"ext/...")
}

// roof is what any part of pipelines may import, and what these may besides.
func roof(besides ...string) []string {
	return append(besides, "std", "transforms/...", "schemas", "schemas/setting", "ext/...")
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
			ofRoof := strings.HasPrefix(rel, "pipelines/") && (strings.HasPrefix(r, "pipelines/") || permitted(imp, rel,
				allowed["pipelines/command"]))
			fromKit := ofRoof || strings.HasSuffix(r, "test") || strings.HasPrefix(r, "e2e/golden") || r == "runners"
			if strings.HasPrefix(imp, module) && !fromKit && imp != p.ImportPath && !permitted(imp, rel, rules) {
				t.Errorf("the tests of %s import %s, which the import table does not allow", orMain(rel), imp)
			}
		}
		if base := filepath.Base(rel); base == "util" || base == "utils" || base == "common" || base == "helpers" {
			t.Errorf("package %s is named after nothing it does", rel)
		}
	}
}

// TestWhatIsLinked: models and verifiers go without Beam and Arrow; the clients of clouds come with a build tag, and with none
// for who writes a stage. What Beam's own workers bring (core/runtime/harness) cannot be left out of the program.
func TestWhatIsLinked(t *testing.T) {
	for _, c := range []struct {
		of, flags string
		none      []string // prefixes of packages that are not linked
	}{
		{module + "/transforms/stage", "-tags=cloud", []string{"cloud.google.com/", "google.golang.org/api/", "github.com/aws/"}},
		{module + "/transforms/label/verify", "-tags=cloud", []string{"github.com/apache/"}},
		{module + "/models/...", "-tags=cloud", []string{"github.com/apache/"}},
		{module, "-tags=", []string{module + "/transforms/files/gcs", module + "/transforms/files/clouds", "google.golang.org/api/dataflow",
			"github.com/aws/"}},
	} {
		out, err := exec.Command("go", "list", "-deps", c.flags, c.of).Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		for dep := range strings.FieldsSeq(string(out)) {
			for _, prefix := range c.none {
				if strings.HasPrefix(dep, prefix) {
					t.Errorf("%s links %s", c.of, dep)
				}
			}
		}
	}
}

// TestLines: no line of code is longer than 140 characters, a tab counting as one. What cannot be cut, texts in backquotes, which the
// tags of settings are too, and generated code are left out.
func TestLines(t *testing.T) {
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.Contains(path, "internal/asm") {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		number := 0
		for line := range strings.Lines(string(raw)) {
			number++
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 140 && !strings.Contains(line, "`") {
				t.Errorf("%s:%d has %d characters", path, number, n)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
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
	out, err := exec.Command("go", "list", "-e", "-tags", "cloud,flink", "-json=ImportPath,Standard,Imports,TestImports,XTestImports",
		module+"/...").Output()
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
