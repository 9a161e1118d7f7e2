package shadow

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestPace: however many ask, turns come one in every so long, and idle time is
// not saved up.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pace{every: time.Second}
		start := time.Now()
		var running sync.WaitGroup
		for range 4 {
			running.Go(func() {
				for range 15 {
					if err := p.wait(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		running.Wait()
		if took := time.Since(start); took != 59*time.Second {
			t.Errorf("60 turns took %v, want 59s", took)
		}
		<-time.After(time.Hour) // of the bubble's
		for n := range 2 {
			if err := p.wait(t.Context()); err != nil {
				t.Error(err)
			}
			if took := time.Since(start) - 59*time.Second - time.Hour; took != time.Duration(n)*time.Second {
				t.Errorf("turn %d after an idle hour came after %v", n+1, took)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.wait(ctx); err == nil {
			t.Error("a turn for somebody who left")
		}
	})
}
