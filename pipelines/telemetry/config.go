package telemetry

import (
	"log/slog"
	"net"
	"strconv"

	"github.com/millrace/millrace/pipelines/telemetry/trackers"
	"github.com/millrace/millrace/schemas/setting"
)

// Config says what a run tells about itself. It is no part of what the run computes.
type Config struct {
	Log         Log     `json:"log" doc:"which lines are logged where; a level is debug, info, warn, error or off"`
	Metrics     Metrics `json:"metrics" doc:"where counters can be read while a run goes on"`
	TensorBoard bool    `json:"tensorboard" doc:"write the training curves as an event file"`
	Traces      bool    `json:"traces" doc:"send spans over OTLP/HTTP, to where the OTEL_* environment variables say"`

	Trackers []trackers.Config `json:"trackers,omitempty" doc:"experiment trackers that are sent metrics, settings and samples (docs/trackers.md)"`
}

// Log says which lines are logged where. A level is debug, info, warn, error or off.
type Log struct {
	Level  string `json:"level" enum:"debug,info,warn,error,off" doc:"least level on standard error"`
	Format string `json:"format" enum:"text,json" doc:"of the lines on standard error"`
	File   string `json:"file" enum:"debug,info,warn,error,off" doc:"least level in log.jsonl of the run"`
	// Of a failure Beam and its embedded runner tell three times, each time with all of the pipeline; what the stage said is logged
	// and returned without them.
	Beam string `json:"beam" enum:"debug,info,warn,error,off" doc:"least level of what Beam and its embedded runner say, in both places"`
}

// Metrics says where counters can be read while a run goes on.
type Metrics struct {
	Listen string `json:"listen" doc:"host:port that serves /metrics as Prometheus text; empty: none"`
}

// Default keeps files in the run directory, and is silent but for warnings.
func Default() Config {
	return Config{Log: Log{Level: "warn", Format: "text", File: "info", Beam: "off"}, TensorBoard: true}
}

// off is above every level.
const off = slog.Level(100)

var levels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	"off": off}

// Validate checks the form of the address.
func (m Metrics) Validate() error {
	if m.Listen == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(m.Listen)
	if _, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil {
		return setting.Errorf("listen", "%q is not host:port, such as localhost:9464", m.Listen)
	}
	return nil
}
