package telemetry

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Config says what a run tells about itself. It is no part of what the run computes.
type Config struct {
	Log     Log     `json:"log"`
	Metrics Metrics `json:"metrics"`
	// TensorBoard writes the training curves as an event file.
	TensorBoard bool `json:"tensorboard"`
	// Traces sends spans over OTLP/HTTP; the OTEL_* environment variables say where to.
	Traces bool `json:"traces"`
}

// Log says which lines are logged where. A level is debug, info, warn, error or off.
type Log struct {
	Level  string `json:"level"`  // on standard error
	Format string `json:"format"` // on standard error: text or json
	File   string `json:"file"`   // in log.jsonl of the run
	Beam   string `json:"beam"`   // least level of what Beam and its embedded runner say, in both places
}

// Metrics says where counters can be read while a run goes on.
type Metrics struct {
	Listen string `json:"listen"` // host:port that serves /metrics as Prometheus text; empty: none
}

// Default keeps files in the run directory, and is silent but for warnings.
func Default() Config {
	return Config{Log: Log{Level: "warn", Format: "text", File: "info", Beam: "error"}, TensorBoard: true}
}

// off is above every level.
const off = slog.Level(100)

var levels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError, "off": off}

var levelNames = []string{"debug", "info", "warn", "error", "off"}

var formats = []string{"text", "json"}

// Validate names the first setting that is wrong.
func (c Config) Validate() error {
	for _, l := range []struct{ key, value string }{{"level", c.Log.Level}, {"file", c.Log.File}, {"beam", c.Log.Beam}} {
		if !slices.Contains(levelNames, l.value) {
			return fmt.Errorf("log.%s: %q is not one of %s", l.key, l.value, strings.Join(levelNames, ", "))
		}
	}
	if !slices.Contains(formats, c.Log.Format) {
		return fmt.Errorf("log.format: %q is not one of %s", c.Log.Format, strings.Join(formats, ", "))
	}
	if at := c.Metrics.Listen; at != "" {
		_, port, err := net.SplitHostPort(at)
		if _, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil {
			return fmt.Errorf("metrics.listen: %q is not host:port, such as localhost:9464", at)
		}
	}
	return nil
}
