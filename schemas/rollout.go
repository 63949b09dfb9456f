package schemas

// FinishReasons are the values of finish_reason.
var FinishReasons = []string{"stop", "length", "error", "unknown"}

// Added by rollout: one row a response. Token ids are the only truth between stages; text is derived from them.
var (
	ResponseID = id(Column{Name: "response_id", Stage: "rollout", Shape: "[N]",
		Doc: "uuid v5 of the run's seed, prompt_id and sample."})
	Sample = scalar[int32](Column{Name: "sample", Stage: "rollout", Shape: "[N]",
		Doc: "Which of the n samples of the prompt this is, from 0."})
	PromptTokens = list[int32](Column{Name: "prompt_tokens", Stage: "rollout", Shape: "[N, P]", Unit: "token id",
		Doc: "The prompt as the model read it, chat template included."})
	ResponseTokens = list[int32](Column{Name: "response_tokens", Stage: "rollout", Shape: "[N, T]", Unit: "token id",
		Doc: "The sampled tokens, with the end token where one was sampled. Index t is the token whose choice is scored."})
	Response = text(Column{Name: "response", Stage: "rollout", Shape: "[N]",
		Doc: "response_tokens decoded; never encoded again."})
	TokenEnds = list[int32](Column{Name: "token_ends", Stage: "rollout", Shape: "[N, T]", Unit: "bytes", Nullable: true,
		Doc: "Bytes of response up to and with each token; a character spread over several tokens belongs to the one that completes it. Null where the tokens do not spell the response."})
	FinishReason = text(Column{Name: "finish_reason", Stage: "rollout", Shape: "[N]", Enum: FinishReasons,
		Doc: "Why sampling ended: an end token, the length limit, an error of the generator, or not known."})
	OldLogP = list[float32](Column{Name: "old_logp", Stage: "rollout", Shape: "[N, T]", Unit: "nats", Nullable: true, LogProb: true,
		Doc: "Log-prob of each response token under the policy that sampled it."})
	OldLogZ = list[float32](Column{Name: "old_logz", Stage: "rollout", Shape: "[N, T]", Unit: "nats", Nullable: true,
		Doc: "Log of the softmax denominator of each row of logits: logit = log-prob + old_logz."})
	CandidateIDs = nested[int32](Column{Name: "candidate_ids", Stage: "rollout", Shape: "[N, T, K]", Unit: "token id",
		Doc: "Listed tokens of each position. Slot 0 is the sampled token, then the policy's most probable tokens in descending order."})
	CandidateOldLogP = nested[float32](Column{Name: "candidate_old_logp", Stage: "rollout", Shape: "[N, T, K]", Unit: "nats", Nullable: true, LogProb: true,
		Doc: "Log-prob of each listed token under the policy that sampled the response."})
)
