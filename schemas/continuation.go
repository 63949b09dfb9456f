package schemas

// Added by continuation.
var StepTruth = list[float32](Column{Name: "step_truth", Stage: "continuation", Shape: "[N, S]", Unit: "probability", Nullable: true,
	Doc: "Share of right ones among continuations sampled after each step but the last; null where none were sampled."})
