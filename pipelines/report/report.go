// Package report writes report.html, the page that shows what a run did: accuracy and the other figures over iterations,
// the reward model's calibration, rollouts with every token coloured by its prefix value, and the way of the rows through
// the stages. The page is one file that loads nothing, and the same data gives the same bytes.
package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/pipelines/show"
)

// Data is what a report shows. Sections without data are left out.
type Data struct {
	Title, Subtitle string
	Run             string // the run directory
	Facts           []Fact
	Tables          []Table  // closing tables, first thing after the facts
	Methods         []Method // drawn together
	Panels          []Panel  // which metrics are drawn; nil means DefaultPanels
	Curves          []Curve
	Calibration     []Calibration
	Rollouts        []show.Rollout
	Stages          []Stage
	Dead            []show.DeadCount
	Live            *Live // where a program serves the page and the run goes on; nil: the page is a file
}

// Live is where a run is that goes on.
type Live struct {
	State string `json:"state"` // changes whenever there is something new to show
	Note  string `json:"note"`  // what is done just now
}

// Fact is a line of the summary, such as the seed.
type Fact struct{ Name, Value string }

// Table is a closing table; columns of figures are aligned to the right.
type Table struct {
	Caption string
	Columns []string
	Rows    [][]string
}

// Method is a way of training with its figures, points in the order of their iterations.
type Method struct {
	Name   string
	Points []Point
}

// Point holds the metrics of one iteration. A metric that is not finite leaves a gap; one that is absent was not measured
// then, and the line goes from its neighbour before to the one after.
type Point struct {
	Iteration int
	Metrics   map[string]float64
}

// Panel is one metric over iterations, a line a method. A panel without a single figure is not drawn.
type Panel struct {
	Title, Note string
	Metric      string
	Error       string // the metric that holds its standard error; "" for none
	Guide       float64
	Guided      bool // draw a line at Guide, such as chance
	Section     Section

	xTitle string // "": iteration
}

// Curve is a figure of the reward model over something else than iterations.
type Curve struct {
	Title, Note string
	X           string    // what is counted to the right
	Lines       [][]Point // of each method, Iteration being x, with the metrics value and std_err; none where it has none
}

// Section is where on the page a panel stands.
type Section int

// The sections: Headline panels are drawn wide at the top.
const (
	Headline Section = iota
	Training
	RewardModel
)

// HeldOut is the metric of accuracy on held-out prompts, whatever the number of responses to a prompt; HeldOutError its standard error.
const (
	HeldOut      = "held_out_accuracy"
	HeldOutError = HeldOut + "_stderr"
)

// DefaultPanels are the metrics that pipelines report. The reward_ ones stand for the
// reward model's P(correct | prefix) on held-out rollouts.
var DefaultPanels = []Panel{
	{Title: "Accuracy on held-out prompts", Metric: HeldOut, Error: HeldOutError, Note: "Bars: one standard error over prompts.",
		Section: Headline},
	{Title: "Accuracy while training", Metric: "train_accuracy", Note: "Share of correct rollouts in the batch.", Section: Training},
	{Title: "Loss", Metric: "loss", Section: Training},
	{Title: "KL(old ‖ new) per token", Metric: "kl", Note: "Nats.", Section: Training},
	{Title: "Entropy per token", Metric: "entropy", Note: "Nats.", Section: Training},
	{Title: "Tokens of a response", Metric: "response_tokens", Section: Training},
	{Title: "Responses without a token of their own", Metric: "echo_share", Note: "Share of responses that hold no token beyond those of " +
		"their prompt.", Section: Training},
	{Title: "Gradient norm", Metric: "gradient_norm", Section: Training},
	{Title: "Clipped tokens", Metric: "clip_fraction", Note: "Share of tokens whose ratio was clipped.", Section: Training},
	{Title: "Reward model loss", Metric: "reward_loss", Section: RewardModel},
	{Title: "Reward model AUC", Metric: "reward_auc", Note: "Correct against incorrect; 0.5 is chance.", Guide: 0.5, Guided: true,
		Section: RewardModel},
	{Title: "Reward model calibration error (ECE)", Metric: "reward_ece", Note: "Lower is better.", Section: RewardModel},
}

// Calibration is one line of the reliability diagram.
type Calibration struct {
	Name string
	Bins []Bin
}

// Bin holds the mean predicted probability P, the share Y that was correct, and the number of predictions N.
type Bin struct {
	P, Y float64
	N    int
}

// Stage counts the rows of one stage: In = Out + Dead + Filtered where a stage keeps its rows.
type Stage struct {
	Name                    string
	In, Out, Dead, Filtered int
	Tokens                  int     // response tokens of the rows out
	Seconds                 float64 // NaN when not measured
}

// Bounds on what a page holds; the rest is counted in a note.
const (
	maxRollouts = 24
	maxTokens   = 1000
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

//go:embed page.js
var pageJS string

//go:embed live.js
var liveJS string

var page = template.Must(template.New("page").Funcs(template.FuncMap{"num": num, "fixed": fixed, "visible": visible}).Parse(pageHTML))

// Write writes the page. Everything in d is untrusted text; the page's own policy lets nothing but its own script run.
func Write(w io.Writer, d Data) error {
	v, err := newView(d)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	var out bytes.Buffer // a page is written whole or not at all
	if err := page.Execute(&out, v); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err = w.Write(out.Bytes())
	return err
}

// view is what the template reads.
type view struct {
	Data
	CSS          template.CSS
	JS           template.JS
	Policy       string
	Headline     panels
	Training     panels
	RewardModel  panels
	Rollouts     []rolloutView
	MoreRollouts int
	ScaleP       [2]float64 // p_correct at the two ends of the colour scale
	ScaleA       float64
	Tints        []string
	Stages       []stageView
}

// panels are the figures of a section and the methods they draw, if there is more than one to tell apart.
type panels struct {
	Legend  []legendItem
	Figures []figure
}

func (p *panels) addLegend(methods []Method) error {
	for i, m := range methods {
		if !slices.ContainsFunc(p.Figures, func(f figure) bool { return slices.Contains(f.methods, i) }) {
			continue
		}
		item, err := newLegendItem(i, m.Name)
		if err != nil {
			return err
		}
		p.Legend = append(p.Legend, item)
	}
	if len(methods) == 1 {
		p.Legend = nil
	}
	return nil
}

func newView(d Data) (*view, error) {
	script, connect := pageJS, ""
	if d.Live != nil {
		script, connect = pageJS+liveJS, "; connect-src 'self'"
	}
	hash := sha256.Sum256([]byte(script))
	v := &view{
		Data: d, CSS: template.CSS(pageCSS), JS: template.JS(script),
		Policy: "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-" +
			base64.StdEncoding.EncodeToString(hash[:]) + "'" + connect,
	}
	metrics := d.Panels
	if metrics == nil {
		metrics = DefaultPanels
	}
	for _, p := range metrics {
		f, ok, err := metricFigure(p, d.Methods)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		section := &v.RewardModel
		switch p.Section {
		case Headline:
			section = &v.Headline
		case Training:
			section = &v.Training
		}
		section.Figures = append(section.Figures, f)
	}
	for _, c := range d.Curves {
		lines := slices.Clone(d.Methods)
		for i := range lines {
			lines[i].Points = nil
			if i < len(c.Lines) {
				lines[i].Points = c.Lines[i]
			}
		}
		f, ok, err := metricFigure(Panel{Title: c.Title, Note: c.Note, Metric: "value", Error: "std_err", xTitle: c.X}, lines)
		if err != nil {
			return nil, err
		}
		if ok {
			v.RewardModel.Figures = append(v.RewardModel.Figures, f)
		}
	}
	if f, ok, err := reliabilityFigure(d.Calibration, d.Methods); err != nil {
		return nil, err
	} else if ok {
		v.RewardModel.Figures = append(v.RewardModel.Figures, f)
	}
	for _, section := range []*panels{&v.Headline, &v.Training, &v.RewardModel} {
		if err := section.addLegend(d.Methods); err != nil {
			return nil, err
		}
	}
	if err := v.addRollouts(d.Rollouts); err != nil {
		return nil, err
	}
	v.addStages(d.Stages)
	return v, nil
}

type rolloutView struct {
	show.Rollout
	Status     string // right, wrong or open
	Lines      []lineView
	Rows       []tokenView
	Trace      template.HTML
	MoreTokens int
}

// lineView is one step of a response.
type lineView struct {
	Tokens []tokenView
	Wrong  bool
}

type tokenView struct {
	show.Token
	T          int
	Shown      string
	Value, Adv string // classes of the two colourings
	Others     []show.Candidate
}

func (v *view) addRollouts(all []show.Rollout) error {
	shown := all[:min(len(all), maxRollouts)]
	v.MoreRollouts = len(all) - len(shown)
	scale := show.NewScale(shown)
	v.ScaleP = [2]float64{max(0.5-scale.PCorrect, 0), min(0.5+scale.PCorrect, 1)}
	v.ScaleA = scale.Advantage
	for tint := -show.Tints; tint <= show.Tints; tint++ {
		v.Tints = append(v.Tints, tintClass("v", tint))
	}
	for _, r := range shown {
		view := rolloutView{Rollout: r, Status: "open"}
		if r.Outcome != nil && *r.Outcome {
			view.Status = "right"
		} else if r.Outcome != nil {
			view.Status = "wrong"
		}
		steps := r.Steps()
		tokens := r.Tokens[:min(len(r.Tokens), maxTokens)]
		view.MoreTokens = len(r.Tokens) - len(tokens)
		for i, t := range tokens {
			tv := tokenView{
				Token: t, T: i, Shown: visible(t.Text), Others: t.Candidates[min(1, len(t.Candidates)):],
				Value: tintClass("v", scale.Value(t.PCorrect)), Adv: tintClass("a", scale.AdvantageTint(t.Advantage)),
			}
			view.Rows = append(view.Rows, tv)
			if i == 0 || steps[i] != steps[i-1] {
				view.Lines = append(view.Lines, lineView{Wrong: r.FirstError != nil && steps[i] == *r.FirstError})
			}
			line := &view.Lines[len(view.Lines)-1]
			line.Tokens = append(line.Tokens, tv)
		}
		trace, err := traceChart(r, tokens, steps, v.ScaleP)
		if err != nil {
			return err
		}
		view.Trace = trace
		v.Rollouts = append(v.Rollouts, view)
	}
	return nil
}

// tintClass names a tint: m4 … m1, 0, p1 … p4.
func tintClass(prefix string, tint int) string {
	switch {
	case tint < 0:
		return prefix + "m" + strconv.Itoa(-tint)
	case tint > 0:
		return prefix + "p" + strconv.Itoa(tint)
	}
	return prefix + "0"
}

// visible shows line breaks and blanks that would otherwise not be seen.
func visible(text string) string {
	return strings.NewReplacer("\n", "⏎", "\t", "→", "\r", "␍").Replace(text)
}

type stageView struct {
	Stage
	OutShare, DeadShare, FilteredShare float64 // percent of the widest stage's rows
}

func (v *view) addStages(stages []Stage) {
	widest := 1
	for _, s := range stages {
		widest = max(widest, s.In, s.Out+s.Dead+s.Filtered)
	}
	share := func(n int) float64 { return math.Round(10000*float64(max(n, 0))/float64(widest)) / 100 }
	for _, s := range stages {
		v.Stages = append(v.Stages, stageView{Stage: s, OutShare: share(s.Out), DeadShare: share(s.Dead), FilteredShare: share(s.Filtered)})
	}
}

// num writes a figure with four significant digits; what is not known is a dash.
func num(x float64) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return "–"
	}
	return strconv.FormatFloat(x, 'g', 4, 64)
}

// fixed writes a figure with the given decimals.
func fixed(decimals int, x float64) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return "–"
	}
	text := strconv.FormatFloat(x, 'f', decimals, 64)
	if strings.Trim(text, "-0.") == "" {
		text = strings.TrimPrefix(text, "-")
	}
	return strings.Replace(text, "-", "−", 1)
}

// Numeric reports whether every cell of the column is a figure or empty.
func (t Table) Numeric(column int) bool {
	some := false
	for _, row := range t.Rows {
		if column >= len(row) || row[column] == "" || row[column] == "–" {
			continue
		}
		if !strings.ContainsRune("0123456789+-−.", []rune(row[column])[0]) {
			return false
		}
		some = true
	}
	return some
}
