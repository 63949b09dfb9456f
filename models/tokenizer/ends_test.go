package tokenizer

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/millrace/millrace/e2e/golden"
)

// checkEnds holds the ends of ids against what their beginnings decode to.
func checkEnds(t *testing.T, tok Tokenizer, ids []int32) {
	t.Helper()
	for _, c := range []struct {
		decode func([]int32) string
		ends   func(Tokenizer, []int32) (string, []int32)
	}{{tok.Decode, DecodeEnds}, {func(ids []int32) string { return Text(tok, ids) }, TextEnds}} {
		text, ends := c.ends(tok, ids)
		if want := c.decode(ids); text != want {
			t.Fatalf("the text of %v is %q, want %q", ids, text, want)
		}
		if len(ends) != len(ids) || len(ids) > 0 && int(ends[len(ids)-1]) != len(text) {
			t.Fatalf("%d ends of %d tokens, the last of %v; the text has %d bytes", len(ends), len(ids), ends, len(text))
		}
		last := int32(0)
		for i, end := range ends {
			if end < last || !utf8.ValidString(text[:end]) {
				t.Fatalf("token %d ends at %d, the one before at %d, in %q", i, end, last, text)
			}
			last = end
			// What is certain after token i is there, whatever follows; what is not is part of a character.
			if so := c.decode(ids[:i+1]); !strings.HasPrefix(so, text[:end]) && !strings.Contains(text, "\ufffd") {
				t.Fatalf("after token %d the text is %q, which does not begin with %q", i, so, text[:end])
			} else if rest := strings.TrimPrefix(so, text[:end]); strings.Trim(rest, "\ufffd") != "" {
				t.Fatalf("token %d brings %q, which is not counted as its own", i, rest)
			}
		}
	}
}

// TestEndsOfRealText runs over worked solutions and the golden encodings, whole and cut anywhere, for every kind of tokenizer.
func TestEndsOfRealText(t *testing.T) {
	var texts []string
	raw, err := os.ReadFile(golden.Path(t, "data", "processbench", "gsm8k.json"))
	if err != nil {
		t.Fatal(err)
	}
	var items []struct{ Steps []string }
	if err := json.Unmarshal(raw, &items); err != nil {
		t.Fatal(err)
	}
	for _, item := range items[:40] {
		texts = append(texts, strings.Join(item.Steps, "\n\n"))
	}
	bytes, err := NewBytes()
	if err != nil {
		t.Fatal(err)
	}
	toks := map[string]Tokenizer{"bytes": bytes}
	for _, name := range published {
		tok, dir := sharedTokenizer(t, name)
		toks[name] = tok
		eachLine(t, dir+"/encodings.jsonl", func(c encoding) {
			if len(c.Text) < 4000 {
				texts = append(texts, c.Text)
			}
		})
	}
	r := rand.New(rand.NewPCG(6, 1))
	for name, tok := range toks {
		split := 0
		for _, text := range texts {
			ids, err := tok.Encode(text)
			if err != nil {
				t.Fatal(err)
			}
			if len(ids) > 200 {
				ids = ids[:200]
			}
			checkEnds(t, tok, ids)
			if len(ids) == 0 {
				continue
			}
			checkEnds(t, tok, ids[:r.IntN(len(ids))]) // often in the middle of a character
			_, ends := DecodeEnds(tok, ids)
			for i := range ends {
				if i > 0 && ends[i] == ends[i-1] && !tok.Special(ids[i]) {
					split++
				}
			}
		}
		if split == 0 {
			t.Errorf("%s: no character is spread over several tokens: the test says nothing", name)
		}
	}
}

// TestEndsOfAnyTokens: ids in no order of sense, special ones among them, half characters everywhere.
func TestEndsOfAnyTokens(t *testing.T) {
	bytes, err := NewBytes("<a>", "<b>")
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(6, 2))
	for range 3000 {
		ids := make([]int32, r.IntN(12))
		for i := range ids {
			ids[i] = int32(r.IntN(bytes.VocabSize()))
		}
		checkEnds(t, bytes, ids)
	}
}
