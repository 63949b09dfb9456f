package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"

	"github.com/millrace/millrace/transforms/files"
)

// key names a figure of one seed.
type key struct {
	run, metric string
	after       int // iterations done, rounds done, or 0 where there is only one
}

// figures are the measured values of every seed.
type figures struct {
	seeds []uint64 // in order, the rejected ones too
	byKey map[key]map[uint64]float64
	// starts are the SHA-256 of the warm starts' weights: who trains the same ones goes on from the same numbers.
	starts map[uint64]string
}

func (f *figures) add(seed uint64, run, metric string, after int, x float64) {
	if f.byKey == nil {
		f.byKey = map[key]map[uint64]float64{}
	}
	if at, found := slices.BinarySearch(f.seeds, seed); !found {
		f.seeds = slices.Insert(f.seeds, at, seed)
	}
	k := key{run, metric, after}
	if f.byKey[k] == nil {
		f.byKey[k] = map[uint64]float64{}
	}
	f.byKey[k][seed] = x
}

// start notes down which weights a seed goes on from.
func (f *figures) start(seed uint64, sum string) {
	if f.starts == nil {
		f.starts = map[uint64]string{}
	}
	f.starts[seed] = sum
}

// of lists a figure of the given seeds, NaN where it was not measured.
func (f *figures) of(seeds []uint64, run, metric string, after int) []float64 {
	out := make([]float64, len(seeds))
	for i, s := range seeds {
		x, ok := f.byKey[key{run, metric, after}][s]
		if !ok {
			x = math.NaN()
		}
		out[i] = x
	}
	return out
}

// keep takes over what was measured before and is not in f, as long as both started from the same weights and no seed has others now: it
// would come out the same. Runs that are no longer planned are left behind.
func (f *figures) keep(was *figures, planned func(run string) bool) {
	before := slices.Collect(maps.Values(was.starts))
	common := false
	for seed, sum := range f.starts {
		if other := was.starts[seed]; other != "" && other != sum {
			return
		}
		common = common || slices.Contains(before, sum)
	}
	if !common {
		return
	}
	for k, bySeed := range was.byKey {
		for seed, x := range bySeed {
			if _, measured := f.byKey[k][seed]; !measured && (k.run == startRow[0] || planned(k.run)) {
				f.add(seed, k.run, k.metric, k.after, x)
			}
		}
	}
	for seed, sum := range was.starts {
		f.start(seed, sum)
	}
}

// accepted lists the seeds whose warm start was accepted.
func (f *figures) accepted() []uint64 {
	var out []uint64
	for i, x := range f.of(f.seeds, "warm", "accepted", 0) {
		if x == 1 {
			out = append(out, f.seeds[i])
		}
	}
	return out
}

// largest bounds figures: sums of a few, and their squares, are finite.
const largest = 1e100

var header = []string{"run", "metric", "after", "seed", "value"}

// startRow begins the rows whose value is a SHA-256.
var startRow = []string{"warm", "sha256", "0"}

// save writes the figures in an order of their own.
func (f *figures) save(path string) error {
	rows := [][]string{header}
	for k, bySeed := range f.byKey {
		for seed, x := range bySeed {
			rows = append(rows, []string{k.run, k.metric, strconv.Itoa(k.after), strconv.FormatUint(seed, 10), strconv.FormatFloat(x, 'g', 6, 64)})
		}
	}
	for seed, sum := range f.starts {
		rows = append(rows, append(slices.Clone(startRow), strconv.FormatUint(seed, 10), sum))
	}
	slices.SortFunc(rows[1:], func(a, b []string) int {
		for i := range 2 {
			if a[i] != b[i] {
				return cmpText(a[i], b[i])
			}
		}
		for i := 2; i < 4; i++ {
			x, _ := strconv.Atoi(a[i])
			y, _ := strconv.Atoi(b[i])
			if x != y {
				return x - y
			}
		}
		return 0
	})
	var text bytes.Buffer
	if err := csv.NewWriter(&text).WriteAll(rows); err != nil {
		return err
	}
	return files.Write(context.Background(), path, text.Bytes(), true) // whole or not at all: it may hold what was measured elsewhere
}

func cmpText(a, b string) int {
	if a < b {
		return -1
	}
	return 1
}

// loadFigures reads what save wrote.
func loadFigures(path string) (*figures, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(rows) == 0 || !slices.Equal(rows[0], header) {
		return nil, fmt.Errorf("%s: want the columns %v", path, header)
	}
	f := &figures{}
	seen := map[[4]string]int{}
	for i, row := range rows[1:] {
		if other, twice := seen[[4]string(row)]; twice {
			return nil, fmt.Errorf("%s, row %d: the figure of row %d again", path, i+2, other)
		}
		seen[[4]string(row)] = i + 2
		if slices.Equal(row[:len(startRow)], startRow) {
			seed, err := strconv.ParseUint(row[3], 10, 64)
			if sum, e := hex.DecodeString(row[4]); err == nil && (e != nil || len(sum) != sha256.Size) {
				err = fmt.Errorf("%q is no SHA-256 in hexadecimal digits", row[4])
			}
			if err != nil {
				return nil, fmt.Errorf("%s, row %d: %w", path, i+2, err)
			}
			f.start(seed, row[4])
			continue
		}
		after, err1 := strconv.Atoi(row[2])
		seed, err2 := strconv.ParseUint(row[3], 10, 64)
		x, err3 := strconv.ParseFloat(row[4], 64)
		if err3 == nil && !(math.Abs(x) < largest) {
			err3 = fmt.Errorf("%v is no figure of a run", x)
		}
		for _, err := range []error{err1, err2, err3} {
			if err != nil {
				return nil, fmt.Errorf("%s, row %d: %w", path, i+2, err)
			}
		}
		f.add(seed, row[0], row[1], after, x)
	}
	return f, nil
}
