package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sessiond/sessiond/client"
)

const (
	// revokeInterval paces revocations: 100 a second.
	revokeInterval = 10 * time.Millisecond
	// maxEnding is how many sessions are being ended at a time. Where the machine is
	// too slow for the pace, it is slowed: a queue is not what is measured.
	maxEnding = 8
	// A worker asks every minAskInterval while it waits to refuse, which is the
	// resolution of the latencies, but a fleet asks no more often than once in
	// fleetAskInterval: the asking must not be what keeps the machine busy.
	minAskInterval   = 200 * time.Microsecond
	fleetAskInterval = 20 * time.Microsecond
	// bound is the staleness bound that the authority runs with.
	bound = 5 * time.Second
)

// measureRevoke measures the time from the acknowledgement of a DELETE's commit to
// the moment at which every client refuses the session, each having had it.
func measureRevoke(ctx context.Context, l *lab) (rows []Row, err error) {
	var ending stack
	defer func() { err = errors.Join(err, ending.close()) }()
	fleets := []int{1, 8, 64}
	perFleet := l.size(3_400, 100)
	db, err := l.revocable(ctx, "revoked", perFleet*len(fleets)+spareSessions)
	if err != nil {
		return nil, err
	}
	a, err := l.startAuthority(ctx, db, nil)
	if err != nil {
		return nil, err
	}
	ending.push(a.stop)
	pool, err := newPool(ctx, db)
	if err != nil {
		return nil, err
	}
	ending.push(func() error { pool.Close(); return nil })
	for i, n := range fleets {
		made, err := l.revokeFrom(ctx, a, db, pool, n, i*perFleet, perFleet)
		rows = append(rows, made...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// revocable returns a database of its own for rows that end its sessions.
func (l *lab) revocable(ctx context.Context, name string, sessions int) (*database, error) {
	db, err := l.pg.newDatabase(ctx, name, l.secret)
	if err != nil {
		return nil, err
	}
	if err := db.seed(ctx, sessions); err != nil {
		return nil, err
	}
	return db, l.installFeed(ctx, db)
}

// revokeFrom ends n seeded sessions, from the first on, before a fleet of workers.
func (l *lab) revokeFrom(ctx context.Context, a *authority, db *database, pool *pgxpool.Pool, workers, first, n int) (rows []Row, err error) {
	var ending stack
	defer func() { err = errors.Join(err, ending.close()) }()
	f, err := newFleet(ctx, &ending, a, db, workers)
	if err != nil {
		return nil, err
	}
	late, err := f.end(ctx, first, n, func(ctx context.Context, i int) (time.Time, error) { return deleteRow(ctx, pool, i) })
	if err != nil {
		return nil, err
	}
	limit := noBar
	if workers == 8 {
		limit = oursAtMost(10, "ms")
	}
	return f.rows(fmt.Sprintf("commit → refused by all, %d clients: ", workers), limit, late), nil
}

// fleet is workers of one authority.
type fleet struct {
	authority *authority
	db        *database
	workers   []*client.Client
	cached    bool
}

// newFleet connects workers and waits until they answer from their caches. The
// last spareSessions of the database are for that.
func newFleet(ctx context.Context, ending *stack, a *authority, db *database, workers int) (*fleet, error) {
	f := &fleet{authority: a, db: db, cached: true}
	spare := db.credentials(db.sessions-spareSessions, db.sessions)
	for range workers {
		worker, err := a.worker()
		if err != nil {
			return nil, err
		}
		ending.push(worker.Close)
		f.workers = append(f.workers, worker)
		if f.cached { // else each would be waited for in vain
			if f.cached, err = a.settle(ctx, worker, spare); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

// end has n sessions, which every worker has in its cache, ended at a steady rate,
// and returns how long after that each was refused by the last worker, sorted.
// revoke returns the moment from which the session counts as ended.
func (f *fleet) end(ctx context.Context, first, n int, revoke func(ctx context.Context, i int) (time.Time, error)) ([]time.Duration, error) {
	credentials := f.db.credentials(first, first+n)
	for _, worker := range f.workers {
		_, err := drive(ctx, 64, n, 0, func(ctx context.Context, i int) error {
			_, err := worker.Validate(ctx, credentials[i])
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("before the end: %w", err)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pace := time.NewTicker(revokeInterval)
	defer pace.Stop()
	var mu sync.Mutex
	var late []time.Duration
	var wg sync.WaitGroup
	places := make(chan struct{}, maxEnding)
pacing:
	for i := range n {
		select {
		case <-ctx.Done():
			break pacing
		case <-pace.C:
			places <- struct{}{}
		}
		wg.Go(func() {
			defer func() { <-places }()
			took, err := f.endOne(ctx, credentials[i], func(ctx context.Context) (time.Time, error) { return revoke(ctx, first+i) })
			if err != nil {
				cancel(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			late = append(late, took)
		})
	}
	wg.Wait()
	slices.Sort(late)
	return late, context.Cause(ctx)
}

// endOne has one session ended and waits until every worker refuses it.
func (f *fleet) endOne(ctx context.Context, credential client.Credential, revoke func(context.Context) (time.Time, error)) (time.Duration, error) {
	endedAt, err := revoke(ctx)
	if err != nil {
		return 0, err
	}
	interval := max(minAskInterval, time.Duration(len(f.workers))*fleetAskInterval)
	var mu sync.Mutex
	var latest time.Time
	err = f.each(func(worker *client.Client) error {
		refusedAt, err := awaitRefusal(ctx, worker, credential, interval)
		mu.Lock()
		defer mu.Unlock()
		if refusedAt.After(latest) {
			latest = refusedAt
		}
		return err
	})
	return latest.Sub(endedAt), err
}

// each calls a function for all workers at once.
func (f *fleet) each(call func(*client.Client) error) error {
	errs := make([]error, len(f.workers))
	var wg sync.WaitGroup
	for i, worker := range f.workers {
		wg.Go(func() { errs[i] = call(worker) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// refusalPatience is well beyond the bound: a session still accepted then is a
// broken promise, and the run fails.
const refusalPatience = 4 * bound

// awaitRefusal asks until the session is refused.
func awaitRefusal(ctx context.Context, worker *client.Client, credential client.Credential, interval time.Duration) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, refusalPatience)
	defer cancel()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		_, err := worker.Validate(ctx, credential)
		at := time.Now()
		switch {
		case errors.Is(err, client.ErrInvalid):
			return at, nil
		case err != nil:
			return at, fmt.Errorf("after the end: %w", err)
		}
		select {
		case <-ctx.Done():
			return at, fmt.Errorf("still accepted %s after its end", refusalPatience)
		case <-ticker.C:
		}
	}
}

// rows makes the rows of latencies, sorted. The limit is on the 99th percentile.
func (f *fleet) rows(name string, limit bar, late []time.Duration) []Row {
	millis := func(d time.Duration) []float64 { return []float64{float64(d.Microseconds()) / 1000} }
	rows := []Row{
		soloRow(name+"p50", "ms", noBar, millis(percentile(late, 50))),
		soloRow(name+"p99", "ms", limit, millis(percentile(late, 99))),
		soloRow(name+"max", "ms", oursAtMost(float64(bound.Milliseconds()), "ms"), millis(late[len(late)-1])),
	}
	for i := range rows {
		rows[i].Note = fmt.Sprintf("%d revocations in one round", len(late))
		if !f.cached {
			rows[i] = rows[i].invalid("the clients did not answer from their caches")
		}
	}
	return rows
}
