package stage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/millrace/millrace/transforms/files"
)

func init() {
	register.Emitter2[int, string]()
	register.Iter1[string]()
}

// Parcels gathers what a bundle has to tell to keys, such as where the rows of a shard are stored. Runners hand over all
// values of a key as one record: a value for each batch would let that record grow with the batches. So a bundle leaves one
// file for a key, and its name is what crosses. The zero value is empty.
type Parcels[T any] struct{ lines map[int][][]byte }

// Add puts a value into the parcel for a key.
func (p *Parcels[T]) Add(key int, value T) error {
	line, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("parcel: %w", err)
	}
	if p.lines == nil {
		p.lines = map[int][][]byte{}
	}
	p.lines[key] = append(p.lines[key], line)
	return nil
}

// Send writes the parcels and emits their names by key; it belongs into FinishBundle. With a store without a directory what
// crosses are the values themselves, which suits tests on a few rows.
func (p *Parcels[T]) Send(ctx context.Context, store Store, emit func(int, string)) error {
	for _, key := range slices.Sorted(maps.Keys(p.lines)) {
		lines := p.lines[key]
		slices.SortFunc(lines, bytes.Compare) // a bundle that is run again writes the same file
		name, err := store.putParcel(ctx, bytes.Join(lines, []byte{'\n'}))
		if err != nil {
			return err
		}
		emit(key, name)
	}
	p.lines = nil
	return nil
}

// putParcel writes a parcel and returns its name.
func (s Store) putParcel(ctx context.Context, raw []byte) (string, error) {
	if s.Dir == "" {
		return string(raw), nil
	}
	sum := sha256.Sum256(raw)
	name := hex.EncodeToString(sum[:]) + ".parcel"
	return name, files.Write(ctx, files.Join(s.Dir, name), raw, false)
}

// parcel reads a parcel back and checks that it is what was written.
func (s Store) parcel(ctx context.Context, name string) ([]byte, error) {
	if name == "" || s.Dir == "" {
		return []byte(name), nil
	}
	path := files.Join(s.Dir, name)
	raw, err := files.Read(ctx, path, maxParcelBytes)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:])+".parcel" != name {
		return nil, fmt.Errorf("%s: %w", path, errChanged)
	}
	return raw, nil
}

// maxParcelBytes bounds a parcel.
const maxParcelBytes = 2 << 30

// Unpack returns the values in the parcels of a key, in no particular order. An empty name holds none.
func Unpack[T any](ctx context.Context, store Store, next func(*string) bool) ([]T, error) {
	var all []T
	for name := ""; next(&name); name = "" {
		raw, err := store.parcel(ctx, name)
		if err != nil {
			return nil, err
		}
		for in := json.NewDecoder(bytes.NewReader(raw)); ; {
			var value T
			err := in.Decode(&value)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("parcel: %w", err)
			}
			all = append(all, value)
		}
	}
	return all, nil
}
