package recipe

import "github.com/millrace/millrace/transforms/value"

// RewardValue says what the values of a reward model are made of.
type RewardValue = value.Config

// DefaultValue is IPVRM.
func DefaultValue() RewardValue { return value.Default("ipvrm") }
