// Package localtest writes small models for tests.
package localtest

import (
	"testing"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/models/transformer"
)

// Save writes a model and its tokenizer to a directory of the test's own.
func Save(t testing.TB, m *transformer.Model, tok tokenizer.Tokenizer) models.Ref {
	t.Helper()
	dir := t.TempDir()
	if err := m.Save(dir); err != nil {
		t.Fatal(err)
	}
	if err := tok.Save(dir); err != nil {
		t.Fatal(err)
	}
	digest, err := models.Digest(dir)
	if err != nil {
		t.Fatal(err)
	}
	return models.Ref{Path: dir, Digest: digest}
}
