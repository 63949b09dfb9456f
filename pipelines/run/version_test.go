package run

import (
	"runtime/debug"
	"testing"
)

func TestVersion(t *testing.T) {
	got := versionOf(&debug.BuildInfo{GoVersion: "go1.2", Main: debug.Module{Version: "v1.5.0"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}}})
	if got != "v1.5.0 revision abc with changes go1.2" {
		t.Errorf("%q", got)
	}
}
