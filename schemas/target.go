package schemas

// Added by target: what a distillation or logit-control loss pulls the policy towards.
var (
	TargetAdvantage = nested[float32](Column{Name: "target_advantage", Stage: "target", Shape: "[N, T, K]", Nullable: true,
		Doc: "LCO: advantage of each listed token (candidate_ids), scaled as the target wants it."})
	RestAdvantage = list[float32](Column{Name: "rest_advantage", Stage: "target", Shape: "[N, T]", Nullable: true,
		Doc: "LCO: the one advantage of all tokens off the list."})
	TeacherIDs = nested[int32](Column{Name: "teacher_ids", Stage: "target", Shape: "[N, T, K]", Unit: "token id", Nullable: true,
		Doc: "DCKD, ADPA: the teacher's most probable tokens in descending order."})
	TeacherProb = nested[float32](Column{Name: "teacher_prob", Stage: "target", Shape: "[N, T, K]", Unit: "probability", Nullable: true,
		Doc: "DCKD: the teacher's probability of each of them."})
	TeacherRest = list[float32](Column{Name: "teacher_rest", Stage: "target", Shape: "[N, T]", Unit: "probability", Nullable: true,
		Doc: "DCKD: the teacher's probability of all other tokens together."})
	TeacherAdvantage = nested[float32](Column{Name: "teacher_advantage", Stage: "target", Shape: "[N, T, K]", Nullable: true,
		Doc: "ADPA: log-ratio of the trained teacher to its reference for each of teacher_ids."})
)
