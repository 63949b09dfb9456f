package schemas

// Added by value.
var (
	Value = list[float32](Column{Name: "value", Stage: "value", Shape: "[N, T]", Nullable: true,
		Doc: "Prefix value after each response token: beta times the sum of log-ratios up to it."})
	MeanValue = list[float32](Column{Name: "mean_value", Stage: "value", Shape: "[N, T]", Nullable: true,
		Doc: "Prefix value divided by the number of tokens so far."})
	PCorrect = list[float32](Column{Name: "p_correct", Stage: "value", Shape: "[N, T]", Unit: "probability", Nullable: true,
		Doc: "Logistic function of mean_value: how probable a right outcome looks from the prefix."})
)
