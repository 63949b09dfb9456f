package show

import (
	"encoding/json"
	"io"
	"math"
)

// number is a figure in JSON: one that is not finite is null.
type number float64

func (n number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

func (t Token) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Text       string      `json:"text"`
		LogP       number      `json:"logp"`
		Value      number      `json:"value"`
		PCorrect   number      `json:"p_correct"`
		Advantage  number      `json:"advantage"`
		Candidates []Candidate `json:"candidates,omitempty"`
	}{t.Text, number(t.LogP), number(t.Value), number(t.PCorrect), number(t.Advantage), t.Candidates})
}

func (c Candidate) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Text      string `json:"text"`
		LogP      number `json:"logp"`
		Advantage number `json:"advantage"`
	}{c.Text, number(c.LogP), number(c.Advantage)})
}

// JSON writes items (rollouts, dead letters) as JSON lines.
func JSON[T any](w io.Writer, items []T) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, item := range items {
		if err := enc.Encode(item); err != nil {
			return err
		}
	}
	return nil
}
