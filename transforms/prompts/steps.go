package prompts

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/millrace/millrace/schemas"
)

// readSteps makes a response of its steps: "Step 1: ...", a blank line, "Step 2: ...", as ProcessBench puts them. A step
// ends with its text; the blank line belongs to the next one.
func (r *promptRow) readSteps(steps any, stepsPath string, first any, firstPath string) error {
	list, ok := steps.([]any)
	if !ok {
		return bad(schemas.ReasonBadType, "field %q is %s, want a list of texts", stepsPath, kindOf(steps))
	}
	if len(list) == 0 {
		return bad(schemas.ReasonEmpty, "field %q has no steps", stepsPath)
	}
	var b strings.Builder
	for i, v := range list {
		step, err := text(v, fmt.Sprintf("%s[%d]", stepsPath, i))
		if err != nil {
			return err
		}
		if i > 0 {
			b.WriteString("\n\n")
		}
		fmt.Fprintf(&b, "Step %d: %s", i+1, step)
		r.stepBytes = append(r.stepBytes, int32(b.Len()))
	}
	r.response = b.String()
	if verdicts, ok := first.([]any); ok {
		if len(verdicts) != len(list) {
			return bad(schemas.ReasonMismatch, "field %q has %d verdicts on %d steps", firstPath, len(verdicts), len(list))
		}
		at, err := firstError(verdicts, firstPath)
		r.firstError = int32(at)
		return err
	}
	number, ok := first.(json.Number)
	if !ok {
		return bad(schemas.ReasonBadType, "field %q is %s, want the index of a step, or -1, or a list of verdicts", firstPath, kindOf(first))
	}
	at, err := strconv.Atoi(number.String())
	if err != nil || at < -1 || at >= len(list) {
		return bad(schemas.ReasonMismatch, "field %q is %s; want the index of one of %d steps, or -1", firstPath, number, len(list))
	}
	r.firstError = int32(at)
	return nil
}
