package schemas

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
)

// LogPDefinition says what exactly the log-probs of a column are. Two columns may be subtracted only when their
// definitions agree in all but the model. It travels in the column's field metadata.
type LogPDefinition struct {
	// Model is what computed them: the model's digest, behind it "+" and its precision where that is not float32; "" in a contract: any.
	Model       string  `json:"model"`
	Temperature float64 `json:"temperature"` // the logits were divided by it; 1 for the model's own distribution
	TopP        float64 `json:"top_p"`       // nucleus the softmax was taken over; 1 for all
	TopK        int     `json:"top_k"`       // most probable tokens the softmax was taken over; 0 for all
	// Engine is the program that computed them, "" for this one. It explains a difference, and is none: matching passes over it.
	Engine string `json:"engine,omitempty"`
}

// UnknownLogP is the definition of log-probs that somebody has left without saying what they are. It matches no need.
func UnknownLogP() LogPDefinition { return LogPDefinition{} }

// Known reports whether it is known what the log-probs are.
func (d LogPDefinition) Known() bool { return d.Temperature != 0 }

// FullLogP is the definition every computation of this project uses: the model's own distribution, temperature 1, over
// the full vocabulary.
func FullLogP(model string) LogPDefinition {
	return LogPDefinition{Model: model, Temperature: 1, TopP: 1}
}

// At is the definition at a temperature; 0 leaves it as it is.
func (d LogPDefinition) At(temperature float64) LogPDefinition {
	if temperature != 0 {
		d.Temperature = temperature
	}
	return d
}

// Matches reports whether log-probs defined as have satisfy a need for d. An empty model matches any.
func (d LogPDefinition) Matches(have LogPDefinition) bool {
	if d.Model == "" || have.Model == "" {
		d.Model, have.Model = "", ""
	}
	d.Engine, have.Engine = "", ""
	return d == have
}

func (d LogPDefinition) String() string {
	if !d.Known() {
		return "log-probs of which nobody has said at what temperature, top-p and top-k they are"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "log-probs at temperature %g", d.Temperature)
	if d.TopP < 1 {
		fmt.Fprintf(&b, ", top-p %g", d.TopP)
	}
	if d.TopK > 0 {
		fmt.Fprintf(&b, ", top-k %d", d.TopK)
	}
	if d.TopP >= 1 && d.TopK == 0 {
		b.WriteString(" over the full vocabulary")
	}
	if d.Model != "" {
		b.WriteString(" of model " + d.Model)
	}
	return b.String()
}

const logpKey = "millrace.logp"

// Metadata is what a column's field carries of it.
func (d LogPDefinition) Metadata() arrow.Metadata {
	raw, err := json.Marshal(d)
	if err != nil {
		panic(err) // only for infinite or NaN temperatures
	}
	return arrow.NewMetadata([]string{logpKey}, []string{string(raw)})
}

// LogPOf returns how the log-probs of the record's column are defined, and false when it does not say.
func LogPOf(r Record, d Descriptor) (LogPDefinition, bool) {
	i := r.index(d.Describe().Name)
	if i < 0 {
		return LogPDefinition{}, false
	}
	return logpOfField(r.rec.Schema().Field(i))
}

func logpOfField(f arrow.Field) (LogPDefinition, bool) {
	raw, ok := f.Metadata.GetValue(logpKey)
	if !ok {
		return LogPDefinition{}, false
	}
	var def LogPDefinition
	return def, json.Unmarshal([]byte(raw), &def) == nil
}
