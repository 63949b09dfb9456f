package prompts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
)

// Decontaminate names test sets whose problems are taken out of a source.
type Decontaminate struct {
	Against Paths `json:"against" doc:"files of test sets, each a file, a folder or a pattern"`
	// Words are runs of letters and digits in lower case. A run that more than commonItems test items have is of a template.
	NGram int     `json:"ngram" range:"[2,100]" doc:"a prompt is taken out when it has as many words in a row of a test item; shorter items are compared as a whole"`
	Share float64 `json:"share" range:"[0,1]" doc:"least share of the test item's runs of so many words that the prompt has; 0: one run is enough"`
	Field string  `json:"field,omitempty" doc:"the field of the prompt in the test sets; empty: by its name"`
}

// SetDefaults compare as GPT-3's authors did (arXiv 2005.14165, appendix C).
func (d *Decontaminate) SetDefaults() { *d = Decontaminate{NGram: 13} }

// Validate names the first key that is wrong.
func (d Decontaminate) Validate() error {
	if len(d.Against) == 0 || slices.Contains(d.Against, "") {
		return setting.Errorf("against", "missing; name the files of a test set")
	}
	return setting.In("against", File{Path: d.Against}.validatePaths())
}

// commonItems is the most test items that a run of words may be in to tell one of them.
const commonItems = 8

// testItems are the problems of test sets.
type testItems struct {
	of    Decontaminate
	items []testItem
	exact map[string]int32   // problem, to its item
	runs  map[uint64][]int32 // hash of a run of words, to the items that have it; nil: more than commonItems

	last, said string // the problem that was looked up last
	found      bool
}

// testItem is a problem of a test set.
type testItem struct {
	where, text string // clipped
	runs        int    // that are not of a template
}

// Tests are the files of the test sets, in order.
func (f File) Tests(ctx context.Context) ([]string, error) {
	if f.Decontaminate == nil {
		return nil, nil
	}
	paths, err := File{Path: f.Decontaminate.Against}.Paths(ctx)
	return paths, atTests(err)
}

// atTests is an error about the test sets.
func atTests(err error) error {
	if err == nil {
		return nil
	}
	why := err.Error()
	if has := (*setting.Error)(nil); errors.As(err, &has) {
		why = has.Why
	}
	return setting.Errorf("decontaminate.against", "%s", why)
}

// readTests reads the test sets. A row that cannot be read is an error: what it says would stay in the source.
func (d Decontaminate) readTests(ctx context.Context) (*testItems, error) {
	f, _, err := File{Path: d.Against, Fields: Fields{Prompt: d.Field}, Ungrouped: true}.Fill(ctx, false)
	if err != nil {
		return nil, atTests(err)
	}
	out := &testItems{of: d, exact: map[string]int32{}, runs: map[uint64][]int32{}}
	err = f.EachRow(ctx, func(row Row) error {
		where := fmt.Sprintf("%s:%d", files.Base(row.File), row.Number)
		if row.Reason != "" {
			return fmt.Errorf("%s cannot be read (%s), and its problem would stay in the source", where, row.Why)
		}
		out.add(where, row.Question)
		return nil
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, atTests(err)
	}
	for _, in := range out.runs {
		for _, i := range in {
			out.items[i].runs++
		}
	}
	return out, nil
}

func (t *testItems) add(where, text string) {
	at := int32(len(t.items))
	t.items = append(t.items, testItem{where: where, text: clip(text)})
	problem := normalised(text)
	if _, there := t.exact[problem]; there {
		return // another copy of the item, whose runs are no template's
	}
	t.exact[problem] = at
	for _, h := range runsOf(text, t.of.NGram) {
		if in, there := t.runs[h]; there && (in == nil || len(in) == commonItems) {
			t.runs[h] = nil
		} else {
			t.runs[h] = append(in, at)
		}
	}
}

// match says which test item a prompt is of, and why; false where it is of none.
func (t *testItems) match(prompt promptRow) (said string, found bool) {
	text := saidOrID(prompt)
	if text != t.last || t.last == "" { // rows of one prompt lie side by side
		t.said, t.found = t.find(text)
		t.last = text
	}
	return t.said, t.found
}

func (t *testItems) find(text string) (string, bool) {
	if at, there := t.exact[normalised(text)]; there {
		i := t.items[at]
		return fmt.Sprintf("the prompt is test item %s: %s", i.where, i.text), true
	}
	shared := map[int32]int{}
	for _, h := range runsOf(text, t.of.NGram) {
		for _, at := range t.runs[h] {
			shared[at]++
		}
	}
	best, share := int32(-1), 0.0
	for at, n := range shared {
		s := float64(n) / float64(t.items[at].runs)
		if s >= t.of.Share && (best < 0 || s > share || s == share && at < best) {
			best, share = at, s
		}
	}
	if best < 0 {
		return "", false
	}
	i := t.items[best]
	return fmt.Sprintf("the prompt has %d of %d runs of %d words of test item %s: %s", shared[best], i.runs, t.of.NGram, i.where, i.text), true
}

// saidOrID is what the user says, or the ids of a prompt that comes as such alone.
func saidOrID(r promptRow) string {
	if r.prompt == "" {
		return r.identity()
	}
	return said(r)
}

// runsOf are the hashes of the runs of n words, each once.
func runsOf(text string, n int) (out []uint64) {
	var words []string
	at := -1
	lower := strings.ToLower(norm.NFC.String(text))
	end := func(i int) {
		if at >= 0 {
			words, at = append(words, lower[at:i]+"\x00"), -1
		}
	}
	for i, c := range lower {
		switch {
		case unicode.In(c, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai): // written without spaces
			end(i)
			words = append(words, string(c))
		case unicode.IsLetter(c) || unicode.IsDigit(c):
			if at < 0 {
				at = i
			}
		default:
			end(i)
		}
	}
	end(len(lower))
	for i := 0; i+n <= len(words); i++ {
		out = append(out, hashOf(words[i:i+n]))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// contaminated is the fault of a row whose prompt is of a test set.
func (s *scanner) contaminated(r promptRow) error {
	if s.tests == nil {
		return nil
	}
	if why, found := s.tests.match(r); found {
		return bad(schemas.ReasonContaminated, "%s", why)
	}
	return nil
}
