package prompts

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
)

// wordsFrom are n words, each of which is said once.
func wordsFrom(first, n int) string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint("word", first+i)
	}
	return strings.Join(out, " ")
}

// TestDecontaminate: prompts of a test set are set aside with the item that they match, and no row is lost.
func TestDecontaminate(t *testing.T) {
	const template = "Solve the following problem step by step and write your final answer in a box at the end of it all. "
	var tests, rows strings.Builder
	test := func(text string) { fmt.Fprintf(&tests, "{\"question\": %q}\n", text) }
	row := func(text string) { fmt.Fprintf(&rows, "{\"q\": %q, \"a\": \"1\"}\n", text) }
	for i := range 20 {
		test(template + wordsFrom(1000*(i+1), 20))
	}
	test("What is 5 - 3?")                // 21, shorter than a run
	row("  what is 5 -\u00a03? ")         // 1: the item but for case and white space
	row("What is 5 + 3?")                 // 2: its words, and another problem
	row(wordsFrom(1000, 12) + " else")    // 3: one word fewer than a run
	row("So: " + wordsFrom(2003, 13))     // 4: one run of item 2
	row(template + wordsFrom(50_000, 20)) // 5: the template alone
	row(template + wordsFrom(3000, 20))   // 6: item 3
	rows.WriteString("no JSON\n")         // 7
	row("What is 5 + 3?")                 // 8: a repetition
	c := fileConfig(write(t, "p.jsonl", rows.String()), Fields{Prompt: "q", Answer: "a"})
	against := Paths{write(t, "test.jsonl", tests.String())}
	clean := func(d Decontaminate) Config {
		d.Against, d.NGram = against, 13
		return changed(c, func(f *File) { f.Decontaminate = &d })
	}
	kept, dead, res := scan(t, clean(Decontaminate{}), Window{})
	if res.In != 8 || res.Kept != 3 || res.Reasons[schemas.ReasonContaminated] != 3 || res.Kept+dead.NumRows()+res.Filtered != res.In {
		t.Errorf("%+v, %d dead letters", res, dead.NumRows())
	}
	var prompts []string
	for i := range kept.NumRows() {
		prompts = append(prompts, schemas.Prompt.Of(kept).At(i))
	}
	if want := []string{"What is 5 + 3?", wordsFrom(1000, 12) + " else", template + wordsFrom(50_000, 20)}; !slices.Equal(prompts, want) {
		t.Errorf("kept are %q", prompts)
	}
	said := map[string]string{}
	for i := range dead.NumRows() {
		if schemas.DeadReason.Of(dead).At(i) == string(schemas.ReasonContaminated) {
			where, why, _ := strings.Cut(schemas.DeadMessage.Of(dead).At(i), ": ")
			if said[where] = why; len(schemas.DeadRow.Of(dead).At(i)) == 0 {
				t.Errorf("the row %s is not there", where)
			}
		}
	}
	for where, want := range map[string]string{"p.jsonl:1": "the prompt is test item test.jsonl:21: What is 5 - 3?",
		"p.jsonl:4": "the prompt has 1 of ", "p.jsonl:6": "the prompt is test item test.jsonl:3: Solve the"} {
		if !strings.HasPrefix(said[where], want) {
			t.Errorf("%s: %q, want %q", where, said[where], want)
		}
	}
	// A share of the item's own runs is more than one run.
	if _, _, res := scan(t, clean(Decontaminate{Share: 0.5}), Window{}); res.Reasons[schemas.ReasonContaminated] != 2 {
		t.Errorf("at a share of one half: %+v", res)
	}
	found, err := clean(Decontaminate{}).Of.(File).Inspect(t.Context())
	if err != nil || found.Contaminated != 3 || found.DeadShare() != 1.0/8 || !strings.Contains(found.Contamination, "test.jsonl:21") {
		t.Errorf("%+v, %v", found, err)
	}
	paths, err := clean(Decontaminate{}).Paths(t.Context())
	if err != nil || !slices.Contains(paths, against[0]) {
		t.Errorf("files of the source are %v, %v: the test set is not held to its digest", paths, err)
	}
}

// TestDecontaminateResponses: all responses to a prompt of a test set are set aside.
func TestDecontaminateResponses(t *testing.T) {
	c := fileConfig(write(t, "p.jsonl", `{"q": "one", "a": "1", "r": "x"}
{"q": "one", "a": "1", "r": "y"}
{"q": "two", "a": "1", "r": "z"}
`), Fields{Prompt: "q", Answer: "a", Response: "r"})
	c = changed(c, func(f *File) {
		f.Decontaminate = &Decontaminate{Against: Paths{write(t, "test.jsonl", `{"problem": "One"}`)}, NGram: 13}
	})
	if rows, dead, res := scan(t, c, Window{}); rows.NumRows() != 1 || dead.NumRows() != 2 || res.In != 3 {
		t.Errorf("%d rows, %d dead letters, %+v", rows.NumRows(), dead.NumRows(), res)
	}
}

// TestScriptWithoutSpaces: each character of a script that is written without spaces is a word.
func TestScriptWithoutSpaces(t *testing.T) {
	if n := len(runsOf("小明有三个苹果和五个梨一共多少", 13)); n != 3 {
		t.Errorf("%d runs of 15 characters, want 3", n)
	}
}

// TestTestSets: a test set that is not there, or that cannot be read as a whole, is an error of its setting.
func TestTestSets(t *testing.T) {
	c := fileConfig(write(t, "p.jsonl", lines(3)), Fields{Prompt: "q", Answer: "a"})
	for name, d := range map[string]Decontaminate{
		"missing":     {Against: Paths{t.TempDir() + "/none.jsonl"}, NGram: 13},
		"a bad row":   {Against: Paths{write(t, "bad.jsonl", "{\"question\": \"x\"}\n{\"question\": 7\n")}, NGram: 13},
		"no prompts":  {Against: Paths{write(t, "other.jsonl", `{"x": "y"}`)}, NGram: 13},
		"no field":    {Against: Paths{write(t, "field.jsonl", `{"question": "y"}`)}, NGram: 13, Field: "z"},
		"no rows":     {Against: Paths{write(t, "empty.jsonl", "")}, NGram: 13},
		"another end": {Against: Paths{write(t, "x.txt", "y")}, NGram: 13},
	} {
		_, err := changed(c, func(f *File) { f.Decontaminate = &d }).Of.(File).Inspect(t.Context())
		if has := (*setting.Error)(nil); !errors.As(err, &has) || !strings.HasPrefix(has.Path, "decontaminate.against") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, d := range map[string]Decontaminate{"decontaminate.against": {NGram: 13},
		"decontaminate.ngram": {Against: Paths{"x.jsonl"}, NGram: 1},
		"decontaminate.share": {Against: Paths{"x.jsonl"}, NGram: 2, Share: 2}} {
		if err := setting.Check(changed(c, func(f *File) { f.Decontaminate = &d }).Of); err == nil || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%v, want one of %s", err, name)
		}
	}
}
