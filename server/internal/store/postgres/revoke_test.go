package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/postgres"
)

// urgent are the events of Revoke itself; the others are the triggers'.
func urgent(news feed.News) []feed.Event {
	return slices.DeleteFunc(slices.Clone(news.Events), func(e feed.Event) bool { return !e.Urgent })
}

func TestRevoke(t *testing.T) {
	key := func(token, user string) feed.Event {
		return feed.Event{Kind: feed.KindKey, Key: feed.KeyOf(token), User: user, Urgent: true}
	}
	user := func(id string) feed.Event { return feed.Event{Kind: feed.KindUser, User: id, Urgent: true} }
	for _, tt := range []struct {
		name     string
		target   feed.Target
		sessions int
		key      feed.Key
		event    feed.Event
		left     string // of a1 a2 of user a, b1 of user b
	}{
		{"token", feed.Target{Token: "ta1"}, 1, feed.KeyOf("ta1"), key("ta1", "a"), "a2 b1"},
		{"unknown token", feed.Target{Token: "tx"}, 0, feed.KeyOf("tx"), key("tx", ""), "a1 a2 b1"},
		{"token that no column can hold", feed.Target{Token: "t\x00"}, 0, feed.KeyOf("t\x00"), key("t\x00", ""), "a1 a2 b1"},
		{"session", feed.Target{User: "a", Session: "a2"}, 1, feed.KeyOf("ta2"), key("ta2", "a"), "a1 b1"},
		{"another user's session", feed.Target{User: "a", Session: "b1"}, 0, feed.Key{}, user("a"), "a1 a2 b1"},
		{"unknown session", feed.Target{User: "a", Session: "x"}, 0, feed.Key{}, user("a"), "a1 a2 b1"},
		{"session that no column can hold", feed.Target{User: "a", Session: "\xff"}, 0, feed.Key{}, user("a"), "a1 a2 b1"},
		{"user", feed.Target{User: "a"}, 2, feed.Key{}, user("a"), "b1"},
		{"user but one session", feed.Target{User: "a", Except: "a1"}, 1, feed.Key{}, user("a"), "a1 b1"},
		{"user but a session that is not his", feed.Target{User: "a", Except: "b1"}, 2, feed.Key{}, user("a"), "b1"},
		{"user but one that no column can hold", feed.Target{User: "a", Except: "a1\x00"}, 2, feed.Key{}, user("a"), "b1"},
		{"unknown user", feed.Target{User: "x"}, 0, feed.Key{}, user("x"), "a1 a2 b1"},
		{"user that no column can hold", feed.Target{User: "a\x00"}, 0, feed.Key{}, feed.Event{Kind: feed.KindAll, Urgent: true}, "a1 a2 b1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dsn := installed(t, pgtest.Start(t), 0)
			run(t, dsn, `INSERT INTO "user"(id) VALUES ('a'), ('b');
				INSERT INTO session(id, token, "userId") VALUES ('a1', 'ta1', 'a'), ('a2', 'ta2', 'a'), ('b1', 'tb1', 'b')`)
			f := openFeed(t, dsn)
			r := register(t, f)
			got, err := f.Revoke(t.Context(), tt.target)
			if err != nil {
				t.Fatal(err)
			}
			if got.Sessions != tt.sessions || got.Key != tt.key || got.Era != r.Era {
				t.Errorf("outcome %+v", got)
			}
			after := poll(t, f, r.Position)
			if events := urgent(after); len(events) != 1 || events[0] != tt.event {
				t.Errorf("urgent events %+v, want %+v", events, tt.event)
			}
			if left := scan[string](t, connect(t, dsn), `SELECT coalesce(string_agg(id, ' ' ORDER BY id), '') FROM session`); left != tt.left {
				t.Errorf("sessions left: %s, want %s", left, tt.left)
			}
			for p, want := range map[feed.Position]bool{r.Position: false, after.Position: true} {
				if covered, err := f.Covers(p, r.Era, got.Revision); err != nil || covered != want {
					t.Errorf("position %s covers the revision: %v, %v, want %v", p, covered, err, want)
				}
			}
		})
	}
}

func TestRevokeNobody(t *testing.T) {
	f := openFeed(t, installed(t, pgtest.Start(t), 0))
	for _, target := range []feed.Target{
		{}, {Session: "s"}, {Except: "s"}, {Token: "t", User: "u"}, {Token: "t", Session: "s"}, {User: "u", Session: "s", Except: "s"}, {Token: "t", Except: "s"},
	} {
		if _, err := f.Revoke(t.Context(), target); err == nil || errors.Is(err, feed.ErrRepeat) {
			t.Errorf("target %+v: error %v", target, err)
		}
	}
}

// TestRevokeByEveryType compares byte for byte, in whatever type the issuer keeps
// its ids, and finds nobody rather than fail for what is no id of that type.
func TestRevokeByEveryType(t *testing.T) {
	const id = "0b9b7d1e-2c6f-4a43-9f3f-1c2d3e4f5a6b"
	for _, tt := range []struct {
		name, setup, typ string
		id               string
		others           []string
	}{
		{"uuid", "", "uuid", id, []string{"x", strings.ToUpper(id), strings.ReplaceAll(id, "-", ""), "{" + id + "}"}},
		{"bigint", "", "bigint", "42", []string{"x", "042", "+42", " 42", "42.0", "99999999999999999999", "4_2"}},
		{"smallint", "", "smallint", "42", []string{"x", "70000", "-42"}},
		{"varchar", "", "varchar(40)", "aB", []string{"ab", "aB ", strings.Repeat("a", 50)}},
		{"ignoring case", "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)", "text COLLATE loose", "aB", []string{"ab", "AB"}},
		{"numeric", "", "numeric", "42", []string{"x", "42.0", "042"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.Start(t).NewDatabase(t)
			columns := strings.NewReplacer("id text PRIMARY KEY", "id "+tt.typ+" PRIMARY KEY", `"userId" text`, `"userId" `+tt.typ)
			run(t, dsn, tt.setup+";"+columns.Replace(issuerTables("")))
			plan, err := postgres.PlanInstall(t.Context(), postgres.Config{DSN: dsn}, postgres.InstallOptions{Bound: bound})
			if err != nil {
				t.Fatal(err)
			}
			if err := postgres.Apply(t.Context(), postgres.Config{DSN: dsn}, plan.Statements); err != nil {
				t.Fatal(err)
			}
			run(t, dsn, fmt.Sprintf(`INSERT INTO "user"(id) VALUES ('%[1]s'); INSERT INTO session(id, token, "userId") VALUES ('%[1]s', 't', '%[1]s')`, tt.id))
			f := openFeed(t, dsn)
			r := register(t, f)
			for _, other := range tt.others {
				for _, target := range []feed.Target{{User: other}, {User: tt.id, Session: other}, {User: other, Session: tt.id}} {
					if got, err := f.Revoke(t.Context(), target); err != nil || got.Sessions != 0 {
						t.Errorf("target %+v: %+v, %v", target, got, err)
					}
				}
			}
			if got, err := f.Revoke(t.Context(), feed.Target{User: tt.id, Except: tt.id}); err != nil || got.Sessions != 0 {
				t.Errorf("all but it: %+v, %v", got, err)
			}
			if got, err := f.Revoke(t.Context(), feed.Target{User: tt.id, Session: tt.id}); err != nil || got.Sessions != 1 || got.Key != feed.KeyOf("t") {
				t.Errorf("by session: %+v, %v", got, err)
			}
			events := urgent(poll(t, f, r.Position))
			if want := 3*len(tt.others) + 2; len(events) != want {
				t.Errorf("%d urgent events, want %d", len(events), want)
			}
		})
	}
}

func TestRevokeUsesTheIndexes(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 20_000)
	run(t, dsn, `CREATE INDEX by_user ON session ("userId"); ANALYZE session`)
	f := openFeed(t, dsn)
	conn := connect(t, dsn)
	digest := feed.KeyOf("token-7")
	for i, args := range [][]any{{"token-7", digest[:]}, {"u7", "s7"}, {"u7", "s8"}} {
		rows, err := conn.Query(t.Context(), "EXPLAIN "+f.RevokeSQL()[i], args...)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		if plan := strings.Join(lines, "\n"); strings.Contains(plan, "Seq Scan on session") {
			t.Errorf("plan:\n%s", plan)
		}
	}
}

// TestRevokeWhoseAnswerIsLost says so, and has the caller repeat it.
func TestRevokeWhoseAnswerIsLost(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 1)
	p, through := newProxy(t, dsn)
	f := openFeed(t, withOption(t, through, "default_query_exec_mode", "exec"))
	r := register(t, f)
	if _, err := f.Revision(t.Context()); err != nil { // the connection is there
		t.Fatal(err)
	}
	p.loseNextAnswer()
	if _, err := f.Revoke(t.Context(), feed.Target{Token: "token-0"}); !errors.Is(err, feed.ErrRepeat) || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("error %v, want ErrRepeat", err)
	}
	conn := connect(t, dsn)
	eventually(t, "the commit that was not heard of", func() bool { return scan[int](t, conn, "SELECT count(*) FROM session") == 0 })
	got, err := f.Revoke(t.Context(), feed.Target{Token: "token-0"})
	if err != nil || got.Sessions != 0 {
		t.Errorf("repeated: %+v, %v", got, err)
	}
	if n := len(urgent(poll(t, f, r.Position))); n != 2 {
		t.Errorf("%d urgent events, want one of each", n)
	}
}

// TestRevokeThatWaits ends with the caller's deadline, its outcome not known.
func TestRevokeThatWaits(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 1)
	f := openFeed(t, dsn)
	holder := connect(t, dsn)
	exec(t, holder, "BEGIN; UPDATE session SET \"updatedAt\" = now()")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := f.Revoke(ctx, feed.Target{Token: "token-0"}); !errors.Is(err, feed.ErrRepeat) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want ErrRepeat and the deadline", err)
	}
}

// TestStatementsEndInTime whatever the caller allows.
func TestStatementsEndInTime(t *testing.T) {
	t.Parallel() // it takes the feed's own limit, 5 s
	dsn := installed(t, pgtest.Start(t), 1)
	f := openFeed(t, dsn)
	r := register(t, f)
	holder := connect(t, dsn)
	exec(t, holder, "BEGIN; LOCK TABLE sessiond.replica, sessiond.event")
	done := make(chan error)
	calls := []func() error{
		func() error { _, err := f.Beat(context.Background(), beatOf(r.ID, 1, r.News)); return err },
		func() error { _, err := f.Revoke(context.Background(), feed.Target{User: "u0"}); return err },
		func() error { _, err := f.Replicas(context.Background(), r.ID, 1); return err },
	}
	for _, call := range calls {
		go func() { done <- call() }()
	}
	for range calls {
		if err := <-done; !errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "5s") {
			t.Errorf("error %v, want ErrUnavailable that names the limit", err)
		}
	}
}

// TestRevokeThatWasNotSent is no case for ErrRepeat.
func TestRevokeThatWasNotSent(t *testing.T) {
	cluster := pgtest.StartOwn(t)
	dsn := installed(t, cluster, 1)
	f := openFeed(t, dsn)
	cluster.Stop(t, pgtest.Fast)
	if _, err := f.Revoke(t.Context(), feed.Target{Token: "token-0"}); !errors.Is(err, store.ErrUnavailable) || errors.Is(err, feed.ErrRepeat) {
		t.Errorf("nobody there: %v", err)
	}
	cluster.Start(t)
	if got, err := f.Revoke(t.Context(), feed.Target{Token: "token-0"}); err != nil || got.Sessions != 1 {
		t.Errorf("after the restart: %+v, %v", got, err)
	}
}

// TestRevokeMeetsASignOut where the default isolation makes that an error.
func TestRevokeMeetsASignOut(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 1)
	run(t, dsn, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = %L', current_database(), 'repeatable read'); END $$`)
	f := openFeed(t, dsn)
	holder, watcher := connect(t, dsn), connect(t, dsn)
	exec(t, holder, "BEGIN; DELETE FROM session")
	done := make(chan error, 1)
	go func() {
		got, err := f.Revoke(context.Background(), feed.Target{Token: "token-0"})
		if err == nil && got.Sessions != 0 {
			err = fmt.Errorf("%d sessions deleted", got.Sessions)
		}
		done <- err
	}()
	eventually(t, "the revocation waits", func() bool {
		return scan[bool](t, watcher, "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
	})
	exec(t, holder, "COMMIT")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestRevokeInNoLife: a commit of no era could not be told from one that a crash
// takes back (V5).
func TestRevokeInNoLife(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 1)
	f := openFeed(t, dsn)
	run(t, dsn, "TRUNCATE sessiond.life")
	if _, err := f.Revoke(t.Context(), feed.Target{Token: "token-0"}); !errors.Is(err, feed.ErrRepeat) {
		t.Errorf("error %v, want ErrRepeat", err)
	}
	if got, err := f.Revoke(t.Context(), feed.Target{Token: "token-0"}); err != nil || got.Era == "" {
		t.Errorf("repeated: %+v, %v", got, err)
	}
}
