// Package stage is what every stage is written against: a batch of rows, a function that adds columns, and the one place
// that turns it into a Beam transform.
//
// A stage is a Config whose exported fields are its settings (Beam ships them as JSON) and whose unexported fields are
// filled by Setup:
//
//	// Config adds the length of each response.
//	type Config struct{ Max int }
//
//	func (c *Config) Contract() schemas.Contract {
//		return schemas.Contract{Name: "length", Needs: []schemas.Descriptor{schemas.ResponseTokens}, Adds: ...}
//	}
//	func (c *Config) Setup(context.Context) error { return nil }
//	func (c *Config) Map(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
//		tokens := schemas.ResponseTokens.Of(b)
//		...
//		return b.With(Length.From(lengths))
//	}
//
//	func init() { stage.Register[Config]() }
//
// and is put into a pipeline by Apply, which takes care of all else: scope name, contract, rows set aside, counters, error
// context, panics, lineage.
//
// # Rows
//
// A row is a response (before rollout: a prompt). A batch holds whole prompt groups. A stage returns a row for every row
// it was given, in the same order; a row that it marks dead or filtered may hold anything in the new columns, Apply takes
// it out. What a stage computes for a row may depend on the row's group, never on what else is in the batch.
//
// # Faults
//
// The row's fault goes to DeadLetters and the pipeline goes on. The world's fault (a file that cannot be read, an
// endpoint that is down) is returned, and the runner retries the bundle or fails the run. A panic in Map costs the group
// it came from. Nothing is lost: rows in = rows kept + dead + filtered, for every batch and, by Conserved, for the run.
package stage
