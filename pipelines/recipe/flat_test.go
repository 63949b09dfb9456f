package recipe

import (
	"maps"
	"testing"
)

func TestFlat(t *testing.T) {
	got := Flat([]byte("kind: policy\nprompts: {source: chain, count: 6}\nupdate: {losses: [{name: ppo, eps: 0.2}, {name: distrl}], " +
		"lora: {targets: [q_proj, v_proj]}}\nempty: {}\nno: false\nlr: 1e-6\n"))
	want := map[string]string{"kind": "policy", "prompts.source": "chain", "prompts.count": "6", "update.losses[0].name": "ppo",
		"update.losses[0].eps": "0.2", "update.losses[1].name": "distrl", "update.lora.targets": "[q_proj, v_proj]", "empty": "{}",
		"no": "false", "lr": "1e-06"}
	if !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if Flat([]byte("counts")) != nil {
		t.Error("a text that is no recipe has settings")
	}
}
