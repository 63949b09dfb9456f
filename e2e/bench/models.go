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
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/safetensors"
)

// modelCase is what is done with SmolLM2-135M, and who else does it.
type modelCase struct {
	name   string // kind and size, known to both sides
	tokens int    // done in one run; 0: seconds are reported
	peers  []string
}

// Peers whose name ends so compute in bfloat16 too.
const alsoBFloat16 = " bf16"

var modelCases = []modelCase{
	{"train 4x256", 4 * 256, []string{"PyTorch"}},
	{"train-lean 4x256", 4 * 256, []string{"PyTorch"}},
	{"train-bf16 4x256", 4 * 256, []string{"PyTorch", "PyTorch bf16"}},
	{"train-lean-bf16 4x256", 4 * 256, []string{"PyTorch"}},
	{"score 4x256", 4 * 256, []string{"PyTorch"}},
	{"score-bf16 4x256", 4 * 256, []string{"PyTorch", "PyTorch bf16"}},
	{"generate 16x64", 16 * 64, []string{"transformers"}},
	{"generate-bf16 16x64", 16 * 64, []string{"transformers", "transformers bf16"}},
	{"prompt 16x64", 16 * 64, []string{"llama.cpp"}},
	{"prompt-bf16 16x64", 16 * 64, []string{"llama.cpp"}},
	{"decode 1x64", 64, []string{"llama.cpp"}},
	{"decode 16x64", 16 * 64, []string{"llama.cpp"}},
	{"decode 64x64", 64 * 64, []string{"llama.cpp"}},
	{"decode-bf16 1x64", 64, []string{"llama.cpp"}},
	{"decode-bf16 16x64", 16 * 64, []string{"llama.cpp"}},
	{"decode-bf16 64x64", 64 * 64, []string{"llama.cpp"}},
	{"grpo 4x4x64", 0, []string{"TRL"}},
	{"grpo-bf16 4x4x64", 0, []string{"TRL", "TRL bf16"}},
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
	fmt.Printf("\nSmolLM2-135M: %s, %s, %d threads, %d rounds, %s\n\n", time.Now().UTC().Format("2006-01-02"), processor(), threads, rounds, runtime.Version())
	printModels(results)
	return nil
}

// modelResult is the fewest seconds of each side, ours first, and the most memory in MiB.
type modelResult struct {
	modelCase
	seconds, memory []float64
}

// side is who does the work of a case: we, or a peer.
type side struct {
	*peer
	who, work string
	index     int
}

func measureModel(ctx context.Context, c modelCase, threads, rounds int, gguf, huggingFace, problems string, o modelOptions) (r modelResult, err error) {
	r = modelResult{modelCase: c, seconds: slices.Repeat([]float64{math.Inf(1)}, 1+len(c.peers)), memory: make([]float64, 1+len(c.peers))}
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	var sides []side
	defer func() {
		for _, s := range sides {
			s.close()
		}
	}()
	start := func(who, work, program string, args ...string) error {
		p, err := startPeer(program, args...)
		if err == nil {
			sides = append(sides, side{p, who, work, 1 + slices.Index(c.peers, who)})
		}
		return err
	}
	ours := []string{"-work", huggingFace, "-threads", fmt.Sprint(threads)}
	if o.profile != "" {
		ours = append(ours, "-profile", o.profile)
	}
	if err := start("ours", c.name, self, ours...); err != nil {
		return r, err
	}
	for _, who := range c.peers {
		work := c.name
		if !strings.HasSuffix(who, alsoBFloat16) {
			work = strings.Replace(work, inBFloat16, "", 1)
		}
		python, args := peerCommand(who, work, threads, gguf, huggingFace, problems, o)
		if _, err := os.Stat(python); err != nil {
			fmt.Fprintf(os.Stderr, "bench: no %s: run e2e/bench/install.sh to measure %s too\n", python, who)
			continue
		}
		if err := start(who, work, python, args...); err != nil {
			return r, err
		}
	}
	for round := range rounds + 1 { // the first makes room and fills caches
		for i := 0; i < len(sides); i++ {
			if ctx.Err() != nil {
				return r, nil
			}
			s := sides[i]
			before := s.processorTime()
			t, err := s.measure(s.work)
			if err != nil && i > 0 && round == 0 {
				fmt.Fprintf(os.Stderr, "bench: %s does not work here: %v\n", s.who, err)
				s.close()
				sides = slices.Delete(sides, i, i+1)
				i--
				continue
			}
			if err != nil {
				return r, err
			}
			fmt.Fprintf(os.Stderr, "%s, round %d of %d, %s: %.3f s, %.2f s of processor time\n", c.title(), round, rounds, s.who, t, s.processorTime()-before)
			if round > 0 {
				r.seconds[s.index] = min(r.seconds[s.index], t)
			}
			r.memory[s.index] = s.peakMemory()
		}
	}
	return r, nil
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
		return o.python, []string{script("models_trl.py"), huggingFace, n, problems, size, map[bool]string{false: "float32", true: "bfloat16"}[in16]}
	}
	return o.python, []string{script("models_torch.py"), huggingFace, n}
}

// printModels writes the results as Markdown, a row for each peer.
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
		for i, who := range r.peers {
			row := fmt.Sprintf("| %s | %s | %s | %.0f |", r.name, unit, value(0), r.memory[0])
			if i++; value(i) != "" {
				row += fmt.Sprintf(" %s | %s | %.0f | %.2f× | %.0f%% |", who, value(i), r.memory[i], r.seconds[i]/r.seconds[0], 100*r.memory[0]/r.memory[i])
			}
			fmt.Println(row)
		}
	}
}
