//go:build flink

package flink

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// workers lists the worker processes of a program.
func workers(t *testing.T, program string) []int {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, p := range procs {
		raw, _ := os.ReadFile(p)
		args := strings.Split(string(raw), "\x00")
		if args[0] == program && slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--provision_endpoint=") }) {
			var pid int
			fmt.Sscanf(filepath.Base(filepath.Dir(p)), "%d", &pid)
			pids = append(pids, pid)
		}
	}
	return pids
}

// await waits for a condition; the limit is far above what it takes.
func await(t *testing.T, what string, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for ; !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Since(start) > 5*time.Minute {
			t.Fatalf("waited in vain: %s", what)
		}
	}
	return time.Since(start)
}

func noWorkers(t *testing.T) {
	t.Helper()
	await(t, "workers end with their job", func() bool { return len(workers(t, binary(t)))+len(workers(t, os.Getenv("MILLRACE_JOBS"))) == 0 })
}

// temporaries lists what is in the directory of temporary files, to be compared after a fault.
func temporaries(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(os.TempDir(), "*"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(p string) bool {
		return !strings.Contains(p, "beam") && !strings.Contains(p, "millrace") || p == scratch
	})
}

func noLitter(t *testing.T, dir string, before []string) {
	t.Helper()
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && (strings.HasPrefix(d.Name(), ".tmp") || strings.HasPrefix(d.Name(), ".millrace-tmp") || d.Name() == "exchange") {
			t.Errorf("left over: %s", path)
		}
		return nil
	})
	for _, path := range temporaries(t) {
		if !slices.Contains(before, path) {
			t.Errorf("left over: %s", path)
		}
	}
}

// fault runs the long recipe on the cluster, does damage once a worker is at work, and compares what comes out.
func fault(t *testing.T, slots int, damage func(t *testing.T, driver *exec.Cmd), resumes bool) {
	want, before := manifests(t, undisturbed(t)), temporaries(t)
	dir := t.TempDir()
	var printed bytes.Buffer
	driver := command(t.Context(), t, "long.yaml", dir, onFlink("process", slots)...)
	driver.Stdout, driver.Stderr = &printed, &printed
	if err := driver.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "a worker starts", func() bool { return len(workers(t, binary(t))) > 0 })
	damage(t, driver)
	start := time.Now()
	err := driver.Wait()
	t.Logf("driver, %.1f s after the fault: %v", time.Since(start).Seconds(), err)
	if !resumes {
		must(t, printed.String(), err)
	} else {
		if err == nil {
			t.Errorf("the driver did not notice")
		}
		t.Logf("it said: %s", lastLine(printed.String()))
		out, err := run(t, "long.yaml", dir, onFlink("process", slots)...)
		must(t, out, err)
	}
	same(t, "after the fault", manifests(t, dir), want)
	noWorkers(t)
	noLitter(t, dir, before)
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func TestWorkerKilled(t *testing.T) {
	fault(t, 2, func(t *testing.T, _ *exec.Cmd) {
		for _, pid := range workers(t, binary(t)) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}, false)
}

func TestDriverKilled(t *testing.T) {
	fault(t, 2, func(t *testing.T, driver *exec.Cmd) { driver.Process.Kill() }, true)
}

func TestDriverInterrupted(t *testing.T) {
	fault(t, 2, func(t *testing.T, driver *exec.Cmd) { driver.Process.Signal(os.Interrupt) }, true)
}

func TestJobServiceKilled(t *testing.T) {
	fault(t, 2, func(t *testing.T, driver *exec.Cmd) {
		cluster(t, "killjobservice")
		cluster(t, "jobservice")
	}, true)
}

// killTaskManager kills the TaskManager that a worker belongs to, and says how long the worker outlived it.
func killTaskManager(t *testing.T) {
	t.Helper()
	worker := workers(t, binary(t))[0]
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", worker))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(raw), "PPid:")
	cluster(t, "killtm", strings.Fields(after)[0])
	t.Logf("the worker ended after %v", await(t, "the worker of a dead TaskManager ends",
		func() bool { return !slices.Contains(workers(t, binary(t)), worker) }))
}

// TestTaskManagerKilled: the other TaskManager has the slots that the job needs.
func TestTaskManagerKilled(t *testing.T) {
	defer cluster(t, "addtm")
	fault(t, 2, func(t *testing.T, _ *exec.Cmd) { killTaskManager(t) }, false)
}

// TestTaskManagerKilledWithoutSpareSlots: the job has every slot there is, and waits until another TaskManager comes.
func TestTaskManagerKilledWithoutSpareSlots(t *testing.T) {
	fault(t, 4, func(t *testing.T, _ *exec.Cmd) {
		killTaskManager(t)
		time.Sleep(15 * time.Second)
		cluster(t, "addtm")
	}, false)
}

func cluster(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("./cluster.sh", args...)
	cmd.Env = os.Environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cluster.sh %v: %v\n%s", args, err, out)
	}
}

// TestFullDisk: the run says that the disk is full, and goes on when it is not.
func TestFullDisk(t *testing.T) {
	want := manifests(t, undisturbed(t))
	for _, c := range []struct {
		runner string
		free   int64 // bytes: for the first edges, and for the model
	}{{"prism", 50 << 10}, {"prism", 1200 << 10}, {"flink", 50 << 10}, {"flink", 1200 << 10}} {
		t.Run(fmt.Sprintf("%s-%d", c.runner, c.free>>10), func(t *testing.T) {
			const size = 64 << 20
			before, disk := temporaries(t), t.TempDir()
			if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
				t.Skipf("a small disk takes the right to mount one: %v", err)
			}
			t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
			ballast := filepath.Join(disk, "ballast")
			if err := os.WriteFile(ballast, make([]byte, size-c.free), 0o644); err != nil {
				t.Fatal(err)
			}
			var args []string
			if c.runner == "flink" {
				args = onFlink("process", 2)
			}
			dir := filepath.Join(disk, "run")
			out, err := run(t, "long.yaml", dir, args...)
			if err == nil || !strings.Contains(out, "no space left on device") {
				t.Fatalf("on a full disk: %v\n%s", err, out)
			}
			t.Logf("it said: %s", lastLine(out))
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			out, err = run(t, "long.yaml", dir, args...)
			must(t, out, err)
			same(t, "after the disk was full", manifests(t, dir), want)
			noWorkers(t)
			noLitter(t, dir, before)
		})
	}
}

// outcome is what a job of e2e/programs/jobs prints.
type outcome struct {
	Digest     string
	Rows, Dead int64
	Again      int
}

// job runs a job of e2e/programs/jobs in a directory of its own.
func job(t *testing.T, name, dir, runner, fault string, more ...string) (outcome, string, error) {
	t.Helper()
	program := os.Getenv("MILLRACE_JOBS")
	if program == "" {
		t.Fatal("MILLRACE_JOBS is not set; run e2e/flink/test.sh")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append([]string{name, "--dir", dir, "--runner", runner, "--slots", "2", "--records", "50"},
		more...)...)
	cmd.Env = append(os.Environ(), "MILLRACE_FAULT="+fault)
	var printed, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &complaints
	var out outcome
	err := cmd.Run()
	if err == nil {
		err = json.Unmarshal(printed.Bytes(), &out)
	}
	return out, complaints.String(), err
}

// TestFailingStage: a stage that fails once, always, ends its process, or panics on some rows.
func TestFailingStage(t *testing.T) {
	sound, complaints, err := job(t, "faulty", t.TempDir(), "prism", "")
	must(t, complaints, err)
	poisoned, complaints, err := job(t, "faulty", t.TempDir(), "prism", "poison")
	must(t, complaints, err)
	if sound.Rows != 200 || sound.Again != 0 || poisoned.Dead != 2 || poisoned.Rows != 198 {
		t.Fatalf("undisturbed %+v, poisoned %+v", sound, poisoned)
	}
	for _, c := range []struct {
		runner, fault string
		says          string // the error; "": the job succeeds
	}{
		{"prism", "once", "the disk of the stage was away for a moment"}, {"flink", "once", ""},
		{"prism", "always", "the disk of the stage is on fire"}, {"flink", "always", "the disk of the stage is on fire"},
		{"prism", "panic", "panic: a goroutine of the stage"}, {"flink", "panic", ""},
		{"prism", "exit", "exit status 3"}, {"flink", "exit", ""},
		{"flink", "poison", ""},
	} {
		t.Run(c.runner+"-"+c.fault, func(t *testing.T) {
			before, dir := temporaries(t), t.TempDir()
			start := time.Now()
			out, complaints, err := job(t, "faulty", dir, c.runner, c.fault)
			t.Logf("%.1f s: %v", time.Since(start).Seconds(), err)
			if c.says == "" {
				must(t, complaints, err)
			} else {
				if err == nil || !strings.Contains(complaints+err.Error(), c.says) {
					t.Errorf("want an error that says %q, have %v\n%s", c.says, err, complaints)
				}
				out, complaints, err = job(t, "faulty", dir, c.runner, "")
				must(t, complaints, err)
			}
			want := sound
			if c.fault == "poison" {
				want = poisoned
			}
			if out.Digest != want.Digest || out.Rows != want.Rows || out.Dead != want.Dead {
				t.Errorf("%+v, undisturbed %+v", out, want)
			}
			// What was under way when a worker ended is done again, at most one record a slot and attempt; what was done is not.
			if out.Again > 8 {
				t.Errorf("%d records were worked on again", out.Again)
			}
			t.Logf("%d records were worked on again", out.Again)
			noWorkers(t)
			noLitter(t, dir, before)
		})
	}
}

// TestEndpointDown: the server of a remote model is killed, and comes back after a minute.
func TestEndpointDown(t *testing.T) {
	model := filepath.Join(undisturbed(t), "iter-00000", "policy")
	const address = "localhost:8123"
	serve := func() *exec.Cmd {
		cmd := exec.Command(binary(t), "serve", model, "--addr", address, "--name", "policy")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	stop := func(cmd *exec.Cmd) {
		cmd.Process.Kill()
		cmd.Wait()
	}
	ask := func(dir, runner string) (outcome, string, error) {
		return job(t, "endpoint", dir, runner, "", "--endpoint", "http://"+address+"/v1?model=policy")
	}
	server := serve()
	want, complaints, err := ask(t.TempDir(), "prism")
	must(t, complaints, err)
	for _, runner := range []string{"prism", "flink"} {
		t.Run(runner, func(t *testing.T) {
			before, dir := temporaries(t), t.TempDir()
			back := make(chan struct{})
			go func() {
				defer close(back)
				for {
					if done, _ := filepath.Glob(filepath.Join(dir, "edges", "asking-*.json")); len(done) > 0 {
						break
					}
					time.Sleep(20 * time.Millisecond)
				}
				stop(server)
				time.Sleep(time.Minute)
				server = serve()
			}()
			got, complaints, err := ask(dir, runner)
			t.Logf("with the endpoint down for a minute: %v %s", err, lastLine(complaints))
			select {
			case <-back:
			case <-time.After(5 * time.Minute):
				t.Fatal("no record was answered")
			}
			if err != nil {
				if !strings.Contains(complaints, address) {
					t.Errorf("the error does not name the endpoint: %s", complaints)
				}
				await(t, "the server is back", func() bool { return exec.Command("curl", "-sf", "http://"+address+"/v1/models").Run() == nil })
				got, complaints, err = ask(dir, runner)
				must(t, complaints, err)
			}
			if got.Digest != want.Digest || got.Rows != want.Rows {
				t.Errorf("%+v, undisturbed %+v", got, want)
			}
			noWorkers(t)
			noLitter(t, dir, before)
		})
	}
	stop(server)
}
