package report

import (
	"cmp"
	"errors"
	"fmt"
	"html/template"
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

	"github.com/millrace/millrace/pipelines/show"
)

// figure is a chart with its words and, for those who cannot see it, its numbers.
type figure struct {
	Title, Note  string
	Wide, Narrow template.HTML // Narrow is empty when one drawing serves both
	Legend       []legendItem  // for lines other than the methods
	methods      []int         // the methods it draws
	Columns      []string
	Rows         [][]string
}

// series is one line of a chart.
type series struct {
	name   string
	style  int
	points []dot
}

// dot is a point of a series; an error that is not finite is not drawn.
type dot struct {
	x, y, err float64
	label     string  // what hovering shows
	size      float64 // radius of its mark; 0: the usual one
}

// chart is what plotting needs to know.
type chart struct {
	label          string // the whole chart in words
	width, height  vg.Length
	xTitle, yTitle string
	unit           bool // x and y are probabilities on [0, 1] and the diagonal is drawn
	y              [2]float64
	fixedY         bool
	guide          float64
	guided         bool
	band           [2]float64 // a marked stretch of x, such as the wrong line
	banded, bare   bool       // bare: no axis titles, no marks
	series         []series
}

// Colours are placeholders: the page's style sheet says what each is in light and in dark.
var (
	inkText  = color.RGBA{R: 1, G: 1, B: 1, A: 255}
	inkGrid  = color.RGBA{R: 1, G: 1, B: 2, A: 255}
	inkGuide = color.RGBA{R: 1, G: 1, B: 3, A: 255}
	inkBand  = color.RGBA{R: 1, G: 1, B: 4, A: 255}
	inkPaper = color.RGBA{R: 1, G: 1, B: 5, A: 255}
)

const seriesColours = 6

func inkSeries(style int) color.RGBA {
	return color.RGBA{R: 1, G: 2, B: uint8(1 + style%seriesColours), A: 255}
}

// restyle turns the library's stand-alone drawing into one that belongs to the page.
var restyle = func() *strings.Replacer {
	pairs := []string{
		"#010101", "var(--muted)", "#010102", "var(--grid)", "#010103", "var(--guide)", "#010104", "var(--band)", "#010105", "var(--card)",
		"font-family:Liberation Sans;font-variant:normal;font-weight:normal;font-style:normal;", "", "\n\tstyle", " style", " />", "/>",
	}
	for i := range seriesColours {
		pairs = append(pairs, fmt.Sprintf("#0102%02X", i+1), fmt.Sprintf("var(--s%d)", i+1))
	}
	return strings.NewReplacer(pairs...)
}()

// Series differ in colour, dash and mark, so that they can be told apart without colour.
var (
	dashes = [][]vg.Length{nil, {6, 3}, {2, 2}, {8, 2, 2, 2}, {10, 4}, {1, 3}}
	marks  = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}}
)

func lineStyle(style int) draw.LineStyle {
	return draw.LineStyle{Color: inkSeries(style), Width: 1.8, Dashes: dashes[style%len(dashes)]}
}

func (c chart) svg() (template.HTML, error) {
	p := plot.New()
	p.BackgroundColor = nil
	c.axis(&p.X, c.xTitle)
	c.axis(&p.Y, c.yTitle)
	grid := plotter.NewGrid()
	grid.Vertical = draw.LineStyle{}
	grid.Horizontal = draw.LineStyle{Color: inkGrid, Width: 0.8}
	p.Add(grid)
	if c.banded {
		p.Add(bandPlotter{c.band})
	}
	if c.guided {
		p.Add(guidePlotter{func(float64) float64 { return c.guide }})
	}
	if c.unit {
		p.Add(guidePlotter{func(x float64) float64 { return x }})
	}
	for _, s := range c.series {
		if err := c.add(p, s); err != nil {
			return "", err
		}
	}
	c.ranges(p)
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.TickerFunc(wholeTicks), plot.TickerFunc(ticks)
	if c.unit {
		p.X.Tick.Marker = p.Y.Tick.Marker
	}
	canvas := vgsvg.New(c.width, c.height)
	area := draw.New(canvas)
	p.Draw(area)
	body, err := inline(canvas)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	fmt.Fprintf(&out, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">%s`,
		c.width.Points(), c.height.Points(), template.HTMLEscapeString(c.label), body)
	data := p.DataCanvas(area)
	toX, toY := p.Transforms(&data)
	for _, s := range c.series {
		for _, d := range s.points {
			if d.label != "" && finite(d.x) && finite(d.y) {
				fmt.Fprintf(&out, `<circle class="hit" cx="%.5g" cy="%.5g" r="7"><title>%s</title></circle>`,
					toX(d.x).Points(), (c.height - toY(d.y)).Points(), template.HTMLEscapeString(d.label))
			}
		}
	}
	out.WriteString("</svg>")
	return template.HTML(out.String()), nil
}

func (c chart) axis(a *plot.Axis, title string) {
	a.LineStyle.Width, a.Tick.LineStyle.Width, a.Tick.Length = 0, 0, 2
	a.Padding = 4
	a.Label.Text = title
	a.Label.TextStyle.Color, a.Tick.Label.Color = inkText, inkText
	a.Label.TextStyle.Font = font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, 11)
	a.Tick.Label.Font = font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, 11)
}

// add draws one series: lines between neighbours that are both known, error bars, marks.
func (c chart) add(p *plot.Plot, s series) error {
	var stretch plotter.XYs
	flush := func() error {
		if len(stretch) > 1 && !c.unit {
			l, err := plotter.NewLine(stretch)
			if err != nil {
				return err
			}
			l.LineStyle = lineStyle(s.style)
			p.Add(l)
		}
		stretch = nil
		return nil
	}
	var known []dot
	for _, d := range s.points {
		if !finite(d.x) || !finite(d.y) {
			if err := flush(); err != nil {
				return err
			}
			continue
		}
		known = append(known, d)
		stretch = append(stretch, plotter.XY{X: d.x, Y: d.y})
	}
	if err := flush(); err != nil {
		return err
	}
	if len(known) > 0 {
		p.Add(dotPlotter{dots: known, style: s.style, marks: !c.bare && len(known) <= 30 || c.unit || len(known) == 1})
	}
	return nil
}

// ranges gives both axes a little room, and a width where all values are equal.
func (c chart) ranges(p *plot.Plot) {
	switch {
	case c.unit:
		p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, 1, 0, 1
		return
	case c.fixedY:
		p.Y.Min, p.Y.Max = c.y[0], c.y[1]
	case c.guided:
		p.Y.Min, p.Y.Max = min(p.Y.Min, c.guide), max(p.Y.Max, c.guide)
	}
	if !(p.X.Min < p.X.Max) {
		p.X.Min, p.X.Max = p.X.Min-0.5, p.X.Max+0.5
	}
	if !(p.Y.Min < p.Y.Max) {
		half := max(math.Abs(p.Y.Min)*0.1, 1e-6)
		p.Y.Min, p.Y.Max = p.Y.Min-half, p.Y.Max+half
	}
	if !c.fixedY {
		room := (p.Y.Max - p.Y.Min) * 0.06
		p.Y.Min, p.Y.Max = p.Y.Min-room, p.Y.Max+room
	}
}

// ticks are the multiples of 1, 2 or 5 times a power of ten that give four to eight labels.
func ticks(lo, hi float64) []plot.Tick {
	if !finite(lo) || !finite(hi) || hi-lo <= math.Abs(hi)*1e-12 {
		return nil
	}
	step := math.Pow(10, math.Floor(math.Log10((hi-lo)/2)))
	for _, m := range []float64{5, 2} { // the coarsest step that still gives four intervals, or the finest
		if (hi-lo)/(step*m) >= 3.5 {
			step *= m
			break
		}
	}
	for (hi-lo)/step > 8 {
		step *= 2
	}
	decimals := max(0, -int(math.Floor(math.Log10(step)+1e-9)))
	var out []plot.Tick
	for i := math.Ceil(lo/step-1e-9) + 0; i*step <= hi+step*1e-9; i++ {
		label := strconv.FormatFloat(i*step, 'f', decimals, 64)
		if decimals > 4 || math.Abs(i*step) >= 1e6 {
			label = strconv.FormatFloat(i*step, 'g', 3, 64)
		}
		out = append(out, plot.Tick{Value: i * step, Label: strings.Replace(label, "-", "−", 1)})
	}
	return out
}

// wholeTicks are the ticks of an axis that counts iterations or tokens.
func wholeTicks(lo, hi float64) []plot.Tick {
	if hi-lo >= 8 {
		return ticks(lo, hi)
	}
	var out []plot.Tick
	for i := math.Ceil(lo); i <= hi; i++ {
		out = append(out, plot.Tick{Value: i, Label: strconv.Itoa(int(i))})
	}
	return out
}

// dotPlotter draws the marks and error bars of a series.
type dotPlotter struct {
	dots  []dot
	style int
	marks bool
}

func (d dotPlotter) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	thin := draw.LineStyle{Color: inkSeries(d.style), Width: 1}
	for _, dot := range d.dots {
		if finite(dot.err) && dot.err > 0 {
			c.StrokeLine2(thin, x(dot.x), y(dot.y-dot.err), x(dot.x), y(dot.y+dot.err))
		}
		if !d.marks {
			continue
		}
		at := vg.Point{X: x(dot.x), Y: y(dot.y)}
		radius := vg.Length(2.8)
		if dot.size > 0 {
			radius = vg.Length(dot.size)
		}
		c.DrawGlyphNoClip(draw.GlyphStyle{Color: inkPaper, Radius: radius + 1.2, Shape: draw.CircleGlyph{}}, at)
		c.DrawGlyphNoClip(draw.GlyphStyle{Color: inkSeries(d.style), Radius: radius, Shape: marks[d.style%len(marks)]}, at)
	}
}

func (d dotPlotter) DataRange() (xmin, xmax, ymin, ymax float64) {
	xmin, xmax, ymin, ymax = math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, dot := range d.dots {
		err := dot.err
		if !finite(err) {
			err = 0
		}
		xmin, xmax = min(xmin, dot.x), max(xmax, dot.x)
		ymin, ymax = min(ymin, dot.y-err), max(ymax, dot.y+err)
	}
	return xmin, xmax, ymin, ymax
}

// guidePlotter draws a thin dashed line y = f(x).
type guidePlotter struct{ f func(float64) float64 }

func (g guidePlotter) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	c.StrokeLine2(draw.LineStyle{Color: inkGuide, Width: 1, Dashes: []vg.Length{4, 3}}, x(p.X.Min), y(g.f(p.X.Min)), x(p.X.Max),
		y(g.f(p.X.Max)))
}

// bandPlotter fills a stretch of x over the whole height.
type bandPlotter struct{ x [2]float64 }

func (b bandPlotter) Plot(c draw.Canvas, p *plot.Plot) {
	x, _ := p.Transforms(&c)
	lo, hi := max(x(b.x[0]), c.Min.X), min(x(b.x[1]), c.Max.X)
	c.FillPolygon(inkBand, []vg.Point{{X: lo, Y: c.Min.Y}, {X: hi, Y: c.Min.Y}, {X: hi, Y: c.Max.Y}, {X: lo, Y: c.Max.Y}})
}

// metricFigure draws one metric of all methods over iterations.
func metricFigure(p Panel, methods []Method) (figure, bool, error) {
	x := cmp.Or(p.xTitle, "iteration")
	f := figure{Title: p.Title, Note: p.Note, Columns: []string{x}}
	c := chart{width: 340, height: 210, guide: p.Guide, guided: p.Guided, xTitle: x}
	var iterations []int
	var words []string
	for i, m := range methods {
		s := series{name: m.Name, style: i}
		for _, pt := range m.Points {
			y, measured := pt.Metrics[p.Metric]
			if !measured {
				continue // such as an evaluation every tenth iteration: the line passes
			}
			err, ok := pt.Metrics[p.Error]
			if !ok {
				err = math.NaN()
			}
			label := fmt.Sprintf("%s, %s %d: %s", m.Name, x, pt.Iteration, num(y))
			if finite(err) {
				label += " ± " + num(err)
			}
			if finite(y) {
				iterations = addSorted(iterations, pt.Iteration)
			}
			s.points = append(s.points, dot{x: float64(pt.Iteration), y: y, err: err, label: label})
		}
		if first, last, ok := ends(s.points); ok {
			words = append(words, fmt.Sprintf("%s from %s at %s %g to %s at %s %g", m.Name, num(first.y), x, first.x, num(last.y), x, last.x))
			f.Columns, f.methods = append(f.Columns, m.Name), append(f.methods, i)
			c.series = append(c.series, s)
		}
	}
	if len(iterations) == 0 {
		return f, false, nil
	}
	for _, it := range iterations {
		row := []string{strconv.Itoa(it)}
		for _, s := range c.series {
			row = append(row, cellAt(s.points, it))
		}
		f.Rows = append(f.Rows, row)
	}
	c.label = p.Title + ": " + strings.Join(words, "; ")
	var err error
	if p.Section == Headline {
		if f.Narrow, err = c.svg(); err != nil {
			return f, false, err
		}
		c.width, c.height = 820, 320
	}
	f.Wide, err = c.svg()
	return f, true, err
}

func addSorted(xs []int, x int) []int {
	i, found := slices.BinarySearch(xs, x)
	if found {
		return xs
	}
	return slices.Insert(xs, i, x)
}

func ends(points []dot) (first, last dot, ok bool) {
	for _, d := range points {
		if finite(d.y) {
			if !ok {
				first, ok = d, true
			}
			last = d
		}
	}
	return first, last, ok
}

func cellAt(points []dot, iteration int) string {
	for _, d := range points {
		if int(d.x) == iteration {
			if finite(d.err) {
				return num(d.y) + " ± " + num(d.err)
			}
			return num(d.y)
		}
	}
	return "–"
}

// reliabilityFigure draws predicted against observed correctness; a mark's area grows with its number of predictions.
// Lines named like a method look like it, others differ from all methods.
func reliabilityFigure(all []Calibration, methods []Method) (figure, bool, error) {
	f := figure{
		Title: "Reliability of P(correct)", Note: "On the dashed diagonal predictions are right on average; area of a mark: number of " +
			"predictions; bars: one standard error.",
		Columns: []string{"", "predicted", "observed", "predictions"},
	}
	c := chart{width: 340, height: 270, unit: true, xTitle: "predicted probability", yTitle: "share correct"}
	most := 1
	for _, cal := range all {
		for _, b := range cal.Bins {
			most = max(most, b.N)
		}
	}
	var words []string
	for i, cal := range all {
		s := series{name: cal.Name, style: slices.IndexFunc(methods, func(m Method) bool { return m.Name == cal.Name })}
		if s.style < 0 {
			s.style = len(methods) + i
		}
		for _, b := range cal.Bins {
			if b.N <= 0 || !finite(b.P) || !finite(b.Y) {
				continue
			}
			s.points = append(s.points, dot{
				x: b.P, y: b.Y, err: math.Sqrt(max(b.Y*(1-b.Y), 0) / float64(b.N)), size: 2 + 5*math.Sqrt(float64(b.N)/float64(most)),
				label: fmt.Sprintf("%s: predicted %s, observed %s, %d predictions", cal.Name, fixed(2, b.P), fixed(2, b.Y), b.N),
			})
			f.Rows = append(f.Rows, []string{cal.Name, fixed(3, b.P), fixed(3, b.Y), strconv.Itoa(b.N)})
		}
		if len(s.points) > 0 {
			item, err := newLegendItem(s.style, s.name)
			if err != nil {
				return f, false, err
			}
			f.Legend = append(f.Legend, item)
			words = append(words, fmt.Sprintf("%s in %d bins", cal.Name, len(s.points)))
			c.series = append(c.series, s)
		}
	}
	if len(c.series) == 0 {
		return f, false, nil
	}
	c.label = f.Title + ": " + strings.Join(words, "; ")
	svg, err := c.svg()
	f.Wide = svg
	return f, true, err
}

// traceChart draws P(correct | prefix) over the tokens of a response and marks the first wrong line.
func traceChart(r show.Rollout, tokens []show.Token, steps []int, y [2]float64) (template.HTML, error) {
	c := chart{width: 230, height: 120, bare: true, guide: 0.5, guided: true, fixedY: true, y: y, label: "P(correct) token by token"}
	s := series{}
	low, high, at := math.Inf(1), math.Inf(-1), 0
	for i, t := range tokens {
		p := min(max(t.PCorrect, y[0]), y[1]) // the few beyond the scale stay at its edge
		if math.IsNaN(t.PCorrect) {
			p = math.NaN()
		} else {
			if t.PCorrect < low {
				low, at = t.PCorrect, i
			}
			high = max(high, t.PCorrect)
		}
		s.points = append(s.points, dot{x: float64(i), y: p, err: math.NaN()})
		if r.FirstError != nil && steps[i] == *r.FirstError {
			if !c.banded {
				c.banded, c.band[0] = true, float64(i)-0.5
			}
			c.band[1] = float64(i) + 0.5
		}
	}
	if high < low {
		return "", nil
	}
	c.label += fmt.Sprintf(": between %s and %s, lowest at token %d", fixed(2, low), fixed(2, high), at)
	c.series = []series{s}
	return c.svg()
}

// legendItem is a method's line as the charts draw it.
type legendItem struct {
	Name   string
	Sample template.HTML
}

func newLegendItem(style int, name string) (legendItem, error) {
	canvas := vgsvg.New(36, 12)
	area := draw.New(canvas)
	area.StrokeLine2(lineStyle(style), 1, 6, 35, 6)
	area.DrawGlyphNoClip(draw.GlyphStyle{Color: inkSeries(style), Radius: 3, Shape: marks[style%len(marks)]}, vg.Point{X: 18, Y: 6})
	body, err := inline(canvas)
	return legendItem{Name: name, Sample: template.HTML(`<svg viewBox="0 0 36 12" width="36" height="12" aria-hidden="true">` + body +
		"</svg>")}, err
}

// inline is what a canvas drew, without the frame of a stand-alone SVG file.
func inline(canvas *vgsvg.Canvas) (string, error) {
	var raw strings.Builder
	if _, err := canvas.WriteTo(&raw); err != nil {
		return "", err
	}
	start := strings.Index(raw.String(), "<g ")
	if start < 0 {
		return "", errors.New("unexpected SVG from the plotting library")
	}
	return restyle.Replace(strings.TrimSuffix(strings.TrimSpace(raw.String()[start:]), "</svg>")), nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
