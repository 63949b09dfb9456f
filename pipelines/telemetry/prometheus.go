package telemetry

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// sample is one number of the exposition; those of the same name and labels are added up.
type sample struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	labels []string
	value  float64
}

func (s sample) key() string { return s.desc.String() + "\x00" + strings.Join(s.labels, "\x00") }

var (
	stageLabels = []string{"pipeline", "stage"}

	descRowsIn   = desc("stage_rows_in_total", "Rows a stage was given.", stageLabels...)
	descRowsKept = desc("stage_rows_kept_total", "Of the rows in, those that went on or that rows that went on were made of.", stageLabels...)
	descFiltered = desc("stage_rows_filtered_total", "Of the rows in, those taken out on purpose.", stageLabels...)
	descRowsOut  = desc("stage_rows_out_total", "Rows that went on.", stageLabels...)
	descDead     = desc("stage_rows_dead_total", "Of the rows in, those set aside, by reason.", "pipeline", "stage", "reason")
	descTokens   = desc("stage_tokens_out_total", "Response tokens of the rows that went on.", stageLabels...)
	descBytes    = desc("stage_bytes_out_total", "Bytes of the rows that went on.", stageLabels...)
	descBatches  = desc("stage_batches_total", "Batches a stage was given.", stageLabels...)
	descSeconds  = desc("stage_seconds_total", "Seconds a stage worked, added over its workers.", stageLabels...)
	descOther    = desc("stage_count_total", "What a stage counts for itself.", "pipeline", "stage", "name")
	descElements = desc("beam_elements", "Elements a Beam transform made, in the pipeline under way or the last one.", "pipeline",
		"transform")
	descProcess = desc("beam_process_seconds", "Seconds Beam saw a transform at work, in the pipeline under way or the last one.",
		"pipeline", "transform")
	descIteration = desc("iteration", "Iteration under way, from 0.")
	descDone      = desc("iterations_total", "Iterations that this process has committed.")
	descTook      = desc("iteration_seconds_total", "Seconds the committed iterations took.")
	descPeak      = desc("iteration_peak_resident_bytes", "Most memory of this process that was resident in the last iteration.")
	descMeasured  = desc("measurement", "What was measured after the last committed iteration, by its name in metrics.jsonl.", "name")
	descDropped   = desc("telemetry_dropped_total", "Lines, points and spans that could not be delivered.", "sink")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("millrace_"+name, help, labels, nil)
}

// board holds what /metrics shows. It implements prometheus.Collector.
type board struct {
	mu        sync.Mutex
	done      map[string]sample // of the pipelines that ended
	live      []sample          // of the pipeline under way
	transform []sample
	iteration float64
	committed float64
	seconds   float64
	peak      float64 // 0: not known
	measured  map[string]float64
	dropped   func() map[string]int64
}

func newBoard(dropped func() map[string]int64) *board {
	return &board{done: map[string]sample{}, measured: map[string]float64{}, dropped: dropped}
}

// show replaces the counters of the pipeline under way; ended adds them to those of the pipelines before it.
func (b *board) show(stages []StageLine, transforms []TransformLine, ended bool) {
	live := stageSamples(stages)
	var transform []sample
	for _, t := range transforms {
		labels := []string{t.Pipeline, t.Transform}
		transform = append(transform, sample{descElements, prometheus.GaugeValue, labels, float64(t.Elements)},
			sample{descProcess, prometheus.GaugeValue, labels, t.Seconds})
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.transform = transform
	if b.live = live; ended {
		addSamples(b.done, live)
		b.live = nil
	}
}

func addSamples(into map[string]sample, more []sample) {
	for _, s := range more {
		k := s.key()
		s.value += into[k].value
		into[k] = s
	}
}

func stageSamples(lines []StageLine) []sample {
	var out []sample
	for _, l := range lines {
		labels := []string{l.Pipeline, l.Stage}
		add := func(d *prometheus.Desc, value float64, more ...string) {
			out = append(out, sample{d, prometheus.CounterValue, append(slices.Clone(labels), more...), value})
		}
		add(descRowsIn, float64(l.RowsIn))
		add(descRowsKept, float64(l.RowsKept))
		add(descFiltered, float64(l.Filtered))
		add(descRowsOut, float64(l.RowsOut))
		add(descTokens, float64(l.TokensOut))
		add(descBytes, float64(l.BytesOut))
		add(descBatches, float64(l.Batches))
		add(descSeconds, l.Seconds)
		for reason, n := range l.Reasons {
			add(descDead, float64(n), reason)
		}
		for name, n := range l.Other {
			add(descOther, float64(n), name)
		}
	}
	return out
}

func (b *board) endIteration(took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.committed++
	b.seconds += took.Seconds()
}

func (b *board) peaked(bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.peak = float64(bytes)
}

func (b *board) measure(metrics map[string]float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, x := range metrics {
		b.measured[name] = x
	}
}

func (b *board) startIteration(number int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.iteration = float64(number)
}

// Describe implements prometheus.Collector; none are named, since which there are depends on the stages.
func (b *board) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (b *board) Collect(to chan<- prometheus.Metric) {
	b.mu.Lock()
	all := map[string]sample{}
	for k, s := range b.done {
		all[k] = s
	}
	addSamples(all, b.live)
	addSamples(all, b.transform)
	one := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		addSamples(all, []sample{{d, kind, labels, value}})
	}
	one(descIteration, prometheus.GaugeValue, b.iteration)
	one(descDone, prometheus.CounterValue, b.committed)
	one(descTook, prometheus.CounterValue, b.seconds)
	if b.peak > 0 {
		one(descPeak, prometheus.GaugeValue, b.peak)
	}
	for name, x := range b.measured {
		one(descMeasured, prometheus.GaugeValue, x, name)
	}
	b.mu.Unlock()
	for name, n := range b.dropped() {
		one(descDropped, prometheus.CounterValue, float64(n), name)
	}
	for _, s := range all {
		labels := make([]string, len(s.labels))
		for i, l := range s.labels {
			labels[i] = strings.ToValidUTF8(l, "\uFFFD")
		}
		m, err := prometheus.NewConstMetric(s.desc, s.kind, s.value, labels...)
		if err != nil {
			m = prometheus.NewInvalidMetric(s.desc, err)
		}
		to <- m
	}
}

// endpoint serves the board over HTTP.
type endpoint struct {
	server *http.Server
	at     net.Addr
}

func listen(address string, b *board) (*endpoint, error) {
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{b, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	e := &endpoint{at: listener.Addr(), server: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 1 << 16, ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug)}}
	go func() {
		if err := e.server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			slog.Warn("the metrics endpoint ended", "error", err)
		}
	}()
	return e, nil
}

func (e *endpoint) close() {
	if e != nil {
		e.server.Close()
	}
}
