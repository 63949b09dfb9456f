package stage_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/transforms/stage"
)

// sent gives what a bundle with these values of two keys emits.
func sent(t *testing.T, store stage.Store, values []string) map[int][]string {
	t.Helper()
	var p stage.Parcels[stage.Stored]
	for i, v := range values {
		if err := p.Add(i%2, stage.Stored{ID: v, Rows: int64(len(v))}); err != nil {
			t.Fatal(err)
		}
	}
	out := map[int][]string{}
	for range 2 { // the second bundle is empty
		if err := p.Send(context.Background(), store, func(key int, name string) { out[key] = append(out[key], name) }); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func unpacked(store stage.Store, names []string) ([]string, error) {
	all, err := stage.Unpack[stage.Stored](context.Background(), store, func(name *string) bool {
		if len(names) == 0 {
			return false
		}
		*name, names = names[0], names[1:]
		return true
	})
	var out []string
	for _, d := range all {
		out = append(out, d.ID)
		if d.Rows != int64(len(d.ID)) {
			err = fmt.Errorf("%+v", d)
		}
	}
	slices.Sort(out)
	return out, err
}

// However many values a bundle has for a key, one short name crosses.
func TestParcels(t *testing.T) {
	var values, even []string
	for i := range 1001 {
		values = append(values, fmt.Sprintf("row\n%04d", i))
		if i%2 == 0 {
			even = append(even, values[i])
		}
	}
	for _, store := range []stage.Store{{Dir: t.TempDir()}, {}} {
		out := sent(t, store, values)
		if len(out) != 2 || len(out[0]) != 1 || len(out[1]) != 1 {
			t.Fatalf("store %q: emitted %d and %d for %d keys", store.Dir, len(out[0]), len(out[1]), len(out))
		}
		if store.Dir != "" && len(out[0][0]) > 100 {
			t.Errorf("%d bytes cross", len(out[0][0]))
		}
		got, err := unpacked(store, append([]string{""}, out[0]...))
		if err != nil || !slices.Equal(got, even) {
			t.Errorf("store %q: %d values, %v", store.Dir, len(got), err)
		}
	}
}

// A bundle that is run again gets its values in another order, and leaves the same file.
func TestParcelsAreNamedByTheirContent(t *testing.T) {
	store := stage.Store{Dir: t.TempDir()}
	a, b := sent(t, store, []string{"a", "x", "b", "y"}), sent(t, store, []string{"b", "y", "a", "x"})
	if a[0][0] != b[0][0] || a[1][0] != b[1][0] || a[0][0] == a[1][0] {
		t.Errorf("%v and %v", a, b)
	}
}

func TestDamagedParcels(t *testing.T) {
	store := stage.Store{Dir: t.TempDir()}
	name := sent(t, store, []string{"a"})[0][0]
	path := filepath.Join(store.Dir, name)
	if err := os.WriteFile(path, []byte(`{"ID":"b"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := unpacked(store, []string{name}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("another content: %v", err)
	}
	os.Remove(path)
	if _, err := unpacked(store, []string{name}); err == nil {
		t.Error("a missing file")
	}
	if _, err := unpacked(stage.Store{}, []string{`{"ID":`}); err == nil {
		t.Error("half a value")
	}
}
