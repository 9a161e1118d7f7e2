package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 5}, 5},
		{[]float64{8, 2, 4, 6}, 5},
	} {
		if got := median(tt.values); got != tt.want {
			t.Errorf("median(%v) = %v, want %v", tt.values, got, tt.want)
		}
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, tt := range []struct {
		sorted []time.Duration
		p      float64
		want   time.Duration
	}{
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 100, 100},
		{hundred[:1], 99, 1},
		{hundred[:10], 99, 10},
		{hundred[:10], 0, 1},
	} {
		if got := percentile(tt.sorted, tt.p); got != tt.want {
			t.Errorf("percentile(%d values, %v) = %d, want %d", len(tt.sorted), tt.p, got, tt.want)
		}
	}
}

func TestPairRow(t *testing.T) {
	for _, tt := range []struct {
		name         string
		bar          bar
		compare      comparison
		ours, theirs []float64
		ratio        float64
		spread       [2]float64
		pass         bool
	}{
		{"rate above its bar", ratioAtLeast(4), oursByTheirs, []float64{50, 40, 60}, []float64{10, 20, 10}, 5, [2]float64{2, 6}, true},
		{"rate below its bar", ratioAtLeast(4), oursByTheirs, []float64{30, 30}, []float64{10, 10}, 3, [2]float64{3, 3}, false},
		{"rate at its bar", ratioAtLeast(4), oursByTheirs, []float64{40}, []float64{10}, 4, [2]float64{4, 4}, true},
		{"cheaper", ratioAtLeast(40), timesCheaper, []float64{100}, []float64{5000}, 50, [2]float64{50, 50}, true},
		{"not cheaper", ratioAtLeast(40), timesCheaper, []float64{5000}, []float64{100}, 0.02, [2]float64{0.02, 0.02}, false},
		{"share above its bar", ratioAtMost(0.25), oursByTheirs, []float64{3}, []float64{10}, 0.3, [2]float64{0.3, 0.3}, false},
		{"bar on ours alone", oursAtMost(1000, "ms"), oursByTheirs, []float64{900}, []float64{10}, 90, [2]float64{90, 90}, true},
	} {
		row := pairRow(tt.name, "u", tt.bar, tt.compare, tt.ours, tt.theirs)
		if *row.Ratio != tt.ratio || row.Spread != tt.spread || *row.Pass != tt.pass || row.Rounds != len(tt.ours) {
			t.Errorf("%s: ratio %v, spread %v, pass %v, rounds %d; want %v, %v, %v, %d",
				tt.name, *row.Ratio, row.Spread, *row.Pass, row.Rounds, tt.ratio, tt.spread, tt.pass, len(tt.ours))
		}
	}
}

func TestSoloRow(t *testing.T) {
	row := soloRow("start", "ms", oursAtMost(1000, "ms"), []float64{1200, 800, 1100})
	if row.Ours != 1100 || row.Theirs != nil || row.Ratio != nil || row.Spread != [2]float64{800, 1200} || !row.missed() {
		t.Errorf("%+v", row)
	}
	if free := soloRow("guard", "ns", noBar, []float64{7}); free.Pass != nil || free.missed() {
		t.Errorf("a row without a bar passed or failed: %+v", free)
	}
}

// A row that did not measure what it says must fail even where its figures are
// good, and where it has no bar.
func TestInvalidRowFails(t *testing.T) {
	good := soloRow("hit", "ns", oursAtMost(200, "ns"), []float64{1})
	good.Note = "a note"
	for _, row := range []Row{good, soloRow("hit", "ns", noBar, []float64{1})} {
		failed := row.invalid("no hit")
		if !failed.missed() || !strings.HasSuffix(failed.Note, "INVALID: no hit") || !strings.HasPrefix(failed.Note, row.Note) {
			t.Errorf("%+v", failed)
		}
		if row.missed() {
			t.Error("the row itself was changed")
		}
	}
}

func TestRound3(t *testing.T) {
	for in, want := range map[float64]float64{1234.56789: 1234.568, 0.123456789: 0.123457, 0: 0, -2.00049: -2} {
		if got := round3(in); math.Abs(got-want) > 1e-12 {
			t.Errorf("round3(%v) = %v, want %v", in, got, want)
		}
	}
}

func TestReportIsWritten(t *testing.T) {
	report := Report{CPUs: 2, Rows: []Row{
		pairRow("a pair", "calls/s", ratioAtLeast(2), oursByTheirs, []float64{30}, []float64{10}),
		soloRow("alone", "B", noBar, []float64{5}),
	}}
	path := filepath.Join(t.TempDir(), "compare.json")
	if err := report.write(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Rows []map[string]any }
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	pair, alone := got.Rows[0], got.Rows[1]
	if pair["ratio"] != 3.0 || pair["pass"] != true || pair["bar"] != "ratio ≥ 2" || pair["rounds"] != 1.0 {
		t.Errorf("%v", pair)
	}
	for _, key := range []string{"theirs", "ratio", "pass"} {
		if v, ok := alone[key]; !ok || v != nil {
			t.Errorf("%s of a row alone is %v, want null", key, v)
		}
	}
	var table bytes.Buffer
	if err := report.table(&table); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(table.String(), "\n"); lines != 3 {
		t.Errorf("the table has %d lines, want a heading and 2 rows:\n%s", lines, table.String())
	}
}
