// Command bench holds the kernels against PyTorch on the same shapes, and the work that SmolLM2-135M is put to against PyTorch,
// transformers, llama.cpp and TRL, alternately in one run:
//
//	e2e/programs/bench/install.sh && e2e/smollm2/fetch.sh && go run ./e2e/programs/bench
//
// Several times over it measures, in turn, the machine's limits, this code at each vector level, and the peer, at every case, and
// prints minima: work a second, the ratio to the peer, and the fraction of the limit, which is the time the same arithmetic
// takes from registers or the bytes take to be read, whichever is longer: a weight's from wherever one of its size stays when it is
// read again and again, rows' from memory. The limits are measured beside each case, as the clock of a processor changes. Without
// the virtual environment of install.sh it measures this code alone. An interrupt ends the run early with a table of what has been
// measured.
package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/kernels"
)

// measurement is how long a case is repeated each time it is its turn; the fastest repetition counts.
const measurement = 150 * time.Millisecond

// here is where the scripts of the peers are, from the root of the repository, and install.sh puts their interpreter.
const here = "e2e/programs/bench"

func main() {
	threads := flag.Int("threads", 2, "threads on both sides")
	rounds := flag.Int("rounds", 5, "turns of each side at each case")
	only := flag.String("run", "", "regular expression of the cases to run; those of real models begin with smollm2")
	python := flag.String("python", filepath.Join(here, ".venv", "bin", "python"), "Python with the peer's packages")
	llamaCPP := flag.String("llamacpp", filepath.Join(here, ".venv", "bin", "python"), "Python with llama-cpp-python")
	scripts := flag.String("scripts", here, "directory of the peers' scripts")
	model := flag.String("model", filepath.Join("e2e", "smollm2", "model"), "directory where e2e/smollm2/fetch.sh put the model")
	profile := flag.String("profile", "", "file for a processor profile of our side of the last model case")
	work := flag.String("work", "", "internal: be our side of the model benchmark, with the model of this directory")
	flag.Parse()
	if *work != "" {
		if err := profiled(*profile, func() error { return serveWork(os.Stdin, os.Stdout, *work, *threads) }); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	filter, err := regexp.Compile(*only)
	if err == nil {
		err = runKernels(ctx, *threads, *rounds, filter, *python, filepath.Join(*scripts, "kernels_torch.py"))
	}
	if err == nil {
		err = runModels(ctx, *threads, *rounds, filter, modelOptions{*model, *python, *llamaCPP, *scripts, *profile})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func runKernels(ctx context.Context, threads, rounds int, filter *regexp.Regexp, python, script string) error {
	var results []*result
	for _, c := range cases() {
		if filter.MatchString(c.name()) {
			results = append(results, &result{benchCase: c, ours: make(map[string]float64), fma: make(map[string]float64), torch: math.Inf(1)})
		}
	}
	if len(results) == 0 {
		return nil
	}
	kernels.SetThreads(threads)
	runtime.GOMAXPROCS(max(threads, runtime.GOMAXPROCS(0)))
	var torch *peer
	if _, err := os.Stat(python); err == nil {
		if torch, err = startPeer(python, script, fmt.Sprint(threads)); err != nil {
			return err
		}
		defer torch.close()
	} else {
		fmt.Fprintf(os.Stderr, "bench: no %s: run e2e/programs/bench/install.sh to measure the peer too\n", python)
	}
	levels := kernels.Levels()
	if len(levels) > 1 {
		levels = []string{levels[1], levels[len(levels)-1]} // the portable code is not the point here
	}
	levels = slices.Compact(levels)
	var memory float64 // bytes a second
	// Rounds go over all cases, so that a busy spell of the machine does not fall on one case alone.
	for round := range rounds {
		for i, r := range results {
			if ctx.Err() != nil { // interrupted: the table shows what there is
				continue
			}
			r.rounds++
			fmt.Fprintf(os.Stderr, "\rround %d of %d: %-30s", round+1, rounds, r.name())
			work := r.build()
			for _, level := range levels {
				restore := kernels.Force(level)
				if i%8 == 0 {
					memory = max(memory, kernels.ReadRate(beyondCaches))
				}
				r.fma[level] = max(r.fma[level], r.precision.FMARate())
				if r.unit != "bytes" && r.bytes > 0 {
					r.read = max(r.read, kernels.ReadRate(int(r.bytes)))
				}
				t := fastest(work)
				if round == 0 || t < r.ours[level] {
					r.ours[level] = t
				}
				restore()
			}
			work = nil
			runtime.GC()
			if torch != nil {
				t, err := torch.measure(strings.Replace(r.name(), inTiles, inBFloat16, 1))
				if err != nil {
					return err
				}
				r.torch = min(r.torch, t)
			}
		}
	}
	fmt.Fprintln(os.Stderr)
	fmt.Printf("%s, %s, %d threads, %d rounds, %s\n\n", time.Now().UTC().Format("2006-01-02"), processor(), threads, rounds, runtime.Version())
	for _, level := range levels {
		for _, precision := range kernels.Precisions {
			least, most := math.Inf(1), 0.0
			for _, r := range results {
				if f := r.fma[level]; f > 0 && r.precision == precision {
					least, most = min(least, f), max(most, f)
				}
			}
			if most > 0 {
				fmt.Printf("limit of %s in %v: %.0f to %.0f GFLOPS from registers\n", level, precision, least/1e9, most/1e9)
			}
		}
	}
	fmt.Printf("limit of memory: %.1f GB/s read\n", memory/1e9)
	for _, r := range results {
		if r.read > 0 {
			fmt.Printf("limit of %s: %.1f GB/s where its %.0f MB are read again and again\n", r.name(), r.read/1e9, r.bytes/1e6)
		}
	}
	printTable(results, levels, memory, torch != nil)
	return nil
}

// result is what was measured of a case: seconds by level, and of the peer.
type result struct {
	benchCase
	rounds int
	ours   map[string]float64
	torch  float64
	fma    map[string]float64 // limit by level: floating-point operations a second
	read   float64            // limit of the bytes of a product: bytes a second
}

// printTable writes the results as Markdown.
func printTable(results []*result, levels []string, memory float64, torch bool) {
	head, rule := "\n| case | unit |", "|---|---|"
	for _, l := range levels {
		head, rule = head+" "+l+" | of the limit |", rule+"---:|---:|"
	}
	if torch {
		head, rule = head+" PyTorch | ratio |", rule+"---:|---:|"
	}
	fmt.Println(head + "\n" + rule)
	for _, r := range results {
		if r.rounds == 0 {
			continue
		}
		amount, unit := r.flops, "GFLOPS"
		if r.unit == "bytes" {
			amount, unit = r.bytes, "GB/s"
		}
		row := fmt.Sprintf("| %s | %s |", r.name(), unit)
		for _, level := range levels {
			bytes := r.bytes / memory
			if r.read > 0 {
				bytes = r.bytes / r.read
			}
			least := max(r.flops/r.fma[level], bytes)
			row += fmt.Sprintf(" %.1f | %.0f%% |", amount/r.ours[level]/1e9, 100*least/r.ours[level])
		}
		if torch {
			row += fmt.Sprintf(" %.1f | %.2f× |", amount/r.torch/1e9, r.torch/r.ours[levels[len(levels)-1]])
		}
		fmt.Println(row)
	}
}

// beyondCaches is a size in bytes that stays in no cache as long as it takes to read it once.
const beyondCaches = 1 << 29

// fastest returns the seconds of the fastest of several runs.
func fastest(f func()) float64 {
	f()
	best := math.Inf(1)
	for start := time.Now(); time.Since(start) < measurement; {
		t := time.Now()
		f()
		best = min(best, time.Since(t).Seconds())
	}
	return best
}

// processor names the CPU where the system tells.
func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	field := func(key string) string {
		for line := range strings.Lines(string(info)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
				return strings.TrimSpace(v)
			}
		}
		return "?"
	}
	return fmt.Sprintf("%s (family %s model %s)", field("model name"), field("cpu family"), field("model"))
}
