package local

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/gguf"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/models/transformer"
)

func init() {
	models.RegisterFormat(models.Format{Name: "gguf", Match: isGGUF, Open: open, Window: window})
}

func isGGUF(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && strings.EqualFold(filepath.Ext(path), ".gguf")
}

// LoadGGUF reads a GGUF file, its quantised weights widened to float32. Saving the model writes a Hugging Face directory
// with the tokenizer that the file embeds.
func LoadGGUF(path string) (*transformer.Model, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	checkpoint, err := f.Checkpoint()
	if err != nil {
		return nil, err
	}
	config, err := transformer.ParseConfig(checkpoint.Config())
	if err != nil {
		return nil, err
	}
	files, err := tokenizer.GGUFFiles(f)
	if err != nil {
		return nil, err
	}
	return transformer.FromWeights(path, config, checkpoint, files)
}
