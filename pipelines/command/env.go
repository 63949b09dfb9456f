package command

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/label/verify"
)

func init() { commands = append(commands, newEnv) }

// environment is what a run depends on besides its recipe.
type environment struct {
	Version         string            `json:"version"`
	Go              string            `json:"go"`
	Platform        string            `json:"platform"`
	Kernels         string            `json:"kernels"`        // instruction set that runs
	Fast            kernels.Precision `json:"fast_precision"` // precision of products that is fast here
	Threads         int               `json:"threads"`
	CPUs            int               `json:"cpus"`
	MemoryBytes     int64             `json:"memory_bytes,omitempty"` // of the machine; 0: not known
	AvailableBytes  int64             `json:"available_bytes,omitempty"`
	RecordFormat    int               `json:"record_format"`
	VerifierVersion string            `json:"verifier_version"`
	Runners         []string          `json:"runners"`
	Modules         map[string]string `json:"modules"` // versions of what does the work
}

func newEnv(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "env",
		Short:   "Show what a run depends on besides its recipe: versions, instruction set, threads, memory, runners",
		Example: "  millrace env",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := readEnvironment()
			return e.print(v, v.text)
		},
	}
}

func readEnvironment() environment {
	v := environment{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Kernels: kernels.Level(),
		Fast: kernels.Fastest(), Threads: kernels.Threads(),
		CPUs: runtime.NumCPU(), RecordFormat: schemas.Version, VerifierVersion: verify.MathVersion, Runners: runners.Names(),
		Modules: map[string]string{}}
	v.MemoryBytes, v.AvailableBytes = memory()
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version = info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v.Version == "" || v.Version == "(devel)") {
			v.Version = s.Value
		}
	}
	for _, m := range info.Deps {
		switch m.Path {
		case "github.com/apache/beam/sdks/v2", "github.com/apache/arrow/go/v15", "gonum.org/v1/gonum":
			v.Modules[m.Path] = m.Version
		}
	}
	return v
}

// memory reads the machine's memory where the system tells it as Linux does.
func memory() (total, available int64) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		kib, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			continue
		}
		switch fields[0] {
		case "MemTotal:":
			total = kib << 10
		case "MemAvailable:":
			available = kib << 10
		}
	}
	return total, available
}

func (v environment) text(w io.Writer) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-14s "+format+"\n", append([]any{name}, args...)...)
	}
	line("version", "%s, %s, %s", v.Version, v.Go, v.Platform)
	line("kernels", "%s, %d threads on %d CPUs, fast in precision %s", v.Kernels, v.Threads, v.CPUs, v.Fast)
	if v.MemoryBytes > 0 {
		line("memory", "%s, %s available", bytesText(v.MemoryBytes), bytesText(v.AvailableBytes))
	}
	line("records", "format %d", v.RecordFormat)
	line("verifier", "%s", v.VerifierVersion)
	line("runners", "%s", strings.Join(v.Runners, ", "))
	for _, name := range sortedNames(v.Modules) {
		line("module", "%s %s", name, v.Modules[name])
	}
}
