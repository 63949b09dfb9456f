package setting_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/schemas/setting"
)

type inner struct {
	Rate  float64 `json:"rate" range:"(0,1]" doc:"share of rows"`
	Form  string  `json:"form" enum:"dense,sparse"`
	Fixed float64 `json:"fixed,omitempty" follows:"outer.beta"`
}

func (i *inner) SetDefaults() { i.Rate, i.Form = 0.5, "dense" }

func (i inner) Validate() error {
	if i.Form == "sparse" && i.Rate == 1 {
		return setting.Errorf("rate", "1 does not go with form sparse")
	}
	return nil
}

type outer struct {
	Steps int      `json:"steps" range:"[1,inf)"`
	Inner *inner   `json:"inner,omitempty"`
	List  []inner  `json:"list,omitempty"`
	Words []string `json:"words,omitempty" enum:"red,green"`
	Big   uint64   `json:"big"`
	Free  map[string]any
}

func TestDecode(t *testing.T) {
	if err := setting.Decode(map[string]any{"words": []any{"\xff"}}, &outer{}, ""); err == nil || err.Error() != "words[0]: is not UTF-8" {
		t.Errorf("a text that is not UTF-8: %v", err)
	}
	for _, c := range []struct{ tree, path, says string }{
		{`{"steps": 3, "inner": {}, "list": [{"rate": 1}], "big": 5}`, "", ""},
		{`{"stepps": 3}`, "stepps", `"steps"`},
		{`{"steps": 1.5}`, "steps", "whole number"},
		{`{"steps": 0}`, "steps", "at least 1"},
		{`{"steps": null}`, "steps", "no value"},
		{`{"inner": {"rate": "x"}}`, "inner.rate", "a number"},
		{`{"inner": {"rate": 0}}`, "inner.rate", "(0, 1]"},
		{`{"list": [{}, {"form": "dens"}]}`, "list[1].form", `"dense"`},
		{`{"list": [{"form": "sparse", "rate": 1}]}`, "list[0].rate", "sparse"},
		{`{"inner": {"fixed": 3}}`, "inner.fixed", "outer.beta"},
		{`{"big": -1}`, "big", "at least 0"},
		{`{"words": [1]}`, "words[0]", "text"},
		{`{"words": ["red", "grean"]}`, "words[1]", `"green"`},
		{`{"inner": [1]}`, "inner", "section"},
	} {
		var tree any
		if err := json.Unmarshal([]byte(c.tree), &tree); err != nil {
			t.Fatal(err)
		}
		o := outer{Steps: 1}
		err := setting.Decode(tree, &o, "")
		if err == nil {
			err = setting.Check(o)
		}
		if c.says == "" {
			if err != nil || o.Inner == nil || o.Inner.Rate != 0.5 || o.List[0].Form != "dense" {
				t.Errorf("%s: %v, %+v", c.tree, err, o)
			}
			continue
		}
		var e *setting.Error
		if !errors.As(err, &e) || e.Path != c.path || !strings.Contains(e.Why, c.says) {
			t.Errorf("%s: got %v, want path %s and %q", c.tree, err, c.path, c.says)
		}
	}
}

func TestSuggest(t *testing.T) {
	if s := setting.Suggest("gspo", []string{"dpo", "grpo", "ppo"}); !strings.Contains(s, `"grpo"`) {
		t.Error(s)
	}
	if s := setting.Suggest("gspo", []string{"dpo", "ppo"}); strings.Contains(s, "did you mean") {
		t.Error(s)
	}
	for word, want := range map[string]string{"sampels": "samples", "grop": "grpo", "plna": "plan"} {
		if s := setting.Suggest(word, []string{"samples", "steps", "grpo", "plan"}); !strings.Contains(s, `"`+want+`"`) {
			t.Errorf("%s%s", word, s)
		}
	}
}

type shape interface{ Area() float64 }

type circle struct {
	Radius float64 `json:"radius" range:"(0,inf)"`
}

func (c circle) Area() float64 { return 3 * c.Radius * c.Radius }

type square struct {
	Side float64 `json:"side" range:"(0,inf)"`
	Unit float64 `json:"unit,omitempty" follows:"ruler"`
}

func (s square) Area() float64 { return s.Side * s.Side }

func TestKinds(t *testing.T) {
	kinds := setting.NewKinds[shape]("shape", "kind")
	kinds.Register("circle", circle{Radius: 1})
	kinds.Register("square", square{Side: 2})
	name, s, err := kinds.DecodeFlat(map[string]any{"kind": "square", "side": 3}, "figure", "")
	if err != nil || name != "square" || s.Area() != 9 {
		t.Fatal(name, s, err)
	}
	for says, tree := range map[string]map[string]any{
		"figure.kind: no shape is called":                   {"kind": "sqare"},
		"figure.radius: is not read by shape square":        {"kind": "square", "radius": 1},
		"figure.side: 0 is not above 0":                     {"kind": "square", "side": 0},
		"figure.sid: unknown key; did you mean \"side\"?":   {"kind": "square", "sid": 0},
		"figure.kind: is missing":                           {"side": 1},
		"figure.unit: is no setting of its own: it follows": {"kind": "square", "unit": 1},
	} {
		if _, _, err := kinds.DecodeFlat(tree, "figure", ""); err == nil || !strings.HasPrefix(err.Error(), says) {
			t.Errorf("%v: %v, want %q", tree, err, says)
		}
	}
	raw, err := kinds.EncodeFlat("square", square{Side: 3, Unit: 7})
	if err != nil {
		t.Fatal(err)
	}
	name, s, err = kinds.UnmarshalFlat(raw)
	if err != nil || name != "square" || s != (square{3, 7}) {
		t.Errorf("%s: %s, %v, %v", raw, name, s, err)
	}
}

func TestSchema(t *testing.T) {
	raw, err := json.Marshal(setting.SchemaOf(outer{Steps: 4}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"steps":{"type":"integer","default":4,"minimum":1}`, `"enum":["dense","sparse"]`, `"exclusiveMinimum":0`,
		`"description":"share of rows"`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("%s lacks %s", raw, want)
		}
	}
	if s := setting.SchemaOf(outer{}); !slices.Equal(s.Required, []string{"steps"}) || s.Properties["steps"].Default != nil {
		t.Errorf("steps, whose default 0 is out of range, need not be given: %v", s.Required)
	}
	if words := setting.SchemaOf(outer{}).Properties["words"]; len(words.Items.Enum) != 2 || words.Enum != nil {
		t.Errorf("the choices of a list are not those of its items: %+v", words)
	}
	if strings.Contains(string(raw), "fixed") {
		t.Error("a setting that follows from others is in the schema")
	}
}
