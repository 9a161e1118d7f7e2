package history

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// statementTimeout bounds each of the issuer's statements; late commits wait
// outside of it.
const statementTimeout = 10 * time.Second

// schema is the issuer's: Better Auth's tables, with the columns of its admin plugin.
const schema = `
CREATE TABLE "user" (id text PRIMARY KEY, name text NOT NULL, email text NOT NULL UNIQUE, "emailVerified" boolean NOT NULL, image text,
	"createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now(),
	role text, banned boolean, "banReason" text, "banExpires" timestamptz);
CREATE TABLE session (id text PRIMARY KEY, "expiresAt" timestamptz NOT NULL, token text NOT NULL UNIQUE,
	"createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now(), "ipAddress" text, "userAgent" text,
	"userId" text NOT NULL REFERENCES "user" (id) ON DELETE CASCADE);
CREATE INDEX ON session ("userId");
CREATE INDEX ON session ("expiresAt")`

// issuer writes sessions and users as the issuer of a deployment does, at the
// primary that there is. It is safe for concurrent use.
type issuer struct {
	pool    atomic.Pointer[pgxpool.Pool]
	closing sync.WaitGroup // pools of former primaries
}

// connect has all further statements go to dsn.
func (i *issuer) connect(ctx context.Context, dsn string) error {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return errors.New("the issuer's DSN is not valid") // its text would repeat the password
	}
	config.MaxConns = 64
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	if old := i.pool.Swap(pool); old != nil {
		i.closing.Go(old.Close) // it waits for the statements under way
	}
	return nil
}

func (i *issuer) close() {
	if pool := i.pool.Swap(nil); pool != nil {
		pool.Close()
	}
	i.closing.Wait()
}

// exec runs one statement.
func (i *issuer) exec(ctx context.Context, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	_, err := i.pool.Load().Exec(ctx, sql, args...)
	return err
}

// transaction runs statements in one transaction and waits before its commit.
// prepare, where it is not empty, is run first.
func (i *issuer) transaction(ctx context.Context, prepare string, wait time.Duration, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout+wait)
	defer cancel()
	return pgx.BeginFunc(ctx, i.pool.Load(), func(tx pgx.Tx) error {
		if prepare != "" {
			if _, err := tx.Exec(ctx, prepare); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, sql, args...); err != nil {
			return err
		}
		return pause(ctx, wait)
	})
}

// signIn makes a user and sessions. Doing it again changes nothing.
func (i *issuer) signIn(ctx context.Context, user string, ids, tokens []string) error {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	return pgx.BeginFunc(ctx, i.pool.Load(), func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO "user" (id, name, email, "emailVerified") VALUES ($1, 'v0', $1 || '@example.com', true) ON CONFLICT DO NOTHING`, user); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO session (id, "expiresAt", token, "userAgent", "userId")
			SELECT s.id, now() + interval '7 days', s.token, 'v0', $3 FROM unnest($1::text[], $2::text[]) AS s (id, token) ON CONFLICT DO NOTHING`, ids, tokens, user)
		return err
	})
}

// row is what the store holds of a session that is good.
type row struct{ user, session int32 } // versions

// good returns those of the sessions that the store holds as good, by id.
func (i *issuer) good(ctx context.Context, ids, tokens []string) (map[string]row, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	rows, err := i.pool.Load().Query(ctx, `SELECT s.id, substr(u.name, 2)::int, substr(s."userAgent", 2)::int
		FROM unnest($1::text[], $2::text[]) AS w (id, token)
		JOIN session s ON s.id = w.id AND s.token = w.token
		JOIN "user" u ON u.id = s."userId"
		WHERE s."expiresAt" > now() AND NOT coalesce(u.banned, false)`, ids, tokens)
	if err != nil {
		return nil, err
	}
	out := map[string]row{}
	var id string
	var r row
	if _, err := pgx.ForEachRow(rows, []any{&id, &r.user, &r.session}, func() error {
		out[id] = r
		return nil
	}); err != nil {
		return nil, fmt.Errorf("ask the store what it holds: %w", err)
	}
	return out, nil
}
