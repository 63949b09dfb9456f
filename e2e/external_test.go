package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/external"
)

// copier is a trainer of the standard library alone, which leaves the model as it is. It looks whether what the task names is there.
const copier = `
import hashlib, json, pathlib, shutil, sys
path = pathlib.Path(sys.argv[1])
raw, at = path.read_bytes(), path.parent
task = json.loads(raw)
for b in task["batches"]:
    for f in b["files"]:
        assert hashlib.sha256((at / f["name"]).read_bytes()).hexdigest() == f["sha256"]
said = pathlib.Path(task["state"], "state").read_text() if task["state"] else ""
shutil.copytree(task["model"]["path"], at / "checkpoint")
(at / "optimizer").mkdir()
(at / "optimizer/state").write_text(said + str(task["iteration"]))
files = [f for d in ("checkpoint", "optimizer") for f in (at / d).iterdir()]
done = {"protocol": 1, "task": hashlib.sha256(raw).hexdigest(), "trainer": "copier",
        "files": {str(f.relative_to(at)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}}
(at / ".done").write_text(json.dumps(done))
(at / ".done").rename(at / "done.json")
`

// TestExternalInABucket: a run in a bucket hands its updates over in a directory of this machine, with the models and the state that lie
// in the bucket, and leaves the files of a run in a directory.
func TestExternalInABucket(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("no python3")
	}
	s, root := bucket(t)
	dir := t.TempDir()
	script := filepath.Join(dir, "copier.py")
	if err := os.WriteFile(script, []byte(copier), 0o644); err != nil {
		t.Fatal(err)
	}
	with := fmt.Sprintf("  external: {command: [python3, %q]}\n  minibatches: 2", script)
	recipe := writeRecipe(t, strings.Replace(tinyRecipe, "  minibatches: 2", with, 1))
	local, remote, shared := filepath.Join(dir, "run"), root+"/external", filepath.Join(dir, "shared")
	mustRun(t, "run", recipe, "--set", "run="+local)
	mustRun(t, "run", recipe, "--set", "run="+remote, "--set", "update.external.dir="+shared)
	here := digests(t, local)
	for name := range here {
		if strings.HasPrefix(name, external.DirName+"/") {
			delete(here, name)
		}
	}
	sameFiles(t, "in a bucket", objectDigests(s, remote), here, nil)
	if state := s.Objects("runs/external/iter-00003/optimizer-policy/state"); len(state) != 1 {
		t.Errorf("states %v", state)
	}
	if state, err := os.ReadFile(filepath.Join(local, "iter-00003", "optimizer-policy", "state")); err != nil || string(state) != "0123" {
		t.Errorf("state %q, %v", state, err)
	}
	var task external.Task
	raw, err := os.ReadFile(filepath.Join(shared, "iter-00003", external.TaskName))
	if err != nil || json.Unmarshal(raw, &task) != nil {
		t.Fatal(err)
	}
	if in := filepath.Join(shared, "iter-00003"); task.Model.Path != filepath.Join(in, "model") || task.State != filepath.Join(in, "state") {
		t.Errorf("%s", raw)
	}
	if code, _, log := millrace(t, "run", recipe, "--set", "run="+root+"/other"); code == 0 || !strings.Contains(log, "update.external.dir") {
		t.Errorf("without a directory: exit code %d: %s", code, log)
	}
	noScratch(t)
}
