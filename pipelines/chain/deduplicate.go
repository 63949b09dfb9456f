package chain

import "github.com/millrace/millrace/transforms/deduplicate"

// The section is there for every kind of run, before the stage that judges.
func init() { Register("deduplicate", deduplicate.Default()) }
