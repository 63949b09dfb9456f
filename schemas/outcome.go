package schemas

// Verdicts are the values of verdict.
var Verdicts = []string{"correct", "incorrect", "unparsable_response", "unparsable_answer", "budget", "truncated"}

// Added by label.
var (
	Verdict = text(Column{Name: "verdict", Stage: "label", Shape: "[N]", Enum: Verdicts,
		Doc: "What the outcome verifier decided, or why it could not: response or answer not parsable, its work budget spent, response cut off."})
	Outcome = scalar[float32](Column{Name: "outcome", Stage: "label", Shape: "[N]", Nullable: true,
		Doc: "1 for a right final answer, 0 for a wrong one; null where the verifier abstains."})
	Extracted = text(Column{Name: "extracted", Stage: "label", Shape: "[N]", Nullable: true,
		Doc: "The final answer found in the response."})
	GroupMean = scalar[float32](Column{Name: "group_mean", Stage: "label", Shape: "[N]", Nullable: true,
		Doc: "Mean outcome of the prompt's responses that have one."})
	GroupStd = scalar[float32](Column{Name: "group_std", Stage: "label", Shape: "[N]", Nullable: true,
		Doc: "Standard deviation of the same outcomes."})
	GroupValid = truth(Column{Name: "group_valid", Stage: "label", Shape: "[N]",
		Doc: "Whether a policy loss learns from the row: it has an outcome, was not truncated, and its group is neither all right nor all wrong."})
	FirstError = scalar[int32](Column{Name: "first_error", Stage: "label", Shape: "[N]", Nullable: true,
		Doc: "Index of the first wrong step, -1 when every step is right; null where steps were not judged."})
	StepEnds = list[int32](Column{Name: "step_ends", Stage: "label", Shape: "[N, S]", Unit: "response token index", Nullable: true,
		Doc: "1-based index of the last token of each step."})
)
