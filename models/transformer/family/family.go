// Package family holds what tells the families of models apart that the transformer computes: their names in configurations
// and files, and the few things in which their layers differ. A family whose layer is one of these is one entry.
package family

import "strings"

// Family is a family of models.
type Family struct {
	ModelType    string // model_type in a Hugging Face config.json
	Architecture string // its class in "architectures"
	GGUF         string // general.architecture in a GGUF file

	// What a config.json of the family means when it does not say: 0 is as many key/value heads as query heads, and the
	// hidden width divided by the heads.
	KVHeads, HeadDim int
	Tied             bool // the LM head is the embedding

	QKVBias       bool // query, key and value projections have biases, whatever the file says
	AttentionBias bool // attention_bias decides about biases on these and on the output projection
	MLPBias       bool // mlp_bias decides about biases on the MLP's projections
	QKNorm        bool // query and key heads are normed before the rotation

	// RotatedPairs: in GGUF files the dimensions that a rotary embedding rotates against each other are neighbours, not the
	// two halves of a head.
	RotatedPairs bool
}

// Families are the known ones.
var Families = []Family{
	{ModelType: "llama", Architecture: "LlamaForCausalLM", GGUF: "llama", AttentionBias: true, MLPBias: true, RotatedPairs: true},
	{ModelType: "qwen2", Architecture: "Qwen2ForCausalLM", GGUF: "qwen2", KVHeads: 32, QKVBias: true},
	{ModelType: "qwen3", Architecture: "Qwen3ForCausalLM", GGUF: "qwen3", KVHeads: 32, HeadDim: 128, AttentionBias: true, QKNorm: true},
}

// Of returns the family of a model_type. Where there is none, known says which there are: "a, b and c".
func Of(modelType string) (f Family, known string, ok bool) {
	return find(modelType, func(f Family) string { return f.ModelType })
}

// OfGGUF returns the family of a GGUF file's architecture.
func OfGGUF(architecture string) (f Family, known string, ok bool) {
	return find(architecture, func(f Family) string { return f.GGUF })
}

func find(name string, of func(Family) string) (Family, string, bool) {
	var names []string
	for _, f := range Families {
		if of(f) == name {
			return f, "", true
		}
		names = append(names, of(f))
	}
	last := len(names) - 1
	return Family{}, strings.Join(names[:last], ", ") + " and " + names[last], false
}
