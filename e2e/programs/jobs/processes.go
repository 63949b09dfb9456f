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

// watch looks at this process, its workers and Flink's TaskManagers (those of the cluster in $FLINK_DIR, if it is set) twice a second
// until the function is called, which returns the largest resident sets, in MB, and the processor time taken since, in seconds.
// Both are the kernel's own records; a busy machine makes a job last longer, but its processor time hardly changes.
func watch() func() (peak, cpu used) {
	var mu sync.Mutex
	var top used
	look := func() used {
		mu.Lock()
		defer mu.Unlock()
		now, cpu := lookAtProcesses()
		top = used{max(top.Driver, now.Driver), max(top.Workers, now.Workers), max(top.TaskManagers, now.TaskManagers)}
		return cpu
	}
	first := look()
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
		last := look()
		return top, used{last.Driver - first.Driver, last.Workers - first.Workers, last.TaskManagers - first.TaskManagers}
	}
}

// lookAtProcesses returns the largest resident sets so far of what runs now, and all processor time so far. That of workers
// which have ended is in the TaskManager's record of its children.
func lookAtProcesses() (peak, cpu used) {
	self, _ := os.Executable()
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		raw, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		var pid int
		fmt.Sscanf(filepath.Base(p), "%d", &pid)
		switch args := strings.Split(string(raw), "\x00"); {
		case pid == os.Getpid():
			own, _ := cpuOf(pid)
			peak.Driver += peakOf(pid)
			cpu.Driver += own
		case args[0] == self && bytes.Contains(raw, []byte("--provision_endpoint=")):
			own, _ := cpuOf(pid)
			peak.Workers += peakOf(pid)
			cpu.Workers += own
		case bytes.Contains(raw, []byte("TaskManagerRunner")) && bytes.Contains(raw, []byte(os.Getenv("FLINK_DIR"))):
			own, children := cpuOf(pid)
			peak.TaskManagers += peakOf(pid)
			cpu.TaskManagers += own
			cpu.Workers += children
		}
	}
	return peak, cpu
}

// cpuOf is the processor time of a process and of its children that have ended, which the kernel counts in hundredths of a
// second.
func cpuOf(pid int) (own, children float64) {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(raw), ") ")
	fields := strings.Fields(after)
	if len(fields) < 15 {
		return 0, 0
	}
	var t [4]float64 // in user and system mode, and those of the children
	for i := range t {
		fmt.Sscan(fields[11+i], &t[i])
	}
	return (t[0] + t[1]) / 100, (t[2] + t[3]) / 100
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
