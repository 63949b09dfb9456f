package prompts

import (
	"cmp"
	"context"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
)

// File configures a source that reads prompts, with or without responses, from JSONL or Parquet files, or files of one JSON
// array, as if they were one.
//
// A window takes Count prompts of the split from First on; after the last prompt the first follows again, in another
// order when they are shuffled, unless Exhausted is stop. It never holds a prompt twice, so a Count above the number of
// prompts takes each once. A row that cannot be read is a dead letter, reported with the window that starts at 0.
//
// Files are read once in a process: what can be used of their rows is kept in a temporary file, of which windows are taken. Memory: a
// record, the longest line, and about 70 bytes a prompt.
type File struct {
	Path   Paths  `json:"path" doc:"a .jsonl, .ndjson, .json, .parquet or .arrow file, text also as .gz or .zst, on this machine or at gs:// or s3://; a folder of such files, a pattern, or a list of these"`
	Format string `json:"format" enum:",jsonl,json,parquet,arrow" doc:"jsonl, json, parquet or arrow; empty: by the name's ending"`
	Layout string `json:"layout,omitempty" enum:",openai,prime-rl" doc:"what rows are made of before their fields are read: openai, requests and responses of OpenAI's API; prime-rl, traces of its rollouts; empty: rows as they are"`
	Fields Fields `json:"fields" doc:"which field of a row is what, as dotted paths such as reward_model.ground_truth"`
	Name   string `json:"name" doc:"the prompts' source, part of their ids; empty: the last part of the (first) path"`
	// Shuffle takes prompts in an order that the run's seed gives, a new one each time through the file.
	Shuffle   bool   `json:"shuffle" doc:"take prompts in an order that the seed gives, a new one each time through the file"`
	Exhausted string `json:"exhausted,omitempty" enum:",wrap,stop" doc:"what follows the last prompt: wrap, the first again, or stop, nothing; empty: wrap"`
	// TestShare: which prompts are in the split "test" is decided by a hash of SplitSeed and what the user says, so it does not change
	// when the file grows, and copies of a problem are on one side.
	TestShare float64 `json:"test_share" range:"[0,1]" doc:"share of prompts that make the split test; the others are train, and all is both"`
	SplitSeed uint64  `json:"split_seed" doc:"of the choice of the split test"`
	Ungrouped bool    `json:"ungrouped,omitempty" doc:"make a prompt of its own of every row; else rows of one prompt lie side by side, and copies of a prompt are taken once"`
	// Decontaminate takes prompts out that are in test sets: each is a dead letter that names the test item.
	Decontaminate  *Decontaminate `json:"decontaminate,omitempty" doc:"take prompts out that are in test sets"`
	MaxLineBytes   int            `json:"max_line_bytes" range:"[0,inf)" doc:"bound of a line of a JSONL file, or of an item of a JSON array; 0: 1 MiB"`
	MaxRecordBytes int            `json:"max_record_bytes" range:"[0,inf)" doc:"bound of the rows of a prompt; 0: the recipe's limit"`
	// LogProbs say what those of fields.logprobs are. What nobody says is not known, and what needs to know refuses.
	LogProbs *LogProbs `json:"logprobs,omitempty" doc:"what the log-probs of fields.logprobs are"`
}

// LogProbs says what log-probs from elsewhere are.
type LogProbs struct {
	Temperature float64 `json:"temperature" range:"(0,1e6]" doc:"that the logits were divided by: 1 of raw log-probs, that of sampling of processed ones"`
	TopP        float64 `json:"top_p" range:"(0,1]" doc:"nucleus that they are normalised over; 1: all tokens"`
	TopK        int     `json:"top_k" range:"[0,inf)" doc:"most probable tokens that they are normalised over; 0: all"`
	Engine      string  `json:"engine,omitempty" doc:"the program that computed them, such as vllm 0.32"`
}

// SetDefaults are raw log-probs.
func (l *LogProbs) SetDefaults() { *l = LogProbs{Temperature: 1, TopP: 1} }

// Definition is what a column of them carries; that of nil is not known.
func (l *LogProbs) Definition() schemas.LogPDefinition {
	if l == nil {
		return schemas.UnknownLogP()
	}
	return schemas.LogPDefinition{Temperature: l.Temperature, TopP: l.TopP, TopK: l.TopK, Engine: l.Engine}
}

// Defines says what log-probs its rows have.
func (f File) Defines() map[string]schemas.LogPDefinition {
	if f.Fields.LogProbs == "" || f.Fields.PromptsOnly {
		return nil
	}
	return map[string]schemas.LogPDefinition{schemas.OldLogP.Name: f.LogProbs.Definition()}
}

// Fields says which field of a row is what, as dotted paths such as reward_model.ground_truth. A field that is named must
// be there in every row. Fields that are not named are kept in the column extra.
//
// Prompt is text or chat messages (system or none, user). A response comes by one of three ways: Response beside Prompt;
// Conversation, chat messages that end with it; or Chosen and Rejected, each a response beside Prompt or a conversation,
// which make two rows of outcome 1 and 0; or Steps beside Prompt, a list of texts, which are joined by blank lines as
// "Step 1: ...". Responses to a prompt must lie side by side, unless ID tells them apart.
type Fields struct {
	ID           string `json:"id,omitempty" doc:"makes a prompt of its own of every row"`
	Prompt       string `json:"prompt" doc:"text, or chat messages that end with the user"`
	Messages     string `json:"messages,omitempty" doc:"the prompt's chat messages as JSON, beside prompt, as rows of runs have them; where a row has none the prompt is a text"`
	Answer       string `json:"answer" doc:"reference answer"`
	Response     string `json:"response" doc:"response beside prompt"`
	Conversation string `json:"conversation" doc:"chat messages that end with the response"`
	Chosen       string `json:"chosen" doc:"better response of a pair, or a conversation that ends with it; outcome 1"`
	Rejected     string `json:"rejected" doc:"worse response of a pair; outcome 0"`
	Outcome      string `json:"outcome" doc:"label in [0, 1] or a truth value"`
	Difficulty   string `json:"difficulty,omitempty" doc:"level of the prompt, for ledgers and curricula"`
	Steps        string `json:"steps,omitempty" doc:"list of texts that make the response beside prompt"`
	FirstError   string `json:"first_error,omitempty" doc:"index of the first wrong of steps, -1: none is"`
	// Ids and what belongs to each of them: of rows that an engine has sampled.
	PromptTokens   string `json:"prompt_tokens,omitempty" doc:"list of the prompt's token ids, as the model read them"`
	ResponseTokens string `json:"response_tokens,omitempty" doc:"list of the response's token ids; the response is these, and its text is checked against them where it is named too"`
	Tokens         string `json:"tokens,omitempty" doc:"list of the token ids of prompt and response, in the place of prompt_tokens and response_tokens: the response begins with the first 1 of loss_mask"`
	LossMask       string `json:"loss_mask,omitempty" doc:"list of one number a response token (or one of tokens): 1 where the policy wrote it, 0 where a tool or a user did"`
	LogProbs       string `json:"logprobs,omitempty" doc:"list of one log-prob a response token (or one of tokens), under the policy that sampled; file.logprobs says what they are"`
	FinishReason   string `json:"finish_reason,omitempty" doc:"why sampling ended: stop or eos, length, or another engine's word for these"`
	PromptsOnly    bool   `json:"prompts_only,omitempty" doc:"leave the responses and outcomes of these fields out"`
}

// ProcessBench are the fields of a file of ProcessBench (arXiv 2412.06559).
func ProcessBench() Fields {
	return Fields{ID: "id", Prompt: "problem", Steps: "steps", FirstError: "label", Outcome: "final_answer_correct"}
}

// answered reports whether rows hold responses.
func (f Fields) answered() bool {
	return f.Response != "" || f.Conversation != "" || f.Chosen != "" || f.Steps != "" || f.tokens()
}

// promptAsIDs reports whether the text of prompts is that of their ids, which a stage with a tokenizer adds.
func (f Fields) promptAsIDs() bool { return f.tokens() && f.Prompt == "" }

// responseAsIDs is that of responses.
func (f Fields) responseAsIDs() bool { return f.tokens() && f.Response == "" }

// tokens reports whether responses come as token ids.
func (f Fields) tokens() bool { return f.ResponseTokens != "" || f.Tokens != "" }

func (f Fields) responses() bool { return f.answered() && !f.PromptsOnly }
func (f Fields) outcomes() bool  { return (f.Outcome != "" || f.Chosen != "") && !f.PromptsOnly }
func (f Fields) steps() bool     { return f.Steps != "" && !f.PromptsOnly }

// Choices of File.Exhausted.
const (
	wrapExhausted = "wrap"
	stopExhausted = "stop"
)

// Splits of a file.
var fileSplits = []string{"train", "test", "all"}

// Validate names the first key that does not go with the others.
func (f File) Validate() error {
	if err := f.validatePaths(); err != nil {
		return err
	}
	d := f.Fields
	if err := d.validateTokens(f.LogProbs); err != nil {
		return err
	}
	switch {
	case d.tokens() && d.Prompt == "": // the ids say it
	case d.Messages != "" && d.Prompt == "":
		return setting.Errorf("fields.messages", "stand beside a prompt that is their text; name prompt, or name the messages as prompt")
	case d.Prompt == "" && d.Conversation == "" && d.Chosen == "":
		return setting.Errorf("fields.prompt", "missing; name the field that holds the prompt, or conversation, or chosen and rejected")
	case (d.Chosen == "") != (d.Rejected == ""):
		return setting.Errorf("fields", "chosen and rejected come together")
	case d.Chosen != "" && (d.Response != "" || d.Conversation != "" || d.Outcome != ""):
		return setting.Errorf("fields", "chosen and rejected bring responses and outcomes; leave response, conversation and outcome out")
	case d.Conversation != "" && (d.Response != "" || d.Prompt != ""):
		return setting.Errorf("fields", "conversation brings prompt and response; leave both out")
	case d.Steps != "" && (d.Prompt == "" || d.Response != "" || d.Conversation != "" || d.Chosen != ""):
		return setting.Errorf("fields.steps", "are the response beside prompt; name prompt, and leave response, conversation and chosen out")
	case (d.Steps == "") != (d.FirstError == ""):
		return setting.Errorf("fields", "steps and first_error come together")
	case d.Steps != "" && d.Outcome == "":
		return setting.Errorf("fields.outcome", "missing; steps come with the outcome of the whole response")
	case d.Outcome != "" && !d.answered():
		return setting.Errorf("fields.outcome", "an outcome belongs to a response; name response or conversation")
	}
	return nil
}

// CheckSplit knows the splits of a file.
func (f File) CheckSplit(split string) error {
	if err := setting.OneOf("split", split, fileSplits...); err != nil {
		return err
	}
	if f.TestShare == 0 && split == "test" {
		return setting.Errorf("file.test_share", "0 leaves the split test without prompts")
	}
	return nil
}

// PromptsOnly leaves responses and outcomes out.
func (f File) PromptsOnly() Source {
	f.Fields.PromptsOnly = f.Fields.answered()
	return f
}

// Size counts the prompts of a split. It reads the files, which windows then do not read again.
func (f File) Size(ctx context.Context, split string) (int, error) {
	all, err := spoolOf(ctx, f)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, g := range all.groups {
		if inSplit(g.test, split) {
			n++
		}
	}
	return n, nil
}

// Named is the file under another name.
func (f File) Named(name string) Source {
	f.Name = name
	return f
}

// Columns are those of its rows.
func (f File) Columns() []schemas.Descriptor {
	out := []schemas.Descriptor{schemas.PromptID, schemas.Messages, schemas.Answer, schemas.Source, schemas.Difficulty, schemas.Extra}
	if !f.Fields.promptAsIDs() {
		out = slices.Insert(out, 1, schemas.Descriptor(schemas.Prompt))
	}
	if f.Fields.responses() {
		out = append(out, schemas.ResponseID, schemas.Sample)
		if !f.Fields.responseAsIDs() {
			out = append(out, schemas.Response)
		}
		out = append(out, schemas.FinishReason)
	}
	if f.Fields.tokens() && !f.Fields.PromptsOnly {
		out = append(out, schemas.PromptTokens, schemas.ResponseTokens)
		if f.Fields.LossMask != "" {
			out = append(out, schemas.LossMask)
		}
		if f.Fields.LogProbs != "" {
			out = append(out, schemas.OldLogP)
		}
	}
	if f.Fields.outcomes() {
		out = append(out, schemas.Outcome)
	}
	if f.Fields.steps() {
		out = append(out, schemas.FirstError, schemas.StepBytes)
	}
	return out
}

func init() {
	Register("file", File{})
	beam.RegisterDoFn(&fileFn{})
	register.Emitter1[stage.Batch]()
}

// Read reads the window's part of the file.
func (f File) Read(s beam.Scope, w Window) (prompts, dead stage.Rows) {
	f.MaxRecordBytes = cmp.Or(f.MaxRecordBytes, w.MaxRecordBytes)
	read, bad := beam.ParDo2(s, &fileFn{File: f, Window: w}, beam.Impulse(s))
	known := schemas.Known{}
	for _, d := range f.Columns() {
		known.Columns = append(known.Columns, d.Describe())
	}
	return stage.Rows{PCollection: read, Known: &known, MaxRecordBytes: f.MaxRecordBytes}, stage.Rows{PCollection: bad}
}
