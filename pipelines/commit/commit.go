// Package commit is what makes an iteration of a run final: its manifest, written last, which holds the digest of every file that the
// iteration left. Whoever reads such a file checks it against the manifest first, so that a changed bit is named, not computed with.
package commit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/millrace/millrace/transforms/files"
)

// WorkName is the folder of what an iteration needs only until its commit: materialised edges. It is in no manifest.
const WorkName = "exchange"

// ManifestName is the file that commits an iteration, in its directory.
const ManifestName = "manifest.json"

const (
	schema = 1
	// maxBytes bounds a manifest.
	maxBytes = 64 << 20
)

// Manifest says what an iteration was made from, and holds the digest of every file it left.
type Manifest struct {
	Schema    int    `json:"schema"`
	Iteration int    `json:"iteration"`
	Seed      uint64 `json:"seed"`
	Config    string `json:"config"` // digest of the resolved recipe
	// Identity is the digest of what of the recipe decides what is computed. Runs of earlier versions have none.
	Identity string            `json:"identity,omitempty"`
	Parent   string            `json:"parent"`           // digest of the previous manifest, empty for the first
	Inputs   map[string]Input  `json:"inputs,omitempty"` // what the recipe names, by setting
	Files    map[string]string `json:"files"`            // path inside the iteration, to sha256
	Metrics  json.RawMessage   `json:"metrics,omitempty"`
	// Self is the SHA-256 of the manifest without it. Runs of earlier versions have none.
	Self string `json:"self,omitempty"`
}

// Input is a file or a model that a run was given.
type Input struct {
	Path   string `json:"path"`
	Digest string `json:"digest"`
}

// ChangedError says that something of a committed iteration is not what its manifest says.
type ChangedError struct {
	Path      string
	Want, Got string // digests; Got is "" of a file that is gone, Want of one that was not there
}

func (e *ChangedError) Error() string {
	switch {
	case e.Want == "":
		return fmt.Sprintf("%s was not there when its iteration was committed; remove it", e.Path)
	case e.Got == "":
		return fmt.Sprintf("%s is gone, and its iteration was committed with it; restore it, or remove the iteration and all later ones",
			e.Path)
	}
	return fmt.Sprintf("%s was changed after its iteration was committed: its digest is %.12s, the manifest says %.12s; restore it, or "+
		"remove the iteration and all later ones", e.Path, e.Got, e.Want)
}

// Read reads and checks the manifest of an iteration's directory, and gives its digest.
func Read(ctx context.Context, dir string) (Manifest, string, error) {
	path := files.Join(dir, ManifestName)
	raw, err := files.Read(ctx, path, maxBytes)
	if err != nil {
		return Manifest{}, "", err
	}
	var m Manifest
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return Manifest{}, "", fmt.Errorf("%s: %w; restore it, or remove the iteration and all later ones", path, err)
	}
	if m.Schema != schema {
		return Manifest{}, "", fmt.Errorf("%s: schema %d, this program reads %d", path, m.Schema, schema)
	}
	if m.Self != "" {
		if again, err := m.encode(); err != nil || !bytes.Equal(again, raw) {
			return Manifest{}, "", errors.Join(&ChangedError{Path: path, Want: m.Self, Got: Digest(raw)}, err)
		}
	}
	return m, Digest(raw), nil
}

// encode is the manifest as it is written; its own digest is filled in.
func (m Manifest) encode() ([]byte, error) {
	m.Self = ""
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	m.Self = Digest(raw)
	raw, err = json.MarshalIndent(m, "", "  ")
	return append(raw, '\n'), err
}

// Write digests every file of the iteration but those below WorkName, and writes the manifest last, if still says yes
// by then.
func Write(ctx context.Context, dir string, m Manifest, still func() error) error {
	listed, err := files.Below(ctx, dir)
	if err != nil {
		return err
	}
	m.Schema, m.Files = schema, map[string]string{}
	for _, f := range listed {
		if strings.HasPrefix(f.Name, WorkName+"/") {
			continue
		}
		if m.Files[f.Name], err = files.Digest(ctx, f); err != nil {
			return err
		}
	}
	raw, err := m.encode()
	if err != nil {
		return err
	}
	if err := still(); err != nil {
		return err
	}
	return files.Write(ctx, files.Join(dir, ManifestName), raw, true)
}

// Check holds files of the iteration's directory to the manifest: those for which of says yes, all of them where it is nil.
func (m Manifest) Check(ctx context.Context, dir string, of func(name string) bool) error {
	return m.check(ctx, dir, of, of == nil)
}

// check holds files to the manifest; alone says that there must be no others for which of says yes.
func (m Manifest) check(ctx context.Context, dir string, of func(name string) bool, alone bool) error {
	listed, err := files.Below(ctx, dir)
	if err != nil {
		return err
	}
	removed, err := Removed(ctx, dir)
	if err != nil {
		return err
	}
	there := map[string]files.Info{}
	for _, f := range listed {
		there[f.Name] = f
		if _, ok := m.Files[f.Name]; ok || !alone || of != nil && !of(f.Name) || strings.HasPrefix(files.Base(f.Name), ".") {
			continue
		}
		if top, _, _ := strings.Cut(f.Name, "/"); top != ManifestName && top != RemovedName && top != WorkName {
			return &ChangedError{Path: f.Path}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		if of != nil && !of(name) {
			continue
		}
		changed := &ChangedError{Path: files.Join(dir, name), Want: m.Files[name]}
		f, ok := there[name]
		if folder, _, below := strings.Cut(name, "/"); !ok && below && slices.Contains(removed, folder) {
			continue
		}
		if !ok {
			return changed
		}
		if changed.Got, err = files.Digest(ctx, f); err != nil {
			return err
		}
		if changed.Got != changed.Want {
			return changed
		}
	}
	return nil
}

// CheckFiles holds files of a directory to its manifest, those for which of says yes, and lets no other be among them. A directory
// without a manifest is nobody's word, and right.
func CheckFiles(ctx context.Context, dir string, of func(name string) bool) error {
	m, _, err := Read(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return m.check(ctx, dir, of, true)
}

// iteration is the name of an iteration's directory.
var iteration = regexp.MustCompile(`^iter-\d{5,9}$`)

// CheckPath holds a file or a directory to the manifest of the iteration that it lies in: every file of it is as it was, and there is
// no other. What lies in no committed iteration is nobody's word, and right.
func CheckPath(ctx context.Context, path string) error {
	path, err := files.Abs(path)
	if err != nil {
		return err
	}
	dir, name := path, ""
	for !iteration.MatchString(files.Base(dir)) {
		up := files.Parent(dir)
		if up == dir || up == "" || up == "." {
			return nil
		}
		name, dir = strings.Trim(files.Base(dir)+"/"+name, "/"), up
	}
	if name == "" {
		return CheckFiles(ctx, dir, nil)
	}
	if removed, err := Removed(ctx, dir); err != nil {
		return err
	} else if within(name, removed) {
		return &RemovedError{path}
	}
	return CheckFiles(ctx, dir, func(file string) bool { return file == name || strings.HasPrefix(file, name+"/") })
}

// Digest is the SHA-256 of some bytes, in hexadecimal.
func Digest(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
