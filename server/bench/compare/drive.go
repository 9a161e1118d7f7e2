package main

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// load is what a load of calls came to.
type load struct {
	calls     int
	perSecond float64
	latencies []time.Duration // sorted
}

func (l load) p(percent float64) time.Duration { return percentile(l.latencies, percent) }

// drive makes calls from inFlight goroutines, until there were total calls or,
// with total 0, for the time d. Calls are numbered from 0. The first error ends it.
func drive(ctx context.Context, inFlight, total int, d time.Duration, call func(ctx context.Context, i int) error) (load, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	latencies := make([][]time.Duration, inFlight)
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for g := range inFlight {
		wg.Go(func() {
			for before := start; ; {
				i := int(next.Add(1)) - 1
				if total > 0 && i >= total || total == 0 && before.Sub(start) >= d || ctx.Err() != nil {
					return
				}
				if err := call(ctx, i); err != nil {
					cancel(err)
					return
				}
				after := time.Now()
				latencies[g] = append(latencies[g], after.Sub(before))
				before = after
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	if err := context.Cause(ctx); err != nil {
		return load{}, err
	}
	l := load{latencies: slices.Concat(latencies...)}
	slices.Sort(l.latencies)
	l.calls = len(l.latencies)
	l.perSecond = float64(l.calls) / took.Seconds()
	return l, nil
}

// perCall repeats a call for the time d and returns the time that one takes. The
// clock is read once in a few calls, lest it be what is measured.
func perCall(d time.Duration, call func(i int) error) (time.Duration, int, error) {
	const stride = 64
	start := time.Now()
	for n := 0; ; {
		for range stride {
			if err := call(n); err != nil {
				return 0, n, err
			}
			n++
		}
		if took := time.Since(start); took >= d {
			return took / time.Duration(n), n, nil
		}
	}
}
