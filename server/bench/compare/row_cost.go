package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
)

// costSide is an issuer on a database of its own.
type costSide struct {
	db      *database
	issuer  *issuer
	pool    *pgxpool.Pool
	emails  []string
	claimed int // sessions inserted by SQL

	signIns, signOuts, inserts, deletes []float64 // a second
	insertTails, deleteTails            []float64 // p99 in ms
}

// measureCost compares an issuer whose database has the feed installed, and an
// authority that reads it, with one that knows nothing of either: sign-ins and
// sign-outs over HTTP, and the same writes by SQL alone, where Better Auth's own
// work does not hide what the triggers cost.
func measureCost(ctx context.Context, l *lab) (rows []Row, err error) {
	var ending stack
	defer func() { err = errors.Join(err, ending.close()) }()
	var sides [2]*costSide
	for i, name := range []string{"with_feed", "without_feed"} {
		if sides[i], err = l.newCostSide(ctx, &ending, name); err != nil {
			return nil, err
		}
	}
	if err := l.installFeed(ctx, sides[0].db); err != nil {
		return nil, err
	}
	a, err := l.startAuthority(ctx, sides[0].db, nil, "--feed-mode", "required")
	if err != nil {
		return nil, err
	}
	ending.push(a.stop)
	with, without := sides[0], sides[1]
	err = l.inTurns(ctx,
		func() error { return with.measure(ctx, l) },
		func() error { return without.measure(ctx, l) })
	if err != nil {
		return nil, err
	}
	return []Row{
		pairRow("Better Auth's sign-in, with the feed / without", "calls/s", noBar, oursByTheirs, with.signIns, without.signIns),
		pairRow("Better Auth's sign-out, with the feed / without", "calls/s", noBar, oursByTheirs, with.signOuts, without.signOuts),
		pairRow("INSERT of a session, 8 writers, with the feed / without", "commits/s", noBar, oursByTheirs, with.inserts, without.inserts),
		pairRow("INSERT of a session, 8 writers: commit p99", "ms", noBar, oursByTheirs, with.insertTails, without.insertTails),
		pairRow("DELETE of a session, 8 writers, with the feed / without", "commits/s", noBar, oursByTheirs, with.deletes, without.deletes),
		pairRow("DELETE of a session, 8 writers: commit p99", "ms", noBar, oursByTheirs, with.deleteTails, without.deleteTails),
	}, nil
}

// costWriters is how many sign in, sign out or write at once.
const costWriters = 8

func (l *lab) newCostSide(ctx context.Context, ending *stack, name string) (*costSide, error) {
	s := &costSide{}
	var err error
	if s.db, err = l.pg.newDatabase(ctx, name, l.secret); err != nil {
		return nil, err
	}
	if err := s.db.seed(ctx, l.size(100_000, 1_000)); err != nil {
		return nil, err
	}
	if s.issuer, err = l.startIssuer(ctx, s.db, nil); err != nil {
		return nil, err
	}
	ending.push(s.issuer.stop)
	if s.pool, err = newPool(ctx, s.db); err != nil {
		return nil, err
	}
	ending.push(func() error { s.pool.Close(); return nil })
	for i := range costWriters {
		email := fmt.Sprintf("person-%d@example.com", i)
		if err := s.issuer.signUp(ctx, email); err != nil {
			return nil, err
		}
		s.emails = append(s.emails, email)
	}
	return s, nil
}

// measure takes one sample of everything.
func (s *costSide) measure(ctx context.Context, l *lab) error {
	cookies := make([]string, l.size(100, 16))
	in, err := drive(ctx, costWriters, len(cookies), 0, func(ctx context.Context, i int) (err error) {
		cookies[i], err = s.issuer.signIn(ctx, s.emails[i%len(s.emails)])
		return err
	})
	if err != nil {
		return err
	}
	// Sign-ins are slow, for hashing passwords; their sign-outs alone would be over
	// at once.
	more := s.claim(10 * len(cookies))
	if _, err := drive(ctx, costWriters, more.n, 0, func(ctx context.Context, i int) error { return s.insert(ctx, more.first+i) }); err != nil {
		return err
	}
	for i := range more.n {
		cookies = append(cookies, s.db.cookie(more.first+i))
	}
	out, err := drive(ctx, costWriters, len(cookies), 0, func(ctx context.Context, i int) error { return s.issuer.signOut(ctx, cookies[i]) })
	if err != nil {
		return err
	}
	s.signIns, s.signOuts = append(s.signIns, in.perSecond), append(s.signOuts, out.perSecond)

	rows := s.claim(l.size(20_000, 100))
	inserted, err := drive(ctx, costWriters, rows.n, 0, func(ctx context.Context, i int) error { return s.insert(ctx, rows.first+i) })
	if err != nil {
		return err
	}
	deleted, err := drive(ctx, costWriters, rows.n, 0, func(ctx context.Context, i int) error {
		tag, err := s.pool.Exec(ctx, "DELETE FROM session WHERE token = $1", token(rows.first+i))
		if err == nil && tag.RowsAffected() != 1 {
			err = errors.New("the session to delete is not there")
		}
		return err
	})
	if err != nil {
		return err
	}
	millis := func(l load) float64 { return float64(l.p(99).Microseconds()) / 1000 }
	s.inserts, s.insertTails = append(s.inserts, inserted.perSecond), append(s.insertTails, millis(inserted))
	s.deletes, s.deleteTails = append(s.deletes, deleted.perSecond), append(s.deleteTails, millis(deleted))
	return nil
}

// block is n sessions from a number on.
type block struct{ first, n int }

// claim returns numbers of sessions that nobody has used.
func (s *costSide) claim(n int) block {
	b := block{s.db.sessions + s.claimed, n}
	s.claimed += n
	return b
}

// insert writes the session i of a seeded user, as the issuer does.
func (s *costSide) insert(ctx context.Context, i int) error {
	_, err := s.pool.Exec(ctx, `INSERT INTO session (id, "expiresAt", token, "createdAt", "updatedAt", "ipAddress", "userAgent", "userId")
		VALUES ($1, now() + interval '7 days', $2, now(), now(), '203.0.113.7', 'Mozilla/5.0', $3)`,
		fmt.Sprintf("s%d", i), token(i), fmt.Sprintf("u%d", i%s.db.sessions/sessionsPerUser))
	return err
}
