package main

import (
	"bytes"
	"errors"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

var errEmpty = errors.New("nothing to draw")

// line is one series of a chart.
type line struct {
	name   string
	points []point
	joined bool // by a line; otherwise marks only
}

// point has a vertical bar of err on both sides where err is above 0.
type point struct{ x, y, err float64 }

// plate is a chart: numbers along x, or categories at 0, 1, ...
type plate struct {
	title, x, y   string
	categories    []string
	logX          bool
	lines         []line
	width, height vg.Length
}

// Colours that are told apart with any colour vision (Okabe and Ito), and marks for those who see none.
var (
	colours = []color.RGBA{{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255}, {86, 180, 233, 255},
		{230, 159, 0, 255}, {90, 90, 90, 255}}
	shapes = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}, draw.CrossGlyph{}, draw.RingGlyph{},
		draw.SquareGlyph{}, draw.PlusGlyph{}}
)

func (c plate) svg() ([]byte, error) {
	p, err := c.plot()
	if err != nil {
		return nil, err
	}
	canvas := vgsvg.New(c.width, c.height)
	p.Draw(draw.New(canvas))
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return nil, err
	}
	return bytes.ReplaceAll(out.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arial,sans-serif;")), nil
}

func (c plate) plot() (*plot.Plot, error) {
	p := plot.New()
	text := func(size vg.Length) font.Font {
		return font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, size)
	}
	p.Title.Text, p.Title.TextStyle.Font = c.title, text(12)
	p.Title.Padding = 6
	p.X.Label.Text, p.Y.Label.Text = c.x, c.y
	p.X.Label.TextStyle.Font, p.Y.Label.TextStyle.Font, p.Legend.TextStyle.Font = text(11), text(11), text(10)
	p.X.Tick.Label.Font, p.Y.Tick.Label.Font = text(10), text(10)
	grid := plotter.NewGrid()
	grid.Vertical, grid.Horizontal = draw.LineStyle{}, draw.LineStyle{Color: color.Gray{225}, Width: 0.6}
	p.Add(grid)
	p.Legend.Top, p.Legend.Left, p.Legend.YOffs = true, true, -2
	drawn := 0
	for i, l := range c.lines {
		known := plotter.XYs{}
		bars := plotter.YErrors{}
		for _, pt := range l.points {
			if math.IsNaN(pt.x) || math.IsNaN(pt.y) || c.logX && !(pt.x > 0) {
				continue
			}
			known = append(known, plotter.XY{X: pt.x, Y: pt.y})
			err := pt.err
			if math.IsNaN(err) {
				err = 0
			}
			bars = append(bars, struct{ Low, High float64 }{err, err})
		}
		if len(known) == 0 {
			continue
		}
		drawn += len(known)
		ink := colours[i%len(colours)]
		marks, err := plotter.NewScatter(known)
		if err != nil {
			return nil, err
		}
		marks.GlyphStyle = draw.GlyphStyle{Color: ink, Radius: 3, Shape: shapes[i%len(shapes)]}
		errorBars, err := plotter.NewYErrorBars(struct {
			plotter.XYs
			plotter.YErrors
		}{known, bars})
		if err != nil {
			return nil, err
		}
		errorBars.LineStyle = draw.LineStyle{Color: ink, Width: 0.8}
		errorBars.CapWidth = 4
		p.Add(errorBars, marks)
		if !l.joined {
			p.Legend.Add(l.name, marks)
			continue
		}
		joined, err := plotter.NewLine(known)
		if err != nil {
			return nil, err
		}
		joined.LineStyle = draw.LineStyle{Color: ink, Width: 1.5}
		p.Add(joined)
		p.Legend.Add(l.name, joined, marks)
	}
	if drawn == 0 {
		return nil, errEmpty
	}
	if c.logX {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.TickerFunc(powersOfTen)
		p.X.Min, p.X.Max = math.Pow(10, math.Floor(math.Log10(p.X.Min))), math.Pow(10, math.Ceil(math.Log10(p.X.Max)))
	}
	if len(c.categories) > 0 {
		p.NominalX(c.categories...)
		p.X.Min, p.X.Max = -0.5, float64(len(c.categories))-0.5
	}
	p.Y.Max += (p.Y.Max - p.Y.Min) * (0.06 + 0.055*float64(len(c.lines))) // room for the legend
	return p, nil
}

func powersOfTen(lo, hi float64) []plot.Tick {
	var out []plot.Tick
	for e := math.Floor(math.Log10(lo)); math.Pow(10, e) <= hi*1.0001; e++ {
		out = append(out, plot.Tick{Value: math.Pow(10, e), Label: strconv.FormatFloat(math.Pow(10, e), 'g', 3, 64)})
	}
	return out
}

// category is a place on the x axis and its value of every seed.
type category struct {
	name   string
	values []float64
}

// labelWidth is how many characters of a category stand on a line.
const labelWidth = 11

// wrapped breaks a text between words.
func wrapped(text string, width int) string {
	var lines []string
	for _, w := range strings.Fields(text) {
		if last := len(lines) - 1; last >= 0 && len(lines[last])+1+len(w) <= width {
			lines[last] += " " + w
		} else {
			lines = append(lines, w)
		}
	}
	return strings.Join(lines, "\n")
}

// bySeed draws a line for every seed over the categories that were measured: paired seeds are compared by looking along a
// line.
func bySeed(seeds []uint64, all []category) (names []string, lines []line) {
	for _, s := range seeds {
		lines = append(lines, line{name: fmt.Sprint("seed ", s), joined: true})
	}
	for _, c := range all {
		if spreadOf(c.values).n == 0 {
			continue
		}
		for i, y := range c.values {
			lines[i].points = append(lines[i].points, point{x: float64(len(names)), y: y})
		}
		names = append(names, wrapped(c.name, labelWidth))
	}
	return names, lines
}

// charts makes every plot of the page, by the name of its file.
func charts(f *figures) map[string]plate {
	seeds := f.accepted()
	var curves []line
	for _, m := range rlMethods {
		l := line{name: m.title, joined: true}
		for after := 0; after <= distrlIterations; after += 10 {
			s := spreadOf(f.of(seeds, m.name, "avg@8", after))
			l.points = append(l.points, point{float64(after), s.mean, s.stdErr()})
		}
		curves = append(curves, l)
	}
	perSeed := func(title, y string, all []category) plate {
		names, lines := bySeed(seeds, all)
		return plate{title: title, y: y, categories: names, lines: lines, width: 860, height: 360}
	}
	reward := func(title, y string, x measure) plate {
		var all []category
		for _, m := range append(slices.Clone(rewardModels), policyScorers[0]) {
			all = append(all, category{m.title, f.of(seeds, m.name, x(m), 0)})
		}
		return perSeed(title, y, all)
	}
	taught := []category{{"before", f.of(seeds, "student", "avg@8", 1)}}
	for _, s := range students {
		taught = append(taught, category{s.title, f.of(seeds, s.name, "avg@8", 1)})
	}
	rounds := []category{{"before", f.of(seeds, "seft", "avg@8", 0)}}
	for _, m := range seftRuns {
		rounds = append(rounds, category{m.title, f.of(seeds, m.name, "avg@8", seftRound(selfRounds))})
	}
	rounds = append(rounds, category{"sampled answers", f.of(seeds, "self", "avg@8", selfRounds)},
		category{"greedy answers", f.of(seeds, fmt.Sprint("self-greedy-round-", selfRounds), "avg@8", 0)})
	rounds = append(rounds, category{"SFT, chosen side", f.of(seeds, "sft-chosen", "avg@8", 1)})
	var stability []line
	for _, m := range stabilityMethods {
		l := line{name: m.title}
		for _, c := range stabilityCells() {
			if c.method == m.method {
				for i, kl := range f.of(seeds, c.name(), "kl", stabilityIterations) {
					l.points = append(l.points, point{x: kl, y: f.of(seeds, c.name(), "avg@8", stabilityIterations)[i]})
				}
			}
		}
		stability = append(stability, l)
	}
	return map[string]plate{
		"distrl": {title: "Held-out accuracy, mean over seeds and its standard error", x: "policy iterations", y: "avg@8", lines: curves,
			width: 520, height: 330},
		"reward-f1":  reward("First wrong step found (ProcessBench F1), policy's own chains", "F1", stepF1),
		"reward-bon": reward("Best-of-8", "accuracy", bestOf8),
		"students":   perSeed("Students", "avg@8", taught),
		"seft":       perSeed("SEFT and self-training after two rounds", "avg@8", rounds),
		"stability": {title: "After 15 iterations: accuracy against the last iteration's step",
			x: "KL(before, after) of the last iteration, nats a token", y: "avg@8",
			logX: true, lines: stability, width: 640, height: 400},
	}
}
