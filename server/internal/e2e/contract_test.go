package e2e_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiond/sessiond/client"
	"github.com/sessiond/sessiond/client/clienttest"
	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/sqlite"
	"github.com/sessiond/sessiond/sessioncookie"
)

// contractBound is short for those who have to wait it out: without a feed.
const contractBound = time.Second

const contractSecret = "a-secret-of-at-least-thirty-two-bytes"

// TestContract runs the contract that the fake authority of clienttest passes on
// the real one, over a real socket and each store.
func TestContract(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { clienttest.RunContract(t, newSQLiteSubject) })
	t.Run("postgres", func(t *testing.T) {
		clienttest.RunContract(t, func(t testing.TB) clienttest.Subject { return newPostgresSubject(t, true) })
	})
	t.Run("postgres without a feed", func(t *testing.T) {
		clienttest.RunContract(t, func(t testing.TB) clienttest.Subject { return newPostgresSubject(t, false) })
	})
}

// subject is a real server; what differs between the stores is in its functions.
type subject struct {
	t       testing.TB
	address string
	add     func(store.User, store.Session, string)
	revoke  func(token string)
	lose    func()
}

var _ clienttest.Subject = (*subject)(nil)

func (s *subject) Client(opts ...client.Option) *client.Client {
	s.t.Helper()
	c, err := client.New(s.address, opts...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return c
}

func (s *subject) Add(c client.Session) (cookie string) {
	s.t.Helper()
	token := sessioncookie.NewToken()
	s.add(
		store.User{ID: c.User.ID, Name: c.User.Name, Email: c.User.Email, EmailVerified: c.User.EmailVerified, CreatedAt: c.User.CreatedAt, UpdatedAt: c.User.UpdatedAt},
		store.Session{ID: c.ID, UserID: c.UserID, CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt, ExpiresAt: c.ExpiresAt, IPAddress: &c.IPAddress, UserAgent: &c.UserAgent},
		token)
	return sessionCookie + "=" + sessioncookie.Encode(sessioncookie.Sign(token, contractSecret))
}

func (s *subject) Revoke(cookie string) {
	s.t.Helper()
	_, value, _ := strings.Cut(cookie, "=")
	token, _, _ := strings.Cut(value, ".")
	s.revoke(token)
}

func (s *subject) Break() { s.lose() }

// start serves over a store until the test ends.
func (s *subject) start(cfg server.StoreConfig) {
	s.t.Helper()
	srv, err := server.New(s.t.Context(), server.Config{
		Listen: "127.0.0.1:0", DrainTimeout: time.Second, Store: cfg,
		Authority: authority.Config{
			Cookies:        sessioncookie.Config{Names: []string{sessionCookie}, Secrets: []string{contractSecret}},
			StalenessBound: contractBound,
			MaxBatchSize:   16,
		},
		CacheBytes: 1 << 20,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	s.address = srv.Addr().String()
}

func newSQLiteSubject(t testing.TB) clienttest.Subject {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sessions.sqlite")
	s := &subject{t: t}
	s.start(server.StoreConfig{Driver: server.DriverSQLite, Path: path, Create: true})
	s.add = func(u store.User, session store.Session, token string) {
		if err := sqlite.Seed(t.Context(), path, u, session, token); err != nil {
			t.Fatal(err)
		}
	}
	s.revoke = func(token string) {
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = db.ExecContext(t.Context(), `DELETE FROM session WHERE token = ?`, token)
		if err = errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	s.lose = func() {
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func newPostgresSubject(t testing.TB, withFeed bool) clienttest.Subject {
	t.Helper()
	cluster := pgtest.Start(t)
	dsn := cluster.NewDatabase(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // lose has the server end it first
	run := func(sql string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	run(`CREATE TABLE "user" (id text PRIMARY KEY, name text NOT NULL, email text NOT NULL UNIQUE, "emailVerified" boolean NOT NULL, image text, "createdAt" timestamptz NOT NULL, "updatedAt" timestamptz NOT NULL)`)
	run(`CREATE TABLE session (id text PRIMARY KEY, "expiresAt" timestamptz NOT NULL, token text NOT NULL UNIQUE, "createdAt" timestamptz NOT NULL, "updatedAt" timestamptz NOT NULL, "ipAddress" text, "userAgent" text,
		"userId" text NOT NULL REFERENCES "user" (id) ON DELETE CASCADE)`)
	s := &subject{t: t}
	cfg := server.StoreConfig{Driver: server.DriverPostgres, DSN: dsn}
	if withFeed {
		plan, err := server.PlanFeedInstall(t.Context(), cfg, server.FeedInstall{Bound: contractBound})
		if err != nil {
			t.Fatal(err)
		}
		if err := server.ApplyFeedPlan(t.Context(), cfg, plan.Statements); err != nil {
			t.Fatal(err)
		}
	}
	s.start(cfg)
	s.add = func(u store.User, session store.Session, token string) {
		run(`INSERT INTO "user" VALUES ($1, $2, $3, $4, NULL, $5, $6) ON CONFLICT DO NOTHING`, u.ID, u.Name, u.Email, u.EmailVerified, u.CreatedAt, u.UpdatedAt)
		run(`INSERT INTO session VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`, session.ID, session.ExpiresAt, token, session.CreatedAt, session.UpdatedAt, session.IPAddress, session.UserAgent, session.UserID)
	}
	s.revoke = func(token string) { run(`DELETE FROM session WHERE token = $1`, token) }
	s.lose = func() {
		admin, err := pgx.Connect(t.Context(), cluster.DSN("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		database := conn.Config().Database
		_, err = admin.Exec(t.Context(), "ALTER DATABASE "+pgx.Identifier{database}.Sanitize()+" ALLOW_CONNECTIONS false")
		if err == nil {
			_, err = admin.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database)
		}
		if err = errors.Join(err, admin.Close(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
