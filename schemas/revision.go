package schemas

// RevisionLabels are the values of revision_label.
var RevisionLabels = []string{"No Revise", "Minor Revise", "Major Revise"}

// Added by revise.
var (
	RevisionGain = scalar[float32](Column{Name: "revision_gain", Stage: "revise", Shape: "[N]", Unit: "nats a token",
		Doc: "How much likelier, per token, the base reviser holds the better response of a pair than the worse one it is shown."})
	OfPair = id(Column{Name: "of_pair", Stage: "revise", Shape: "[N]",
		Doc: "pair_id of the pair that a row to train a reviser on was made of."})
	RevisionLabel = text(Column{Name: "revision_label", Stage: "revise", Shape: "[N]", Enum: RevisionLabels,
		Doc: "How much the reviser would change the response."})
	RevisedTokens = list[int32](Column{Name: "revised_tokens", Stage: "revise", Shape: "[N, T]", Unit: "token id",
		Doc: "The revised response; the response itself where nothing was revised."})
	Revised = text(Column{Name: "revised", Stage: "revise", Shape: "[N]",
		Doc: "revised_tokens decoded."})
)
