// Package interleave runs a test once for every order in which its steps can
// happen. The test asks at each point which of the steps that are possible comes
// next; what it did must follow from the answers alone.
package interleave

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
)

// Chooser answers what comes next.
type Chooser struct {
	taken  []int // the choices of this run
	limits []int // how many there were to choose from

	mu  sync.Mutex
	log []string
}

func (c *Chooser) tell(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, line)
}

// Choose returns a number from 0 to n-1. Over all runs it returns each of them.
func (c *Chooser) Choose(n int) int {
	at := len(c.limits)
	c.limits = append(c.limits, n)
	if at == len(c.taken) {
		c.taken = append(c.taken, 0)
	}
	return c.taken[at]
}

// Step is something that may happen.
type Step struct {
	// Name tells the story of a failure.
	Name string
	// Do does it.
	Do func()
}

// Next does one of the steps and reports whether there was one.
func (c *Chooser) Next(steps []Step) bool {
	if len(steps) == 0 {
		return false
	}
	s := steps[c.Choose(len(steps))]
	c.tell(s.Name)
	s.Do()
	return true
}

// Note adds a line to the story. It is safe for concurrent use.
func (c *Chooser) Note(format string, args ...any) {
	c.tell("    " + fmt.Sprintf(format, args...))
}

// next moves on to the next order and reports whether there is one.
func (c *Chooser) next() bool {
	for at := len(c.limits) - 1; at >= 0; at-- {
		if c.taken[at]+1 < c.limits[at] {
			c.taken = append(c.taken[:at], c.taken[at]+1)
			c.limits, c.log = nil, nil
			return true
		}
	}
	return false
}

// Explore runs a test in a bubble of virtual time for every order of its steps, at
// most most of them, and returns how many there were. The first failure ends it and
// is told step by step. run returns what went wrong, or "".
func Explore(t *testing.T, most int, run func(t *testing.T, c *Chooser) string) int {
	t.Helper()
	c := &Chooser{}
	for orders := 1; ; orders++ {
		wrong := ""
		synctest.Test(t, func(t *testing.T) { wrong = run(t, c) })
		switch {
		case wrong != "":
			for i, line := range c.log {
				t.Logf("%3d  %s", i+1, line)
			}
			t.Fatalf("%s (after %d orders)", wrong, orders)
		case t.Failed():
			t.FailNow()
		case orders > most:
			t.Fatalf("more than %d orders: the scene is too large", most)
		case !c.next():
			return orders
		}
	}
}
