package postgres_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/postgres"
)

// issued is Better Auth's tables with a user u1 and his sessions s1 and s2, and the
// feed installed on them.
func issued(t *testing.T) (*pgx.Conn, string) {
	t.Helper()
	dsn := pgtest.Start(t).NewDatabase(t)
	conn := connect(t, dsn)
	exec(t, conn, `CREATE TABLE "user" (id text PRIMARY KEY, name text, email text, "emailVerified" boolean NOT NULL DEFAULT true, image text, role text, banned boolean,
		"createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now())`)
	exec(t, conn, `CREATE TABLE session (id text PRIMARY KEY, token text NOT NULL UNIQUE, "userId" text NOT NULL REFERENCES "user"(id) ON DELETE CASCADE,
		"expiresAt" timestamptz NOT NULL, "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now(), "ipAddress" text, "userAgent" text, "activeOrganizationId" text)`)
	exec(t, conn, `INSERT INTO "user" (id, name, email) VALUES ('u1', 'Ann', 'ann@example.com')`)
	exec(t, conn, `INSERT INTO session (id, token, "userId", "expiresAt") VALUES ('s1', 't1', 'u1', '2100-01-01'), ('s2', 't2', 'u1', '2100-01-01')`)
	installOn(t, dsn, postgres.InstallOptions{})
	exec(t, conn, `DELETE FROM sessiond.event`)
	return conn, dsn
}

func installOn(t *testing.T, dsn string, o postgres.InstallOptions) {
	t.Helper()
	c := postgres.Config{DSN: dsn}
	plan, err := postgres.PlanInstall(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := postgres.Apply(t.Context(), c, plan.Statements); err != nil {
		t.Fatal(err)
	}
}

// told returns the outbox: k:TOKEN of the tokens known here, u:USER, or a; ordered.
func told(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	names := map[string]string{}
	for _, token := range []string{"t1", "t2", "t3", "other"} {
		names[fmt.Sprintf("%x", sha256.Sum256([]byte(token)))] = token
	}
	rows, err := conn.Query(t.Context(), `SELECT kind::text, coalesce(encode(key, 'hex'), ''), coalesce(usr, '') FROM sessiond.event`)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (string, error) {
		var kind, key, user string
		err := r.Scan(&kind, &key, &user)
		switch kind {
		case "k":
			return "k:" + names[key] + ":" + user, err
		case "u":
			return "u:" + user, err
		}
		return kind, err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// TestTriggers is S1: what ends or narrows a session writes its event, in the same
// transaction, and nothing else does.
func TestTriggers(t *testing.T) {
	s1, both := []string{"k:t1:u1"}, []string{"k:t1:u1", "k:t2:u1"}
	user := []string{"u:u1"}
	tests := map[string]struct {
		statements []string
		want       []string
	}{
		"sign-out":               {[]string{`DELETE FROM session WHERE token = 't1'`}, s1},
		"sign-out everywhere":    {[]string{`DELETE FROM session WHERE "userId" = 'u1'`}, both},
		"nothing to delete":      {[]string{`DELETE FROM session WHERE token = 'unknown'`}, nil},
		"refresh":                {[]string{`UPDATE session SET "expiresAt" = '2101-01-01', "updatedAt" = now() WHERE id = 's1'`}, nil},
		"expiry brought nearer":  {[]string{`UPDATE session SET "expiresAt" = '2050-01-01' WHERE id = 's1'`}, s1},
		"token changed":          {[]string{`UPDATE session SET token = 'other' WHERE id = 's1'`}, s1},
		"id changed":             {[]string{`UPDATE session SET id = 'other' WHERE id = 's1'`}, s1},
		"organization changed":   {[]string{`UPDATE session SET "activeOrganizationId" = 'o1' WHERE id = 's1'`}, s1},
		"on conflict do update":  {[]string{`INSERT INTO session (id, token, "userId", "expiresAt") VALUES ('s1', 't1', 'u1', '2050-01-01') ON CONFLICT (id) DO UPDATE SET "expiresAt" = excluded."expiresAt"`}, s1},
		"writable CTE":           {[]string{`WITH d AS (DELETE FROM session WHERE id = 's1' RETURNING 1) SELECT count(*) FROM d`}, s1},
		"merge":                  {[]string{`MERGE INTO session s USING (VALUES ('s1')) v(id) ON s.id = v.id WHEN MATCHED THEN DELETE`}, s1},
		"sign-in":                {[]string{`INSERT INTO session (id, token, "userId", "expiresAt") VALUES ('s3', 't3', 'u1', '2100-01-01')`}, nil},
		"truncate":               {[]string{`TRUNCATE session`}, []string{"a"}},
		"truncate both":          {[]string{`TRUNCATE "user" CASCADE`}, []string{"a", "a"}},
		"user banned":            {[]string{`UPDATE "user" SET banned = true WHERE id = 'u1'`}, user},
		"user's role":            {[]string{`UPDATE "user" SET role = 'admin' WHERE id = 'u1'`}, user},
		"user's name and email":  {[]string{`UPDATE "user" SET name = 'A', email = 'a@example.com' WHERE id = 'u1'`}, user},
		"user touched":           {[]string{`UPDATE "user" SET "updatedAt" = now() + interval '1 day' WHERE id = 'u1'`}, nil},
		"user deleted":           {[]string{`DELETE FROM "user" WHERE id = 'u1'`}, append(slices.Clone(both), user...)},
		"rolled back":            {[]string{`BEGIN`, `DELETE FROM session`, `ROLLBACK`}, nil},
		"savepoint undone":       {[]string{`BEGIN`, `SAVEPOINT a`, `DELETE FROM session WHERE id = 's1'`, `ROLLBACK TO a`, `DELETE FROM session WHERE id = 's2'`, `COMMIT`}, []string{"k:t2:u1"}},
		"replication role":       {[]string{`SET session_replication_role = replica`, `DELETE FROM session WHERE id = 's1'`}, []string{"k:t1:u1", "k:t1:u1"}}, // by statement and by row
		"column added":           {[]string{`ALTER TABLE session ADD COLUMN extra text`, `UPDATE session SET extra = 'x' WHERE id = 's1'`}, s1},
		"column dropped":         {[]string{`ALTER TABLE session DROP COLUMN "userAgent"`, `DELETE FROM session WHERE id = 's1'`}, s1},
		"token column renamed":   {[]string{`ALTER TABLE session RENAME COLUMN token TO secret`, `DELETE FROM session WHERE id = 's1'`}, []string{"a"}},
		"table renamed":          {[]string{`ALTER TABLE session RENAME TO sessions`, `DELETE FROM sessions WHERE id = 's1'`}, s1},
		"100,000 rows at once":   {[]string{`INSERT INTO session (id, token, "userId", "expiresAt") SELECT 'x' || i, 'x' || i, 'u1', '2100-01-01' FROM generate_series(1, 100000) i`, `DELETE FROM session`}, []string{"a"}},
		"100,000 rows shortened": {[]string{`INSERT INTO session (id, token, "userId", "expiresAt") SELECT 'x' || i, 'x' || i, 'u1', '2100-01-01' FROM generate_series(1, 100000) i`, `UPDATE session SET "expiresAt" = '2050-01-01'`}, []string{"a"}},
		"outbox away, sign-out":  {[]string{`ALTER TABLE sessiond.event RENAME TO gone`, `DELETE FROM session WHERE id = 's1'`, `ALTER TABLE sessiond.gone RENAME TO event`}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			conn, _ := issued(t)
			for _, s := range tt.statements {
				exec(t, conn, s)
			}
			if diff := cmp.Diff(tt.want, told(t, conn), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// dropLater drops a role, which belongs to the whole server, when the test ends.
func dropLater(t *testing.T, dsn, role string) {
	t.Cleanup(func() { run(t, dsn, `DROP OWNED BY `+role+`; DROP ROLE `+role) })
}

// TestIssuerNeedsNoRights: the issuer's role signs out without any right on the
// outbox, and cannot attach or call what writes it.
func TestIssuerNeedsNoRights(t *testing.T) {
	conn, dsn := issued(t)
	role := "issuer_" + strings.ToLower(t.Name()) + fmt.Sprint(time.Now().UnixNano())
	exec(t, conn, `CREATE ROLE `+role)
	dropLater(t, dsn, role)
	exec(t, conn, `GRANT SELECT, INSERT, UPDATE, DELETE ON session, "user" TO `+role)
	exec(t, conn, `SET ROLE `+role)
	exec(t, conn, `DELETE FROM session WHERE id = 's1'`)
	for _, forbidden := range []string{`DELETE FROM sessiond.event`, `SELECT * FROM sessiond.event`, `UPDATE sessiond.replica SET beat = 0`} {
		if _, err := conn.Exec(t.Context(), forbidden); err == nil {
			t.Errorf("the issuer may: %s", forbidden)
		}
	}
	exec(t, conn, `RESET ROLE`)
	if diff := cmp.Diff([]string{"k:t1:u1"}, told(t, conn)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestNoEventNoSignOut: where no event of any kind can be written the issuer's own
// statement fails, for nobody would hear of it.
func TestNoEventNoSignOut(t *testing.T) {
	conn, _ := issued(t)
	exec(t, conn, `ALTER TABLE sessiond.event ADD CONSTRAINT full_ CHECK (kind IS NULL) NOT VALID`)
	if _, err := conn.Exec(t.Context(), `DELETE FROM session WHERE id = 's1'`); err == nil {
		t.Error("a session was ended and nobody was told")
	}
}

// TestInstall: installing shows its statements, may be repeated, and removing leaves
// nothing.
func TestInstall(t *testing.T) {
	conn, dsn := issued(t)
	c := postgres.Config{DSN: dsn}
	plan, err := postgres.PlanInstall(t.Context(), c, postgres.InstallOptions{})
	if err != nil || len(plan.Statements) != 0 {
		t.Errorf("installed, and there is still to do: %v, %v", plan, err)
	}
	plan, err = postgres.PlanInstall(t.Context(), c, postgres.InstallOptions{Bound: time.Second})
	if err != nil || len(plan.Statements) == 0 {
		t.Errorf("another bound: %v, %v", plan, err)
	}
	exec(t, conn, `ALTER TABLE session DISABLE TRIGGER sessiond_delete`)
	report, err := postgres.Inspect(t.Context(), c)
	if err != nil || len(report.Problems) != 1 || !report.Installed {
		t.Errorf("%+v, %v", report, err)
	}
	installOn(t, dsn, postgres.InstallOptions{})
	if report, err = postgres.Inspect(t.Context(), c); err != nil || len(report.Problems) != 0 || report.Bound != 5*time.Second {
		t.Errorf("put right: %+v, %v", report, err)
	}

	f := openFeed(t, dsn)
	register(t, f)
	if _, err := postgres.PlanInstall(t.Context(), c, postgres.InstallOptions{Bound: time.Second}); !errors.Is(err, feed.ErrBound) {
		t.Errorf("another bound under a living replica: %v", err)
	}
	if _, err := postgres.PlanRemove(t.Context(), c); err == nil {
		t.Error("removed under a living replica")
	}
	exec(t, conn, `DELETE FROM sessiond.replica`)
	plan, err = postgres.PlanRemove(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := postgres.Apply(t.Context(), c, plan.Statements); err != nil {
		t.Fatal(err)
	}
	if n := scan[int](t, conn, `SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = 'sessiond') + (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'sessiond%')`); n != 0 {
		t.Errorf("%d objects left", n)
	}
	exec(t, conn, `DELETE FROM session`)
}

// TestInstallRefuses says what is wrong and what to do about it.
func TestInstallRefuses(t *testing.T) {
	t.Run("partitioned", func(t *testing.T) {
		dsn := pgtest.Start(t).NewDatabase(t)
		conn := connect(t, dsn)
		exec(t, conn, `CREATE TABLE "user" (id text PRIMARY KEY, name text, email text, "emailVerified" boolean, "createdAt" timestamptz, "updatedAt" timestamptz)`)
		exec(t, conn, `CREATE TABLE session (id text, token text, "userId" text, "expiresAt" timestamptz, "createdAt" timestamptz, "updatedAt" timestamptz, PRIMARY KEY (token)) PARTITION BY HASH (token)`)
		exec(t, conn, `CREATE TABLE session_0 PARTITION OF session FOR VALUES WITH (MODULUS 1, REMAINDER 0)`)
		c := postgres.Config{DSN: dsn}
		c.Schema.Session.Name = "session"
		if _, err := postgres.PlanInstall(t.Context(), c, postgres.InstallOptions{}); err == nil || !strings.Contains(err.Error(), "partition") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no rights", func(t *testing.T) {
		conn, dsn := issued(t)
		role := fmt.Sprintf("weak_%d", time.Now().UnixNano())
		exec(t, conn, `CREATE ROLE `+role+` LOGIN PASSWORD 'weak'`)
		dropLater(t, dsn, role)
		exec(t, conn, `GRANT SELECT ON session, "user" TO `+role)
		exec(t, conn, `DROP SCHEMA sessiond CASCADE`)
		c := postgres.Config{DSN: withOption(t, withOption(t, dsn, "user", role), "password", "weak")}
		plan, err := postgres.PlanInstall(t.Context(), c, postgres.InstallOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := postgres.Apply(t.Context(), c, plan.Statements); err == nil || !strings.Contains(err.Error(), "--without-triggers") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("read-only", func(t *testing.T) {
		conn, dsn := issued(t)
		exec(t, conn, `DROP SCHEMA sessiond CASCADE`)
		c := postgres.Config{DSN: withOption(t, dsn, "default_transaction_read_only", "on")}
		plan, err := postgres.PlanInstall(t.Context(), c, postgres.InstallOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := postgres.Apply(t.Context(), c, plan.Statements); err == nil || !strings.Contains(err.Error(), "primary") {
			t.Errorf("got %v, want to be sent to the primary", err)
		}
	})
	t.Run("wrong database", func(t *testing.T) {
		c := postgres.Config{DSN: pgtest.Start(t).NewDatabase(t)}
		if _, err := postgres.PlanInstall(t.Context(), c, postgres.InstallOptions{}); err == nil || errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "session table") {
			t.Errorf("got %v, want to be told that there is no session table", err)
		}
	})
	t.Run("newer outbox", func(t *testing.T) {
		conn, dsn := issued(t)
		exec(t, conn, `UPDATE sessiond.setting SET version = 99`)
		c := postgres.Config{DSN: dsn}
		if _, err := postgres.PlanInstall(t.Context(), c, postgres.InstallOptions{}); !errors.Is(err, feed.ErrNotInstalled) || !strings.Contains(err.Error(), "upgrade") {
			t.Errorf("install: %v", err)
		}
		if _, err := postgres.OpenFeed(context.Background(), c); !errors.Is(err, feed.ErrNotInstalled) || !strings.Contains(err.Error(), "upgrade") {
			t.Errorf("open: %v", err)
		}
	})
}
