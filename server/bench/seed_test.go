package bench_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiond/sessiond/server/internal/pgtest"
)

const (
	secret = "a-secret-for-the-load-test-of-32-bytes-or-more"
	cookie = "better-auth.session_token"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func execute(tb testing.TB, conn *pgx.Conn, sql string) {
	tb.Helper()
	if _, err := conn.Exec(tb.Context(), sql); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

// seed makes Better Auth's tables and a session for each token, four to a user.
func seed(tb testing.TB, conn *pgx.Conn, tokens []string) {
	tb.Helper()
	execute(tb, conn, `CREATE TABLE "user" (id text PRIMARY KEY, name text NOT NULL, email text NOT NULL UNIQUE, "emailVerified" boolean NOT NULL, image text,
		"createdAt" timestamptz DEFAULT CURRENT_TIMESTAMP NOT NULL, "updatedAt" timestamptz DEFAULT CURRENT_TIMESTAMP NOT NULL)`)
	execute(tb, conn, `CREATE TABLE session (id text PRIMARY KEY, "expiresAt" timestamptz NOT NULL, token text NOT NULL UNIQUE, "createdAt" timestamptz DEFAULT CURRENT_TIMESTAMP NOT NULL,
		"updatedAt" timestamptz NOT NULL, "ipAddress" text, "userAgent" text, "userId" text NOT NULL REFERENCES "user" (id) ON DELETE CASCADE)`)
	execute(tb, conn, fmt.Sprintf(`INSERT INTO "user" (id, name, email, "emailVerified") SELECT 'u' || i, 'User ' || i, 'u' || i || '@example.com', true FROM generate_series(0, %d) i`, len(tokens)/4))
	records := make([][]any, len(tokens))
	now := time.Now().UTC().Truncate(time.Millisecond)
	for i, token := range tokens {
		records[i] = []any{fmt.Sprintf("s%d", i), now.Add(168 * time.Hour), token, now, now, "203.0.113.7", "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0", fmt.Sprintf("u%d", i/4)}
	}
	columns := []string{"id", "expiresAt", "token", "createdAt", "updatedAt", "ipAddress", "userAgent", "userId"}
	if _, err := conn.CopyFrom(tb.Context(), pgx.Identifier{"session"}, columns, pgx.CopyFromRows(records)); err != nil {
		tb.Fatal(err)
	}
	execute(tb, conn, `CREATE INDEX ON session ("userId")`)
	execute(tb, conn, "ANALYZE")
}
