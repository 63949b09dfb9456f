//go:build peers

package peers

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// python runs a script with a Python that has the trackers, in a folder, and returns the last line that it prints.
func python(t *testing.T, env, folder string, set []string, args ...string) string {
	t.Helper()
	script, err := filepath.Abs(args[0])
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), filepath.Join(env, "bin", "python"), append([]string{"-W", "ignore", script}, args[1:]...)...)
	c.Dir, c.Env = folder, append(append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "MLFLOW_DISABLE_TELEMETRY=true"), set...)
	var out, problems bytes.Buffer
	c.Stdout, c.Stderr = &out, &problems
	if err := c.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", args[0], err, out.String(), problems.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	return lines[len(lines)-1]
}

// mlflowServer starts a tracking server, and gives its address.
func mlflowServer(t *testing.T, env, dir string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	c := exec.Command(filepath.Join(env, "bin", "python"), "-W", "ignore", "-m", "mlflow", "server", "--host", "127.0.0.1", "--port",
		fmt.Sprint(port), "--workers", "1", "--backend-store-uri", "sqlite:///"+filepath.Join(dir, "mlflow.db"), "--artifacts-destination",
		filepath.Join(dir, "artifacts"))
	c.Env = append(os.Environ(), "MLFLOW_DISABLE_TELEMETRY=true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := os.Create(filepath.Join(dir, "server.log"))
	if err != nil {
		t.Fatal(err)
	}
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // with the processes that it has started
		_ = c.Wait()
		log.Close()
	})
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(time.Second) {
		if answer, err := http.Get(url + "/health"); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return url
			}
		}
		if time.Now().After(end) {
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("the server does not answer\n%s", said)
		}
	}
}

// TestTrackers sends a run to real trackers, while it goes on and afterwards, and has them read what they have.
func TestTrackers(t *testing.T) {
	env := install(t, "trackers")
	dir := t.TempDir()
	millrace(t, "quickstart", "--iterations", "2", "--run", filepath.Join(dir, "quickstart"))
	run := filepath.Join(dir, "quickstart", "distrl")
	grow := func(iterations int, more ...string) {
		millrace(t, append([]string{"run", filepath.Join(run, "config.yaml"), "--set", fmt.Sprintf("iterations=%d", iterations)}, more...)...)
	}
	send := filepath.Join("..", "..", "docs", "examples", "trackers", "send.py")

	t.Run("mlflow", func(t *testing.T) {
		url := mlflowServer(t, env, dir)
		live := "telemetry.trackers=[{kind: mlflow, url: '" + url + "', experiment: live, seconds: 120, samples: {every: 1}}]"
		grow(3, "--set", live) // the two before are sent too
		grow(4, "--set", live)
		millrace(t, "track", run) // what a slow server has not taken by the end
		t.Log(python(t, env, dir, nil, "trackers/read_mlflow.py", url, "live", run, "3"))
		for range 2 {
			millrace(t, "track", run, "--to", "mlflow", "--set", "url="+url, "--set", "experiment=after", "--set", "seconds=120",
				"--set", "samples={every: 3}")
			t.Log(python(t, env, dir, nil, "trackers/read_mlflow.py", url, "after", run, "4"))
		}
	})
	t.Run("trackio", func(t *testing.T) {
		set := []string{"TRACKIO_DIR=" + filepath.Join(dir, "trackio"), "HF_HOME=" + filepath.Join(dir, "cache"), "HF_HUB_OFFLINE=1"}
		for _, iterations := range []int{4, 5} {
			grow(iterations)
			python(t, env, dir, set, send, "trackio", run, "arithmetic")
			t.Log(python(t, env, dir, set, "trackers/read_trackio.py", "arithmetic", run))
		}
	})
	t.Run("wandb", func(t *testing.T) {
		set := []string{"WANDB_CACHE_DIR=" + filepath.Join(dir, "cache"), "WANDB_CONFIG_DIR=" + filepath.Join(dir, "cache"),
			"WANDB_MODE=offline"}
		python(t, env, dir, set, send, "wandb", run, "arithmetic")
		t.Log(python(t, env, dir, set, "trackers/read_wandb.py", dir, run))
	})
}
