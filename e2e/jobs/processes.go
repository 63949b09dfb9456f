package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// used is what the processes of a job take of one resource.
type used struct {
	Driver       float64 `json:"driver"`
	Workers      float64 `json:"workers,omitempty"`       // of the worker processes together
	TaskManagers float64 `json:"task_managers,omitempty"` // of Flink's Java processes together
}

// watch looks at this process, its workers and Flink's TaskManagers (those of the cluster in $FLINK_DIR, if it is set) twice a second until the function is called, which returns
// the largest resident sets, in MB, and the processor time taken since, in seconds. Both are the kernel's own records; a busy
// machine makes a job last longer, but its processor time hardly changes.
func watch() func() (peak, cpu used) {
	var mu sync.Mutex
	var top used
	first, last := map[int]float64{}, map[int]float64{}
	kinds := map[int]string{}
	self, _ := os.Executable()
	start := true
	look := func() {
		mu.Lock()
		defer mu.Unlock()
		now := used{}
		procs, _ := filepath.Glob("/proc/[0-9]*")
		for _, p := range procs {
			raw, _ := os.ReadFile(filepath.Join(p, "cmdline"))
			var pid int
			fmt.Sscanf(filepath.Base(p), "%d", &pid)
			switch args := strings.Split(string(raw), "\x00"); {
			case pid == os.Getpid():
				kinds[pid] = "driver"
				now.Driver = peakOf(pid)
			case args[0] == self && bytes.Contains(raw, []byte("--provision_endpoint=")):
				kinds[pid] = "worker"
				now.Workers += peakOf(pid)
			case bytes.Contains(raw, []byte("TaskManagerRunner")) && bytes.Contains(raw, []byte(os.Getenv("FLINK_DIR"))):
				kinds[pid] = "java"
				now.TaskManagers += peakOf(pid)
			default:
				continue
			}
			if last[pid] = cpuOf(pid); start {
				first[pid] = last[pid]
			}
		}
		start = false
		top = used{max(top.Driver, now.Driver), max(top.Workers, now.Workers), max(top.TaskManagers, now.TaskManagers)}
	}
	look()
	stop := make(chan struct{})
	go func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				look()
			}
		}
	}()
	return func() (peak, cpu used) {
		close(stop)
		look()
		mu.Lock()
		defer mu.Unlock()
		for pid, seconds := range last {
			seconds -= first[pid]
			switch kinds[pid] {
			case "driver":
				cpu.Driver += seconds
			case "worker":
				cpu.Workers += seconds
			case "java":
				cpu.TaskManagers += seconds
			}
		}
		return top, cpu
	}
}

// cpuOf is the processor time of a process, which the kernel counts in hundredths of a second.
func cpuOf(pid int) float64 {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(raw), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0
	}
	var user, system float64
	fmt.Sscan(fields[11], &user)
	fmt.Sscan(fields[12], &system)
	return (user + system) / 100
}

func peakOf(pid int) float64 {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(raw)) {
		var kb float64
		if n, _ := fmt.Sscanf(line, "VmHWM: %f", &kb); n == 1 {
			return kb / 1024
		}
	}
	return 0
}
