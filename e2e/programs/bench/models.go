package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/safetensors"
)

// modelCase is one row of the table of real models: what is done with SmolLM2-135M, and who else does it.
type modelCase struct {
	name   string // kind and size, known to both sides
	tokens int    // done in one run; 0: seconds are reported
	peer   string
}

// Peers whose name ends so compute in bfloat16 too.
const alsoBFloat16 = " bf16"

var modelCases = []modelCase{
	{"train 4x256", 4 * 256, "PyTorch"},
	{"train-lean 4x256", 4 * 256, "PyTorch"},
	{"train-bf16 4x256", 4 * 256, "PyTorch"},
	{"train-bf16 4x256", 4 * 256, "PyTorch bf16"},
	{"train-lean-bf16 4x256", 4 * 256, "PyTorch"},
	{"score 4x256", 4 * 256, "PyTorch"},
	{"score-bf16 4x256", 4 * 256, "PyTorch"},
	{"score-bf16 4x256", 4 * 256, "PyTorch bf16"},
	{"generate 16x64", 16 * 64, "transformers"},
	{"generate-bf16 16x64", 16 * 64, "transformers"},
	{"generate-bf16 16x64", 16 * 64, "transformers bf16"},
	{"prompt 16x64", 16 * 64, "llama.cpp"},
	{"prompt-bf16 16x64", 16 * 64, "llama.cpp"},
	{"decode 1x64", 64, "llama.cpp"},
	{"decode 16x64", 16 * 64, "llama.cpp"},
	{"decode 64x64", 64 * 64, "llama.cpp"},
	{"decode-bf16 1x64", 64, "llama.cpp"},
	{"decode-bf16 16x64", 16 * 64, "llama.cpp"},
	{"decode-bf16 64x64", 64 * 64, "llama.cpp"},
	{"grpo 4x4x64", 0, "TRL"},
	{"grpo-bf16 4x4x64", 0, "TRL"},
	{"grpo-bf16 4x4x64", 0, "TRL bf16"},
}

func (c modelCase) title() string { return "smollm2 " + c.name }

// modelOptions say where the model, the peers and their interpreters are.
type modelOptions struct {
	directory        string // of the GGUF file
	python, llamaCPP string
	scripts          string
	profile          string
}

const ggufName = "SmolLM2-135M-Instruct.Q4_1.gguf"

// modelFiles returns the GGUF file and a Hugging Face directory in bfloat16 made of it.
func modelFiles(directory string) (gguf, huggingFace string, err error) {
	gguf, huggingFace = filepath.Join(directory, ggufName), filepath.Join(directory, "huggingface")
	if _, err := os.Stat(filepath.Join(huggingFace, "config.json")); err == nil {
		return gguf, huggingFace, nil
	}
	m, err := local.Load(gguf)
	if err != nil {
		return "", "", err
	}
	temporary, err := os.MkdirTemp(directory, ".huggingface-")
	if err != nil {
		return "", "", err
	}
	defer os.RemoveAll(temporary)
	if err := m.SaveAs(temporary, safetensors.BF16); err != nil {
		return "", "", err
	}
	return gguf, huggingFace, os.Rename(temporary, huggingFace)
}

// runModels measures, for each case in turn, one run of our side and one of the peer alternately, and prints a table of minima.
func runModels(ctx context.Context, threads, rounds int, filter *regexp.Regexp, o modelOptions) error {
	var selected []modelCase
	for _, c := range modelCases {
		if filter.MatchString(c.title()) {
			selected = append(selected, c)
		}
	}
	if len(selected) == 0 {
		return nil
	}
	gguf, huggingFace, err := modelFiles(o.directory)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(os.Stderr, "bench: no model in %s: run e2e/smollm2/fetch.sh to measure real models too\n", o.directory)
		return nil
	}
	if err != nil {
		return err
	}
	problems, err := problemsFile()
	if err != nil {
		return err
	}
	defer os.Remove(problems)
	var results []modelResult
	for _, c := range selected {
		if ctx.Err() != nil {
			break
		}
		r, err := measureModel(ctx, c, threads, rounds, gguf, huggingFace, problems, o)
		if err != nil {
			return fmt.Errorf("%s: %w", c.title(), err)
		}
		results = append(results, r)
	}
	fmt.Printf("\nSmolLM2-135M: %s, %s, %d threads, %d rounds, %s\n\n", time.Now().UTC().Format("2006-01-02"), processor(), threads, rounds,
		runtime.Version())
	printModels(results)
	return nil
}

// modelResult is the fewest seconds of either side, ours first, and the most memory in MiB.
type modelResult struct {
	modelCase
	seconds, memory [2]float64
}

func measureModel(ctx context.Context, c modelCase, threads, rounds int, gguf, huggingFace, problems string,
	o modelOptions) (r modelResult, err error) {
	r = modelResult{modelCase: c, seconds: [2]float64{math.Inf(1), math.Inf(1)}}
	sides := make([]*peer, 1, 2)
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	ours := []string{"-work", huggingFace, "-threads", fmt.Sprint(threads)}
	if o.profile != "" {
		ours = append(ours, "-profile", o.profile)
	}
	if sides[0], err = startPeer(self, ours...); err != nil {
		return r, err
	}
	defer func() {
		for _, side := range sides {
			side.close()
		}
	}()
	work := c.peerWork()
	python, args := peerCommand(c.peer, work, threads, gguf, huggingFace, problems, o)
	if _, err := os.Stat(python); err == nil {
		side, err := startPeer(python, args...)
		if err != nil {
			return r, err
		}
		sides = append(sides, side)
	} else {
		fmt.Fprintf(os.Stderr, "bench: no %s: run e2e/programs/bench/install.sh to measure %s too\n", python, c.peer)
	}
	for round := range rounds + 1 { // the first makes room and fills caches
		for i, side := range sides {
			if ctx.Err() != nil {
				return r, nil
			}
			before := side.processorTime()
			t, err := side.measure([...]string{c.name, work}[i])
			if err != nil && i > 0 && round == 0 {
				fmt.Fprintf(os.Stderr, "bench: %s does not work here, our side is measured alone: %v\n", c.peer, err)
				side.close()
				sides = sides[:1]
				continue
			}
			if err != nil {
				return r, err
			}
			who := [...]string{"ours", c.peer}[i]
			fmt.Fprintf(os.Stderr, "%s, round %d of %d, %s: %.3f s, %.2f s of processor time\n", c.title(), round, rounds, who, t,
				side.processorTime()-before)
			if round > 0 {
				r.seconds[i] = min(r.seconds[i], t)
			}
			r.memory[i] = side.peakMemory()
		}
	}
	return r, nil
}

// peerWork is what the peer is asked for: in float32, unless it computes in bfloat16 too.
func (c modelCase) peerWork() string {
	if strings.HasSuffix(c.peer, alsoBFloat16) {
		return c.name
	}
	return strings.Replace(c.name, inBFloat16, "", 1)
}

// peerCommand is how a peer is run.
func peerCommand(who, work string, threads int, gguf, huggingFace, problems string, o modelOptions) (python string, args []string) {
	script := func(name string) string { return filepath.Join(o.scripts, name) }
	n := fmt.Sprint(threads)
	name, _, in16 := strings.Cut(who, alsoBFloat16)
	switch name {
	case "llama.cpp":
		return o.llamaCPP, []string{script("models_llamacpp.py"), gguf, n}
	case "TRL":
		_, size, _ := strings.Cut(work, " ")
		return o.python, []string{script("models_trl.py"), huggingFace, n, problems, size,
			map[bool]string{false: "float32", true: "bfloat16"}[in16]}
	}
	return o.python, []string{script("models_torch.py"), huggingFace, n}
}

// printModels writes the results as Markdown.
func printModels(results []modelResult) {
	fmt.Println("| work | unit | ours | MiB | peer | its | MiB | ratio | memory |\n|---|---|---:|---:|---|---:|---:|---:|---:|")
	for _, r := range results {
		value := func(i int) string {
			switch {
			case math.IsInf(r.seconds[i], 0):
				return ""
			case r.tokens > 0:
				return fmt.Sprintf("%.0f", float64(r.tokens)/r.seconds[i])
			}
			return fmt.Sprintf("%.2f", r.seconds[i])
		}
		unit := "tokens/s"
		if r.tokens == 0 {
			unit = "seconds"
		}
		row := fmt.Sprintf("| %s | %s | %s | %.0f |", r.name, unit, value(0), r.memory[0])
		if value(1) != "" {
			row += fmt.Sprintf(" %s | %s | %.0f | %.2f× | %.0f%% |", r.peer, value(1), r.memory[1], r.seconds[1]/r.seconds[0],
				100*r.memory[0]/r.memory[1])
		}
		fmt.Println(row)
	}
}
