package main

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/sessiond/sessiond/client"
	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/sessioncookie"
)

const cookieName = "better-auth.session_token"

// database is one database of the server, in Better Auth's schema.
type database struct {
	dsn       string // empty: it has no rows
	secret    string // what its issuer signs with
	sessions  int
	secondary string // URL of the issuer's secondary storage, without a dsn alone; empty: none
}

// The tables as Better Auth's own migration makes them.
var tables = []string{
	`CREATE TABLE "user" (id text NOT NULL, name text NOT NULL, email text NOT NULL, "emailVerified" boolean NOT NULL, image text,
		"createdAt" timestamptz DEFAULT CURRENT_TIMESTAMP NOT NULL, "updatedAt" timestamptz DEFAULT CURRENT_TIMESTAMP NOT NULL)`,
	`CREATE TABLE session (id text NOT NULL, "expiresAt" timestamptz NOT NULL, token text NOT NULL, "createdAt" timestamptz DEFAULT CURRENT_TIMESTAMP NOT NULL,
		"updatedAt" timestamptz NOT NULL, "ipAddress" text, "userAgent" text, "userId" text NOT NULL)`,
}

// Their keys and indexes, which are made after the rows: that is faster.
var keys = []string{
	`ALTER TABLE "user" ADD PRIMARY KEY (id), ADD UNIQUE (email)`,
	`ALTER TABLE session ADD PRIMARY KEY (id), ADD UNIQUE (token), ADD FOREIGN KEY ("userId") REFERENCES "user" (id) ON DELETE CASCADE`,
	`CREATE INDEX ON session ("userId")`,
	"VACUUM ANALYZE",
}

// sessionsPerUser is how many sessions a seeded user has.
const sessionsPerUser = 4

// newDatabase makes an empty database.
func (p *postgres) newDatabase(ctx context.Context, name, secret string) (*database, error) {
	admin := &database{dsn: p.dsn("postgres")}
	if err := admin.exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return nil, err
	}
	return &database{dsn: p.dsn(name), secret: secret}, nil
}

// exec runs statements, each in a transaction of its own.
func (d *database) exec(ctx context.Context, statements ...string) (err error) {
	conn, err := pgx.Connect(ctx, d.dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%.60s: %w", statement, err)
		}
	}
	return nil
}

// seed makes the tables and n sessions in them.
func (d *database) seed(ctx context.Context, n int) error {
	d.sessions = n
	rows := []string{
		fmt.Sprintf(`INSERT INTO "user" (id, name, email, "emailVerified") SELECT 'u' || i, 'User ' || i, 'u' || i || '@example.com', true FROM generate_series(0, %d) i`, n/sessionsPerUser),
		fmt.Sprintf(`INSERT INTO session (id, "expiresAt", token, "createdAt", "updatedAt", "ipAddress", "userAgent", "userId")
			SELECT 's' || i, now() + interval '7 days', md5('token ' || i), now(), now(), '203.0.113.7', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', 'u' || i / %d
			FROM generate_series(0, %d) i`, sessionsPerUser, n-1),
	}
	statements := append(append(append([]string{}, tables...), rows...), keys...)
	// For pg_stat_statements_reset and the counts.
	return d.exec(ctx, append(statements, "CREATE EXTENSION pg_stat_statements")...)
}

// token returns the token of the seeded session i. It need not be unguessable:
// the database ends with the run.
func token(i int) string {
	sum := md5.Sum(fmt.Append(nil, "token ", i))
	return hex.EncodeToString(sum[:])
}

// cookie returns a browser's whole Cookie header for the seeded session i.
func (d *database) cookie(i int) string {
	return "theme=dark; _ga=GA1.1.1794.1763; " + cookieName + "=" + sessioncookie.Encode(sessioncookie.Sign(token(i), d.secret))
}

// credentials returns the credentials of the seeded sessions from to to.
func (d *database) credentials(from, to int) []client.Credential {
	out := make([]client.Credential, 0, to-from)
	for i := from; i < to; i++ {
		out = append(out, client.FromHeaders(d.cookie(i), ""))
	}
	return out
}

// requests returns what a client sends for the seeded sessions from to to: of the
// Cookie header, only what the authority reads.
func (d *database) requests(from, to int) []*sessiondv1.ValidateRequest {
	out := make([]*sessiondv1.ValidateRequest, 0, to-from)
	for i := from; i < to; i++ {
		_, own, _ := strings.Cut(d.cookie(i), cookieName)
		headers := &sessiondv1.Headers{Cookie: []byte(cookieName + own)}
		out = append(out, &sessiondv1.ValidateRequest{Credential: &sessiondv1.Credential{Kind: &sessiondv1.Credential_Headers{Headers: headers}}})
	}
	return out
}
