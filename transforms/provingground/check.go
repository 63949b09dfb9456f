package provingground

import "strings"

// Check is what the step checker finds in a response.
type Check struct {
	Correct    bool   // the last line is # and the true value
	Answer     string // the last line without #, "" when it has none
	FirstError int    // the first line that differs from the one right working, -1 when none does
	StepEnds   []int  // bytes of the response up to and with the end of each line
}

// Judge checks a response whose generation has ended (an end token was sampled; its text is not part of the response).
// Lines are the steps of the response; the answer line is the last. Since the right working is unique, the first wrong
// step is the first line that differs from it; a surplus line differs, and where lines are missing it is the last line
// present that is wrong, for ending the response.
func (c Chain) Judge(response string) Check {
	want := c.Lines()
	out := Check{FirstError: -1}
	lines := strings.SplitAfter(response, "\n")
	if lines[len(lines)-1] == "" && len(lines) > 1 {
		lines = lines[:len(lines)-1] // a line break at the very end opens no step
	}
	at := 0
	for i, line := range lines {
		at += len(line)
		out.StepEnds = append(out.StepEnds, at)
		text := strings.TrimSuffix(line, "\n")
		last := i == len(lines)-1
		if out.FirstError < 0 && (i >= len(want) || text != want[i] || last && (i < len(want)-1 || text != line)) {
			out.FirstError = i
		}
		if last {
			answer, ok := strings.CutPrefix(line, "#")
			out.Answer = strings.TrimSuffix(answer, "\n")
			if !ok {
				out.Answer = ""
			}
			out.Correct = line == want[len(want)-1]
		}
	}
	return out
}
