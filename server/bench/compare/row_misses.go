package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// measureMisses compares concurrent misses of a worker's client, whose sessions
// the authority has in its cache, with as many calls of a bare grpc-go echo. The
// client brings waiting misses together into batches. Its Watch is open before it
// is asked, as a worker's is at all times but the first second.
func measureMisses(ctx context.Context, l *lab) (rows []Row, err error) {
	const inFlight = 256
	var ending stack
	defer func() { err = errors.Join(err, ending.close()) }()
	sessions := l.size(100_000, 10_000)
	p, err := l.startPair(ctx, &ending, sessions)
	if err != nil {
		return nil, err
	}
	all := p.db.credentials(0, sessions)
	spare, credentials := all[:spareSessions], all[spareSessions:]
	var rates [2][]float64
	var tails [2][]float64
	decided, lookups := 0.0, 0.0
	add := func(side int, got load) {
		rates[side] = append(rates[side], got.perSecond)
		tails[side] = append(tails[side], float64(got.p(99).Microseconds()))
	}
	ours := func() (err error) {
		// A client of its own for the round: an empty cache.
		worker, err := p.authority.worker()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, worker.Close()) }()
		if _, err := p.authority.settle(ctx, worker, spare); err != nil {
			return err
		}
		decidedBefore, err := p.authority.decided(ctx)
		if err != nil {
			return err
		}
		lookupsBefore, _, err := p.authority.lookups(ctx)
		if err != nil {
			return err
		}
		got, err := drive(ctx, inFlight, len(credentials), 0, func(ctx context.Context, i int) error {
			_, err := worker.Validate(ctx, credentials[i])
			return err
		})
		if err != nil {
			return err
		}
		decidedAfter, err := p.authority.decided(ctx)
		if err != nil {
			return err
		}
		lookupsAfter, _, err := p.authority.lookups(ctx)
		if err != nil {
			return err
		}
		decided, lookups = decided+decidedAfter-decidedBefore, lookups+lookupsAfter-lookupsBefore
		add(0, got)
		return nil
	}
	echo := func() error {
		got, err := drive(ctx, inFlight, 0, l.span(2*time.Second, 200*time.Millisecond), func(ctx context.Context, i int) error {
			return p.echo.validate(ctx, p.requests[i%len(p.requests)])
		})
		if err == nil {
			add(1, got)
		}
		return err
	}
	if err := l.inTurns(ctx, ours, echo); err != nil {
		return nil, err
	}
	rows = []Row{
		pairRow("client misses, 256 at once / bare echo: rate", "calls/s", ratioAtLeast(4), oursByTheirs, rates[0], rates[1]),
		pairRow("client misses, 256 at once / bare echo: p99", "µs", noBar, oursByTheirs, tails[0], tails[1]),
	}
	asked := float64(len(credentials) * l.rounds)
	for i := range rows {
		rows[i].Note = fmt.Sprintf("%.3g questions a call", decided/asked)
		if decided < asked {
			rows[i] = rows[i].invalid("not all calls were misses")
		}
		if lookups > 0 {
			rows[i] = rows[i].invalid(fmt.Sprintf("%.0f lookups in the store: the authority was not warm", lookups))
		}
	}
	return rows, nil
}
