package trackers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/millrace/millrace/models/outbound"
)

// maxAnswer bounds what is read of an answer: a run with all of its parameters, tags and last metrics.
const maxAnswer = 4 << 20

// maxPages and maxTables bound a list of files, which comes in pages of at most a thousand.
const (
	maxPages  = 100
	maxTables = 100_000
)

// mlflowAPI asks an MLflow server. Every request is sent once and bounded in time: who is not answered opens the run anew, and so learns
// what the server has taken.
type mlflowAPI struct {
	base string // without a slash at its end
	wait time.Duration
	http *http.Client
}

func newMLflowAPI(base string, wait time.Duration) *mlflowAPI {
	return &mlflowAPI{base: strings.TrimRight(base, "/"), wait: wait, http: outbound.Client(1)}
}

// mlflowKeys are what the environment says of who asks, as MLflow's own client reads it: a name with a password, or a token. They are
// read when a request is sent and kept nowhere.
func mlflowKeys() (authorization string, secrets []string) {
	user, password, token := os.Getenv("MLFLOW_TRACKING_USERNAME"), os.Getenv("MLFLOW_TRACKING_PASSWORD"), os.Getenv("MLFLOW_TRACKING_TOKEN")
	switch {
	case user != "" && password != "":
		pair := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
		return "Basic " + pair, []string{pair, password, token}
	case token != "":
		return "Bearer " + token, []string{token, password}
	}
	return "", []string{password}
}

type (
	mlflowPair struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	}
	mlflowMetric struct {
		Key   string  `json:"key"`
		Value float64 `json:"value"`
		At    int64   `json:"timestamp"` // ms since 1970
		Step  int64   `json:"step"`
	}
	mlflowBatch struct {
		Run     string         `json:"run_id"`
		Metrics []mlflowMetric `json:"metrics,omitempty"`
		Params  []mlflowPair   `json:"params,omitempty"`
		Tags    []mlflowPair   `json:"tags,omitempty"`
	}
	// mlflowFound is a run as the server has it: of each metric the last point.
	mlflowFound struct {
		Info struct {
			ID        string `json:"run_id"`
			Status    string `json:"status"`
			Artifacts string `json:"artifact_uri"`
		} `json:"info"`
		Data struct {
			Metrics []struct {
				Key  string `json:"key"`
				Step whole  `json:"step"`
			} `json:"metrics"`
			Params []mlflowPair `json:"params"`
			Tags   []mlflowPair `json:"tags"`
		} `json:"data"`
	}
)

// whole is a whole number, which servers write as a number or, as JSON of protocol buffers has it, as a text.
type whole int64

// UnmarshalJSON reads both.
func (w *whole) UnmarshalJSON(raw []byte) error {
	var n int64
	if err := json.Unmarshal(bytes.Trim(raw, `"`), &n); err != nil {
		return fmt.Errorf("%.40s is no whole number", raw)
	}
	*w = whole(n)
	return nil
}

// experiment is the id of the experiment of that name, which is made where there is none.
func (a *mlflowAPI) experiment(ctx context.Context, name string) (string, error) {
	var got struct {
		Experiment struct {
			ID    string `json:"experiment_id"`
			Stage string `json:"lifecycle_stage"`
		} `json:"experiment"`
	}
	err := a.ask(ctx, http.MethodGet, "experiments/get-by-name?experiment_name="+url.QueryEscape(name), nil, &got)
	var e *Error
	switch {
	case errors.As(err, &e) && e.Status == http.StatusNotFound:
		var made struct {
			ID string `json:"experiment_id"`
		}
		if err := a.ask(ctx, http.MethodPost, "experiments/create", map[string]string{"name": name}, &made); err != nil {
			return "", err
		}
		return made.ID, a.given(made.ID, "experiment_id")
	case err != nil:
		return "", err
	case got.Experiment.Stage == "deleted":
		return "", a.problem(0, fmt.Sprintf("experiment %q is deleted there; restore it, or name another one", name), false)
	}
	return got.Experiment.ID, a.given(got.Experiment.ID, "experiment_id")
}

// find is the run with a key; nil where there is none.
func (a *mlflowAPI) find(ctx context.Context, experiment, key string) (*mlflowFound, error) {
	var got struct {
		Runs [1]*mlflowFound `json:"runs"` // what more there is is not read
	}
	err := a.ask(ctx, http.MethodPost, "runs/search", map[string]any{"experiment_ids": []string{experiment},
		"filter": fmt.Sprintf("tags.`%s` = '%s'", keyTag, key), "run_view_type": "ACTIVE_ONLY", "max_results": 1,
		"order_by": []string{"attributes.start_time ASC"}}, &got)
	if err != nil || got.Runs[0] == nil {
		return nil, err
	}
	return got.Runs[0], a.given(got.Runs[0].Info.ID, "run_id")
}

// create begins a run.
func (a *mlflowAPI) create(ctx context.Context, experiment, name string, r Run) (*mlflowFound, error) {
	var got struct {
		Run mlflowFound `json:"run"`
	}
	err := a.ask(ctx, http.MethodPost, "runs/create", map[string]any{"experiment_id": experiment, "run_name": name,
		"start_time": r.Started.UnixMilli(), "tags": []mlflowPair{{keyTag, r.Key}, {"mlflow.source.name", "millrace"},
			{"mlflow.source.type", "LOCAL"}}}, &got)
	if err != nil {
		return nil, err
	}
	return &got.Run, a.given(got.Run.Info.ID, "run_id")
}

// log sends metrics, parameters and tags.
func (a *mlflowAPI) log(ctx context.Context, b mlflowBatch) error {
	return a.ask(ctx, http.MethodPost, "runs/log-batch", b, nil)
}

// update says where a run is; end is 0 for one that goes on.
func (a *mlflowAPI) update(ctx context.Context, run, status string, end int64) error {
	body := map[string]any{"run_id": run, "status": status}
	if end > 0 {
		body["end_time"] = end
	}
	return a.ask(ctx, http.MethodPost, "runs/update", body, nil)
}

// list names the tables of a run.
func (a *mlflowAPI) list(ctx context.Context, run string) (map[string]bool, error) {
	out := map[string]bool{}
	for page, n := "", 0; ; n++ {
		if n == maxPages {
			return nil, a.problem(http.StatusOK, fmt.Sprintf("the list of files in %s has more than %d pages", tableFolder, maxPages), false)
		}
		var got struct {
			Files []struct {
				Path string `json:"path"`
			} `json:"files"`
			Next string `json:"next_page_token"`
		}
		query := url.Values{"run_id": {run}, "path": {tableFolder}}
		if page != "" {
			query.Set("page_token", page)
		}
		if err := a.ask(ctx, http.MethodGet, "artifacts/list?"+query.Encode(), nil, &got); err != nil {
			return nil, err
		}
		for _, f := range got.Files {
			if tablePattern.MatchString(f.Path) {
				out[f.Path] = true
			}
		}
		if len(out) > maxTables {
			return nil, a.problem(http.StatusOK, fmt.Sprintf("the run has more than %d tables", maxTables), false)
		}
		if page = got.Next; page == "" {
			break
		}
	}
	return out, nil
}

// proxied is the path at which the server takes files of a run, "" where it has them kept elsewhere.
func (a *mlflowAPI) proxied(artifacts string) string {
	const service = "/api/2.0/mlflow-artifacts/artifacts"
	u, err := url.Parse(artifacts)
	here, hereErr := url.Parse(a.base)
	if err != nil || hereErr != nil || u.Host != "" && u.Host != here.Host {
		return ""
	}
	path := strings.Trim(u.Path, "/")
	switch u.Scheme {
	case "mlflow-artifacts":
	case "http", "https":
		_, below, ok := strings.Cut(u.Path, service)
		if !ok {
			return ""
		}
		path = strings.Trim(below, "/")
	default:
		return ""
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if s == "" || s == "." || s == ".." {
			return ""
		}
		segments[i] = url.PathEscape(s)
	}
	return service + "/" + strings.Join(segments, "/")
}

// put writes a file of a run.
func (a *mlflowAPI) put(ctx context.Context, path string, raw []byte) error {
	return a.send(ctx, http.MethodPut, a.base+path, "application/octet-stream", raw, nil)
}

// ask sends a request to a method of the API.
func (a *mlflowAPI) ask(ctx context.Context, method, what string, body, into any) error {
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return err
		}
	}
	return a.send(ctx, method, a.base+"/api/2.0/mlflow/"+what, "application/json", raw, into)
}

// send sends a request once.
func (a *mlflowAPI) send(ctx context.Context, method, to, content string, body []byte, into any) error {
	limited, cancel := context.WithTimeout(ctx, a.wait)
	defer cancel()
	req, err := http.NewRequestWithContext(limited, method, to, bytes.NewReader(body))
	if err != nil {
		return a.problem(0, outbound.Plain(err), false)
	}
	if body != nil {
		req.Header.Set("Content-Type", content)
	}
	authorization, _ := mlflowKeys()
	if strings.ContainsAny(authorization, "\r\n") {
		return a.problem(0, "MLFLOW_TRACKING_TOKEN holds a line break", false)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := a.http.Do(req)
	var answer []byte
	if err == nil {
		defer resp.Body.Close()
		answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	}
	var refused *outbound.ForbiddenError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case limited.Err() != nil:
		return a.problem(0, fmt.Sprintf("no complete answer within %v", a.wait), true)
	case err != nil:
		return a.problem(0, outbound.Plain(err), !errors.As(err, &refused))
	case resp.StatusCode != http.StatusOK:
		return a.refused(resp, answer)
	case len(answer) > maxAnswer:
		return a.problem(resp.StatusCode, fmt.Sprintf("the answer is longer than %d bytes", maxAnswer), false)
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return a.problem(resp.StatusCode, "the answer is not that of an MLflow server: "+err.Error(), false)
	}
	return nil
}

// refused is an answer other than 200.
func (a *mlflowAPI) refused(resp *http.Response, answer []byte) error {
	var said struct {
		Code    string `json:"error_code"`
		Message string `json:"message"`
	}
	_ = json.Unmarshal(answer, &said) // a proxy in between answers in its own way
	problem, status := fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode)), resp.StatusCode
	if said.Message != "" {
		problem += ": " + said.Message
	}
	again := status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status >= http.StatusInternalServerError ||
		said.Code == "RESOURCE_ALREADY_EXISTS" // somebody else has made the experiment since it was asked for
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		problem += "; keys are read from MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
	case status >= 300 && status < 400:
		problem += " to " + resp.Header.Get("Location") + ", which is not followed; name the address of the server itself as url"
	case status == http.StatusNotFound && said.Code == "":
		status, problem = 0, problem+": there is no MLflow server" // and so nothing to be made there
	}
	return a.problem(status, problem, again)
}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)

// given reports an id that an answer should have and has not.
func (a *mlflowAPI) given(id, what string) error {
	if !idPattern.MatchString(id) {
		return a.problem(http.StatusOK, "the answer is not that of an MLflow server: it has no "+what, false)
	}
	return nil
}

// problem is an error in a form that can stand in messages: without keys, and nothing in it acts on a terminal.
func (a *mlflowAPI) problem(status int, text string, again bool) error {
	_, secrets := mlflowKeys()
	return &Error{Tracker: "mlflow", Address: a.base, Status: status, Again: again,
		Problem: outbound.Visible(outbound.Short(outbound.Masked(text, secrets...), 500))}
}

func digestOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
