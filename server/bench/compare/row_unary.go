package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
)

// warmSessions is how many sessions warm calls take turns with.
const warmSessions = 10_000

// measureUnary compares the whole warm call with a bare grpc-go echo of the same
// messages, through the same generated stub.
func measureUnary(ctx context.Context, l *lab) (rows []Row, err error) {
	var ending stack
	defer func() { err = errors.Join(err, ending.close()) }()
	p, err := l.startPair(ctx, &ending, warmSessions)
	if err != nil {
		return nil, err
	}
	d := l.span(2*time.Second, 200*time.Millisecond)
	for _, inFlight := range []int{16, 64, 256} {
		var rates, tails [2][]float64
		sample := func(side int, s *stub) func() error {
			return func() error {
				got, err := drive(ctx, inFlight, 0, d, func(ctx context.Context, i int) error {
					return s.validate(ctx, p.requests[i%len(p.requests)])
				})
				if err != nil {
					return err
				}
				rates[side] = append(rates[side], got.perSecond)
				tails[side] = append(tails[side], float64(got.p(99).Microseconds()))
				return nil
			}
		}
		before, _, err := p.authority.lookups(ctx)
		if err != nil {
			return rows, err
		}
		if err := l.inTurns(ctx, sample(0, p.ours), sample(1, p.echo)); err != nil {
			return rows, err
		}
		after, _, err := p.authority.lookups(ctx)
		if err != nil {
			return rows, err
		}
		made := []Row{
			pairRow(fmt.Sprintf("warm unary, %d in flight / bare echo: rate", inFlight), "calls/s", ratioAtLeast(0.9), oursByTheirs, rates[0], rates[1]),
			pairRow(fmt.Sprintf("warm unary, %d in flight / bare echo: p99", inFlight), "µs", ratioAtMost(1.2), oursByTheirs, tails[0], tails[1]),
		}
		for _, row := range made {
			if after != before {
				row = row.invalid(fmt.Sprintf("%.0f lookups in the store: not warm", after-before))
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// pair is a warm authority and an echo of its answers.
type pair struct {
	db         *database
	authority  *authority
	ours, echo *stub
	requests   []*sessiondv1.ValidateRequest
}

// startPair starts both; n sessions are in the authority's cache.
func (l *lab) startPair(ctx context.Context, ending *stack, n int) (*pair, error) {
	db, err := l.warmDatabase(ctx)
	if err != nil {
		return nil, err
	}
	p := &pair{db: db, requests: db.requests(0, min(n, db.sessions))}
	if p.authority, err = l.startAuthority(ctx, db, nil); err != nil {
		return nil, err
	}
	ending.push(p.authority.stop)
	if p.ours, err = dial(p.authority.address); err != nil {
		return nil, err
	}
	ending.push(p.ours.Close)
	if err := p.warm(ctx); err != nil {
		return nil, err
	}
	echo, address, err := l.startEcho(ctx, p.ours, p.requests[0])
	if err != nil {
		return nil, err
	}
	ending.push(func() error { return echo.end(syscall.SIGTERM) })
	if p.echo, err = dial(address); err != nil {
		return nil, err
	}
	ending.push(p.echo.Close)
	return p, nil
}

// warmPatience is how long an authority may take until it caches: it must know the
// database first.
const warmPatience = 15 * time.Second

// warm has the authority cache all sessions. One that does not cache is warmed in
// vain; the rows then show it.
func (p *pair) warm(ctx context.Context) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for start := time.Now(); ; {
		if err := p.ours.fill(ctx, p.requests); err != nil {
			return err
		}
		entries, err := p.authority.metric(ctx, "sessiond_cache_entries")
		if err != nil {
			return err
		}
		if int(entries) >= len(p.requests) || time.Since(start) > warmPatience {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
