package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// measureCold compares validations that nothing remembers with the query a worker
// would run itself: prepared, on the same number of connections.
func measureCold(ctx context.Context, l *lab) (rows []Row, err error) {
	const inFlight = 64
	var ending stack
	defer func() { err = errors.Join(err, ending.close()) }()
	db, err := l.warmDatabase(ctx)
	if err != nil {
		return nil, err
	}
	a, err := l.startAuthority(ctx, db, nil, "--cache-max-bytes", "0", "--feed-mode", "off")
	if err != nil {
		return nil, err
	}
	ending.push(a.stop)
	pool, err := newPool(ctx, db)
	if err != nil {
		return nil, err
	}
	ending.push(func() error { pool.Close(); return nil })

	credentials := db.credentials(0, db.sessions)
	tokens := make([]string, db.sessions)
	for i := range tokens {
		tokens[i] = token(i)
	}
	var cold [2]coldSide
	var perBatch, batchSize []float64
	asked, read := 0.0, 0.0
	ours := func() (err error) {
		// A client of its own for the round: its cache would remember the last one.
		worker, err := a.worker()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, worker.Close()) }()
		// Connected and told what to send, by a session that is not counted.
		if _, err := worker.Validate(ctx, credentials[0]); err != nil {
			return err
		}
		order := rand.Perm(len(credentials) - 1)
		batchesBefore, tokensBefore, err := a.lookups(ctx)
		if err != nil {
			return err
		}
		err = cold[0].measure(ctx, l.pg, db, func() (load, error) {
			return drive(ctx, inFlight, len(order), 0, func(ctx context.Context, i int) error {
				_, err := worker.Validate(ctx, credentials[order[i]+1])
				return err
			})
		})
		if err != nil {
			return err
		}
		batches, tokens, err := a.lookups(ctx)
		if err != nil {
			return err
		}
		batches, tokens = batches-batchesBefore, tokens-tokensBefore
		asked, read = asked+float64(len(order)), read+tokens
		if batches > 0 {
			perBatch = append(perBatch, cold[0].statements/batches)
			batchSize = append(batchSize, tokens/batches)
		}
		return nil
	}
	theirs := func() error {
		order := rand.Perm(len(tokens))
		return cold[1].measure(ctx, l.pg, db, func() (load, error) {
			return drive(ctx, inFlight, len(order), 0, func(ctx context.Context, i int) error {
				return lookUp(ctx, pool, tokens[order[i]])
			})
		})
	}
	if err := l.inTurns(ctx, ours, theirs); err != nil {
		return nil, err
	}
	rows = []Row{
		pairRow("cold, 64 at once / own pgx query, pool of 16: rate", "validations/s", ratioAtLeast(4), oursByTheirs, cold[0].rates, cold[1].rates),
		pairRow("cold, 64 at once / own pgx query: p99", "µs", noBar, oursByTheirs, cold[0].tails, cold[1].tails),
		pairRow("cold: database's processor time a validation", "µs", ratioAtMost(0.25), oursByTheirs, cold[0].cpu, cold[1].cpu),
		pairRow("cold: database's execution time a validation", "µs", noBar, oursByTheirs, cold[0].execution, cold[1].execution),
	}
	for i := range rows {
		rows[i].Note = fmt.Sprintf("%.3g tokens looked up a call", read/asked)
		if read < asked {
			rows[i] = rows[i].invalid("not all calls were cold")
		}
	}
	if len(perBatch) == 0 {
		return rows, nil
	}
	row := soloRow("cold: statements a batch", "statements", oursAtMost(1, "statement"), perBatch)
	row.Note = fmt.Sprintf("%.3g tokens in a batch", median(batchSize))
	return append(rows, row), nil
}

// lookups returns how many lookups the authority has sent, and of how many tokens.
func (a *authority) lookups(ctx context.Context) (batches, tokens float64, err error) {
	if batches, err = a.metric(ctx, "sessiond_store_lookups_total"); err != nil {
		return 0, 0, err
	}
	tokens, err = a.metric(ctx, "sessiond_store_lookup_tokens_total")
	return batches, tokens, err
}

// coldSide is one side's samples.
type coldSide struct {
	rates, tails, cpu, execution []float64
	statements                   float64 // of the last sample
}

// measure takes one sample of a load that nobody else disturbs.
func (s *coldSide) measure(ctx context.Context, pg *postgres, db *database, run func() (load, error)) error {
	if err := db.exec(ctx, "SELECT pg_stat_statements_reset()"); err != nil {
		return err
	}
	var got load
	used, err := cpuUsed(pg.pid(), func() (err error) {
		got, err = run()
		return err
	})
	if err != nil {
		return err
	}
	var millis float64
	if s.statements, millis, err = db.executed(ctx); err != nil {
		return err
	}
	n := float64(got.calls)
	s.rates = append(s.rates, got.perSecond)
	s.tails = append(s.tails, float64(got.p(99).Microseconds()))
	s.cpu = append(s.cpu, float64(used.Nanoseconds())/1000/n)
	s.execution = append(s.execution, millis*1000/n)
	return nil
}

// executed returns how many lookups of sessions the database has run since its
// counts were reset, and the milliseconds that they took. The readiness check,
// which ends in LIMIT 0, is not one.
func (d *database) executed(ctx context.Context) (statements, millis float64, err error) {
	conn, err := pgx.Connect(ctx, d.dsn)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	err = conn.QueryRow(ctx, `SELECT coalesce(sum(calls), 0)::float8, coalesce(sum(total_exec_time), 0)
		FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database()
		WHERE query ILIKE '%token%' AND query ILIKE '%"user"%' AND query NOT ILIKE '%LIMIT%'
		AND query NOT ILIKE '%pg_stat_statements%' AND query NOT ILIKE '%pg_catalog%'`).Scan(&statements, &millis)
	return statements, millis, err
}

// newPool is a worker's own way to the database: pgx prepares each statement once
// a connection.
func newPool(ctx context.Context, db *database) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(db.dsn)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns, cfg.MinConns = storeConns, storeConns
	return pgxpool.NewWithConfig(ctx, cfg)
}

const ownQuery = `SELECT s.id, s."expiresAt", s."createdAt", s."updatedAt", s."ipAddress", s."userAgent", s."userId",
	u.name, u.email, u."emailVerified", u.image, u."createdAt", u."updatedAt"
	FROM session s JOIN "user" u ON u.id = s."userId" WHERE s.token = $1`

// ownSession is what a worker's own query reads.
type ownSession struct {
	id, userID, name, email                                       string
	ipAddress, userAgent, image                                   *string
	verified                                                      bool
	expiresAt, createdAt, updatedAt, userCreatedAt, userUpdatedAt time.Time
}

// lookUp is a worker's own validation, without the signature.
func lookUp(ctx context.Context, pool *pgxpool.Pool, token string) error {
	var s ownSession
	err := pool.QueryRow(ctx, ownQuery, token).Scan(&s.id, &s.expiresAt, &s.createdAt, &s.updatedAt, &s.ipAddress, &s.userAgent, &s.userID,
		&s.name, &s.email, &s.verified, &s.image, &s.userCreatedAt, &s.userUpdatedAt)
	if err == nil && !time.Now().Before(s.expiresAt) {
		err = errNoSession
	}
	return err
}
