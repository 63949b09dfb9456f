package trackers

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/models/outbound"
	"github.com/millrace/millrace/schemas/setting"
)

// MLflow is an MLflow tracking server, spoken to over its REST API. Its keys are read from the environment as MLflow's own client does.
type MLflow struct {
	URL        string  `json:"url" doc:"address of the tracking server, such as http://localhost:5000; empty: MLFLOW_TRACKING_URI of the environment"`
	Experiment string  `json:"experiment" doc:"name of the experiment, which is made where there is none"`
	Name       string  `json:"name" doc:"of the run there; empty: the name of the run's directory"`
	Seconds    float64 `json:"seconds" range:"(0,600]" doc:"seconds for one request"`
	Samples    Samples `json:"samples" doc:"tables of responses"`
}

func init() {
	Register("mlflow", MLflow{Experiment: "millrace", Seconds: 10, Samples: Samples{Every: 10, Rows: 20, Characters: 2000}})
}

// mlflowAddress is the variable that MLflow's own client reads.
const mlflowAddress = "MLFLOW_TRACKING_URI"

// Limits of MLflow; of those that grew over its versions the smallest.
const (
	maxParams     = 100 // of a request; as many tags
	maxMetrics    = 1000
	maxKey        = 250 // characters
	maxParam      = 500 // characters of a value
	maxTag        = 5000
	maxExperiment = 500
)

// address is the setting, or what the environment says in its place.
func (m MLflow) address() string {
	if m.URL != "" {
		return m.URL
	}
	return os.Getenv(mlflowAddress)
}

// Validate checks the address.
func (m MLflow) Validate() error {
	u, err := url.Parse(m.address())
	switch {
	case m.address() == "":
		return setting.Errorf("url", "is empty, and so is %s; name the address of the tracking server, such as http://localhost:5000",
			mlflowAddress)
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		// Not repeated here: it may hold a key.
		return setting.Errorf("url", "is not an http or https address (where it is empty it is taken from %s)", mlflowAddress)
	case u.User != nil:
		return setting.Errorf("url", "holds a name or a password; give them in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")
	case u.RawQuery != "" || u.Fragment != "":
		return setting.Errorf("url", "has something after ? or #; want the address that MLflow's own client takes, such as http://localhost:5000")
	case outbound.Forbidden(u.Hostname()):
		return setting.Errorf("url", "%s is an address of the machine's own network, where cloud credentials are; nothing is sent there",
			u.Hostname())
	case m.Experiment == "" || len([]rune(m.Experiment)) > maxExperiment:
		return setting.Errorf("experiment", "has %d characters; want a name of 1 to %d", len([]rune(m.Experiment)), maxExperiment)
	case len([]rune(m.Name)) > maxKey:
		return setting.Errorf("name", "has more than %d characters", maxKey)
	}
	return nil
}

// Received refuses an address that the environment does not name where keys would go to it.
func (m MLflow) Received() error {
	named := func(address string) string { return strings.TrimRight(address, "/") }
	if authorization, _ := mlflowKeys(); authorization == "" || named(m.address()) == named(os.Getenv(mlflowAddress)) {
		return nil
	}
	return setting.Errorf("url", "%s is named by the run's directory alone, and keys of the environment are only sent to an address that "+
		"you name: --to mlflow --set url=..., or %s", m.address(), mlflowAddress)
}

// Tables says which samples are sent.
func (m MLflow) Tables() Samples { return m.Samples }

// The tags by which a run is found again and its recipe is known.
const (
	keyTag     = "millrace.key"
	fileTag    = "millrace.file."    // and the name of a file that is sent whenever it is another one: its digest
	settingTag = "millrace.setting." // and the path of a setting that is another now than the run began with
)

// mlflowRun is a run at an MLflow server.
type mlflowRun struct {
	api        *mlflowAPI
	experiment string
	id         string
	kept       string // where its files are, in the server's words
	artifacts  string // path of its files at the server's proxy; "": they lie elsewhere
	status     Status
	last       map[string]int // the largest step that the server has of a metric
	params     map[string]string
	tags       map[string]string
	tables     map[string]bool // nil: not asked for yet
}

// Open finds the run by its key, so that a request of which no answer came begins no second one.
func (m MLflow) Open(ctx context.Context, r Run) (Session, error) {
	api := newMLflowAPI(m.address(), time.Duration(m.Seconds*float64(time.Second)))
	experiment, err := api.experiment(ctx, m.Experiment)
	if err != nil {
		return nil, err
	}
	found, err := api.find(ctx, experiment, r.Key)
	if err != nil {
		return nil, err
	}
	if found == nil {
		name := r.Name
		if m.Name != "" {
			name = m.Name
		}
		if found, err = api.create(ctx, experiment, name, r); err != nil {
			return nil, err
		}
	}
	s := &mlflowRun{api: api, experiment: experiment, id: found.Info.ID, kept: found.Info.Artifacts,
		artifacts: api.proxied(found.Info.Artifacts), status: statusOf(found.Info.Status), last: map[string]int{},
		params: map[string]string{}, tags: map[string]string{}}
	for _, x := range found.Data.Metrics {
		s.last[x.Key] = max(s.last[x.Key], int(x.Step))
	}
	for _, x := range found.Data.Params {
		s.params[x.Key] = x.Value
	}
	for _, x := range found.Data.Tags {
		s.tags[x.Key] = x.Value
	}
	return s, s.describe(ctx, r)
}

// describe sends the settings, each as a parameter, which cannot change there. A setting that is another one than the run began with is a
// tag.
func (s *mlflowRun) describe(ctx context.Context, r Run) error {
	tags := maps.Clone(r.Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	var params []mlflowPair
	for _, path := range slices.Sorted(maps.Keys(r.Settings)) {
		key, value := mlflowName(path), Cut(r.Settings[path], maxParam)
		was, there := s.params[key]
		changed := settingTag + key
		switch _, tagged := s.tags[changed]; {
		case !there:
			params = append(params, mlflowPair{key, value})
		case was != value || tagged:
			tags[changed] = value
		}
	}
	for part := range slices.Chunk(params, maxParams) {
		if err := s.api.log(ctx, mlflowBatch{Run: s.id, Params: part}); err != nil {
			return err
		}
	}
	for _, p := range params {
		s.params[p.Key] = p.Value
	}
	_, err := s.Send(ctx, nil, tags)
	return err
}

// Address is the page of the run.
func (s *mlflowRun) Address() string {
	return s.api.base + "/#/experiments/" + url.PathEscape(s.experiment) + "/runs/" + url.PathEscape(s.id)
}

// Send sends points whose step is above the largest that the server has of their metric: points of a metric come in the order of steps.
func (s *mlflowRun) Send(ctx context.Context, points []Point, tags map[string]string) (int, error) {
	var metrics []mlflowMetric
	last := maps.Clone(s.last)
	for _, p := range points {
		key := mlflowName(p.Name)
		if at, there := last[key]; there && p.Step <= at {
			continue
		}
		last[key] = p.Step
		metrics = append(metrics, mlflowMetric{Key: key, Value: p.Value, At: p.At.UnixMilli(), Step: int64(p.Step)})
	}
	var changed []mlflowPair
	for _, name := range slices.Sorted(maps.Keys(tags)) {
		key, value := mlflowName(name), Cut(tags[name], maxTag)
		if was, there := s.tags[key]; !there || was != value {
			changed = append(changed, mlflowPair{key, value})
		}
	}
	sent := len(metrics)
	for len(metrics) > 0 || len(changed) > 0 {
		m, t := min(len(metrics), maxMetrics-maxParams), 0
		if m == len(metrics) { // tags say how far the points go, so they come with the last
			t = min(len(changed), maxParams)
		}
		if err := s.api.log(ctx, mlflowBatch{Run: s.id, Metrics: metrics[:m], Tags: changed[:t]}); err != nil {
			return 0, err
		}
		for _, x := range changed[:t] {
			s.tags[x.Key] = x.Value
		}
		metrics, changed = metrics[m:], changed[t:]
	}
	s.last = last
	return sent, nil
}

// Note says of a server that has files kept elsewhere, and does not pass them on, that it gets none: nothing is sent to an address that
// nobody named.
func (s *mlflowRun) Note() string {
	if s.artifacts != "" {
		return ""
	}
	_, secrets := mlflowKeys()
	kept := outbound.Visible(outbound.Short(outbound.Masked(s.kept, secrets...), 200))
	return "config.yaml and samples are not sent: the server has files kept at " + kept +
		" and does not take them itself (mlflow server --serve-artifacts)"
}

// Attach sends a file; a tag with its digest says that the server has it.
func (s *mlflowRun) Attach(ctx context.Context, name string, raw []byte) error {
	tag, digest := fileTag+name, digestOf(raw)
	if s.artifacts == "" || s.tags[mlflowName(tag)] == digest {
		return nil
	}
	if err := s.api.put(ctx, s.artifacts+"/"+url.PathEscape(name), raw); err != nil {
		return err
	}
	_, err := s.Send(ctx, nil, map[string]string{tag: digest})
	return err
}

// tableFolder is where the tables of a run are among its files.
const tableFolder = "samples"

// tablePattern is what tablePath makes.
var tablePattern = regexp.MustCompile(`^` + tableFolder + `/\d{5,9}\.json$`)

func tablePath(step int) string { return fmt.Sprintf("%s/%05d.json", tableFolder, step) }

// Lacks asks the server once which tables it has.
func (s *mlflowRun) Lacks(ctx context.Context, step int) (bool, error) {
	if s.artifacts == "" {
		return false, nil
	}
	if s.tables == nil {
		listed, err := s.api.list(ctx, s.id)
		if err != nil {
			return false, err
		}
		s.tables = listed
	}
	return !s.tables[tablePath(step)], nil
}

// loggedTables is the tag by which MLflow's pages know which files are tables.
const loggedTables = "mlflow.loggedArtifacts"

type loggedTable struct {
	Path string `json:"path"`
	Type string `json:"type"`
}

// Table sends a table as mlflow.log_table writes one. The tag that names them holds the latest that fit.
func (s *mlflowRun) Table(ctx context.Context, t Table) error {
	if t.Rows == nil {
		t.Rows = [][]any{}
	}
	raw, err := json.Marshal(struct {
		Columns []string `json:"columns"`
		Data    [][]any  `json:"data"`
	}{t.Columns, t.Rows})
	if err != nil {
		return err
	}
	path := tablePath(t.Step)
	if err := s.api.put(ctx, s.artifacts+"/"+path, raw); err != nil {
		return err
	}
	var logged []loggedTable
	_ = json.Unmarshal([]byte(s.tags[loggedTables]), &logged) // of another form, or none: it is written anew
	if one := (loggedTable{path, "table"}); !slices.Contains(logged, one) {
		logged = append(logged, one)
	}
	for {
		raw, err := json.Marshal(logged)
		if err != nil {
			return err
		}
		if len(raw) <= maxTag || len(logged) == 1 {
			s.tables[path] = true
			_, err := s.Send(ctx, nil, map[string]string{loggedTables: string(raw)})
			return err
		}
		logged = logged[1:]
	}
}

var mlflowStatus = map[Status]string{Running: "RUNNING", Finished: "FINISHED", Failed: "FAILED", Killed: "KILLED"}

// statusOf reads MLflow's word; one that is waited for is as good as running.
func statusOf(word string) Status {
	for s, w := range mlflowStatus {
		if w == word {
			return s
		}
	}
	return Running
}

// Status is what the server says.
func (s *mlflowRun) Status() Status { return s.status }

// Turn says where the run is.
func (s *mlflowRun) Turn(ctx context.Context, to Status, at time.Time) error {
	if to == s.status {
		return nil
	}
	var end int64
	if to != Running {
		end = at.UnixMilli()
	}
	if err := s.api.update(ctx, s.id, mlflowStatus[to], end); err != nil {
		return err
	}
	s.status = to
	return nil
}

// mlflowName is a name as MLflow takes it for metrics, parameters and tags: avg@8 is avg_at_8, and losses[0].name is losses.0.name. Where
// that does not do, what tells it from other names is a digest at its end.
func mlflowName(name string) string {
	plain := strings.NewReplacer("@", "_at_", "[", ".", "]", "").Replace(name)
	var b strings.Builder
	for _, r := range plain {
		if r < 128 && (r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("_-. /", r)) {
			b.WriteRune(r)
		} else {
			b.WriteByte('_')
		}
	}
	parts := strings.Split(b.String(), "/")
	for i, p := range parts {
		if p == "" || p == "." || p == ".." { // MLflow may keep metrics as files
			parts[i] = "_"
		}
	}
	out := strings.Join(parts, "/")
	if out == plain && len(out) <= maxKey {
		return out
	}
	end := "-" + digestOf([]byte(name))[:8]
	return out[:min(len(out), maxKey-len(end))] + end
}
