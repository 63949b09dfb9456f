package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/transforms/prompts"
)

// Bounds of what is kept of groups. Above them every other prompt is dropped, by a bit of its hash, as often as it takes.
var (
	maxPrompts   = 1 << 18
	maxResponses = 1 << 22
)

// groups keeps the counts of each prompt.
type groups struct {
	of        map[uint64]*group
	responses int    // kept
	mask      uint64 // bits of a hash that are 0 in the prompts that are kept
	last      uint64 // the prompt of the response before
	all       int    // prompts as they follow on each other, kept or not
}

// group is what is kept of the responses to a prompt.
type group struct {
	order      int // among all
	where      string
	question   string // its beginning
	known      [2]int // by the scores, by the verifier
	right      [2]int
	n          int      // responses
	places     int      // at which rows of it lie side by side
	responses  []uint64 // hashes, in order
	repeated   int
	repetition Example
}

func newGroups() *groups { return &groups{of: map[uint64]*group{}} }

// stepColumns tell rows of several steps of a training apart, of which each answers a prompt anew.
var stepColumns = []string{"step", "global_step", "global_steps", "iteration"}

// hashOf is FNV-1a with its bits mixed, since some of them choose what is kept. It is the same in every process, so that reports are.
func hashOf(parts ...string) uint64 {
	h := uint64(14695981039346656037)
	for _, p := range parts {
		for i := range len(p) {
			h = (h ^ uint64(p[i])) * 1099511628211
		}
		h = (h ^ 0xff) * 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	return h ^ h>>33
}

// groupOf tells the groups of a file apart: by prompt, file and step, and by the column of ids where one is named.
func groupOf(row *prompts.Row, id string, several bool) uint64 {
	key := []string{row.Prompt, row.Answer}
	if v, ok := row.Value(id); ok && id != "" {
		key = append(key, fmt.Sprint(v))
	}
	if several {
		key = append(key, row.File)
	}
	for _, name := range stepColumns {
		if v, ok := row.Value(name); ok {
			if n, is := v.(interface{ String() string }); is {
				key = append(key, name, n.String())
			}
		}
	}
	return hashOf(key...)
}

func (g *groups) row(*prompts.Row, string) {}

func (g *groups) response(r *response) {
	begins := g.all == 0 || r.group != g.last
	if g.last = r.group; begins {
		g.all++
	}
	if r.group&g.mask != 0 {
		return
	}
	of := g.of[r.group]
	if of == nil {
		of = &group{order: g.all, where: r.where, question: head(r.row.Question)}
		g.of[r.group] = of
	}
	if begins {
		of.places++
	}
	of.n++
	for i, right := range []*bool{r.right, r.outcome(0)} {
		if right == nil {
			continue
		}
		of.known[i]++
		if *right {
			of.right[i]++
		}
	}
	text := strings.Join(strings.Fields(r.given.Text), " ")
	if text != "" {
		h := hashOf(text)
		at, there := slices.BinarySearch(of.responses, h)
		if !there {
			of.responses = slices.Insert(of.responses, at, h)
		} else if of.repeated++; of.repeated == 1 {
			of.repetition = Example{Row: r.where, Text: head(r.given.Text), Why: "the prompt has this response before"}
		}
	}
	for g.responses++; g.responses > maxResponses || len(g.of) > maxPrompts; {
		g.halve()
	}
}

// halve drops every other prompt.
func (g *groups) halve() {
	g.mask = g.mask<<1 | 1
	for h, of := range g.of {
		if h&g.mask != 0 {
			delete(g.of, h)
			g.responses -= of.n
		}
	}
}

func (g *groups) share() float64 { return 1 / float64(g.mask+1) }

func (g *groups) findings(*Report) (out []Finding) {
	all := slices.SortedFunc(maps.Values(g.of), func(a, b *group) int { return a.order - b.order })
	var single, apart, repeated counted
	responses := 0
	type fate struct {
		groups       int
		right, wrong counted
	}
	var fates [2]fate
	for _, of := range all {
		example := func() Example { return Example{Row: of.where, Text: of.question} }
		if of.n == 1 {
			single.add(example)
		}
		if of.places > 1 {
			apart.add(example)
		}
		responses += of.n
		if of.repeated > 0 {
			repeated.add(func() Example { return of.repetition })
			repeated.n += of.repeated - 1
		}
		for i := range fates {
			f := &fates[i]
			if of.known[i] < 2 {
				continue
			}
			f.groups++
			if of.right[i] == of.known[i] {
				f.right.add(example)
			} else if of.right[i] == 0 {
				f.wrong.add(example)
			}
		}
	}
	for i, by := range []string{"given", "verified"} {
		f, who := fates[i], []string{"the scores of the files", "the verifier"}[i]
		severity := func(n int) Severity {
			if 2*n >= f.groups {
				return Warning
			}
			return Note
		}
		out = append(out,
			Finding{Kind: "all_right_" + by, Severity: severity(f.right.n), Count: f.right.n, Of: f.groups, Unit: "groups",
				Meaning: "All responses to these prompts are right by " + who + ": compared with each other, none of them teaches anything.",
				Advice: "Leave the prompts out (millrace filter --max), or sample more responses to them; what is learned from relative rewards " +
					"comes of the other groups.",
				Examples: f.right.examples},
			Finding{Kind: "all_wrong_" + by, Severity: severity(f.wrong.n), Count: f.wrong.n, Of: f.groups, Unit: "groups",
				Meaning: "All responses to these prompts are wrong by " + who + ": the prompts are too hard, or their answers are wrong.",
				Advice: "Read the answers of some of them; leave the prompts out (millrace filter --min), sample more responses to them, or ask a " +
					"stronger model.",
				Examples: f.wrong.examples})
	}
	severity := Note
	if 20*repeated.n >= responses {
		severity = Warning
	}
	if single.n < len(all) { // where all are single, nothing was meant to be compared
		out = append(out, Finding{Kind: "single", Severity: Note, Count: single.n, Of: len(all), Unit: "prompts",
			Meaning:  "These prompts have one response, with which no other can be compared.",
			Advice:   "For losses that compare the responses of a prompt sample more of them.",
			Examples: single.examples})
	}
	return append(out,
		Finding{Kind: "repeated_prompts", Severity: Warning, Count: apart.n, Of: len(all), Unit: "prompts",
			Meaning: "Rows of these prompts do not lie side by side, so their responses are not seen as one group.",
			Advice: "Sort the rows by prompt; where each row is meant for itself say --ungrouped, and where a field tells copies apart name it " +
				"(--field id=...).",
			Examples: apart.examples},
		Finding{Kind: "repeated_responses", Severity: severity, Count: repeated.n, Of: responses, Unit: "responses",
			Meaning: "The prompt has the same response already, but for white space: copies count as often as they are there.",
			Advice: "Take one of each (deduplicate, in a recipe of kind label), or sample at a higher temperature; many copies tell a policy " +
				"without variety.",
			Examples: repeated.examples})
}
