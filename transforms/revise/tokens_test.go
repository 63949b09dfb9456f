package revise

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/schemas/setting"
)

// Texts and ids are read as settings and as JSON, and written the way they were given.
func TestTokensAreTextOrIDs(t *testing.T) {
	for _, want := range []Tokens{{}, {Text: "No Revise\n"}, {Text: "[1]"}, IDs(3, 1, 4)} {
		raw, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var tree any
		if err := json.Unmarshal(raw, &tree); err != nil {
			t.Fatal(err)
		}
		var setting, read Tokens
		if err := json.Unmarshal(raw, &read); err != nil || !read.equal(want) {
			t.Errorf("%s is read as %+v, %v", raw, read, err)
		}
		if want.IsZero() {
			continue // left out of a layout; a label has to be given
		}
		if err := setting.DecodeSetting(tree, "at"); err != nil || !setting.equal(want) {
			t.Errorf("setting %s is read as %+v, %v", raw, setting, err)
		}
	}
	layout, err := json.Marshal(Layout{After: Tokens{Text: "#"}})
	if err != nil || string(layout) != `{"after":"#"}` {
		t.Errorf("layout %s, %v", layout, err)
	}
	for _, wrong := range []any{7.0, true, map[string]any{"text": "#"}, []any{"#"}, []any{1.5}, []any{float64(1 << 40)}, []any{3.0, -1.0},
		"\xff"} {
		var got Tokens
		if err := got.DecodeSetting(wrong, "layout.after"); err == nil || !strings.HasPrefix(err.Error(), "layout.after") {
			t.Errorf("%v is read as %+v, %v; want an error that names the setting", wrong, got, err)
		}
	}
}

// A text stands for what the reviser's tokenizer makes of it: # is token 17 of the proving ground, and - + * are 14, 13 and 15.
func TestTextsAreEncoded(t *testing.T) {
	ref := model(t)
	layout := Layout{Before: IDs(3), Between: Tokens{Text: "#"}, After: Tokens{Text: "##"}}
	if err := layout.encode(of(t.Context(), ref)); err != nil {
		t.Fatal(err)
	}
	if want := (Layout{Before: IDs(3), Between: IDs(17), After: IDs(17, 17)}); !layout.Before.equal(want.Before) ||
		!layout.Between.equal(want.Between) || !layout.After.equal(want.After) {
		t.Errorf("got %+v, want %+v", layout, want)
	}
	own := Labels{No: Tokens{Text: "-"}, Minor: Tokens{Text: "+"}, Major: Tokens{Text: "*"}}
	c := &Reviser{Config: Config{Layout: layout, Labels: own}, Model: ref}
	if err := c.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer c.Teardown()
	if !c.Labels.No.equal(IDs(14)) || !c.Labels.Minor.equal(IDs(13)) || !c.Labels.Major.equal(IDs(15)) {
		t.Errorf("labels %+v", c.Labels)
	}
}

// What cannot be told apart once it is encoded is refused, and so is what the vocabulary does not have.
func TestTextsThatFail(t *testing.T) {
	ref := model(t)
	same := Labels{No: Tokens{Text: "-"}, Minor: Tokens{Text: "+"}, Major: IDs(14)}
	if err := setting.Check(same); err != nil {
		t.Fatalf("before the tokenizer is known: %v", err)
	}
	task := &TaskConfig{Adaptive: true, Labels: same, Model: ref}
	if err := task.Setup(t.Context()); err == nil || !strings.Contains(err.Error(), "the same tokens") {
		t.Errorf("two labels of one token: %v", err)
	}
	tok, err := tokenizer.Open(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := (Config{Labels: same}).Encodable(tok); err == nil || !strings.HasPrefix(err.Error(), "labels.major: has the same tokens as no") {
		t.Errorf("two labels of one token: %v", err)
	}
	begun := Config{Labels: Labels{No: Tokens{Text: "-"}, Minor: Tokens{Text: "-+"}, Major: Tokens{Text: "*"}}}
	if err := begun.Encodable(tok); err == nil || !strings.HasPrefix(err.Error(), "labels.minor: begins with all of no") {
		t.Errorf("a label that begins another: %v", err)
	}
	beyond := Config{Labels: Labels{No: Tokens{Text: "-"}, Minor: Tokens{Text: "+"}, Major: IDs(15, int32(tok.VocabSize()))}}
	if err := beyond.Encodable(tok); err == nil || !strings.HasPrefix(err.Error(), "labels.major: no token has the id") {
		t.Errorf("an id beyond the vocabulary: %v", err)
	}
	if same.No.Text != "-" {
		t.Errorf("the check changed the labels: %+v", same)
	}
	unknown := Config{Layout: Layout{After: Tokens{Text: "Check?"}}}
	if err := unknown.Encodable(tok); err == nil || !strings.HasPrefix(err.Error(), "layout.after: ") {
		t.Errorf("a text without tokens: %v", err)
	}
	scorer := &Scorer{Layout: Layout{After: Tokens{Text: "Check?"}}, Model: ref}
	if err := scorer.Setup(t.Context()); err == nil || !strings.Contains(err.Error(), "Check?") {
		t.Errorf("a text without tokens: %v", err)
	}
}
