package schemas

// Reason says why a row was set aside. The set is closed: counters and reports are keyed by it.
type Reason string

// The reasons.
const (
	ReasonMissingField Reason = "missing_field" // a field the row must have is absent or null
	ReasonBadType      Reason = "bad_type"      // a field has another type or form than it must have
	ReasonBadUTF8      Reason = "bad_utf8"      // text that is not UTF-8
	ReasonUnreadable   Reason = "unreadable"    // the row or a field of it could not be parsed
	ReasonEmpty        Reason = "empty"         // nothing to work on: an empty prompt or response
	ReasonTooLong      Reason = "too_long"      // a line, prompt or response above its limit
	ReasonTooLarge     Reason = "too_large"     // a prompt group above max_record_bytes
	ReasonBadToken     Reason = "bad_token"     // a token id outside the vocabulary, or text the tokenizer cannot encode
	ReasonNotFinite    Reason = "not_finite"    // NaN or infinity where a number is needed
	ReasonMismatch     Reason = "mismatch"      // columns of the row do not fit together, such as lists of unequal length
	ReasonModel        Reason = "model"         // the model or endpoint refused the row
	ReasonPanic        Reason = "panic"         // the stage panicked on the row's group
)

// Reasons lists the closed set.
var Reasons = []Reason{ReasonMissingField, ReasonBadType, ReasonBadUTF8, ReasonUnreadable, ReasonEmpty, ReasonTooLong, ReasonTooLarge,
	ReasonBadToken, ReasonNotFinite, ReasonMismatch, ReasonModel, ReasonPanic}

func reasonNames() []string {
	out := make([]string, len(Reasons))
	for i, r := range Reasons {
		out[i] = string(r)
	}
	return out
}

// Columns of a dead letter: a row that a stage set aside, whole, so that it can be fed back after a fix.
var (
	DeadStage = text(Column{Name: "dead_stage", Stage: "dead letters", Shape: "[N]",
		Doc: "The stage that set the row aside."})
	DeadReason = text(Column{Name: "dead_reason", Stage: "dead letters", Shape: "[N]", Enum: reasonNames(),
		Doc: "Why, from a small closed set."})
	DeadMessage = text(Column{Name: "dead_message", Stage: "dead letters", Shape: "[N]",
		Doc: "What was wrong and what would be right."})
	DeadRowID = text(Column{Name: "dead_row_id", Stage: "dead letters", Shape: "[N]",
		Doc: "pair_id, response_id or prompt_id of the row, or file and line of a row that never had one."})
	DeadAttempts = scalar[int32](Column{Name: "dead_attempts", Stage: "dead letters", Shape: "[N]",
		Doc: "How often the row has been tried, from 1."})
	DeadRow = binary(Column{Name: "dead_row", Stage: "dead letters", Shape: "[N]",
		Doc: "The whole row as an Arrow IPC stream; for a row that could not be read, its raw bytes as column raw."})
	DeadRaw = binary(Column{Name: "raw", Stage: "dead letters", Shape: "[N]", Nullable: true,
		Doc: "Raw bytes of input that could not be read, inside dead_row."})
)
