package schemas

func scored(name, model string) List[float32] {
	return list[float32](Column{Name: name, Stage: "score", Shape: "[N, T]", Unit: "nats", Nullable: true, LogProb: true,
		Doc: "Log-prob of each response token under the " + model + "."})
}

func scoredCandidates(name, model string) Nested[float32] {
	return nested[float32](Column{Name: name, Stage: "score", Shape: "[N, T, K]", Unit: "nats", Nullable: true, LogProb: true,
		Doc: "Log-prob of each listed token (candidate_ids) under the " + model + "."})
}

// Added by score: log-probs of the same tokens under other models.
var (
	RewardLogP             = scored("reward_logp", "reward model")
	CandidateRewardLogP    = scoredCandidates("candidate_reward_logp", "reward model")
	ReferenceLogP          = scored("reference_logp", "reference")
	CandidateReferenceLogP = scoredCandidates("candidate_reference_logp", "reference")
	TeacherLogP            = scored("teacher_logp", "teacher")
	CandidateTeacherLogP   = scoredCandidates("candidate_teacher_logp", "teacher")
	QValue                 = list[float32](Column{Name: "q_value", Stage: "score", Shape: "[N, T]", Nullable: true,
		Doc: "Scalar head of a Q-function reward model after each response token."})
	CriticValue = list[float32](Column{Name: "critic_value", Stage: "score", Shape: "[N, T]", Nullable: true,
		Doc: "Scalar value head before each response token, at rollout time."})
)
