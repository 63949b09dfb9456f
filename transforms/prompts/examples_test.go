package prompts

import (
	"strconv"
	"strings"
	"testing"
)

// Examples lie at even distances over all groups, and their number and their bytes are bounded.
func TestExamplesAreSpreadAndBounded(t *testing.T) {
	for _, c := range []struct{ groups, size int }{{10, 1}, {512, 1}, {20_000, 1}, {5_000, 100_000}, {30, 4 << 20}} {
		var e examples
		text := strings.Repeat("x", c.size)
		for i := range c.groups {
			e.add(group{rows: []promptRow{{prompt: strconv.Itoa(i), response: text}}})
		}
		bytes := 0
		for k, x := range e.kept {
			bytes += x.bytes()
			if x.Prompt != strconv.Itoa(k*e.stride) || len(x.Responses) != 1 {
				t.Fatalf("%+v: example %d is prompt %.20s, want every %dth", c, k, x.Prompt, e.stride)
			}
		}
		last := (len(e.kept) - 1) * e.stride
		if len(e.kept) > maxExamples || bytes > maxExampleBytes || bytes != e.bytes || last < c.groups-1-e.stride || cap(e.kept) > 2*maxExamples {
			t.Errorf("%+v: %d examples of %d bytes (%d counted), every %dth", c, len(e.kept), bytes, e.bytes, e.stride)
		}
		if c.groups <= maxExamples && c.size == 1 && len(e.kept) != c.groups {
			t.Errorf("%d of %d groups are kept", len(e.kept), c.groups)
		}
	}
}
