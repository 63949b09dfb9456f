package schemas

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
)

// Version is the version of the record format this package writes.
const Version = 1

// Meta is what a record says about all of its rows: which run made it, and by which models and stage settings every
// column was written. It travels in the Arrow schema's metadata, so the lineage of a row can be read from its file alone.
type Meta struct {
	Run       string
	Iteration int
	Seed      uint64
	Attempts  int               // how often the rows have been set aside before, 0 for rows that never were
	Lineage   map[string]string // column -> digests of what wrote it, ";" between several
}

const (
	versionKey   = "millrace.schema"
	runKey       = "millrace.run"
	iterationKey = "millrace.iteration"
	seedKey      = "millrace.seed"
	attemptsKey  = "millrace.attempts"
	lineageKey   = "millrace.lineage"
)

func (m Meta) metadata() arrow.Metadata {
	lineage, err := json.Marshal(m.Lineage) // keys are written in order
	if err != nil {
		panic(err)
	}
	if len(m.Lineage) == 0 {
		lineage = []byte("{}")
	}
	keys := []string{versionKey, runKey, iterationKey, seedKey, lineageKey}
	values := []string{strconv.Itoa(Version), m.Run, strconv.Itoa(m.Iteration), strconv.FormatUint(m.Seed, 10), string(lineage)}
	if m.Attempts > 0 {
		keys, values = append(keys, attemptsKey), append(values, strconv.Itoa(m.Attempts))
	}
	return arrow.NewMetadata(keys, values)
}

// metaOf reads the metadata of a schema. A schema without ours, as of a file written elsewhere, gives an empty Meta.
func metaOf(md arrow.Metadata) (Meta, error) {
	version, ok := md.GetValue(versionKey)
	if !ok {
		return Meta{}, nil
	}
	if v, err := strconv.Atoi(version); err != nil || v < 1 || v > Version {
		return Meta{}, fmt.Errorf("record format %s is %q; this program reads 1 to %d", versionKey, version, Version)
	}
	var m Meta
	var err error
	m.Run, _ = md.GetValue(runKey)
	if s, ok := md.GetValue(iterationKey); ok {
		if m.Iteration, err = strconv.Atoi(s); err != nil {
			return Meta{}, fmt.Errorf("metadata %s is %q, want a number", iterationKey, s)
		}
	}
	if s, ok := md.GetValue(attemptsKey); ok {
		if m.Attempts, err = strconv.Atoi(s); err != nil {
			return Meta{}, fmt.Errorf("metadata %s is %q, want a number", attemptsKey, s)
		}
	}
	if s, ok := md.GetValue(seedKey); ok {
		if m.Seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			return Meta{}, fmt.Errorf("metadata %s is %q, want a number", seedKey, s)
		}
	}
	if s, ok := md.GetValue(lineageKey); ok {
		if err = json.Unmarshal([]byte(s), &m.Lineage); err != nil {
			return Meta{}, fmt.Errorf("metadata %s is not a JSON object of strings: %w", lineageKey, err)
		}
	}
	return m, nil
}

// MergeMeta joins the metadata of records whose rows are put together: where two say different things, both are kept in
// the lineage, and the run, iteration and seed of the first.
func MergeMeta(ms ...Meta) Meta {
	if len(ms) == 0 {
		return Meta{}
	}
	out := ms[0]
	out.Lineage = maps.Clone(out.Lineage)
	for _, m := range ms[1:] {
		out.Attempts = max(out.Attempts, m.Attempts)
		for _, col := range slices.Sorted(maps.Keys(m.Lineage)) {
			if out.Lineage == nil {
				out.Lineage = map[string]string{}
			}
			out.Lineage[col] = joinDigests(out.Lineage[col], m.Lineage[col])
		}
	}
	return out
}

func joinDigests(a, b string) string {
	if a == b || b == "" {
		return a
	}
	all := slices.DeleteFunc(append(strings.Split(a, ";"), strings.Split(b, ";")...), func(s string) bool { return s == "" })
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ";")
}
