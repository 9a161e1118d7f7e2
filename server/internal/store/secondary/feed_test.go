package secondary_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/feed/feedtest"
	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/server/internal/redistest"
	"github.com/sessiond/sessiond/server/internal/store"
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
	server   *redistest.Server
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
	p := place{&issuer{redistest.NewIssuer(t, server, prefix), t, conn}, server, dsn, server.URL()}
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

func (p place) openFeed(ending feed.Ending) feed.Source {
	p.t.Helper()
	return secondary.NewFeed(p.openFeeds(ending))
}

func (p place) openFeeds(ending feed.Ending) (secondary.Keys, feed.Source, feed.Ending) {
	p.t.Helper()
	keys, err := redis.OpenFeed(p.t.Context(), redis.Config{URL: p.url, Prefix: prefix, RevokedMarks: true}, 7*24*time.Hour)
	if err != nil {
		p.t.Fatal(err)
	}
	rows, err := postgres.OpenFeed(p.t.Context(), postgres.Config{DSN: p.dsn})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := errors.Join(keys.Close(), rows.Close()); err != nil {
			p.t.Error(err)
		}
	})
	return keys, rows, ending
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
					Source: p.openFeed(feed.EndDelete), Other: p.openFeed(feed.EndDelete), SignIn: p.signIn,
					SignOut: func(token string) { end(p, token) },
				}
			})
		})
	}
}

// TestRevokeKept: where rows outlive their sessions, a revoked one is over and still
// there, and its key is gone. Where such a row is still used, it is over by any clock.
func TestRevokeKept(t *testing.T) {
	for name, target := range map[string]func(token, session string) feed.Target{
		"by token":   func(token, _ string) feed.Target { return feed.Target{Token: token} },
		"by session": func(_, session string) feed.Target { return feed.Target{User: "ann", Session: session} },
		"by user":    func(_, _ string) feed.Target { return feed.Target{User: "ann"} },
	} {
		for _, ending := range []feed.Ending{feed.EndNow, feed.EndPast} {
			t.Run(fmt.Sprint(name, ", ending ", ending), func(t *testing.T) { revokeKept(t, ending, target, name == "by user") })
		}
	}
}

func revokeKept(t *testing.T, ending feed.Ending, target func(token, session string) feed.Target, byUser bool) {
	p := newPlace(t)
	token, session := p.signIn("ann")
	f := p.openFeed(ending)
	if _, err := f.Register(t.Context(), feedtest.Bound); err != nil {
		t.Fatal(err)
	}
	revoked, err := f.Revoke(t.Context(), target(token, session))
	if err != nil || revoked.Sessions != 1 {
		t.Fatalf("%+v, %v", revoked, err)
	}
	var over bool
	apart := time.Duration(0)
	if ending == feed.EndPast {
		apart = feed.PastBy
	}
	if err := p.conn.QueryRow(t.Context(), `SELECT "updatedAt" <= now() AND abs(extract(epoch FROM "updatedAt" - "expiresAt") - $2) < 0.1 FROM session WHERE id = $1`, session, apart.Seconds()).Scan(&over); err != nil || !over {
		t.Errorf("the row is over: %t, %v", over, err)
	}
	if p.Text(prefix+token) != "" {
		t.Error("the key is there")
	}
	if list := p.Text(prefix + "active-sessions-ann"); list != "" {
		t.Errorf("the user's list is %s", list)
	}
	if mark := p.Text(prefix + "revoked-sessions-before-ann"); (mark != "") != byUser {
		t.Errorf("the mark is %q", mark)
	}
}

// watched are keys that look around before a session's key ends.
type watched struct {
	secondary.Keys
	before func()
}

func (w watched) End(ctx context.Context, target feed.Target) (feed.Revoked, error) {
	w.before()
	return w.Keys.End(ctx, target)
}

// TestRevokeTellsLast: nobody hears of a revocation while a key of it is there. Whoever
// did and asked anew would find it, and keep it (S3).
func TestRevokeTellsLast(t *testing.T) {
	p := newPlace(t)
	token, _ := p.signIn("ann")
	keys, rows, _ := p.openFeeds(feed.EndDelete)
	looked := false
	f := secondary.NewFeed(watched{keys, func() {
		looked = true
		var left int
		if err := p.conn.QueryRow(t.Context(), `SELECT count(*) FROM session WHERE token = $1`, token).Scan(&left); err != nil || left != 1 {
			t.Errorf("%d rows, %v, and the key is there", left, err)
		}
		if p.Text(prefix+token) == "" {
			t.Error("the key is gone before anything")
		}
	}}, rows, feed.EndDelete)
	reg, err := f.Register(t.Context(), feedtest.Bound)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := f.Revoke(t.Context(), feed.Target{Token: token}); err != nil || r.Sessions != 1 || !looked {
		t.Fatalf("%+v, %v", r, err)
	}
	n, err := f.Poll(t.Context(), reg.Position)
	if err != nil || len(n.Events) == 0 || p.Text(prefix+token) != "" {
		t.Errorf("%+v, %v", n, err)
	}
}

// TestKeysAreReplaced: the registry says that the keys' server is another, though no
// beat has noticed it yet (V5).
func TestKeysAreReplaced(t *testing.T) {
	for name, replace := range map[string]func(p place){
		"restarted": func(p place) { p.server.Restart(t) },
		"flushed":   func(p place) { p.Do("FLUSHALL") },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			f := p.openFeed(feed.EndDelete)
			reg, err := f.Register(t.Context(), feedtest.Bound)
			if err != nil {
				t.Fatal(err)
			}
			if registry, err := f.Replicas(t.Context(), reg.ID, 1); err != nil || registry.Era != reg.Era {
				t.Fatalf("%+v, %v", registry, err)
			}
			replace(p)
			registry, err := f.Replicas(t.Context(), reg.ID, 1)
			for tries := 0; errors.Is(err, store.ErrUnavailable) && tries < 5; tries++ { // found out by asking
				registry, err = f.Replicas(t.Context(), reg.ID, 1)
			}
			if err != nil || registry.Era == reg.Era {
				t.Errorf("%+v, %v", registry, err)
			}
		})
	}
}

// TestHalfARevoke: a revocation that ended the key and not the row has no outcome yet,
// and repeated it ends both.
func TestHalfARevoke(t *testing.T) {
	for name, target := range map[string]func(token, session string) feed.Target{
		"by token":   func(token, _ string) feed.Target { return feed.Target{Token: token} },
		"by session": func(_, session string) feed.Target { return feed.Target{User: "ann", Session: session} },
		"by user":    func(_, _ string) feed.Target { return feed.Target{User: "ann"} },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			token, session := p.signIn("ann")
			f := p.openFeed(feed.EndDelete)
			reg, err := f.Register(t.Context(), feedtest.Bound)
			if err != nil {
				t.Fatal(err)
			}
			p.exec(`ALTER TABLE session RENAME TO away`)
			if _, err := f.Revoke(t.Context(), target(token, session)); !errors.Is(err, feed.ErrRepeat) {
				t.Errorf("%v", err)
			}
			if p.Text(prefix+token) != "" {
				t.Fatal("the key is there: this is not half")
			}
			p.exec(`ALTER TABLE away RENAME TO session`)
			if r, err := f.Revoke(t.Context(), target(token, session)); err != nil || r.Sessions != 1 {
				t.Errorf("repeated: %+v, %v", r, err)
			}
			n, err := f.Poll(t.Context(), reg.Position)
			if err != nil || !slices.ContainsFunc(n.Events, func(e feed.Event) bool { return e.Urgent }) {
				t.Errorf("%+v, %v", n, err)
			}
		})
	}
}
