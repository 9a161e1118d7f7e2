package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/postgres"
)

const (
	eraOne   = store.Era("00000001:0b9b7d1e-2c6f-4a43-9f3f-1c2d3e4f5a6b:16400:733")
	eraCrash = store.Era("00000001:1b9b7d1e-2c6f-4a43-9f3f-1c2d3e4f5a6b:16400:733")
	eraTwo   = store.Era("00000002:2b9b7d1e-2c6f-4a43-9f3f-1c2d3e4f5a6b:16400:740")
)

func TestCovers(t *testing.T) {
	xid := func(n int) feed.Revision { return feed.Revision(fmt.Sprintf("pg1/7/%s/x/%d", eraOne, n)) }
	at := func(s string) feed.Revision { return feed.Revision(fmt.Sprintf("pg1/7/%s/s/%s", eraOne, s)) }
	for _, tt := range []struct {
		name     string
		position feed.Position
		era      store.Era
		revision feed.Revision
		want     bool
	}{
		{"a transaction before", "100:110:", eraOne, xid(109), true},
		{"the next transaction", "100:110:", eraOne, xid(110), false},
		{"a later transaction", "100:110:", eraOne, xid(200), false},
		{"a transaction in progress", "100:110:100,105", eraOne, xid(105), false},
		{"one between those in progress", "100:110:100,105", eraOne, xid(104), true},
		{"another life", "100:110:", eraCrash, xid(1), false},
		{"another timeline", "100:110:", eraTwo, xid(1), false},
		{"the same snapshot", "100:110:105", eraOne, at("100:110:105"), true},
		{"an older snapshot", "100:111:105", eraOne, at("100:110:105"), true},
		{"a newer snapshot", "100:110:105", eraOne, at("100:111:105"), false},
		{"one that saw more finished", "100:110:105", eraOne, at("100:110:"), false},
		{"one that saw less finished", "100:110:", eraOne, at("100:110:105"), true},
		{"in progress here, not begun there", "100:120:115", eraOne, at("100:110:"), true},
		{"no position", "", eraOne, xid(1), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := (&postgres.Feed{}).Covers(tt.position, tt.era, tt.revision)
			if err != nil || got != tt.want {
				t.Errorf("Covers = %v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

// TestCoversAgainstSets compares the arithmetic with its meaning: the finished
// transactions of one snapshot are a subset of the other's.
func TestCoversAgainstSets(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	draw := func() (string, map[int]bool) {
		xmin, finished := 1+random.IntN(5), map[int]bool{}
		xmax := xmin + random.IntN(6)
		var running []string
		for xid := 1; xid < xmax; xid++ {
			if xid >= xmin && random.IntN(2) == 0 {
				running = append(running, fmt.Sprint(xid))
			} else {
				finished[xid] = true
			}
		}
		return fmt.Sprintf("%d:%d:%s", xmin, xmax, strings.Join(running, ",")), finished
	}
	covered := 0
	for range 20_000 {
		p, have := draw()
		s, need := draw()
		want := true
		for xid := range need {
			want = want && have[xid]
		}
		got, err := (&postgres.Feed{}).Covers(feed.Position(p), eraOne, feed.Revision(fmt.Sprintf("pg1//%s/s/%s", eraOne, s)))
		if err != nil {
			t.Fatal(err)
		}
		// A snapshot whose end is later, all beyond the other's being in progress, may
		// be called not covered: that costs a read, and nothing else.
		if got && !want {
			t.Fatalf("position %s is said to cover %s", p, s)
		}
		if got {
			covered++
		}
	}
	if covered < 1000 {
		t.Errorf("only %d of the pairs were covered: the test shows nothing", covered)
	}
}

func TestMeets(t *testing.T) {
	of := func(system string, era store.Era) feed.Revision {
		return feed.Revision("pg1/" + system + "/" + string(era) + "/x/100")
	}
	for _, tt := range []struct {
		name     string
		seen     string // the system identifier seen with era
		era      store.Era
		revision feed.Revision
		want     bool
	}{
		{"same era", "7", eraOne, of("7", eraOne), true},
		{"after a crash", "7", eraCrash, of("7", eraOne), true},
		{"after a failover", "7", eraTwo, of("7", eraOne), true},
		{"the server that was replaced", "7", eraOne, of("7", eraTwo), false},
		{"the same, identifier not readable now", "", eraOne, of("7", eraTwo), false},
		{"the same, identifier not readable then", "7", eraOne, of("", eraTwo), false},
		{"another server", "8", eraOne, of("7", eraTwo), true},
		{"no era", "7", "", of("7", eraOne), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &postgres.Feed{}
			f.Saw(tt.era, tt.seen)
			got, err := f.Meets(tt.era, tt.revision)
			if err != nil || got != tt.want {
				t.Errorf("Meets = %v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

func TestRevisionThatIsNone(t *testing.T) {
	for _, text := range []string{
		"", "x", "pg1", "pg1////", "pg2/7/" + string(eraOne) + "/x/1", "pg1/7/" + string(eraOne) + "/y/1",
		"pg1/seven/" + string(eraOne) + "/x/1", "pg1/7/1:life/x/1", "pg1/7/00000001:/x/1", "pg1/7/0000000g:life/x/1",
		"pg1/7/" + string(eraOne) + "/x/0", "pg1/7/" + string(eraOne) + "/x/-1", "pg1/7/" + string(eraOne) + "/x/+1", "pg1/7/" + string(eraOne) + "/x/01",
		"pg1/7/" + string(eraOne) + "/x/18446744073709551616", "pg1/7/" + string(eraOne) + "/x/1/1",
		"pg1/7/" + string(eraOne) + "/s/1", "pg1/7/" + string(eraOne) + "/s/5:4:", "pg1/7/" + string(eraOne) + "/s/4:9:3",
		"pg1/7/" + string(eraOne) + "/s/4:9:9", "pg1/7/" + string(eraOne) + "/s/4:9:6,5", "pg1/7/" + string(eraOne) + "/s/4:9:5,", "pg1/7/" + string(eraOne) + "/s/4:9:5:",
	} {
		f := &postgres.Feed{}
		if _, err := f.Covers("1:2:", eraOne, feed.Revision(text)); err == nil {
			t.Errorf("Covers takes %q for a revision", text)
		} else if len(text) > 4 && strings.Contains(err.Error(), text) {
			t.Errorf("the error repeats the text: %v", err)
		}
		if _, err := f.Meets(eraOne, feed.Revision(text)); err == nil {
			t.Errorf("Meets takes %q for a revision", text)
		}
	}
	for _, p := range []feed.Position{"x", "1:2", "2:1:"} {
		if _, err := (&postgres.Feed{}).Covers(p, eraOne, feed.Revision("pg1/7/"+string(eraOne)+"/x/1")); err == nil {
			t.Errorf("Covers takes %q for a position", p)
		}
	}
}
