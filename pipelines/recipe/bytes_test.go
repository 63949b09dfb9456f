package recipe

import "testing"

func TestBytes(t *testing.T) {
	for _, c := range []struct {
		tree any
		want Bytes
		text string
	}{{"12GiB", 12 << 30, "12 GiB"}, {"1.5 MiB", 3 << 19, "1.5 MiB"},
		{"500MB", 500e6, "477 MiB"}, {4096, 4096, "4 KiB"}, {"100", 100, "100 B"}, {0, 0, "0 B"}} {
		var b Bytes
		if err := b.DecodeSetting(c.tree, "limits.memory"); err != nil || b != c.want || b.String() != c.text {
			t.Errorf("%v: %d, %s, %v; want %d, %s", c.tree, int64(b), b, err, int64(c.want), c.text)
		}
	}
	for _, tree := range []any{"12Gib", "-1GiB", "much", "", "NaN", "1e30GiB", nil, true, []any{1}} {
		if err := new(Bytes).DecodeSetting(tree, "limits.memory"); err == nil {
			t.Errorf("%v is taken", tree)
		}
	}
}
