package e2e

import (
	"fmt"
	"path/filepath"
	"testing"
)

// TestSameBytesHoweverTheRowsTravel: how many prompts a record holds, and so how many bundles and workers share them, changes
// no byte of what an iteration leaves.
func TestSameBytesHoweverTheRowsTravel(t *testing.T) {
	if testing.Short() {
		t.Skip("trains")
	}
	recipe := writeRecipe(t, tinyRecipe)
	var want map[string]string
	for _, perRecord := range []int{1, 2, 8} {
		run := filepath.Join(t.TempDir(), "run")
		mustRun(t, "run", recipe, "--set", "run="+run, "--set", "iterations=2", "--set", fmt.Sprintf("prompts.per_record=%d", perRecord))
		got := digests(t, run)
		if want == nil {
			want = got
			if modelOf(t, got, "iter-00000") == modelOf(t, got, "iter-00001") {
				t.Fatal("the update changes nothing, so this test could not fail")
			}
			continue
		}
		// The manifest and the lineage of the rows name the recipe, which differs in this one setting.
		sameFiles(t, fmt.Sprintf("per_record %d", perRecord), got, want, nil)
	}
}

// TestReplicasAreReproducible: N replicas give the same bytes from run to run.
func TestReplicasAreReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("trains")
	}
	recipe := writeRecipe(t, tinyRecipe)
	var want map[string]string
	for attempt := range 2 {
		run := filepath.Join(t.TempDir(), "run")
		mustRun(t, "run", recipe, "--set", "run="+run, "--set", "iterations=2", "--set", "update.replicas=2")
		got := digests(t, run)
		if want == nil {
			want = got
			continue
		}
		sameFiles(t, fmt.Sprintf("attempt %d", attempt), got, want, nil)
	}
}
