package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

// Verifier decides one pair. Implementations are safe for use by many goroutines. An error is the world's fault (a
// verifier service is down), never the response's: that is a verdict.
type Verifier interface {
	Verify(ctx context.Context, gold Gold, response Response) (Result, error)
	// Version changes whenever verdicts may; it goes into the lineage of the rows it labelled.
	Version() string
}

// Spec describes a kind of verifier to the registry.
type Spec struct {
	Name string
	Doc  string
	// New builds one from its JSON configuration; nil means defaults.
	New func(config json.RawMessage) (Verifier, error)
}

var registry = map[string]Spec{}

// Register adds a kind of verifier, from an init function.
func Register(s Spec) {
	if _, taken := registry[s.Name]; taken || s.Name == "" || s.New == nil {
		panic("verify: bad or repeated registration")
	}
	registry[s.Name] = s
}

// Names lists the registered verifiers in order.
func Names() []string {
	out := make([]string, 0, len(registry))
	for n := range registry {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}

// New builds a verifier by name.
func New(name string, config json.RawMessage) (Verifier, error) {
	s, ok := registry[name]
	if !ok {
		return nil, fmt.Errorf("verify: no verifier %q; known: %s", name, strings.Join(Names(), ", "))
	}
	v, err := s.New(config)
	if err != nil {
		return nil, fmt.Errorf("verify: %s: %w", name, err)
	}
	return v, nil
}

// decode reads a verifier's configuration strictly into one that holds the defaults.
func decode(raw json.RawMessage, into any) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return nil
}
