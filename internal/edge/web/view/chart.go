package view

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Chart is a number over time, drawn on the server. The title of the panel that
// it is in says what it shows; Words says in a sentence what to see.
type Chart struct {
	Name   string // for who doesn't see it
	Words  string
	Series []Series // at most two filled ones; the second lies on top of the first
	Unit   func(float64) string
	Marks  []time.Time // vertical lines
	Mark   string      // what they mean
	Steps  bool        // stays until it changes, such as a count; else a line from point to point
}

// Series is a line of a chart.
type Series struct {
	Name   string
	Points []Point // by time
	Style  Style
}

// Point is a number at a time.
type Point struct {
	At time.Time
	Y  float64
}

// Style is how a line is drawn.
type Style string

// The styles: what is past is filled, a plan is dashed, a guess dotted.
const (
	Filled Style = "area"
	Plan   Style = "plan"
	Guess  Style = "guess"
)

// plotted is a chart as it is drawn, on 1000 × 160 units that stretch.
type plotted struct {
	Chart
	lines  []path
	grid   []string // heights of the lines across
	zero   string
	marks  []string
	ylabel []string // from the top
	xlabel []string
}

type path struct{ class, d string }

const plotWidth, plotHeight = 1000.0, 160.0

func (c Chart) plot(now time.Time) plotted {
	p := plotted{Chart: c}
	if p.Unit == nil {
		p.Unit = func(y float64) string { return Number(int64(math.Round(y))) }
	}
	first, last, most := time.Time{}, time.Time{}, 0.0
	for _, s := range c.Series {
		for _, point := range s.Points {
			if first.IsZero() || point.At.Before(first) {
				first = point.At
			}
			if point.At.After(last) {
				last = point.At
			}
			most = max(most, point.Y)
		}
	}
	if !last.After(first) {
		last = first.Add(time.Hour)
	}
	step, count := ticks(most)
	top := step * float64(count)
	x := func(t time.Time) float64 { return plotWidth * t.Sub(first).Seconds() / last.Sub(first).Seconds() }
	y := func(v float64) float64 { return plotHeight * (1 - v/top) }
	for n, s := range c.Series {
		line := draw(s.Points, x, y, c.Steps)
		switch {
		case len(s.Points) == 0:
		case s.Style == Filled || s.Style == "":
			class := "area"
			if n > 0 {
				class = "area-2"
			}
			base := coordinate(y(0))
			p.lines = append(p.lines,
				path{class, line + "V" + base + "H" + coordinate(x(s.Points[0].At)) + "Z"},
				path{"line", line})
		default:
			p.lines = append(p.lines, path{string(s.Style), line})
		}
	}
	for n := range count + 1 {
		value := step * float64(count-n)
		p.ylabel = append(p.ylabel, p.Unit(value))
		if value > 0 {
			p.grid = append(p.grid, coordinate(y(value)))
		}
	}
	p.zero = coordinate(y(0))
	for _, mark := range c.Marks {
		if !mark.Before(first) && !mark.After(last) {
			p.marks = append(p.marks, coordinate(x(mark)))
		}
	}
	const labels = 6
	for n := range labels {
		at := first.Add(last.Sub(first) * time.Duration(2*n+1) / (2 * labels))
		p.xlabel = append(p.xlabel, axis(now, at, last.Sub(first)))
	}
	return p
}

// ticks are a round distance and how many of them hold a number.
func ticks(most float64) (step float64, count int) {
	if most <= 0 {
		return 1, 1
	}
	step = math.Pow(10, math.Floor(math.Log10(most)))
	for _, smaller := range []float64{.1, .2, .25, .5, 1, 2, 5} {
		if count := math.Ceil(most / (step * smaller)); count <= 5 {
			return step * smaller, int(count)
		}
	}
	return step, int(math.Ceil(most / step))
}

func draw(points []Point, x func(time.Time) float64, y func(float64) float64, steps bool) string {
	var d strings.Builder
	for n, point := range points {
		switch {
		case n == 0:
			fmt.Fprintf(&d, "M%s %s", coordinate(x(point.At)), coordinate(y(point.Y)))
		case steps:
			fmt.Fprintf(&d, "H%sV%s", coordinate(x(point.At)), coordinate(y(point.Y)))
		default:
			fmt.Fprintf(&d, "L%s %s", coordinate(x(point.At)), coordinate(y(point.Y)))
		}
	}
	return d.String()
}

func coordinate(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// axis is a time below a chart that is so long.
func axis(now, t time.Time, long time.Duration) string {
	t = t.UTC()
	switch {
	case long <= 48*time.Hour:
		return t.Format("15:04")
	case long <= 90*24*time.Hour:
		return Date(now, t)
	case long <= 730*24*time.Hour:
		return t.Format("Jan")
	default:
		return t.Format("2006")
	}
}

// numbers are the rows of the table behind a chart: the newest first.
func (p plotted) numbers() [][]string {
	var rows [][]string
	at := map[time.Time]int{}
	for n, s := range p.Series {
		for _, point := range s.Points {
			row, ok := at[point.At]
			if !ok {
				row = len(rows)
				at[point.At] = row
				rows = append(rows, append([]string{point.At.UTC().Format("2006-01-02 15:04")}, make([]string, len(p.Series))...))
			}
			rows[row][n+1] = p.Unit(point.Y)
		}
	}
	sortRows(rows)
	return rows
}
