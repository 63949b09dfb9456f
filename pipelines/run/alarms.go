package run

import (
	"fmt"
	"strings"
)

// Alarm is a sign that a policy games its reward, or has collapsed: nothing stops by it, unless a limit of the recipe says so.
type Alarm struct {
	Iterations int    `json:"iterations"` // done when it rang first
	Name       string `json:"name"`
	Text       string `json:"text"`
}

// What rings. The numbers are wide: a run that learns as it should keeps within them.
const (
	alarmGap     = 0.1  // of what the verifier calls right, which the audit does not
	alarmEcho    = 0.5  // of the responses, without a token of their own
	alarmCut     = 0.5  // of the responses, cut off before they end
	alarmLength  = 3.0  // times shorter or longer than at first
	alarmEntropy = 0.05 // of the entropy at first
	alarmRise    = 0.2  // of the accuracy in training, while that on held-out prompts stays
)

// Alarms are those of a run, each when it rang first.
func Alarms(all []Measurement) (out []Alarm) {
	var w watch
	for _, m := range all {
		out = append(out, w.add(m)...)
	}
	return out
}

// watch is what alarms and limits know of the measurements so far: the first of every metric, and what has rung.
type watch struct {
	first map[string]float64
	rang  map[string]bool
}

// add takes in a measurement and tells what rings with it for the first time.
func (w *watch) add(m Measurement) (out []Alarm) {
	if w.first == nil {
		w.first, w.rang = map[string]float64{}, map[string]bool{}
	}
	ring := func(name, format string, args ...any) {
		if !w.rang[name] {
			w.rang[name] = true
			out = append(out, Alarm{m.Iterations, name, fmt.Sprintf(format, args...)})
		}
	}
	held := m.AccuracyName()
	for name, x := range m.Metrics {
		if _, seen := w.first[name]; !seen {
			w.first[name] = x
		}
	}
	is := func(name string) (x, start float64, ok bool) {
		x, ok = m.Metrics[name]
		return x, w.first[name], ok
	}
	if gap, _, ok := is("audit_gap"); ok && gap >= alarmGap {
		ring("audit", "label.verifier calls right %.0f%% more of the audited responses than audit.verifier: the reward may be gamed", 100*gap)
	}
	if echo, start, ok := is("echo_share"); ok && echo >= alarmEcho && echo >= start+alarmEcho/2 {
		ring("echo", "%.0f%% of the responses hold no token beyond those of their prompt (%.0f%% at first)", 100*echo, 100*start)
	}
	if cut, start, ok := is("truncated_share"); ok && cut >= alarmCut && cut >= start+alarmCut/2 {
		ring("cut off", "%.0f%% of the responses are cut off at rollout.max_new_tokens before they end (%.0f%% at first)", 100*cut, 100*start)
	}
	if n, start, ok := is("response_tokens"); ok && start > 0 && (n*alarmLength < start || n > start*alarmLength) {
		ring("length", "responses have %.0f tokens in the mean, and had %.0f at first", n, start)
	}
	if h, start, ok := is("entropy"); ok && start > 0 && h < start*alarmEntropy {
		ring("entropy", "the policy's entropy is %.3g nats a token, and was %.3g at first: what it samples is all alike", h, start)
	}
	if x, start, ok := is(held); held != "" && ok && x <= start {
		if train, before, ok := is("train_accuracy"); ok && train-before >= alarmRise {
			ring("held out", "accuracy in training rose from %.2f to %.2f, and on held-out prompts from %.2f to %.2f", before, train, start, x)
		}
	}
	return out
}

// CollapseError says that a policy is beyond a limit that its recipe sets against collapse.
type CollapseError struct {
	Setting, Is string
	X, Limit    float64
}

func (e *CollapseError) Error() string {
	return fmt.Sprintf("%s %.4g, limits.%s allows %.4g; the iteration is not committed", e.Is, e.X, e.Setting, e.Limit)
}

// Collapse are the limits against collapse; 0: none.
type Collapse struct {
	Echo      float64 // share of responses without a token of their own
	Truncated float64 // share of responses that are cut off before they end
	Entropy   float64 // least, in nats a token
	Length    float64 // factor by which the mean length may change
}

// check holds an iteration to the limits. Before is the mean length of responses in the first one, 0 where this is the first.
func (c Collapse) check(before float64, m Measurement) error {
	if x, ok := m.Metrics["echo_share"]; ok && c.Echo > 0 && x > c.Echo {
		return &CollapseError{"echo_share", "the share of responses that hold no token beyond those of their prompt is", x, c.Echo}
	}
	if x, ok := m.Metrics["truncated_share"]; ok && c.Truncated > 0 && x > c.Truncated {
		return &CollapseError{"truncated_share", "the share of responses that are cut off before they end is", x, c.Truncated}
	}
	if x, ok := m.Metrics["entropy"]; ok && x < c.Entropy {
		return &CollapseError{"entropy", "the policy's entropy in nats a token is", x, c.Entropy}
	}
	n := m.Metrics["response_tokens"]
	if c.Length > 0 && n > 0 && before > 0 {
		if by := max(n/before, before/n); by > c.Length {
			word := map[bool]string{true: "longer", false: "shorter"}[n > before]
			return &CollapseError{"length_factor", "responses are " + word + " than in the first iteration by the factor", by, c.Length}
		}
	}
	return nil
}

// alarmNote is what is said of an alarm while a run goes on.
func alarmNote(a Alarm) string {
	return fmt.Sprintf("iteration %d: alarm (%s): %s", a.Iterations-1, a.Name, strings.TrimSuffix(a.Text, "."))
}
