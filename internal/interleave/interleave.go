// Package interleave runs a test once for every order in which its steps can
// happen. The test asks at each point which of the steps that are possible comes
// next.
//
// Goroutines that one step sets free race each other, so the same choices need not
// lead to the same steps twice. The orders are therefore those that were seen: it
// ends when every step that was ever possible, after the steps before it, was taken.
package interleave

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
)

// Chooser answers what comes next.
type Chooser struct {
	root point
	path []*point // of this run

	mu  sync.Mutex
	log []string
}

// point is where steps were taken to, and knows those that were possible there.
type point struct {
	steps map[string]*point
	done  bool // all that was possible from here was taken
}

func (c *Chooser) tell(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, line)
}

// Step is something that may happen.
type Step struct {
	// Name tells the story of a failure. No other step that is possible at the same
	// time has it.
	Name string
	// Do does it.
	Do func()
}

// Next does one of the steps and reports whether there was one.
func (c *Chooser) Next(steps []Step) bool {
	if len(steps) == 0 {
		return false
	}
	if len(c.path) == 0 {
		c.path = append(c.path, &c.root)
	}
	here := c.path[len(c.path)-1]
	if here.steps == nil {
		here.steps = map[string]*point{}
	}
	taken := -1
	for i, s := range steps {
		if here.steps[s.Name] == nil {
			here.steps[s.Name], here.done = &point{}, false
		}
		if taken < 0 && !here.steps[s.Name].done {
			taken = i
		}
	}
	taken = max(taken, 0)
	c.path = append(c.path, here.steps[steps[taken].Name])
	c.tell(steps[taken].Name)
	steps[taken].Do()
	return true
}

// Note adds a line to the story. It is safe for concurrent use.
func (c *Chooser) Note(format string, args ...any) {
	c.tell("    " + fmt.Sprintf(format, args...))
}

// next moves on to the next order and reports whether there is one.
func (c *Chooser) next() bool {
	for at := len(c.path) - 1; at >= 0; at-- {
		p := c.path[at]
		p.done = true
		for _, after := range p.steps {
			p.done = p.done && after.done
		}
		for _, after := range p.steps {
			if after.done {
				after.steps = nil // enough is known of it
			}
		}
	}
	c.path, c.log = nil, nil
	return !c.root.done
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
