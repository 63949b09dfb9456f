package export

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/stage"
)

// LlamaFactory are the settings of the formats of LLaMA-Factory: a JSONL file, and its entry in dataset_info.json, which is added to one
// that is there.
type LlamaFactory struct {
	Name       string `json:"name" doc:"of the data set: key in dataset_info.json, and name of the file"`
	Formatting string `json:"formatting" enum:"alpaca,sharegpt" doc:"an instruction with its history, or the turns of a conversation"`

	prompts Prompts
}

// LlamaFactorySFT writes responses for supervised fine-tuning.
type LlamaFactorySFT struct {
	LlamaFactory
	Kept
}

// LlamaFactoryKTO writes responses with their outcomes as kto_tag.
type LlamaFactoryKTO struct{ LlamaFactory }

// LlamaFactoryPreference writes preference pairs, with ranking.
type LlamaFactoryPreference struct {
	LlamaFactory
	Preferences
}

func init() {
	common := LlamaFactory{Name: "millrace", Formatting: "sharegpt"}
	Register("llama-factory-sft", LlamaFactorySFT{common, Kept{Keep: "correct"}})
	Register("llama-factory-kto", LlamaFactoryKTO{common})
	Register("llama-factory-preference", LlamaFactoryPreference{common, DefaultPreferences()})
}

// Validate keeps the name of the file inside of the directory.
func (f LlamaFactory) Validate() error {
	if !plainName.MatchString(f.Name) || f.Name == "dataset_info" {
		return setting.Errorf("name", "is %q; want letters, digits, - and _, and not dataset_info", f.Name)
	}
	return nil
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

const leftTurns = "messages that are not turns of user and assistant"

// Prepare asks for texts.
func (f LlamaFactorySFT) Prepare(of Origin, heads []stage.Batch) (Format, error) {
	err := f.single("llama-factory-sft", of, heads, f.columns()...)
	return f, err
}

// Prepare asks for texts and outcomes.
func (f LlamaFactoryKTO) Prepare(of Origin, heads []stage.Batch) (Format, error) {
	err := f.single("llama-factory-kto", of, heads, schemas.Outcome)
	return f, err
}

// Prepare asks for texts of both sides.
func (f LlamaFactoryPreference) Prepare(of Origin, heads []stage.Batch) (_ Format, err error) {
	f.Preferences, err = f.prepare("llama-factory-preference", asMessages, of, heads)
	return f, err
}

// asMessages is how LLaMA-Factory takes prompts: it writes them out with the template that its user names.
var asMessages = Prompts{Prompt: "messages"}

func (f *LlamaFactory) single(format string, of Origin, heads []stage.Batch, columns ...schemas.Descriptor) error {
	if err := withoutPairs(format, heads); err != nil {
		return err
	}
	f.prompts = asMessages.known(of, heads)
	return need(format, heads, append(columns, schemas.PromptID, schemas.Prompt, schemas.Response)...)
}

// Begin starts the file.
func (f LlamaFactorySFT) Begin(ctx context.Context, dir string) (Writer, error) {
	l, err := f.begin(ctx, dir)
	if err != nil {
		return nil, err
	}
	return &factoryResponses{end: l, responses: responses{lines: l.lines, of: func(b stage.Batch) (func(int) (any, string), error) {
		rows := f.kept(f.prompts, b)
		return func(row int) (any, string) {
			p, text, why := rows(row)
			if why != "" {
				return nil, why
			}
			return f.record(p.turns, text, nil)
		}, nil
	}}}, nil
}

// Begin starts the file.
func (f LlamaFactoryKTO) Begin(ctx context.Context, dir string) (Writer, error) {
	l, err := f.begin(ctx, dir, "kto_tag")
	if err != nil {
		return nil, err
	}
	return &factoryResponses{end: l, responses: responses{lines: l.lines, of: func(b stage.Batch) (func(int) (any, string), error) {
		rows := labelled(f.prompts, b)
		return func(row int) (any, string) {
			p, text, right, why := rows(row)
			if why != "" {
				return nil, why
			}
			return f.record(p.turns, text, func(fields map[string]any) { fields["kto_tag"] = right })
		}, nil
	}}}, nil
}

// Begin starts the file.
func (f LlamaFactoryPreference) Begin(ctx context.Context, dir string) (Writer, error) {
	l, err := f.begin(ctx, dir, "chosen", "rejected")
	if err != nil {
		return nil, err
	}
	odd := func(p prompt) string {
		_, why := f.fields(p.turns)
		return why
	}
	return &factoryPairs{l, &pairer{Preferences: f.Preferences, odd: odd, write: func(p preference) error {
		fields, _ := f.fields(p.prompt.turns)
		fields["chosen"], fields["rejected"] = any(p.chosen), any(p.rejected)
		if f.Formatting == "sharegpt" {
			fields["chosen"], fields["rejected"] = gpt(p.chosen), gpt(p.rejected)
		}
		return l.value(fields)
	}}}, nil
}

// factoryTurn is a turn as sharegpt has it.
type factoryTurn struct {
	From  string `json:"from"`
	Value string `json:"value"`
}

func gpt(text string) factoryTurn { return factoryTurn{"gpt", text} }

// record is a line of a prompt and its response.
func (f LlamaFactory) record(turns []Message, response string, more func(fields map[string]any)) (any, string) {
	fields, why := f.fields(turns)
	if why != "" {
		return nil, why
	}
	if f.Formatting == "alpaca" {
		fields["output"] = response
	} else {
		fields["conversations"] = append(fields["conversations"].([]factoryTurn), gpt(response))
	}
	if more != nil {
		more(fields)
	}
	return fields, ""
}

// fields are those of a prompt: user and assistant take turns, the user has the first and the last.
func (f LlamaFactory) fields(turns []Message) (map[string]any, string) {
	system := ""
	if turns[0].Role == "system" {
		system, turns = turns[0].Content, turns[1:]
	}
	for i, m := range turns {
		if m.Role != []string{"user", "assistant"}[i%2] {
			return nil, leftTurns
		}
	}
	if len(turns)%2 == 0 {
		return nil, leftTurns
	}
	out := map[string]any{"system": system}
	if f.Formatting == "alpaca" {
		history := [][2]string{}
		for i := 0; i+1 < len(turns); i += 2 {
			history = append(history, [2]string{turns[i].Content, turns[i+1].Content})
		}
		out["instruction"], out["input"], out["history"] = turns[len(turns)-1].Content, "", history
		return out, ""
	}
	conversation := make([]factoryTurn, 0, len(turns)+1)
	for _, m := range turns {
		conversation = append(conversation, factoryTurn{map[string]string{"user": "human", "assistant": "gpt"}[m.Role], m.Content})
	}
	out["conversations"] = conversation
	return out, ""
}

// factoryLines is the file of lines and its entry.
type factoryLines struct {
	*lines
	ctx   context.Context
	info  string
	name  string
	entry any
	known map[string]json.RawMessage // entries that are there
}

const maxDatasetInfo = 16 << 20

func (f LlamaFactory) begin(ctx context.Context, dir string, more ...string) (*factoryLines, error) {
	out := &factoryLines{ctx: ctx, info: files.Join(dir, "dataset_info.json"), name: f.Name, known: map[string]json.RawMessage{}}
	there, err := files.Exists(ctx, out.info)
	if err != nil {
		return nil, err
	}
	if there {
		raw, err := files.Read(ctx, out.info, maxDatasetInfo)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, &out.known); err != nil {
			return nil, fmt.Errorf("%s: %w", out.info, err)
		}
	}
	if _, ok := out.known[f.Name]; ok {
		return nil, setting.Errorf("name", "%s has an entry %q already; want another name", out.info, f.Name)
	}
	columns := map[string]string{"system": "system"}
	if f.Formatting == "alpaca" {
		columns["prompt"], columns["query"], columns["history"] = "instruction", "input", "history"
		if len(more) < 2 {
			columns["response"] = "output"
		}
	} else {
		columns["messages"] = "conversations"
	}
	for _, name := range more {
		columns[name] = name
	}
	out.entry = struct {
		File       string            `json:"file_name"`
		Formatting string            `json:"formatting"`
		Ranking    bool              `json:"ranking,omitempty"`
		Columns    map[string]string `json:"columns"`
	}{f.Name + ".jsonl", f.Formatting, len(more) == 2, columns}
	out.lines, err = newLines(ctx, dir, f.Name+".jsonl")
	return out, err
}

// Close puts the file under its name, and then its entry beside those that are there.
func (w *factoryLines) Close() ([]string, error) {
	entry, err := json.Marshal(w.entry)
	if err != nil {
		w.Abort()
		return nil, err
	}
	w.known[w.name] = entry
	paths, err := w.lines.Close()
	if err != nil {
		return nil, err
	}
	raw, err := json.MarshalIndent(w.known, "", "  ")
	if err == nil {
		err = files.Write(w.ctx, w.info, append(raw, '\n'), true)
	}
	if err != nil {
		remove(w.ctx, paths)
		return nil, err
	}
	return append(paths, w.info), nil
}

// factoryResponses writes a line for a row.
type factoryResponses struct {
	responses
	end *factoryLines
}

// Close ends the file and its entry.
func (w *factoryResponses) Close() ([]string, error) { return w.end.Close() }

// factoryPairs writes a line for a pair.
type factoryPairs struct {
	*factoryLines
	*pairer
}
