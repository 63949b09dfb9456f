package schemas

import "strings"

// The columns of the stages that come with Millrace, in the order of the chain: Columns lists them as they stand here.

// Added by prompts: one row a prompt.
var (
	PromptID = NewID(Column{Name: "prompt_id", Stage: "prompts", Shape: "[N]",
		Doc: "uuid v5 of prompt, answer and source: the same prompt has the same id in every run. Rows of one prompt stay side by side."})
	Prompt = NewText(Column{Name: "prompt", Stage: "prompts", Shape: "[N]",
		Doc: "The prompt as text, before any chat template."})
	Messages = NewText(Column{Name: "messages", Stage: "prompts", Shape: "[N]", Nullable: true,
		Doc: "The prompt as chat messages, a JSON list of {role, content}, for a chat template; null where it came as a text."})
	Answer = NewText(Column{Name: "answer", Stage: "prompts", Shape: "[N]", Nullable: true,
		Doc: "The reference answer an outcome is judged against; null where none is known."})
	Source = NewText(Column{Name: "source", Stage: "prompts", Shape: "[N]",
		Doc: "Where the prompt comes from: the name of a generator, or of a file with its split."})
	Difficulty = NewText(Column{Name: "difficulty", Stage: "prompts", Shape: "[N]", Nullable: true,
		Doc: "How hard the source says the prompt is: the number of operations of a chain, or the field that a file's recipe names."})
	StepBytes = NewList[int32](Column{Name: "step_bytes", Stage: "prompts", Shape: "[N, S]", Unit: "bytes", Nullable: true,
		Doc: "Bytes of response up to and with each of its steps, where responses come with their steps."})
	Extra = NewText(Column{Name: "extra", Stage: "prompts", Shape: "[N]", Nullable: true,
		Doc: "Further fields of the source as a JSON object."})
)

// FinishReasons are the values of finish_reason.
var FinishReasons = []string{"stop", "length", "error", "unknown"}

// Added by rollout: one row a response. Token ids are the only truth between stages; text is derived from them.
var (
	ResponseID = NewID(Column{Name: "response_id", Stage: "rollout", Shape: "[N]",
		Doc: "uuid v5 of the run's seed, prompt_id and sample."})
	Sample = NewColumn[int32](Column{Name: "sample", Stage: "rollout", Shape: "[N]",
		Doc: "Which of the n samples of the prompt this is, from 0."})
	PromptTokens = NewList[int32](Column{Name: "prompt_tokens", Stage: "rollout", Shape: "[N, P]", Unit: "token id",
		Doc: "The prompt as the model read it, chat template included."})
	ResponseTokens = NewList[int32](Column{Name: "response_tokens", Stage: "rollout", Shape: "[N, T]", Unit: "token id",
		Doc: "The sampled tokens, with the end token where one was sampled. Index t is the token whose choice is scored."})
	Response = NewText(Column{Name: "response", Stage: "rollout", Shape: "[N]",
		Doc: "response_tokens decoded; never encoded again."})
	TokenEnds = NewList[int32](Column{Name: "token_ends", Stage: "rollout", Shape: "[N, T]", Unit: "bytes", Nullable: true,
		Doc: "Bytes of response up to and with each token; a character spread over several tokens belongs to the one that completes it. " +
			"Null where the tokens do not spell the response."})
	FinishReason = NewText(Column{Name: "finish_reason", Stage: "rollout", Shape: "[N]", Enum: FinishReasons,
		Doc: "Why sampling ended: an end token, the length limit, an error of the generator, or not known."})
	LossMask = NewList[int32](Column{Name: "loss_mask", Stage: "rollout", Shape: "[N, T]", Nullable: true,
		Doc: "1 where the policy wrote the token, 0 where a tool, an environment or a user did: such tokens are read, and nothing is " +
			"learned from their choice. Null, or no such column: the policy wrote all."})
	OldLogP = NewList[float32](Column{Name: "old_logp", Stage: "rollout", Shape: "[N, T]", Unit: "nats", Nullable: true, LogProb: true,
		Doc: "Log-prob of each response token under the policy that sampled it."})
	OldLogZ = NewList[float32](Column{Name: "old_logz", Stage: "rollout", Shape: "[N, T]", Unit: "nats", Nullable: true,
		Doc: "Log of the softmax denominator of each row of logits: logit = log-prob + old_logz."})
	SamplerLogP = NewList[float32](Column{Name: "sampler_logp", Stage: "rollout", Shape: "[N, T]", Unit: "nats", Nullable: true,
		LogProb: true, Doc: "Log-prob of each response token under the engine that sampled it, where that is another than the trainer; " +
			"old_logp is then the trainer's own."})
	PolicyVersion = NewColumn[int32](Column{Name: "policy_version", Stage: "rollout", Shape: "[N]", Unit: "iterations",
		Doc: "After how many iterations the engine was given the weights that it sampled with."})
	CandidateIDs = NewLists[int32](Column{Name: "candidate_ids", Stage: "rollout", Shape: "[N, T, K]", Unit: "token id",
		Doc: "Listed tokens of each position. Slot 0 is the sampled token, then the policy's most probable tokens in descending order."})
	CandidateOldLogP = NewLists[float32](Column{Name: "candidate_old_logp", Stage: "rollout", Shape: "[N, T, K]", Unit: "nats",
		Nullable: true, LogProb: true,
		Doc: "Log-prob of each listed token under the policy that sampled the response."})
)

// Verdicts are the values of verdict.
var Verdicts = []string{"correct", "incorrect", "unparsable_response", "unparsable_answer", "budget", "truncated"}

// Added by label.
var (
	Verdict = NewText(Column{Name: "verdict", Stage: "label", Shape: "[N]", Enum: Verdicts,
		Doc: "What the outcome verifier decided, or why it could not: response or answer not parsable, its work budget spent, response cut off."})
	Outcome = NewColumn[float32](Column{Name: "outcome", Stage: "label", Shape: "[N]", Nullable: true,
		Doc: "1 for a right final answer, 0 for a wrong one; null where the verifier abstains."})
	Extracted = NewText(Column{Name: "extracted", Stage: "label", Shape: "[N]", Nullable: true,
		Doc: "The final answer found in the response."})
	VerifierScore = NewColumn[float32](Column{Name: "verifier_score", Stage: "label", Shape: "[N]", Nullable: true,
		Doc: "The grade that the verifier gave, in whatever range it gives one; no part of the outcome."})
	VerdictRule = NewText(Column{Name: "verdict_rule", Stage: "label", Shape: "[N]", Nullable: true,
		Doc: "What decided the verdict, such as number, normal form, set; only where label.explain asks for it."})
	VerdictReason = NewText(Column{Name: "verdict_reason", Stage: "label", Shape: "[N]", Nullable: true,
		Doc: "Why nothing was decided; only where label.explain asks for it."})
	GroupMean = NewColumn[float32](Column{Name: "group_mean", Stage: "label", Shape: "[N]", Nullable: true,
		Doc: "Mean outcome of the prompt's responses that have one."})
	GroupStd = NewColumn[float32](Column{Name: "group_std", Stage: "label", Shape: "[N]", Nullable: true,
		Doc: "Standard deviation of the same outcomes."})
	GroupValid = NewFlag(Column{Name: "group_valid", Stage: "label", Shape: "[N]",
		Doc: "Whether a policy loss learns from the row: it has an outcome, was not truncated, " +
			"and its group is neither all right nor all wrong."})
	FirstError = NewColumn[int32](Column{Name: "first_error", Stage: "label", Shape: "[N]", Nullable: true,
		Doc: "Index of the first wrong step, -1 when every step is right; null where steps were not judged."})
	StepEnds = NewList[int32](Column{Name: "step_ends", Stage: "label", Shape: "[N, S]", Unit: "response token index", Nullable: true,
		Doc: "1-based index of the last token of each step."})
)

// RewardPartPrefix begins the columns of the parts of a reward, which a recipe names.
const RewardPartPrefix = "reward_part_"

// RewardPart is the column of a part of a reward.
func RewardPart(name string) Scalar[float32] {
	return Scalar[float32]{Column: Column{Name: RewardPartPrefix + name, Type: Reward.Type, Stage: "reward", Shape: "[N]", Nullable: true,
		Doc: "Part of the reward."}}
}

// Added by reward, where a recipe composes one.
var (
	Reward = NewColumn[float32](Column{Name: "reward", Stage: "reward", Shape: "[N]", Nullable: true,
		Doc: "Weighted sum of the recipe's rewards, each in a column reward_part_ and its name; null where a part is not known."})
	RewardMean = NewColumn[float32](Column{Name: "reward_mean", Stage: "reward", Shape: "[N]", Nullable: true,
		Doc: "Mean reward of the prompt's responses that have one."})
	RewardStd = NewColumn[float32](Column{Name: "reward_std", Stage: "reward", Shape: "[N]", Nullable: true,
		Doc: "Standard deviation of the same rewards."})
)

// Added by audit.
var AuditOutcome = NewColumn[float32](Column{Name: "audit_outcome", Stage: "audit", Shape: "[N]", Nullable: true,
	Doc: "Outcome by the audit's verifier; null for responses that it was not shown or could not judge."})

// Added by continuation.
var StepTruth = NewList[float32](Column{Name: "step_truth", Stage: "continuation", Shape: "[N, S]", Unit: "probability", Nullable: true,
	Doc: "Share of right ones among continuations sampled after each step but the last; null where none were sampled."})

// Added by score: log-probs of the same tokens under other models.
var (
	RewardLogP             = scored("reward_logp", "reward model")
	CandidateRewardLogP    = scoredCandidates("candidate_reward_logp", "reward model")
	ReferenceLogP          = scored("reference_logp", "reference")
	CandidateReferenceLogP = scoredCandidates("candidate_reference_logp", "reference")
	TeacherLogP            = scored("teacher_logp", "teacher")
	CandidateTeacherLogP   = scoredCandidates("candidate_teacher_logp", "teacher")
	TemperedOldLogP        = NewList[float32](Column{Name: "tempered_old_logp", Stage: "score", Shape: "[N, T]", Unit: "nats", Nullable: true,
		LogProb: true, Doc: "Log-prob of each response token under the policy that sampled it, at the temperature it sampled at; " +
			"where that is not 1."})
	TemperedOldLogZ = NewList[float32](Column{Name: "tempered_old_logz", Stage: "score", Shape: "[N, T]", Unit: "nats", Nullable: true,
		Doc: "Log of the softmax denominator of each row of logits, all divided by that temperature."})
	TemperedCandidateOldLogP = NewLists[float32](Column{Name: "tempered_candidate_old_logp", Stage: "score", Shape: "[N, T, K]",
		Unit: "nats", Nullable: true, LogProb: true, Doc: "As tempered_old_logp, of each listed token (candidate_ids)."})
	TemperedReferenceLogP = NewList[float32](Column{Name: "tempered_reference_logp", Stage: "score", Shape: "[N, T]", Unit: "nats",
		Nullable: true, LogProb: true, Doc: "Log-prob of each response token under the reference, at the temperature of sampling; " +
			"where that is not 1."})
	QValue = NewList[float32](Column{Name: "q_value", Stage: "score", Shape: "[N, T]", Nullable: true,
		Doc: "Scalar head of a Q-function reward model after each response token."})
	CriticValue = NewList[float32](Column{Name: "critic_value", Stage: "score", Shape: "[N, T]", Nullable: true,
		Doc: "Scalar value head before each response token, at rollout time."})
)

func scored(name, model string) List[float32] {
	return NewList[float32](Column{Name: name, Stage: "score", Shape: "[N, T]", Unit: "nats", Nullable: true, LogProb: true,
		Doc: "Log-prob of each response token under the " + model + "."})
}

func scoredCandidates(name, model string) Nested[float32] {
	return NewLists[float32](Column{Name: name, Stage: "score", Shape: "[N, T, K]", Unit: "nats", Nullable: true, LogProb: true,
		Doc: "Log-prob of each listed token (candidate_ids) under the " + model + "."})
}

// Added by importance, where another engine samples, or has sampled rows that are brought.
var (
	ImportanceWeight = NewList[float32](Column{Name: "importance_weight", Stage: "importance", Shape: "[N, T]", Nullable: true,
		Doc: "What the token's advantage is multiplied by, since another engine sampled it than the one that is trained."})
	UnweightedAdvantage = NewList[float32](Column{Name: "unweighted_advantage", Stage: "importance", Shape: "[N, T]", Nullable: true,
		Doc: "The advantage that the row came with; advantage is this times importance_weight."})
)

// Added by value.
var (
	Value = NewList[float32](Column{Name: "value", Stage: "value", Shape: "[N, T]", Nullable: true,
		Doc: "Prefix value after each response token: beta times the sum of log-ratios up to it."})
	MeanValue = NewList[float32](Column{Name: "mean_value", Stage: "value", Shape: "[N, T]", Nullable: true,
		Doc: "Prefix value divided by the number of tokens so far."})
	PCorrect = NewList[float32](Column{Name: "p_correct", Stage: "value", Shape: "[N, T]", Unit: "probability", Nullable: true,
		Doc: "Logistic function of mean_value: how probable a right outcome looks from the prefix."})
)

// OfModel is a column of a reward model among several, by the model's name: reward_logp_NAME, p_correct_NAME.
func OfModel(c List[float32], name string) List[float32] {
	if name != "" {
		c.Name, c.Doc = c.Name+"_"+name, "As "+c.Name+", of the reward model of that name."
	}
	return c
}

// RewardDisagreement is added where several reward models score.
var RewardDisagreement = NewList[float32](Column{Name: "reward_disagreement", Stage: "value", Shape: "[N, T]", Unit: "probability",
	Nullable: true, Doc: "Standard deviation of p_correct after each response token over the reward models that score it."})

// Added by value where values of steps are asked for: those at the last token of each step that the policy wrote.
var (
	ValueStepEnds = NewList[int32](Column{Name: "value_step_ends", Stage: "step values", Shape: "[N, S]", Unit: "response token index",
		Nullable: true, Doc: "1-based index of the last token of each step that has a value; null where the steps of the response, " +
			"or the tokens that end them, are not known."})
	StepValue = NewList[float32](Column{Name: "step_value", Stage: "step values", Shape: "[N, S]", Nullable: true,
		Doc: "Prefix value after each step."})
	StepMeanValue = NewList[float32](Column{Name: "step_mean_value", Stage: "step values", Shape: "[N, S]", Nullable: true,
		Doc: "Mean prefix value after each step."})
	StepPCorrect = NewList[float32](Column{Name: "step_p_correct", Stage: "step values", Shape: "[N, S]", Unit: "probability", Nullable: true,
		Doc: "How probable a right outcome looks after each step."})
)

// Added by advantage.
var (
	Advantage = NewList[float32](Column{Name: "advantage", Stage: "advantage", Shape: "[N, T]", Nullable: true,
		Doc: "Advantage of each sampled token."})
	CandidateAdvantage = NewLists[float32](Column{Name: "candidate_advantage", Stage: "advantage", Shape: "[N, T, K]", Nullable: true,
		Doc: "TD advantage of each listed token (candidate_ids); empty where a position has no candidate update."})
	Return = NewList[float32](Column{Name: "return", Stage: "advantage", Shape: "[N, T]", Nullable: true,
		Doc: "Target of the value head at each response token."})
	TokenMask = NewList[int32](Column{Name: "token_mask", Stage: "advantage", Shape: "[N, T]", Nullable: true,
		Doc: "1 where a token takes part in the loss, else 0."})
)

// Added by target: what a distillation or logit-control loss pulls the policy towards.
var (
	TargetAdvantage = NewLists[float32](Column{Name: "target_advantage", Stage: "target", Shape: "[N, T, K]", Nullable: true,
		Doc: "LCO: advantage of each listed token (candidate_ids), scaled as the target wants it."})
	RestAdvantage = NewList[float32](Column{Name: "rest_advantage", Stage: "target", Shape: "[N, T]", Nullable: true,
		Doc: "LCO: the one advantage of all tokens off the list."})
	TeacherIDs = NewLists[int32](Column{Name: "teacher_ids", Stage: "target", Shape: "[N, T, K]", Unit: "token id", Nullable: true,
		Doc: "DCKD, ADPA: the teacher's most probable tokens in descending order."})
	TeacherProb = NewLists[float32](Column{Name: "teacher_prob", Stage: "target", Shape: "[N, T, K]", Unit: "probability", Nullable: true,
		Doc: "DCKD: the teacher's probability of each of them."})
	TeacherRest = NewList[float32](Column{Name: "teacher_rest", Stage: "target", Shape: "[N, T]", Unit: "probability", Nullable: true,
		Doc: "DCKD: the teacher's probability of all other tokens together."})
	TeacherAdvantage = NewLists[float32](Column{Name: "teacher_advantage", Stage: "target", Shape: "[N, T, K]", Nullable: true,
		Doc: "ADPA: log-ratio of the trained teacher to its reference for each of teacher_ids."})
)

// Added by pairs: one row a pair of a better (chosen) and a worse (rejected) response to one prompt.
var (
	PairID = NewID(Column{Name: "pair_id", Stage: "pairs", Shape: "[N]",
		Doc: "uuid v5 of the two response ids."})
	ChosenID = NewID(Column{Name: "chosen_id", Stage: "pairs", Shape: "[N]",
		Doc: "response_id of the better response."})
	RejectedID = NewID(Column{Name: "rejected_id", Stage: "pairs", Shape: "[N]",
		Doc: "response_id of the worse response."})
	ChosenTokens          = pairTokens("chosen_tokens", "better")
	RejectedTokens        = pairTokens("rejected_tokens", "worse")
	ChosenReferenceLogP   = pairLogP("chosen_reference_logp", "better")
	RejectedReferenceLogP = pairLogP("rejected_reference_logp", "worse")
	ChosenTeacherIDs      = NewLists[int32](pairTeacher("chosen_teacher_ids", "[N, T, K]", "token id"))
	ChosenTeacherProb     = NewLists[float32](pairTeacher("chosen_teacher_prob", "[N, T, K]", "probability"))
	ChosenTeacherRest     = NewList[float32](pairTeacher("chosen_teacher_rest", "[N, T]", "probability"))
	RejectedTeacherIDs    = NewLists[int32](pairTeacher("rejected_teacher_ids", "[N, T, K]", "token id"))
	RejectedTeacherProb   = NewLists[float32](pairTeacher("rejected_teacher_prob", "[N, T, K]", "probability"))
	RejectedTeacherRest   = NewList[float32](pairTeacher("rejected_teacher_rest", "[N, T]", "probability"))
)

func pairTokens(name, which string) List[int32] {
	return NewList[int32](Column{Name: name, Stage: "pairs", Shape: "[N, T]", Unit: "token id", Doc: "Tokens of the " + which + " response."})
}

func pairLogP(name, which string) List[float32] {
	return NewList[float32](Column{Name: name, Stage: "pairs", Shape: "[N, T]", Unit: "nats", Nullable: true, LogProb: true,
		Doc: "Log-prob of each token of the " + which + " response under the reference."})
}

func pairTeacher(name, shape, unit string) Column {
	side, of, _ := strings.Cut(name, "_")
	which := map[string]string{"chosen": "better", "rejected": "worse"}[side]
	return Column{Name: name, Stage: "pairs", Shape: shape, Unit: unit, Nullable: true, Doc: of + " of the " + which + " response."}
}

// RevisionLabels are the values of revision_label.
var RevisionLabels = []string{"No Revise", "Minor Revise", "Major Revise"}

// Added by revise.
var (
	RevisionGain = NewColumn[float32](Column{Name: "revision_gain", Stage: "revise", Shape: "[N]", Unit: "nats a token",
		Doc: "How much likelier, per token, the base reviser holds the better response of a pair than the worse one it is shown."})
	OfPair = NewID(Column{Name: "of_pair", Stage: "revise", Shape: "[N]",
		Doc: "pair_id of the pair that a row to train a reviser on was made of."})
	RevisionLabel = NewText(Column{Name: "revision_label", Stage: "revise", Shape: "[N]", Enum: RevisionLabels,
		Doc: "How much the reviser would change the response."})
	RevisedTokens = NewList[int32](Column{Name: "revised_tokens", Stage: "revise", Shape: "[N, T]", Unit: "token id",
		Doc: "The revised response; the response itself where nothing was revised."})
	Revised = NewText(Column{Name: "revised", Stage: "revise", Shape: "[N]",
		Doc: "revised_tokens decoded."})
)

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
	ReasonRepeated     Reason = "repeated"      // a prompt that was there before
	ReasonContaminated Reason = "contaminated"  // a prompt that is in a test set
	ReasonModel        Reason = "model"         // the model or endpoint refused the row
	ReasonVerifier     Reason = "verifier"      // the verifier program or service failed on the row
	ReasonPanic        Reason = "panic"         // the stage panicked on the row's group
)

// Reasons lists the closed set.
var Reasons = []Reason{ReasonMissingField, ReasonBadType, ReasonBadUTF8, ReasonUnreadable, ReasonEmpty, ReasonTooLong, ReasonTooLarge,
	ReasonBadToken, ReasonNotFinite, ReasonMismatch, ReasonRepeated,
	ReasonContaminated,
	ReasonModel, ReasonVerifier, ReasonPanic}

// Columns of a dead letter: a row that a stage set aside, whole, so that it can be fed back after a fix.
var (
	DeadStage = NewText(Column{Name: "dead_stage", Stage: "dead letters", Shape: "[N]",
		Doc: "The stage that set the row aside."})
	DeadReason = NewText(Column{Name: "dead_reason", Stage: "dead letters", Shape: "[N]", Enum: reasonNames(),
		Doc: "Why, from a small closed set."})
	DeadMessage = NewText(Column{Name: "dead_message", Stage: "dead letters", Shape: "[N]",
		Doc: "What was wrong and what would be right."})
	DeadRowID = NewText(Column{Name: "dead_row_id", Stage: "dead letters", Shape: "[N]",
		Doc: "pair_id, response_id or prompt_id of the row, or file and line of a row that never had one."})
	DeadAttempts = NewColumn[int32](Column{Name: "dead_attempts", Stage: "dead letters", Shape: "[N]",
		Doc: "How often the row has been tried, from 1."})
	DeadRow = NewBytes(Column{Name: "dead_row", Stage: "dead letters", Shape: "[N]",
		Doc: "The whole row as an Arrow IPC stream; for a row that could not be read, its raw bytes as column raw."})
	DeadRaw = NewBytes(Column{Name: "raw", Stage: "dead letters", Shape: "[N]", Nullable: true,
		Doc: "Raw bytes of input that could not be read, inside dead_row."})
)

func reasonNames() []string {
	out := make([]string, len(Reasons))
	for i, r := range Reasons {
		out[i] = string(r)
	}
	return out
}
