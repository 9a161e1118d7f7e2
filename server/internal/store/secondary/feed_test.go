package secondary_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/feed/feedtest"
	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/server/internal/redistest"
	"github.com/sessiond/sessiond/server/internal/store/postgres"
	"github.com/sessiond/sessiond/server/internal/store/redis"
	"github.com/sessiond/sessiond/server/internal/store/secondary"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	prefix = "better-auth:"
	tables = `CREATE TABLE "user" (id text PRIMARY KEY, name text, email text, "emailVerified" boolean NOT NULL DEFAULT false, image text, "createdAt" timestamptz DEFAULT now(), "updatedAt" timestamptz DEFAULT now());
CREATE TABLE session (id text PRIMARY KEY, token text UNIQUE NOT NULL, "userId" text NOT NULL REFERENCES "user"(id) ON DELETE CASCADE, "expiresAt" timestamptz NOT NULL, "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now(), "ipAddress" text, "userAgent" text)`
)

// issuer keeps sessions in both stores.
type issuer struct {
	*redistest.Issuer
	t    *testing.T
	conn *pgx.Conn
}

func (i *issuer) exec(statement string, args ...any) {
	i.t.Helper()
	if _, err := i.conn.Exec(context.Background(), statement, args...); err != nil {
		i.t.Fatalf("%s: %v", statement, err)
	}
}

func (i *issuer) signIn(user string) (token, session string) {
	token, session = i.SignIn(user)
	i.exec(`INSERT INTO "user"(id) VALUES ($1) ON CONFLICT DO NOTHING`, user)
	i.exec(`INSERT INTO session(id, token, "userId", "expiresAt") VALUES ($1, $2, $3, '2099-01-01')`, session, token, user)
	return token, session
}

// place is two stores with an issuer.
type place struct {
	*issuer
	dsn, url string
}

func newPlace(t *testing.T) place {
	t.Helper()
	server := redistest.Start(t)
	dsn := pgtest.Start(t).NewDatabase(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	p := place{&issuer{redistest.NewIssuer(t, server, prefix), t, conn}, dsn, server.URL()}
	p.exec(tables)
	plan, err := postgres.PlanInstall(t.Context(), postgres.Config{DSN: dsn}, postgres.InstallOptions{Bound: feedtest.Bound})
	if err != nil {
		t.Fatal(err)
	}
	if err := postgres.Apply(t.Context(), postgres.Config{DSN: dsn}, plan.Statements); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p place) openFeed(keep bool) feed.Source {
	p.t.Helper()
	keys, err := redis.OpenFeed(redis.Config{URL: p.url, Prefix: prefix, RevokedMarks: true}, 7*24*time.Hour)
	if err != nil {
		p.t.Fatal(err)
	}
	rows, err := postgres.OpenFeed(p.t.Context(), postgres.Config{DSN: p.dsn})
	if err != nil {
		p.t.Fatal(err)
	}
	f := secondary.NewFeed(keys, rows, keep)
	p.t.Cleanup(func() {
		if err := f.Close(); err != nil {
			p.t.Error(err)
		}
	})
	return f
}

// TestFeedContract: an issuer that ends sessions in one of the stores only is told of
// as one that ends them in both.
func TestFeedContract(t *testing.T) {
	ways := map[string]func(p place, token string){
		"key":  func(p place, token string) { p.SignOut(token) },
		"row":  func(p place, token string) { p.exec(`DELETE FROM session WHERE token = $1`, token) },
		"both": func(p place, token string) { p.SignOut(token); p.exec(`DELETE FROM session WHERE token = $1`, token) },
	}
	for name, end := range ways {
		t.Run(name, func(t *testing.T) {
			feedtest.Run(t, func(t *testing.T) feedtest.Subject {
				p := newPlace(t)
				return feedtest.Subject{
					Source: p.openFeed(false), Other: p.openFeed(false), SignIn: p.signIn,
					SignOut: func(token string) { end(p, token) },
				}
			})
		})
	}
}

// TestRevokeKept: where rows outlive their sessions, a revoked one is over and still
// there, and its key is gone.
func TestRevokeKept(t *testing.T) {
	for name, target := range map[string]func(token, session string) feed.Target{
		"by token":   func(token, _ string) feed.Target { return feed.Target{Token: token} },
		"by session": func(_, session string) feed.Target { return feed.Target{User: "ann", Session: session} },
		"by user":    func(_, _ string) feed.Target { return feed.Target{User: "ann"} },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			token, session := p.signIn("ann")
			f := p.openFeed(true)
			if _, err := f.Register(t.Context(), feedtest.Bound); err != nil {
				t.Fatal(err)
			}
			revoked, err := f.Revoke(t.Context(), target(token, session))
			if err != nil || revoked.Sessions != 1 {
				t.Fatalf("%+v, %v", revoked, err)
			}
			var over bool
			if err := p.conn.QueryRow(t.Context(), `SELECT "expiresAt" <= now() AND "updatedAt" = "expiresAt" FROM session WHERE id = $1`, session).Scan(&over); err != nil || !over {
				t.Errorf("the row is over: %t, %v", over, err)
			}
			if p.Text(prefix+token) != "" {
				t.Error("the key is there")
			}
			if list := p.Text(prefix + "active-sessions-ann"); list != "" {
				t.Errorf("the user's list is %s", list)
			}
			if mark := p.Text(prefix + "revoked-sessions-before-ann"); (mark != "") != (name == "by user") {
				t.Errorf("the mark is %q", mark)
			}
		})
	}
}
