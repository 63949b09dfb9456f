package doctor

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A response of at least so many words with fewer than so many of its own only restates the question. Shorter ones may be an answer.
const (
	restatingWords = 8
	ownWords       = 3
)

// texts looks at what responses say.
type texts struct {
	nothing
	all, read        int
	empty, restating counted
}

func (t *texts) response(r *response) {
	t.all++
	text := r.given.Text
	if strings.TrimSpace(text) == "" {
		if len(r.given.Tokens) == 0 {
			t.empty.add(func() Example { return Example{Row: r.where, Text: head(r.row.Question)} })
		}
		return
	}
	t.read++
	if n, own := own(text, r.row.Question); n >= restatingWords && own < ownWords {
		t.restating.add(func() Example {
			return Example{Row: r.where, Text: head(text), Why: fmt.Sprintf("%d of %d words are its own", own, n)}
		})
	}
}

// own counts the words of a response, and those of them that the question does not have, its signs among them.
func own(response, question string) (words, own int) {
	asked := map[string]bool{}
	for _, w := range wordsOf(question) {
		asked[w] = true
	}
	for _, w := range wordsOf(response) {
		if c, _ := utf8.DecodeRuneInString(w); !unicode.IsSymbol(c) {
			words++
		}
		if !asked[w] {
			own++
		}
	}
	return words, own
}

// wordsOf are runs of letters and of digits, and every other sign by itself, so that a calculation is of words too.
func wordsOf(s string) (out []string) {
	at := -1
	for i, c := range s {
		if unicode.IsLetter(c) || unicode.IsDigit(c) {
			if at < 0 {
				at = i
			}
			continue
		}
		if at >= 0 {
			out, at = append(out, strings.ToLower(s[at:i])), -1
		}
		if unicode.IsSymbol(c) {
			out = append(out, string(c))
		}
	}
	if at >= 0 {
		out = append(out, strings.ToLower(s[at:]))
	}
	return out
}

func (t *texts) findings(*Report) []Finding {
	return []Finding{
		{Kind: "empty_response", Severity: Warning, Count: t.empty.n, Of: t.all, Unit: "responses", Examples: t.empty.examples,
			Meaning: "The response has no text and no tokens; a run sets it aside.",
			Advice:  "Find out why nothing was sampled: an engine's error, or a chat template that ends the turn at once."},
		{Kind: "restates_question", Severity: Warning, Count: t.restating.n, Of: t.read, Unit: "responses", Examples: t.restating.examples,
			Meaning: fmt.Sprintf("The response has fewer than %d words that the question does not have: it restates the question.", ownWords),
			Advice: "Look whether a prompt was copied into the column of responses, or the policy answers by repeating it; a score for such " +
				"responses rewards that."}}
}
