package label

import (
	"context"
	"encoding/binary"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Audit has a share of the responses judged by a second, stricter verifier. Nothing is learned from what it says: the gap between the two
// tells a policy that games the first one.
type Audit struct {
	Verifier VerifierConfig `json:"verifier" doc:"a stricter verifier than label.verifier, such as exact, or a judge behind command or http"`
	Share    float64        `json:"share" range:"(0,1]" doc:"of the responses that it reads, drawn by their ids"`
	// Of the audited responses that both could judge.
	MaxGap float64 `json:"max_gap" range:"[0,1]" doc:"the run ends when label.verifier calls right a larger share of them than the audit does by more than this; 0: no limit"`
}

// SetDefaults reads a fifth of the responses with exact.
func (a *Audit) SetDefaults() { *a = Audit{Verifier: VerifierConfig{Kind: "exact"}, Share: 0.2} }

// Auditor is the stage.
type Auditor struct {
	Audit
	judge *Config
}

func init() { stage.Register[Auditor]() }

// Audited adds audit_outcome to the responses that are drawn: rows of judged responses in, the same out.
func Audited(s beam.Scope, a Audit, in stage.Rows) (out, dead stage.Rows) {
	return stage.Apply(s, Auditor{Audit: a}, in)
}

// Contract says which columns are needed and added.
func (a *Auditor) Contract() schemas.Contract {
	return schemas.Contract{Name: "audit", Needs: []schemas.Descriptor{schemas.ResponseID, schemas.Prompt, schemas.Answer,
		schemas.ResponseTokens, schemas.Response, schemas.FinishReason}, Adds: []schemas.Descriptor{schemas.AuditOutcome}}
}

// Setup makes the verifier.
func (a *Auditor) Setup(ctx context.Context) error {
	var err error
	a.judge, err = judgeBy(ctx, a.Verifier)
	return err
}

// judgeBy is the stage's judging by another verifier, made ready.
func judgeBy(ctx context.Context, v VerifierConfig) (*Config, error) {
	c := Default(v.Kind)
	c.Verifier = v
	return &c, c.Setup(ctx)
}

// Teardown ends the processes of a verifier that has some.
func (a *Auditor) Teardown() error {
	if a.judge == nil {
		return nil
	}
	return a.judge.Teardown()
}

// Lineage names the verifier with its version.
func (a *Auditor) Lineage() string {
	return a.judge.verifier.Version() + ";audit@" + stage.Digest(a.Audit)[:16]
}

// auditKey keeps the draws apart from other random numbers of a response's id.
const auditKey = 0x61756469

// Map judges the drawn responses. What the audit cannot judge is null: its fault is no fault of the row.
func (a *Auditor) Map(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	ids := schemas.ResponseID.Of(b)
	n := b.NumRows()
	outcomes, known := make([]float32, n), make([]bool, n)
	var drawn []int
	for i, id := range ids {
		if keyed.New(auditKey).With(binary.BigEndian.Uint64(id[:8])).With(binary.BigEndian.Uint64(id[8:])).Uniform() < a.Share {
			drawn = append(drawn, i)
		}
	}
	if len(drawn) > 0 {
		part, err := b.Take(drawn)
		if err != nil {
			return b, err
		}
		judged, err := a.judge.judgeAll(ctx, part, &stage.DeadLetters{})
		if err != nil {
			return b, err
		}
		for k, i := range drawn {
			x, ok := a.judge.outcome(judged[k].verdict)
			outcomes[i], known[i] = float32(x), ok
		}
	}
	return b.With(schemas.AuditOutcome.From(outcomes, known...))
}
