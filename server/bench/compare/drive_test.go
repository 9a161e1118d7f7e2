package main

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestDriveCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		seen := map[int]int{}
		got, err := drive(t.Context(), 4, 10, 0, func(_ context.Context, i int) error {
			time.Sleep(time.Second) // of the bubble
			mu.Lock()
			defer mu.Unlock()
			seen[i]++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			if seen[i] != 1 {
				t.Errorf("call %d was made %d times", i, seen[i])
			}
		}
		// 4 at once: 3 seconds for 10 calls of one.
		if got.calls != 10 || len(seen) != 10 || got.perSecond != 10.0/3 || got.p(50) != time.Second || got.p(100) != time.Second {
			t.Errorf("%d calls of %d numbers, %v a second, %v", got.calls, len(seen), got.perSecond, got.latencies)
		}
	})
}

func TestDriveStopsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		got, err := drive(t.Context(), 2, 0, 10*time.Second, func(context.Context, int) error {
			time.Sleep(time.Second) // of the bubble
			return nil
		})
		if err != nil || got.calls != 20 || time.Since(start) != 10*time.Second {
			t.Errorf("%d calls in %v, %v; want 20 in 10s", got.calls, time.Since(start), err)
		}
	})
}

func TestDriveEndsWithTheFirstError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		start := time.Now()
		_, err := drive(t.Context(), 8, 0, time.Hour, func(ctx context.Context, i int) error {
			if i == 3 {
				return broken
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if !errors.Is(err, broken) || time.Since(start) != 0 {
			t.Errorf("%v after %v, want the first error at once", err, time.Since(start))
		}
	})
}

func TestInTurns(t *testing.T) {
	l := &lab{labConfig: labConfig{rounds: 3}}
	order := ""
	side := func(name string) func() error { return func() error { order += name; return nil } }
	if err := l.inTurns(t.Context(), side("a"), side("b")); err != nil {
		t.Fatal(err)
	}
	if order != "abbaab" {
		t.Errorf("the sides ran as %s, want each once a round, the first by turns", order)
	}
	broken := errors.New("broken")
	if err := l.inTurns(t.Context(), side("a"), func() error { return broken }); !errors.Is(err, broken) {
		t.Errorf("%v, want the side's error", err)
	}
}
