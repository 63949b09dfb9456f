package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"

	"github.com/millrace/millrace/schemas/setting"
)

// Verifier decides one pair. Implementations are safe for use by many goroutines. An error is the world's fault (a
// verifier service is down), never the response's: that is a verdict.
type Verifier interface {
	Verify(ctx context.Context, gold Gold, response Response) (Result, error)
	// Version changes whenever verdicts may; it goes into the lineage of the rows it labelled.
	Version() string
}

// Options are the settings of a kind of verifier: a struct whose exported fields have json tags, and the tags range, enum and doc
// where they say something. A method Validate checks what the tags cannot say.
type Options interface {
	// New makes the verifier of settings that have been checked.
	New() (Verifier, error)
}

var kinds = setting.NewKinds[Options]("verifier", "kind")

// Register makes a kind of verifier known under a name, from an init function. The value holds the defaults.
func Register(name string, defaults Options) { kinds.Register(name, defaults) }

// Names lists the registered verifiers in order.
func Names() []string { return kinds.Names() }

// Decode reads the settings of a kind over its defaults: a tree of maps, lists and scalars, as YAML or JSON give it, or nil for the
// defaults. An error in one of them starts with its key.
func Decode(kind string, tree any) (Options, error) { return kinds.New(kind, tree) }

// Encode is a tree that Decode reads: the settings of a kind that differ from its defaults.
func Encode(kind string, o Options) (map[string]any, error) {
	defaults, ok := kinds.Defaults(kind)
	if !ok {
		return nil, kinds.Known(kind)
	}
	own, err := asTree(o)
	if err != nil {
		return nil, err
	}
	usual, err := asTree(defaults)
	if err != nil {
		return nil, err
	}
	return differing(own, usual), nil
}

func asTree(o Options) (tree map[string]any, err error) {
	raw, err := json.Marshal(o)
	if err == nil {
		err = json.Unmarshal(raw, &tree)
	}
	return tree, err
}

// differing are the keys of a tree whose values are not those of the other one.
func differing(tree, from map[string]any) map[string]any {
	out := map[string]any{}
	for key, value := range tree {
		section, ok := value.(map[string]any)
		usual, both := from[key].(map[string]any)
		switch {
		case reflect.DeepEqual(value, from[key]):
		case ok && both:
			out[key] = differing(section, usual)
		default:
			out[key] = value
		}
	}
	return out
}

// Schema describes the settings of a kind.
func Schema(kind string) *setting.Schema {
	defaults, ok := kinds.Defaults(kind)
	if !ok {
		return nil
	}
	return setting.SchemaOf(defaults)
}

// New makes a verifier of a kind with settings in JSON; none: the defaults.
func New(kind string, options json.RawMessage) (Verifier, error) {
	var tree any
	if len(bytes.TrimSpace(options)) > 0 {
		if err := json.Unmarshal(options, &tree); err != nil {
			return nil, setting.Errorf("", "settings that are not JSON: %v", err)
		}
	}
	o, err := Decode(kind, tree)
	if err != nil {
		return nil, err
	}
	return o.New()
}
