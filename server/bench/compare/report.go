package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is all that one run measured.
type Report struct {
	// Date is the day of the run, in UTC.
	Date string `json:"date"`
	// CPUs is how many processors all processes shared, clients included.
	CPUs int `json:"cpus"`
	// Go is the version of Go that built both sides.
	Go string `json:"go"`
	// Short marks a run that only shows that the measurement works.
	Short bool `json:"short,omitempty"`
	// Rows are the figures.
	Rows []Row `json:"rows"`
}

// Row is one figure.
type Row struct {
	// Row says what was measured.
	Row string `json:"row"`
	// Bar says what it is held to; empty for a figure without a bar.
	Bar string `json:"bar"`
	// Unit is the unit of Ours and Theirs.
	Unit string `json:"unit"`
	// Ours is the median of sessiond's side, Theirs of the other; nil where there
	// is none.
	Ours   float64  `json:"ours"`
	Theirs *float64 `json:"theirs"`
	// Ratio compares the medians: as many times faster for a rate or a time
	// saved, or ours by theirs, as the bar has it.
	Ratio *float64 `json:"ratio"`
	// Spread is the least and the greatest of what the bar is about (the ratio if
	// there are two sides, else Ours) in any round.
	Spread [2]float64 `json:"spread"`
	// Rounds is how many rounds the medians are of.
	Rounds int `json:"rounds"`
	// Pass is whether the bar is met; nil without a bar.
	Pass *bool `json:"pass"`
	// Note says what else a reader must know.
	Note string `json:"note,omitempty"`
}

func (r Row) missed() bool { return r.Pass != nil && !*r.Pass }

// invalid makes a row fail, whatever its figures, and says why.
func (r Row) invalid(why string) Row {
	r.Pass = new(bool)
	r.Note = strings.TrimPrefix(r.Note+"; INVALID: "+why, "; ")
	return r
}

// bar is what a figure is held to.
type bar struct {
	text string
	met  func(ours, ratio float64) bool // nil: no bar
}

var noBar = bar{}

func ratioAtLeast(x float64) bar {
	return bar{fmt.Sprintf("ratio ≥ %v", x), func(_, ratio float64) bool { return ratio >= x }}
}

func ratioAtMost(x float64) bar {
	return bar{fmt.Sprintf("ratio ≤ %v", x), func(_, ratio float64) bool { return ratio <= x }}
}

func oursAtMost(x float64, unit string) bar {
	return bar{fmt.Sprintf("≤ %v %s", x, unit), func(ours, _ float64) bool { return ours <= x }}
}

// comparison says how the two sides of a pair make a ratio.
type comparison func(ours, theirs float64) float64

// oursByTheirs is for rates where more is better and for amounts held to a share.
func oursByTheirs(ours, theirs float64) float64 { return ours / theirs }

// timesCheaper is for costs: how many of ours one of theirs pays for.
func timesCheaper(ours, theirs float64) float64 { return theirs / ours }

// pairRow makes a row of the samples of two sides, one of each a round.
func pairRow(name, unit string, b bar, compare comparison, ours, theirs []float64) Row {
	a, z := median(ours), median(theirs)
	ratio := compare(a, z)
	row := Row{Row: name, Bar: b.text, Unit: unit, Ours: round3(a), Theirs: ptr(round3(z)), Ratio: ptr(round3(ratio)), Rounds: len(ours)}
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = compare(ours[i], theirs[i])
	}
	row.Spread = [2]float64{round3(slices.Min(ratios)), round3(slices.Max(ratios))}
	if b.met != nil {
		row.Pass = ptr(b.met(a, ratio))
	}
	return row
}

// soloRow makes a row of the samples of our side alone.
func soloRow(name, unit string, b bar, ours []float64) Row {
	a := median(ours)
	row := Row{Row: name, Bar: b.text, Unit: unit, Ours: round3(a), Rounds: len(ours)}
	row.Spread = [2]float64{round3(slices.Min(ours)), round3(slices.Max(ours))}
	if b.met != nil {
		row.Pass = ptr(b.met(a, math.NaN()))
	}
	return row
}

func ptr[T any](v T) *T { return &v }

// median returns the middle value, or the mean of the two middle ones.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// percentile returns the least of the sorted values that p of 100 do not exceed.
func percentile(sorted []time.Duration, p float64) time.Duration {
	i := int(math.Ceil(p/100*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// round3 keeps three places, and more of small figures.
func round3(v float64) float64 {
	if math.Abs(v) >= 1 {
		return math.Round(v*1000) / 1000
	}
	return math.Round(v*1e6) / 1e6
}

func newReport(cfg labConfig) Report {
	return Report{Date: time.Now().UTC().Format(time.DateOnly), CPUs: runtime.NumCPU(), Go: runtime.Version(), Short: cfg.short}
}

// write puts the report into a file.
func (r Report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// table prints the rows for a reader.
func (r Report) table(w io.Writer) error {
	tab := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	lines := []string{"row\tunit\tours\ttheirs\tratio\tspread\trounds\tbar\tpass\tnote"}
	for _, row := range r.Rows {
		pass := "-"
		if row.Pass != nil {
			pass = map[bool]string{true: "yes", false: "NO"}[*row.Pass]
		}
		lines = append(lines, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s–%s\t%d\t%s\t%s\t%s", row.Row, row.Unit, figure(&row.Ours), figure(row.Theirs), figure(row.Ratio),
			figure(&row.Spread[0]), figure(&row.Spread[1]), row.Rounds, row.Bar, pass, row.Note))
	}
	if _, err := fmt.Fprintln(tab, strings.Join(lines, "\n")); err != nil {
		return err
	}
	return tab.Flush()
}

func figure(v *float64) string {
	switch {
	case v == nil:
		return "-"
	case math.Abs(*v) >= 1000:
		return fmt.Sprintf("%.0f", *v)
	default:
		return fmt.Sprintf("%.4g", *v)
	}
}
