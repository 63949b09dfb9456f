package prompts

import (
	"strings"
	"testing"

	"github.com/millrace/millrace/schemas"
)

func TestInspect(t *testing.T) {
	text := lines(30) + "broken\n" + `{"q": "", "a": "3"}` + "\n" + strings.SplitAfter(lines(30), "\n")[0]
	path := write(t, "p.jsonl", text)
	of := File{Path: Paths{path}, Fields: Fields{Prompt: "q", Answer: "a"}, TestShare: 0.3}
	found, err := Inspect(t.Context(), New("file", of))
	if err != nil {
		t.Fatal(err)
	}
	f := found[0]
	if f.Rows != 33 || !f.Whole || f.Prompts["train"]+f.Prompts["test"] != 30 || f.Repeated != 1 || f.Dead[schemas.ReasonUnreadable] != 1 ||
		f.Dead[schemas.ReasonEmpty] != 1 || !strings.Contains(f.Fault, "p.jsonl:31") {
		t.Errorf("%+v", f)
	}
	for want, change := range map[string]func(f *File){
		"file.path: ":                     func(f *File) { f.Path = Paths{"none.jsonl"} },
		`file.fields.prompt: no row of `:  func(f *File) { f.Fields.Prompt = "question" },
		`file.fields.answer: no row of `:  func(f *File) { f.Fields.Answer = "aa" },
		`file.fields.outcome: no row of `: func(f *File) { f.Fields.Outcome, f.Fields.Response = "label", "a" },
	} {
		c := changed(New("file", of), change)
		if _, err := Inspect(t.Context(), c); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	mixed := New("mixture", Mixture{{Name: "a", Weight: 1, Source: "file", Of: File{Path: Paths{"none.jsonl"}, Fields: of.Fields}}})
	if _, err := Inspect(t.Context(), mixed); err == nil || !strings.HasPrefix(err.Error(), "mixture[0].file.path: ") {
		t.Errorf("%v", err)
	}
}
