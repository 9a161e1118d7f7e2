package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"
)

// keyPrefix is in front of the issuer's keys.
const keyPrefix = "better-auth:"

// place is where sessions are, and how the issuer ends the one with a number. It
// returns when that was acknowledged.
type place struct {
	name string
	db   *database
	end  func(ctx context.Context, i int) (time.Time, error)
}

// measureStores measures what measureRevoke does, for 8 workers, where sessions are
// keys of a Redis, alone or with rows beside them, against rows alone. Each turn has an
// authority and workers of its own, so that nothing else runs meanwhile.
func measureStores(ctx context.Context, l *lab) (rows []Row, err error) {
	const workers = 8
	var ending stack
	defer func() { err = errors.Join(err, ending.close()) }()
	n := l.size(400, 20)
	places, err := l.places(ctx, &ending, n*l.rounds+spareSessions)
	if err != nil {
		return nil, err
	}
	late := make([][3][]float64, len(places)) // p50, p99 and max of each round
	for round := range l.rounds {
		for turn := range places {
			which := (round + turn) % len(places) // each goes first in turn
			took, err := l.turn(ctx, places[which], workers, round*n, n)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", places[which].name, err)
			}
			for i, d := range []time.Duration{percentile(took, 50), percentile(took, 99), took[len(took)-1]} {
				late[which][i] = append(late[which][i], float64(d.Microseconds())/1000)
			}
		}
	}
	for which, p := range places[1:] {
		for i, figure := range []string{"p50", "p99", "max"} {
			row := pairRow(fmt.Sprintf("acknowledged → refused by %d clients, %s / rows: %s", workers, p.name, figure), "ms", noBar, oursByTheirs, late[which+1][i], late[0][i])
			row.Note = fmt.Sprintf("%d sessions a round", n)
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// turn ends n sessions of a place, from the first on.
func (l *lab) turn(ctx context.Context, p place, workers, first, n int) (_ []time.Duration, err error) {
	var ending stack
	defer func() { err = errors.Join(err, ending.close()) }()
	a, err := l.startAuthority(ctx, p.db, nil)
	if err != nil {
		return nil, err
	}
	ending.push(a.stop)
	f, err := newFleet(ctx, &ending, a, p.db, workers)
	if err != nil {
		return nil, err
	}
	if !f.cached {
		return nil, errors.New("the clients do not answer from their caches")
	}
	return f.end(ctx, first, n, p.end)
}

// places makes sessions in rows, in keys, and in keys with rows beside them.
func (l *lab) places(ctx context.Context, ending *stack, sessions int) ([]place, error) {
	rows, err := l.revocable(ctx, "rows", sessions)
	if err != nil {
		return nil, err
	}
	deleteRow, err := rowDeleter(ctx, ending, rows)
	if err != nil {
		return nil, err
	}
	keys := &database{secret: l.secret, sessions: sessions}
	deleteKey, err := l.inRedis(ctx, ending, keys)
	if err != nil {
		return nil, err
	}
	both, err := l.revocable(ctx, "beside", sessions)
	if err != nil {
		return nil, err
	}
	deleteBothRow, err := rowDeleter(ctx, ending, both)
	if err != nil {
		return nil, err
	}
	deleteBothKey, err := l.inRedis(ctx, ending, both)
	if err != nil {
		return nil, err
	}
	return []place{
		{"rows", rows, deleteRow},
		{"keys alone", keys, deleteKey},
		{"keys, then rows", both, func(ctx context.Context, i int) (time.Time, error) {
			if _, err := deleteBothKey(ctx, i); err != nil {
				return time.Time{}, err
			}
			return deleteBothRow(ctx, i)
		}},
	}, nil
}

// rowDeleter returns what deletes a session's row.
func rowDeleter(ctx context.Context, ending *stack, db *database) (func(context.Context, int) (time.Time, error), error) {
	pool, err := newPool(ctx, db)
	if err != nil {
		return nil, err
	}
	ending.push(func() error { pool.Close(); return nil })
	return func(ctx context.Context, i int) (time.Time, error) { return deleteRow(ctx, pool, i) }, nil
}

func deleteRow(ctx context.Context, pool *pgxpool.Pool, i int) (time.Time, error) {
	tag, err := pool.Exec(ctx, "DELETE FROM session WHERE token = $1", token(i))
	acknowledgedAt := time.Now()
	if err == nil && tag.RowsAffected() != 1 {
		err = errors.New("the session to delete is not there")
	}
	return acknowledgedAt, err
}

// inRedis puts a database's sessions into a Redis, as keys, and returns what deletes one.
func (l *lab) inRedis(ctx context.Context, ending *stack, db *database) (func(context.Context, int) (time.Time, error), error) {
	server, address, err := l.startRedis(ctx)
	if err != nil {
		return nil, err
	}
	ending.push(func() error { return server.end(syscall.SIGTERM) })
	db.secondary = "redis://" + address
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{address}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		return nil, fmt.Errorf("rueidis: %w", err)
	}
	ending.push(func() error { c.Close(); return nil })
	for i := range db.sessions {
		if err := c.Do(ctx, c.B().Set().Key(keyPrefix+token(i)).Value(storedSession(i)).Build()).Error(); err != nil {
			return nil, fmt.Errorf("rueidis: %w", err)
		}
	}
	return func(ctx context.Context, i int) (time.Time, error) {
		deleted, err := c.Do(ctx, c.B().Del().Key(keyPrefix+token(i)).Build()).AsInt64()
		acknowledgedAt := time.Now()
		if err == nil && deleted != 1 {
			err = errors.New("the key to delete is not there")
		}
		return acknowledgedAt, err
	}, nil
}
