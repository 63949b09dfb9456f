package files

import (
	"path"
	"path/filepath"
	"strings"
)

// IsURL reports whether the path has a scheme, and so does not name a file of this machine.
func IsURL(path string) bool { return strings.Contains(path, "://") }

// Join appends elements to a directory.
func Join(dir string, elem ...string) string {
	if IsURL(dir) {
		return strings.TrimRight(dir, "/") + "/" + strings.Join(elem, "/")
	}
	return filepath.Join(append([]string{dir}, elem...)...)
}

// Parent is the directory that a path lies in.
func Parent(p string) string {
	if scheme, rest, ok := strings.Cut(p, "://"); ok {
		return scheme + "://" + path.Dir(strings.TrimRight(rest, "/"))
	}
	return filepath.Dir(p)
}

// Base is the last element of a path.
func Base(p string) string {
	if _, rest, ok := strings.Cut(p, "://"); ok {
		return path.Base(rest)
	}
	return filepath.Base(p)
}

// Abs is the path as another process sees it, which may run in another directory.
func Abs(p string) (string, error) {
	if IsURL(p) {
		return strings.TrimRight(p, "/"), nil
	}
	return filepath.Abs(p)
}

// Resolved is the path with every link on the way to it followed, as far as the way is there: two names of one place are one then.
func Resolved(p string) string {
	abs, err := Abs(p)
	if err != nil || IsURL(p) {
		return strings.TrimRight(p, "/")
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		return real
	}
	parent := filepath.Dir(abs)
	if parent == abs {
		return abs
	}
	return filepath.Join(Resolved(parent), filepath.Base(abs))
}
