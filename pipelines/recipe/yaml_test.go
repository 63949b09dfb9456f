package recipe

import (
	"strings"
	"testing"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/schemas/setting"
)

type inner struct {
	LR    float64 `json:"lr"`
	Steps int     `json:"steps"`
}

type outer struct {
	Name   string         `json:"name"`
	Seed   uint64         `json:"seed"`
	Inner  inner          `json:"inner"`
	List   []inner        `json:"list"`
	Nested *inner         `json:"nested"`
	Free   map[string]any `json:"free"`
	On     bool           `json:"on"`

	Precision kernels.Precision `json:"precision"`
}

func decodeText(t *testing.T, text string, sets ...string) (outer, error) {
	t.Helper()
	tree, err := parseYAML([]byte(text))
	if err != nil {
		return outer{}, err
	}
	for _, s := range sets {
		if err := setPath(tree, s); err != nil {
			return outer{}, err
		}
	}
	c := outer{Name: "default", Inner: inner{LR: 0.5}}
	return c, setting.Decode(tree, &c, "")
}

func TestDecodeKeepsDefaults(t *testing.T) {
	c, err := decodeText(t, "inner: {steps: 3}\nlist: [{lr: 1}, {lr: 2e-3}]\n", "list[1].steps=7", "seed=12", "nested.lr=4", "on=true",
		"precision=bfloat16")
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "default" || c.Inner.LR != 0.5 || c.Inner.Steps != 3 || c.List[1].LR != 2e-3 || c.List[1].Steps != 7 || c.Seed != 12 ||
		c.Nested.LR != 4 || !c.On || c.Precision != kernels.BFloat16 {
		t.Errorf("decoded %+v", c)
	}
}

func TestDecodeNamesThePlace(t *testing.T) {
	cases := []struct{ text, want string }{
		{"inner: {stepps: 3}", `inner.stepps: unknown key; did you mean "steps"?`},
		{"qqqqqq: 1", "qqqqqq: unknown key; known: name, seed, inner, list, nested, free, on, precision"},
		{"inner: {lr: high}", "inner.lr: high is not a number"},
		{"inner: {steps: 1.5}", "inner.steps: 1.5 is not a whole number"},
		{"list: [{lr: 1}, {lr: x}]", "list[1].lr: x is not a number"},
		{"list: {lr: 1}", "list: map[lr:1] is not a list"},
		{"inner: 3", "inner: 3 is not a section of keys"},
		{"seed: -1", "seed: -1 is not a whole number of at least 0"},
		{"name: 7", "name: 7 is not text"},
		{"on: 1", "on: 1 is not true or false"},
		{"inner:", "inner: no value"},
		{"precision: fp8", `precision: "fp8" is not one of float32, bfloat16`},
		{"precision: 32", "precision: 32 is not text"},
		{"precision:", "precision: no value; want text"},
		{"a: [", "not valid YAML"},
		{"name: a\nname: b", "not valid YAML"},
	}
	for _, c := range cases {
		if _, err := decodeText(t, c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want %q", c.text, err, c.want)
		}
	}
}

func TestSetNamesThePlace(t *testing.T) {
	for set, want := range map[string]string{
		"novalue":     "want path=value",
		"inner.lr.x=": "inner.lr.x",
		"list[9].lr=": "list.9",
		"a..b=1":      "empty name",
		"inner=":      "inner: no value",
		"free=null":   "free: --set: the recipe has no such key",
	} {
		if _, err := decodeText(t, "inner: {lr: 1}\nlist: [{lr: 1}]", set); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--set %s: error %v, want %q", set, err, want)
		}
	}
}

// TestSetNull: an optional section is gone, another key has its default.
func TestSetNull(t *testing.T) {
	base := "kind: policy\nrun: r\nupdate: {losses: [{name: ppo}], minibatches: 3}\naudit: {verifier: {kind: math}}\npolicy: {path: p}\n"
	r, err := Parse([]byte(base), []string{"audit=null", "update.minibatches=null"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Audit != nil || r.Update.Minibatches != Default().Update.Minibatches {
		t.Errorf("audit %v, minibatches %d", r.Audit, r.Update.Minibatches)
	}
}

func FuzzParseRecipe(f *testing.F) {
	f.Add("inner: {lr: 1}")
	f.Add("a: &a [*a]")
	f.Add("list: [{lr: 1}, {steps: 2}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		tree, err := parseYAML([]byte(text))
		if err != nil {
			return
		}
		var c outer
		_ = setting.Decode(tree, &c, "")
	})
}
