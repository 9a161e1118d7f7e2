package main

import (
	"context"
	"errors"
	"time"
)

// measureSignOut measures the time from the answer of Better Auth's own sign-out
// over HTTP to the moment at which every worker refuses the session, and that from
// the sending of the sign-out. The sessions are rows as the issuer writes them,
// with cookies signed as it signs them; the sign-outs are its own.
func measureSignOut(ctx context.Context, l *lab) (rows []Row, err error) {
	const workers = 8
	var ending stack
	defer func() { err = errors.Join(err, ending.close()) }()
	n := l.size(10_000, 100)
	db, err := l.revocable(ctx, "signed_out", 2*n+spareSessions)
	if err != nil {
		return nil, err
	}
	i, err := l.startIssuer(ctx, db, nil)
	if err != nil {
		return nil, err
	}
	ending.push(i.stop)
	a, err := l.startAuthority(ctx, db, nil)
	if err != nil {
		return nil, err
	}
	ending.push(a.stop)
	f, err := newFleet(ctx, &ending, a, db, workers)
	if err != nil {
		return nil, err
	}
	answered, err := f.end(ctx, 0, n, func(ctx context.Context, session int) (time.Time, error) {
		err := i.signOut(ctx, db.cookie(session))
		return time.Now(), err
	})
	if err != nil {
		return nil, err
	}
	rows = f.rows("Better Auth's sign-out answered → refused by 8 workers: ", oursAtMost(10, "ms"), answered)
	sent, err := f.end(ctx, n, n, func(ctx context.Context, session int) (time.Time, error) {
		sentAt := time.Now()
		return sentAt, i.signOut(ctx, db.cookie(session))
	})
	if err != nil {
		return rows, err
	}
	return append(rows, f.rows("Better Auth's sign-out sent → refused by 8 workers: ", noBar, sent)...), nil
}
