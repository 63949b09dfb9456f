package prompts

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/schemas/setting"
)

func TestSettings(t *testing.T) {
	for text, path := range map[string]string{
		"{source: chain, count: 3, chain: {min_steps: 4}}":                                         "",
		"{source: file, file: {path: a.jsonl, fields: {prompt: q}}}":                               "",
		"{source: mixture, mixture: [{name: a, weight: 1, source: chain, chain: {max_steps: 4}}]}": "",
		"{source: chain, file: {path: a.jsonl}}":                                                   "prompts.file",
		"{source: mixture, mixture: [{name: a, weight: 1, source: chain, file: {}}]}":              "prompts.mixture[0].file",
		"{source: mixture, mixture: [{name: a, weight: 1, source: chian}]}":                        "prompts.mixture[0].source",
		"{source: chian}":                       "prompts.source",
		"{soruce: chain}":                       "prompts.soruce",
		"{source: chain, chain: {min_step: 4}}": "prompts.chain.min_step",
		"{source: chain, count: 0}":             "count",
		"{source: file, split: tset, file: {path: a.jsonl, fields: {prompt: q}}}": "split",
	} {
		var tree any
		if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
			t.Fatal(err)
		}
		c := Default()
		err := setting.Decode(tree, &c, "prompts")
		if err == nil {
			err = setting.Check(c)
		}
		var e *setting.Error
		if (path == "") != (err == nil) || path != "" && (!errors.As(err, &e) || e.Path != path) {
			t.Errorf("%s: %v, want an error at %q", text, err, path)
		}
		if err != nil {
			continue
		}
		raw, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var back, again Config
		if err := json.Unmarshal(raw, &back); err != nil || !reflect.DeepEqual(back, c) {
			t.Errorf("%s: %v, %+v is not %+v", raw, err, back, c)
		}
		var written any
		if err := yaml.Unmarshal(raw, &written); err != nil {
			t.Fatal(err)
		}
		if err := setting.Decode(written, &again, "prompts"); err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%s: %v, %+v is not %+v", raw, err, again, c)
		}
	}
	if s := setting.SchemaOf(Default()); len(s.Properties["source"].Enum) != 4 || s.Properties["mixture"].Items.Properties["mixture"] != nil {
		t.Errorf("%+v", s)
	}
}
