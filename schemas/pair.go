package schemas

func pairTokens(name, doc string) List[int32] {
	return list[int32](Column{Name: name, Stage: "pairs", Shape: "[N, T]", Unit: "token id", Doc: doc})
}

func pairLogP(name, doc string) List[float32] {
	return list[float32](Column{Name: name, Stage: "pairs", Shape: "[N, T]", Unit: "nats", Nullable: true, LogProb: true, Doc: doc})
}

// Added by pairs: one row a pair of a better (chosen) and a worse (rejected) response to one prompt.
var (
	PairID = id(Column{Name: "pair_id", Stage: "pairs", Shape: "[N]",
		Doc: "uuid v5 of the two response ids."})
	ChosenID = id(Column{Name: "chosen_id", Stage: "pairs", Shape: "[N]",
		Doc: "response_id of the better response."})
	RejectedID = id(Column{Name: "rejected_id", Stage: "pairs", Shape: "[N]",
		Doc: "response_id of the worse response."})
	ChosenTokens          = pairTokens("chosen_tokens", "Tokens of the better response.")
	RejectedTokens        = pairTokens("rejected_tokens", "Tokens of the worse response.")
	ChosenReferenceLogP   = pairLogP("chosen_reference_logp", "Log-prob of each token of the better response under the reference.")
	RejectedReferenceLogP = pairLogP("rejected_reference_logp", "Log-prob of each token of the worse response under the reference.")
	ChosenTeacherIDs      = nested[int32](Column{Name: "chosen_teacher_ids", Stage: "pairs", Shape: "[N, T, K]", Unit: "token id", Nullable: true,
		Doc: "teacher_ids of the better response."})
	ChosenTeacherProb = nested[float32](Column{Name: "chosen_teacher_prob", Stage: "pairs", Shape: "[N, T, K]", Unit: "probability", Nullable: true,
		Doc: "teacher_prob of the better response."})
	ChosenTeacherRest = list[float32](Column{Name: "chosen_teacher_rest", Stage: "pairs", Shape: "[N, T]", Unit: "probability", Nullable: true,
		Doc: "teacher_rest of the better response."})
	RejectedTeacherIDs = nested[int32](Column{Name: "rejected_teacher_ids", Stage: "pairs", Shape: "[N, T, K]", Unit: "token id", Nullable: true,
		Doc: "teacher_ids of the worse response."})
	RejectedTeacherProb = nested[float32](Column{Name: "rejected_teacher_prob", Stage: "pairs", Shape: "[N, T, K]", Unit: "probability", Nullable: true,
		Doc: "teacher_prob of the worse response."})
	RejectedTeacherRest = list[float32](Column{Name: "rejected_teacher_rest", Stage: "pairs", Shape: "[N, T]", Unit: "probability", Nullable: true,
		Doc: "teacher_rest of the worse response."})
)
