package trace

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessiond/sessiond/server/internal/authority"
)

func explained(reason string, bytes int) func() authority.Explanation {
	return func() authority.Explanation {
		return authority.Explanation{Reason: reason, Steps: []authority.Step{{Detail: strings.Repeat("x", bytes)}}}
	}
}

func TestRing(t *testing.T) {
	r := New(Config{Entries: 2, Bytes: 1000, PerSecond: 100})
	first, second := r.Add(explained("A", 10)), r.Add(explained("B", 10))
	if e, ok := r.Get(first); !ok || e.Reason != "A" {
		t.Errorf("%+v, %t", e, ok)
	}
	third := r.Add(explained("C", 10))
	if _, ok := r.Get(first); ok {
		t.Error("the oldest of three is kept where two may be")
	}
	if _, ok := r.Get(second); !ok || first == second {
		t.Error("the second is not kept")
	}
	if r.Add(explained("D", 990)) == "" {
		t.Error("one that fits is not kept")
	}
	if _, ok := r.Get(third); ok || r.bytes > 1000 {
		t.Errorf("%d bytes are kept", r.bytes)
	}
	if r.Add(explained("E", 1000)) != "" {
		t.Error("one that is too large is kept")
	}
	if _, ok := r.Get(""); ok {
		t.Error("no id is an id")
	}
}

// TestRate: a flood makes no explanations, and leaves those that are there.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Entries: 100, Bytes: 1 << 20, PerSecond: 3})
		made := 0
		for range 10 {
			r.Add(func() authority.Explanation { made++; return authority.Explanation{} })
		}
		if made != 3 {
			t.Errorf("%d were made in a second", made)
		}
		time.Sleep(time.Second)
		if r.Add(explained("A", 1)) == "" {
			t.Error("none in the next second")
		}
	})
}
