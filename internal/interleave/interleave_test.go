package interleave_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/internal/interleave"
)

// TestEveryOrder: of steps that may come in any order each order is seen once.
func TestEveryOrder(t *testing.T) {
	seen := map[string]int{}
	orders := interleave.Explore(t, 1000, func(_ *testing.T, c *interleave.Chooser) string {
		var order strings.Builder
		for c.Next(others(order.String(), &order)) {
		}
		seen[order.String()]++
		return ""
	})
	if orders != 24 || len(seen) != 24 {
		t.Errorf("%d runs saw %d of the 24 orders of four steps: %v", orders, len(seen), seen)
	}
}

// others are the steps of a, b, c and d that were not taken.
func others(taken string, order *strings.Builder) []interleave.Step {
	var out []interleave.Step
	for _, name := range []string{"a", "b", "c", "d"} {
		if !strings.Contains(taken, name) {
			out = append(out, interleave.Step{Name: name, Do: func() { order.WriteString(name) }})
		}
	}
	return out
}

// TestRaces: where the same choices lead to these steps one time and to those another,
// it goes on and ends, and what it saw to be possible was taken.
func TestRaces(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	possible, taken := map[string]bool{}, map[string]bool{}
	interleave.Explore(t, 10_000, func(_ *testing.T, c *interleave.Chooser) string {
		var order strings.Builder
		for {
			steps := others(order.String(), &order)
			if len(steps) > 1 && dice.IntN(4) == 0 {
				steps = steps[:len(steps)-1]
			}
			for _, s := range steps {
				possible[order.String()+s.Name] = true
			}
			if !c.Next(steps) {
				return ""
			}
			taken[order.String()] = true
		}
	})
	for way := range possible {
		if !taken[way] {
			t.Errorf("%s was possible and not taken", way)
		}
	}
	if len(taken) < 32 {
		t.Errorf("%d points were seen, of 64", len(taken))
	}
}
