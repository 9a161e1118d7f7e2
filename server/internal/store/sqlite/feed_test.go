package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/feed/feedtest"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/sqlite"
)

// outboxIssuer is the embedded database, and a connection that writes it as the issuer does.
type outboxIssuer struct {
	config sqlite.Config
	db     *sql.DB
}

func newOutboxIssuer(t *testing.T) *outboxIssuer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.sqlite")
	c := sqlite.Config{Path: path, Create: true}
	st, err := sqlite.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return &outboxIssuer{config: c, db: db}
}

func (i *outboxIssuer) exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	if _, err := i.db.ExecContext(context.Background(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func (i *outboxIssuer) signIn(t *testing.T, n string) {
	t.Helper()
	now := "2026-01-01T00:00:00.000Z"
	i.exec(t, `INSERT INTO user (id, name, email, emailVerified, createdAt, updatedAt) VALUES (?1, ?1, ?1, 1, ?2, ?2)`, "u"+n, now)
	i.exec(t, `INSERT INTO session (id, token, userId, expiresAt, createdAt, updatedAt) VALUES (?1, ?2, ?3, '2027-01-01T00:00:00.000Z', ?4, ?4)`, "s"+n, "token"+n, "u"+n, now)
}

func openFeed(t *testing.T, c sqlite.Config) *sqlite.Feed {
	t.Helper()
	plan, err := sqlite.PlanInstall(t.Context(), c, sqlite.InstallOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Statements) > 0 {
		if err := sqlite.Apply(t.Context(), c, plan.Statements); err != nil {
			t.Fatal(err)
		}
	}
	f, err := sqlite.OpenFeed(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func register(t *testing.T, f *sqlite.Feed) feed.Registration {
	t.Helper()
	reg, err := f.Register(t.Context(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if reg.Coverage != feed.CoverageFull || reg.Era == "" || reg.ID == "" {
		t.Fatalf("registration %+v", reg)
	}
	return reg
}

// TestFeedTellsEveryChange is S1 on SQLite: what ends or narrows a session is an
// event, and nothing else is.
func TestFeedTellsEveryChange(t *testing.T) {
	user := []feed.Event{{Kind: feed.KindUser, User: "u1"}}
	tests := map[string]struct {
		statement string
		want      []feed.Event
	}{
		"sign-out":              {`DELETE FROM session WHERE id = 's1'`, user},
		"expiry brought nearer": {`UPDATE session SET expiresAt = '2026-06-01T00:00:00.000Z' WHERE id = 's1'`, user},
		"expiry of other type":  {`UPDATE session SET expiresAt = 4102444800000 WHERE id = 's1'`, user},
		"refresh":               {`UPDATE session SET expiresAt = '2028-01-01T00:00:00.000Z', updatedAt = '2026-02-01T00:00:00.000Z' WHERE id = 's1'`, nil},
		"token changed":         {`UPDATE session SET token = 'other' WHERE id = 's1'`, user},
		"a returned column":     {`UPDATE session SET userAgent = 'other' WHERE id = 's1'`, user},
		"user renamed":          {`UPDATE user SET name = 'other' WHERE id = 'u1'`, user},
		"user touched":          {`UPDATE user SET updatedAt = '2026-02-01T00:00:00.000Z' WHERE id = 'u1'`, nil},
		"user deleted":          {`DELETE FROM user WHERE id = 'u1'`, []feed.Event{user[0], user[0]}}, // with the session's cascade
		"session replaced":      {`REPLACE INTO session (id, token, userId, expiresAt, createdAt, updatedAt) VALUES ('s1', 'other', 'u1', '2027-01-01', '2026-01-01', '2026-01-01')`, user},
		"nothing deleted":       {`DELETE FROM session WHERE id = 'unknown'`, nil},
		"somebody's sign-in":    {`INSERT INTO session (id, token, userId, expiresAt, createdAt, updatedAt) VALUES ('s2', 'token2', 'u1', '2027-01-01', '2026-01-01', '2026-01-01')`, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			i := newOutboxIssuer(t)
			i.signIn(t, "1")
			f := openFeed(t, i.config)
			reg := register(t, f)
			i.exec(t, tt.statement)
			news, err := f.Poll(t.Context(), reg.Position)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, news.Events); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			again, err := f.Poll(t.Context(), reg.Position)
			if err != nil || !cmp.Equal(again.Events, tt.want) {
				t.Errorf("read again from before: %v, %v", again.Events, err)
			}
			after, err := f.Beat(t.Context(), feed.Beat{ID: reg.ID, Acked: 1, Number: 2, Written: reg.Position, Done: reg.Position, DoneEra: reg.Era, From: news.Position})
			if err != nil || len(after.Events) != 0 || after.Coverage != feed.CoverageFull {
				t.Errorf("beat after it: %+v, %v", after, err)
			}
		})
	}
}

func TestFeedRolledBack(t *testing.T) {
	i := newOutboxIssuer(t)
	i.signIn(t, "1")
	f := openFeed(t, i.config)
	reg := register(t, f)
	i.exec(t, `BEGIN`)
	i.exec(t, `DELETE FROM session`)
	during, err := f.Poll(t.Context(), reg.Position)
	if err != nil {
		t.Fatal(err)
	}
	i.exec(t, `ROLLBACK`)
	news, err := f.Poll(t.Context(), during.Position)
	if err != nil || len(during.Events) != 0 || len(news.Events) != 0 {
		t.Errorf("%v, %v, %v", during.Events, news.Events, err)
	}
}

func TestFeedOverflow(t *testing.T) {
	i := newOutboxIssuer(t)
	f := openFeed(t, i.config)
	reg := register(t, f)
	i.exec(t, `BEGIN`)
	for n := range 1100 {
		_ = n
		i.exec(t, `INSERT INTO sessiond_event(kind, usr) VALUES ('u', 'x')`)
	}
	i.exec(t, `COMMIT`)
	news, err := f.Poll(t.Context(), reg.Position)
	if err != nil || !news.Overflow || len(news.Events) != 0 {
		t.Errorf("%d events, overflow %t, %v", len(news.Events), news.Overflow, err)
	}
}

// TestFeedNoticesItsTriggers: a trigger that is gone, or a column that none covers,
// means that nothing may be cached.
func TestFeedNoticesItsTriggers(t *testing.T) {
	for _, statement := range []string{`DROP TRIGGER sessiond_session_delete`, `ALTER TABLE session ADD COLUMN extra TEXT`} {
		t.Run(statement, func(t *testing.T) {
			i := newOutboxIssuer(t)
			f := openFeed(t, i.config)
			reg := register(t, f)
			i.exec(t, statement)
			news, err := f.Beat(t.Context(), feed.Beat{ID: reg.ID, Acked: 1, Number: 2, From: reg.Position})
			if err != nil || news.Coverage != feed.CoverageBroken || news.Problem == "" || news.Objects == reg.Objects {
				t.Errorf("%+v, %v", news, err)
			}
			report, err := sqlite.Inspect(t.Context(), i.config)
			if err != nil || len(report.Problems) != 1 {
				t.Errorf("%+v, %v", report, err)
			}
		})
	}
}

func TestOneAuthorityPerFile(t *testing.T) {
	i := newOutboxIssuer(t)
	f := openFeed(t, i.config)
	if _, err := sqlite.OpenFeed(t.Context(), i.config); err == nil {
		t.Error("a second authority opened the feed")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	openFeed(t, i.config)
}

func TestRevokeOnSQLite(t *testing.T) {
	targets := map[string]feed.Target{
		"token":   {Token: "token1"},
		"session": {User: "u1", Session: "s1"},
		"user":    {User: "u1"},
		"except":  {User: "u1", Except: "other"},
		"unknown": {Token: "unknown"},
	}
	for name, target := range targets {
		t.Run(name, func(t *testing.T) {
			i := newOutboxIssuer(t)
			i.signIn(t, "1")
			f := openFeed(t, i.config)
			reg := register(t, f)
			revoked, err := f.Revoke(t.Context(), target)
			if err != nil {
				t.Fatal(err)
			}
			if want := map[bool]int{true: 0, false: 1}[name == "unknown"]; revoked.Sessions != want || revoked.Era != reg.Era {
				t.Errorf("%+v", revoked)
			}
			if covered, err := f.Covers(reg.Position, reg.Era, revoked.Revision); err != nil || covered {
				t.Errorf("covered before it was read: %t, %v", covered, err)
			}
			news, err := f.Poll(t.Context(), reg.Position)
			if err != nil {
				t.Fatal(err)
			}
			if covered, err := f.Covers(news.Position, news.Era, revoked.Revision); err != nil || !covered {
				t.Errorf("not covered after it was read: %t, %v", covered, err)
			}
			if !slices.ContainsFunc(news.Events, func(e feed.Event) bool { return e.Urgent }) {
				t.Errorf("no urgent event: %+v", news.Events)
			}
			present, err := f.Revision(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if covered, err := f.Covers(news.Position, news.Era, present); err != nil || !covered {
				t.Errorf("the present revision: %t, %v", covered, err)
			}
		})
	}
	f := openFeed(t, newOutboxIssuer(t).config)
	if _, err := f.Covers("1", "era", "nonsense"); err == nil {
		t.Error("nonsense is taken for a revision")
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	i := newOutboxIssuer(t)
	f := openFeed(t, i.config)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	plan, err := sqlite.PlanRemove(t.Context(), i.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := sqlite.Apply(t.Context(), i.config, plan.Statements); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := i.db.QueryRow(`SELECT count(*) FROM sqlite_schema WHERE name LIKE 'sessiond%'`).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d objects left, %v", n, err)
	}
	if _, err := sqlite.OpenFeed(t.Context(), i.config); !errors.Is(err, feed.ErrNotInstalled) {
		t.Errorf("opened without: %v", err)
	}
}

func TestInstallIsIdempotent(t *testing.T) {
	i := newOutboxIssuer(t)
	f := openFeed(t, i.config)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	plan, err := sqlite.PlanInstall(t.Context(), i.config, sqlite.InstallOptions{})
	if err != nil || len(plan.Statements) != 0 {
		t.Errorf("%d statements, %v", len(plan.Statements), err)
	}
}

// TestInstallInAnotherDatabase: a file without the issuer's tables is told apart from
// one that cannot be read.
func TestInstallInAnotherDatabase(t *testing.T) {
	c := sqlite.Config{Path: filepath.Join(t.TempDir(), "other.sqlite")}
	db, err := sql.Open("sqlite", c.Path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE other (id text)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.PlanInstall(t.Context(), c, sqlite.InstallOptions{}); err == nil || errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "session table") {
		t.Errorf("got %v, want to be told that there is no session table", err)
	}
}

func TestFeedContract(t *testing.T) {
	feedtest.Run(t, func(t *testing.T) feedtest.Subject {
		i := newOutboxIssuer(t)
		n := 0
		return feedtest.Subject{
			Source: openFeed(t, i.config),
			SignIn: func(user string) (token, session string) {
				n++
				token, session = fmt.Sprintf("token-%d", n), fmt.Sprintf("session-%d", n)
				now := "2026-01-01T00:00:00.000Z"
				i.exec(t, `INSERT INTO user (id, name, email, emailVerified, createdAt, updatedAt) VALUES (?1, ?1, ?1, 1, ?2, ?2) ON CONFLICT DO NOTHING`, user, now)
				i.exec(t, `INSERT INTO session (id, token, userId, expiresAt, createdAt, updatedAt) VALUES (?1, ?2, ?3, '2027-01-01T00:00:00.000Z', ?4, ?4)`, session, token, user, now)
				return token, session
			},
			SignOut: func(token string) { i.exec(t, `DELETE FROM session WHERE token = ?1`, token) },
		}
	})
}
