package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/prompts"
)

// scoreNames are the names that columns of scores go by, the likeliest first.
var scoreNames = []string{"score", "reward", "outcome", "label", "correct", "is_correct", "acc", "accuracy", "verified",
	"final_answer_correct", "correctness_math_verify", "rewards", "scores"}

var errSeen = errors.New("a row that can be read")

// columns says what was taken for what, and finds the scores where they are not named.
func (c *Config) columns(ctx context.Context, out *Report) error {
	raw, err := json.Marshal(c.File.Fields)
	if err != nil {
		return err
	}
	fields := map[string]any{}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return err
	}
	var used []string
	for key, v := range fields {
		if path, ok := v.(string); ok && path != "" && key != "outcome" {
			out.Columns[key], used = path, append(used, path)
		}
	}
	if c.Score == "" {
		c.Score = c.File.Fields.Outcome
	}
	var first *prompts.Row
	named := false
	err = c.File.EachRow(ctx, func(row prompts.Row) error {
		if len(row.Columns()) == 0 {
			return nil
		}
		if first == nil {
			first = &row
		}
		if _, there := row.Value(c.Score); c.Score == "" || there {
			named = true
			return errSeen
		}
		return nil
	})
	switch {
	case err != nil && !errors.Is(err, errSeen):
		return err
	case first == nil:
		return nil // the rows say what is wrong
	case !named:
		return setting.Errorf("--field outcome", "no row has a score at %q%s", c.Score, setting.Suggest(c.Score, first.Columns()))
	}
	if c.Score == "" && c.File.Fields.Chosen == "" {
		c.Score = scoreColumn(first, used)
	}
	if c.Score != "" {
		out.Columns["outcome"] = c.Score
	}
	return nil
}

// scoreColumn is the column that goes by a name of scores and holds some.
func scoreColumn(row *prompts.Row, used []string) string {
	names := slices.Clone(scoreNames)
	for _, name := range row.Columns() {
		if strings.Contains(name, "reward") && !slices.Contains(names, name) { // TRL names a column after each reward function
			names = append(names, name)
		}
	}
	for _, name := range names {
		v, there := row.Value(name)
		if !there || slices.Contains(used, name) {
			continue
		}
		if list, ok := v.([]any); ok && len(list) > 0 && len(list) == len(row.Responses) {
			v = list[0]
		}
		if _, isText := v.(string); isText && !slices.Contains([]string{"true", "false"}, strings.ToLower(v.(string))) {
			continue // a text that is a number may as well be the answer
		}
		if scoreOf(v) != nil {
			return name
		}
	}
	return ""
}

// scoresOf are the scores of a row's responses, nil where they have none.
func (c Config) scoresOf(row *prompts.Row) []*float64 {
	out := make([]*float64, len(row.Responses))
	if c.File.Fields.Chosen != "" && len(out) == 2 {
		right, wrong := 1.0, 0.0
		return []*float64{&right, &wrong}
	}
	if c.Score == "" {
		return out
	}
	v, _ := row.Value(c.Score)
	list, ok := v.([]any)
	if !ok && len(out) == 1 {
		list = []any{v}
	}
	if len(list) == len(out) {
		for i, v := range list {
			out[i] = scoreOf(v)
		}
	}
	return out
}

// scoreOf reads a number or a truth value, each also as text; nil is none.
func scoreOf(v any) *float64 {
	var x float64
	switch v := v.(type) {
	case bool:
		if v {
			x = 1
		}
	case json.Number:
		n, err := v.Float64()
		if err != nil {
			return nil
		}
		x = n
	case string:
		switch s := strings.ToLower(strings.TrimSpace(v)); s {
		case "true":
			x = 1
		case "false":
		default:
			n, err := json.Number(s).Float64()
			if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
				return nil
			}
			x = n
		}
	default:
		return nil
	}
	return &x
}
