package textchains

import (
	"regexp"
	"strconv"
	"strings"
)

// Check is what the step checker finds in a response.
type Check struct {
	Correct    bool   // the last line is the answer line with the true answer
	Answer     string // the number of the last line, "" when that is no answer line
	FirstError int    // the first line that is not that of the worked solution, -1 when all are
	StepEnds   []int  // bytes of the response up to and with the end of each line
}

var (
	stepLine   = regexp.MustCompile(`^[ \t]*(\d{1,9})[ \t]*([+*-])[ \t]*(\d{1,9})[ \t]*=[ \t]*(\d{1,9})[ \t]*$`)
	answerLine = regexp.MustCompile(`^[ \t]*` + answerLabel + `[ \t]*(\d{1,9})[ \t]*$`)
)

// Judge checks a response whose generation has ended. Lines are the steps of the response, the answer line is the last; a blank line is
// no step and belongs to the one before it.
//
// A line is right when it says what the same line of the worked solution says: spaces do not matter, nor does which operand of a sum or a
// product stands first. Everything else does, another way to the same answer too: every line has its one right text. So the first
// wrong step is the first line that says something else; a surplus line does, and where lines are missing it is the last line present
// that is wrong, for ending the response. Numbers are digits without a leading zero.
func (c Chain) Judge(response string) Check {
	out := Check{FirstError: -1}
	want := c.Lines()
	lines := stepsOf(response)
	at := 0
	for i, line := range lines {
		at += len(line)
		out.StepEnds = append(out.StepEnds, at)
		text := written(line)
		last := i == len(lines)-1
		if out.FirstError < 0 && (i >= len(want) || !same(text, want[i]) || last && i < len(want)-1) {
			out.FirstError = i
		}
		if m := answerLine.FindStringSubmatch(text); last && m != nil {
			out.Answer, out.Correct = m[1], m[1] == strconv.Itoa(c.Answer())
		}
	}
	return out
}

// stepsOf cuts a response after each line that holds something, with the blank lines that follow; what is blank at its beginning belongs
// to the first. A response of nothing but blanks is one step.
func stepsOf(response string) []string {
	var out []string
	begin, at := 0, 0
	something := false // between begin and at
	for line := range strings.SplitAfterSeq(response, "\n") {
		blank := strings.TrimSpace(line) == ""
		if !blank && something {
			out, begin = append(out, response[begin:at]), at
		}
		something = something || !blank
		at += len(line)
	}
	return append(out, response[begin:])
}

// written is the line of a step that holds something, without its end; the others are blank.
func written(step string) string {
	for line := range strings.SplitAfterSeq(step, "\n") {
		if strings.TrimSpace(line) != "" {
			return strings.Trim(line, "\r\n")
		}
	}
	return ""
}

// same reports whether a line says what a line of the worked solution says.
func same(line, want string) bool {
	if strings.HasPrefix(want, answerLabel) {
		m := answerLine.FindStringSubmatch(line)
		return m != nil && answerLabel+" "+m[1] == want
	}
	got, right := stepLine.FindStringSubmatch(line), stepLine.FindStringSubmatch(want)
	if got == nil {
		return false
	}
	swapped := got[2] != "-" && got[1] == right[3] && got[3] == right[1]
	return got[2] == right[2] && got[4] == right[4] && (swapped || got[1] == right[1] && got[3] == right[3])
}
