package transformer

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/millrace/millrace/models/transformer/family"
)

// A family whose layer is one of those that are there is one entry: its configurations are read, its models made, saved and
// loaded under its own names.
func TestAFamilyIsOneEntry(t *testing.T) {
	text := []byte(`{"model_type":"rill","vocab_size":7,"hidden_size":32,"intermediate_size":8,"num_hidden_layers":1,"num_attention_heads":8}`)
	if _, err := ParseConfig(text); err == nil || !strings.Contains(err.Error(), "llama, qwen2 and qwen3") {
		t.Errorf("an unknown family: %v; want the known ones", err)
	}
	known := family.Families
	defer func() { family.Families = known }()
	family.Families = append(known[:len(known):len(known)], family.Family{ModelType: "rill", Architecture: "RillForCausalLM", GGUF: "rill",
		KVHeads: 2, HeadDim: 6, Tied: true, QKVBias: true, QKNorm: true})

	c, err := ParseConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	if c.KVHeads != 2 || c.HeadDim != 6 || !c.Tied || !c.QKVBias || c.OutBias || c.MLPBias || !c.QKNorm {
		t.Errorf("the configuration is %+v", c)
	}
	m, err := New(c, 1, false)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := m.Save(dir); err != nil {
		t.Fatal(err)
	}
	saved, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(saved), "RillForCausalLM") || strings.Contains(string(saved), "_bias") {
		t.Errorf("config.json is %s", saved)
	}
	again, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	c.raw, again.config.raw = nil, nil
	again.config.dtype = ""
	if !reflect.DeepEqual(again.config, c) {
		t.Errorf("loaded: %+v, saved %+v", again.config, c)
	}
}
