package export

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// Origin is what is known of rows beside what they say themselves: the run that made them says it. A nil part is not known.
type Origin struct {
	Sampling *Sampling `json:"sampling,omitempty"`
	Chat     *Chat     `json:"chat,omitempty"`
	// SHA-256 of the tokenizer's file, and of its chat template as text.
	Tokenizer    string `json:"tokenizer_sha256,omitempty"`
	ChatTemplate string `json:"chat_template_sha256,omitempty"`
}

// Sampling is how responses were drawn.
type Sampling struct {
	Temperature  float64 `json:"temperature"` // above 0
	Greedy       bool    `json:"greedy,omitempty"`
	TopP         float64 `json:"top_p,omitempty"` // 0 or 1: all tokens
	TopK         int     `json:"top_k,omitempty"` // 0: all tokens
	MinNewTokens int     `json:"min_new_tokens,omitempty"`
}

// Chat is how prompts were put to the model.
type Chat struct {
	Template    bool   `json:"template"`
	System      string `json:"system,omitempty"`
	Instruction string `json:"instruction,omitempty"` // behind every prompt
	// Variables are those that the template was given beside the messages, a JSON object.
	Variables json.RawMessage `json:"variables,omitempty"`
}

// head is what a file says before its rows.
type head struct {
	path string
	rows stage.Batch // none, with the columns of the file
}

type heads []head

var errSeen = errors.New("the columns are seen")

// headsOf reads the columns and the metadata of files.
func headsOf(ctx context.Context, paths []string) (heads, error) {
	var out heads
	for _, path := range paths {
		h := head{path: path}
		err := recordio.ReadFile(ctx, path, func(b stage.Batch) error {
			h.rows = b.Slice(0, 0).Canonical() // a copy, which does not hold the rows
			return errSeen
		})
		if err != nil && !errors.Is(err, errSeen) {
			return nil, err
		}
		out = append(out, h)
	}
	return out, nil
}

func (h heads) paths() (out []string) {
	for _, f := range h {
		out = append(out, f.path)
	}
	return out
}

// rows are the columns of the files that have any rows.
func (h heads) rows() (out []stage.Batch) {
	for _, f := range h {
		if len(f.rows.Columns()) > 0 {
			out = append(out, f.rows)
		}
	}
	return out
}

func (h heads) iterations() []int {
	seen := map[int]bool{}
	for _, f := range h {
		seen[f.rows.Meta().Iteration] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

func (h heads) of(iteration int) (out heads) {
	for _, f := range h {
		if f.rows.Meta().Iteration == iteration {
			out = append(out, f)
		}
	}
	return out
}

// identified is what lineage says of a column that a model wrote.
var identified = regexp.MustCompile(`^([a-z_]+)@([0-9a-f]{64}(?:\+[a-z0-9]+)?)$`)

// describe says where the rows come from.
func (s *Sidecar) describe(from heads) {
	var metas []schemas.Meta
	var runs []string
	for _, f := range from {
		m := f.rows.Meta()
		metas = append(metas, m)
		if m.Run != "" && !slices.Contains(runs, m.Run) {
			runs = append(runs, m.Run)
		}
	}
	s.Run, s.Lineage = strings.Join(runs, ";"), schemas.MergeMeta(metas...).Lineage
	for _, by := range s.Lineage {
		for part := range strings.SplitSeq(by, ";") {
			if m := identified.FindStringSubmatch(part); m != nil && !slices.Contains(s.Models[m[1]], m[2]) {
				if s.Models == nil {
					s.Models = map[string][]string{}
				}
				s.Models[m[1]] = append(s.Models[m[1]], m[2])
			}
		}
	}
	for _, digests := range s.Models {
		slices.Sort(digests)
	}
}

// definitions are those of the log-probs that a format writes.
func definitions(l LogProbber, from heads) map[string][]schemas.LogPDefinition {
	out := map[string][]schemas.LogPDefinition{}
	for _, rows := range from.rows() {
		for _, d := range l.LogProbs(rows) {
			name := d.Describe().Name
			if def, ok := schemas.LogPOf(rows, d); ok && !slices.Contains(out[name], def) {
				out[name] = append(out[name], def)
			}
		}
	}
	return out
}
