package run

import (
	"runtime/debug"
	"strings"
)

// Version says which program this is: the module's version, the revision it was built from, and the Go that built it, as far as the
// build tells.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown)"
	}
	return versionOf(info)
}

func versionOf(info *debug.BuildInfo) string {
	words := []string{info.Main.Version}
	if words[0] == "" {
		words[0] = "(devel)"
	}
	of := map[string]string{}
	for _, s := range info.Settings {
		of[s.Key] = s.Value
	}
	if revision := of["vcs.revision"]; revision != "" {
		words = append(words, "revision "+revision)
		if of["vcs.modified"] == "true" {
			words = append(words, "with changes")
		}
	}
	if at := of["vcs.time"]; at != "" {
		words = append(words, "of "+at)
	}
	return strings.Join(append(words, info.GoVersion), " ")
}
