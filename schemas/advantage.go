package schemas

// Added by advantage.
var (
	Advantage = list[float32](Column{Name: "advantage", Stage: "advantage", Shape: "[N, T]", Nullable: true,
		Doc: "Advantage of each sampled token."})
	CandidateAdvantage = nested[float32](Column{Name: "candidate_advantage", Stage: "advantage", Shape: "[N, T, K]", Nullable: true,
		Doc: "TD advantage of each listed token (candidate_ids); empty where a position has no candidate update."})
	Return = list[float32](Column{Name: "return", Stage: "advantage", Shape: "[N, T]", Nullable: true,
		Doc: "Target of the value head at each response token."})
	TokenMask = list[int32](Column{Name: "token_mask", Stage: "advantage", Shape: "[N, T]", Nullable: true,
		Doc: "1 where a token takes part in the loss, else 0."})
)
