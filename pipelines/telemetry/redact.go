package telemetry

import (
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
)

const redacted = "[redacted]"

var (
	// secretNames are what variables and attributes that hold secrets are called.
	secretNames   = regexp.MustCompile(`(?i)(key|token|secret|passw|credential|authorization|headers)$`)
	authorization = regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}`)
	inURL         = regexp.MustCompile(`://[^/\s:@]*:[^/\s@]+@`)
)

// minSecret is the shortest value of an environment variable that is taken for a secret; shorter ones would blot out words.
const minSecret = 8

// redactor takes secrets out of text: the values of environment variables whose names say that they are secret, what
// follows Bearer or Basic, passwords in URLs.
type redactor struct{ values *strings.Replacer }

func newRedactor() redactor {
	var secrets []string
	for _, e := range os.Environ() {
		name, value, _ := strings.Cut(e, "=")
		if !secretNames.MatchString(name) || len(value) < minSecret {
			continue
		}
		secrets = append(secrets, value)
		for _, part := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == '=' || r == ' ' }) {
			if strings.HasSuffix(name, "HEADERS") && len(part) >= minSecret { // name=value,name=value
				secrets = append(secrets, part)
			}
		}
	}
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, s := range secrets {
		pairs = append(pairs, s, redacted)
	}
	return redactor{strings.NewReplacer(pairs...)}
}

func (r redactor) text(s string) string {
	s = r.values.Replace(s)
	if strings.Contains(s, "://") {
		s = inURL.ReplaceAllString(s, "://"+redacted+"@")
	}
	return authorization.ReplaceAllString(s, "$1 "+redacted)
}

// attr is slog's ReplaceAttr.
func (r redactor) attr(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(r.named(a.Key, v.String()))
	case slog.KindAny:
		switch x := v.Any().(type) {
		case *slog.Source: // slog's own
		case error, fmt.Stringer:
			a.Value = slog.StringValue(r.named(a.Key, fmt.Sprint(x)))
		default:
			a.Value = slog.StringValue(r.named(a.Key, fmt.Sprintf("%+v", x)))
		}
	}
	return a
}

func (r redactor) named(key, value string) string {
	if value != "" && secretNames.MatchString(key) {
		return redacted
	}
	return r.text(value)
}
