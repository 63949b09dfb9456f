package schemas

// Added by prompts: one row a prompt.
var (
	PromptID = id(Column{Name: "prompt_id", Stage: "prompts", Shape: "[N]",
		Doc: "uuid v5 of prompt, answer and source: the same prompt has the same id in every run. Rows of one prompt stay side by side."})
	Prompt = text(Column{Name: "prompt", Stage: "prompts", Shape: "[N]",
		Doc: "The prompt as text, before any chat template."})
	Messages = text(Column{Name: "messages", Stage: "prompts", Shape: "[N]", Nullable: true,
		Doc: "The prompt as chat messages, a JSON list of {role, content}, for a chat template; null where it came as a text."})
	Answer = text(Column{Name: "answer", Stage: "prompts", Shape: "[N]", Nullable: true,
		Doc: "The reference answer an outcome is judged against; null where none is known."})
	Source = text(Column{Name: "source", Stage: "prompts", Shape: "[N]",
		Doc: "Where the prompt comes from: the name of a generator, or of a file with its split."})
	Difficulty = text(Column{Name: "difficulty", Stage: "prompts", Shape: "[N]", Nullable: true,
		Doc: "How hard the source says the prompt is: the number of operations of a chain, or the field that a file's recipe names."})
	StepBytes = list[int32](Column{Name: "step_bytes", Stage: "prompts", Shape: "[N, S]", Unit: "bytes", Nullable: true,
		Doc: "Bytes of response up to and with each of its steps, where responses come with their steps."})
	Extra = text(Column{Name: "extra", Stage: "prompts", Shape: "[N]", Nullable: true,
		Doc: "Further fields of the source as a JSON object."})
)

// MessagesOf gives the messages of each row's prompt; "" where it came as a text, or the record has no such column.
func MessagesOf(r Record) func(row int) string {
	v, err := Messages.Find(r)
	if err != nil {
		return func(int) string { return "" }
	}
	return v.At
}
