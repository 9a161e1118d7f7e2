package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
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

// bound is what the tests install the feed for.
const bound = 5 * time.Second

// install makes the issuer's tables with n sessions of as many users, and the feed.
func install(t testing.TB, dsn string, n int, o postgres.InstallOptions) {
	t.Helper()
	run(t, dsn, issuerTables(" ON DELETE CASCADE")+seed(n))
	plan, err := postgres.PlanInstall(t.Context(), postgres.Config{DSN: dsn}, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := postgres.Apply(t.Context(), postgres.Config{DSN: dsn}, plan.Statements); err != nil {
		t.Fatal(err)
	}
	run(t, dsn, "DELETE FROM sessiond.event")
}

// installed is a new database with the feed.
func installed(t testing.TB, c *pgtest.Cluster, n int) string {
	t.Helper()
	dsn := c.NewDatabase(t)
	install(t, dsn, n, postgres.InstallOptions{Bound: bound})
	return dsn
}

func openFeed(t testing.TB, dsn string) *postgres.Feed {
	t.Helper()
	f, err := postgres.OpenFeed(t.Context(), postgres.Config{DSN: dsn})
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

func register(t testing.TB, f *postgres.Feed) feed.Registration {
	t.Helper()
	r, err := f.Register(t.Context(), bound)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func poll(t testing.TB, f *postgres.Feed, from feed.Position) feed.News {
	t.Helper()
	news, err := f.Poll(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	return news
}

// beatOf is a beat that comes after one with news.
func beatOf(id string, acked int64, last feed.News) feed.Beat {
	return feed.Beat{
		ID: id, Acked: acked, Number: acked + 1,
		Written: last.Position, Done: last.Position, DoneEra: last.Era, From: last.Position,
	}
}

func beat(t testing.TB, f *postgres.Feed, b feed.Beat) feed.News {
	t.Helper()
	news, err := f.Beat(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return news
}

func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func scan[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// eventually waits for a condition of another process.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func hasKey(news feed.News, token string) bool {
	return slices.ContainsFunc(news.Events, func(e feed.Event) bool { return e.Kind == feed.KindKey && e.Key == feed.KeyOf(token) })
}

func TestFeedInEveryMode(t *testing.T) {
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			dsn := installed(t, pgtest.Start(t), 4)
			f := openFeed(t, withOption(t, dsn, "default_query_exec_mode", mode))
			r := register(t, f)
			if r.ID == "" || r.Position == "" || r.Era == "" || r.Coverage != feed.CoverageFull || r.Objects == "" || r.Problem != "" {
				t.Errorf("registration %+v", r)
			}
			run(t, dsn, `DELETE FROM session WHERE token = 'token-0'; UPDATE "user" SET name = 'other' WHERE id = 'u1'; TRUNCATE session`)
			want := map[feed.Kind]int{feed.KindKey: 1, feed.KindUser: 1, feed.KindAll: 1}
			check := func(what string, news feed.News) {
				t.Helper()
				got := map[feed.Kind]int{}
				for _, e := range news.Events {
					got[e.Kind]++
					switch {
					case e.Kind == feed.KindKey && (e.Key != feed.KeyOf("token-0") || e.User != "u0"),
						e.Kind == feed.KindUser && e.User != "u1", e.Urgent:
						t.Errorf("%s: event %+v", what, e)
					}
				}
				if fmt.Sprint(got) != fmt.Sprint(want) || news.Overflow || news.Era != r.Era || news.Position == "" {
					t.Errorf("%s brought %+v", what, news)
				}
			}
			polled := poll(t, f, r.Position)
			check("poll", polled)
			check("poll from the same position", poll(t, f, r.Position))
			if again := poll(t, f, polled.Position); len(again.Events) != 0 {
				t.Errorf("poll from its own position: %+v", again.Events)
			}
			beaten := beat(t, f, beatOf(r.ID, 1, r.News))
			check("beat", beaten)
			if beaten.Coverage != feed.CoverageFull || beaten.Objects != r.Objects {
				t.Errorf("coverage %v, objects changed: %v", beaten.Coverage, beaten.Objects != r.Objects)
			}

			registry, err := f.Replicas(t.Context(), r.ID, 2)
			if err != nil || registry.Era != r.Era || len(registry.Replicas) != 1 {
				t.Fatalf("registry %+v, %v", registry, err)
			}
			if got, want := registry.Replicas[0], (feed.Replica{ID: r.ID, Beat: 2, Done: r.Position, DoneEra: r.Era}); got != want {
				t.Errorf("row %+v, want %+v", got, want)
			}
			revision, err := f.Revision(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if covered, err := f.Covers(poll(t, f, polled.Position).Position, r.Era, revision); err != nil || !covered {
				t.Errorf("a later position covers the revision: %v, %v", covered, err)
			}
			if covered, err := f.Covers(r.Position, r.Era, revision); err != nil || covered {
				t.Errorf("the first position covers the revision: %v, %v", covered, err)
			}
			if meets, err := f.Meets(r.Era, revision); err != nil || !meets {
				t.Errorf("the same era meets the revision: %v, %v", meets, err)
			}
			if err := f.Clean(t.Context()); err != nil {
				t.Error(err)
			}
			if gone, err := f.Exclude(t.Context(), r.ID, 2); err != nil || !gone {
				t.Errorf("exclude: %v, %v", gone, err)
			}
		})
	}
}

func TestOpenFeedRefuses(t *testing.T) {
	cluster := pgtest.Start(t)
	plain := cluster.NewDatabase(t)
	run(t, plain, issuerTables("")+seed(1))
	newer, older := installed(t, cluster, 1), installed(t, cluster, 1)
	run(t, newer, "UPDATE sessiond.setting SET version = 99")
	run(t, older, "UPDATE sessiond.setting SET version = -1")
	stranger := installed(t, cluster, 1)
	name := "stranger_" + stranger[strings.LastIndex(stranger, "_")+1:strings.Index(stranger, "?")]
	run(t, stranger, `CREATE ROLE `+name+` LOGIN PASSWORD 'test'; GRANT SELECT ON session, "user" TO `+name)
	t.Cleanup(func() { run(t, stranger, "DROP OWNED BY "+name+"; DROP ROLE "+name) })
	u, err := url.Parse(stranger)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(name, "test")
	for _, tt := range []struct{ name, dsn, remedy string }{
		{"not installed", plain, "run sessiond feed install"},
		{"newer", newer, "upgrade sessiond"},
		{"older", older, "run sessiond feed install"},
		{"no rights", u.String(), "--role " + name},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := postgres.OpenFeed(t.Context(), postgres.Config{DSN: tt.dsn})
			if !errors.Is(err, feed.ErrNotInstalled) || !strings.Contains(err.Error(), tt.remedy) {
				t.Errorf("error %v, want ErrNotInstalled and %q", err, tt.remedy)
			}
		})
	}
	const password = "pA55word"
	_, err = postgres.OpenFeed(t.Context(), postgres.Config{DSN: "postgres://u:" + password + "@127.0.0.1:1/db"})
	if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, feed.ErrNotInstalled) || strings.Contains(err.Error(), password) {
		t.Errorf("nothing listens: %v", err)
	}
}

// TestLeastRightsOfFeed does everything with no more than install grants.
func TestLeastRightsOfFeed(t *testing.T) {
	dsn := pgtest.Start(t).NewDatabase(t)
	name := "feed_" + dsn[strings.LastIndex(dsn, "_")+1:strings.Index(dsn, "?")]
	run(t, dsn, `CREATE ROLE `+name+` LOGIN PASSWORD 'test'`)
	t.Cleanup(func() { run(t, dsn, "DROP OWNED BY "+name+"; DROP ROLE "+name) })
	install(t, dsn, 2, postgres.InstallOptions{Bound: bound, Role: name})
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(name, "test")
	run(t, dsn, "TRUNCATE sessiond.life") // as a crash does
	f := openFeed(t, u.String())
	r := register(t, f)
	poll(t, f, r.Position)
	beat(t, f, beatOf(r.ID, 1, r.News))
	if _, err := f.Replicas(t.Context(), r.ID, 2); err != nil {
		t.Error(err)
	}
	if _, err := f.Revision(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := f.Revoke(t.Context(), feed.Target{Token: "token-0"}); err != nil {
		t.Error(err)
	}
	if err := f.Clean(t.Context()); err != nil {
		t.Error(err)
	}
	if gone, err := f.Exclude(t.Context(), r.ID, 2); err != nil || !gone {
		t.Errorf("exclude: %v, %v", gone, err)
	}
	s := open(t, postgres.Config{DSN: u.String()})
	if got, err := s.Lookup(t.Context(), r.Era, []string{"token-1"}); err != nil || !got[0].Found {
		t.Errorf("lookup in the era: %+v, %v", got, err)
	}
	run(t, dsn, "REVOKE DELETE ON session FROM "+name)
	if _, err := f.Revoke(t.Context(), feed.Target{Token: "token-1"}); errors.Is(err, feed.ErrRepeat) || err == nil || !strings.Contains(err.Error(), "GRANT") {
		t.Errorf("revoke without the right: %v, want the remedy", err)
	}
}

func TestRegisterForAnotherBound(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 0)
	f := openFeed(t, dsn)
	_, err := f.Register(t.Context(), 2*bound)
	if !errors.Is(err, feed.ErrBound) || !strings.Contains(err.Error(), "5s") || !strings.Contains(err.Error(), "10s") {
		t.Errorf("error %v, want ErrBound with both values", err)
	}
	if n := scan[int](t, connect(t, dsn), "SELECT count(*) FROM sessiond.replica"); n != 0 {
		t.Errorf("%d rows in the registry", n)
	}
	run(t, dsn, "UPDATE sessiond.setting SET version = 99")
	if _, err := f.Register(t.Context(), bound); !errors.Is(err, feed.ErrNotInstalled) {
		t.Errorf("another version: %v", err)
	}
	run(t, dsn, "DROP SCHEMA sessiond CASCADE")
	if _, err := f.Register(t.Context(), bound); !errors.Is(err, feed.ErrNotInstalled) || !strings.Contains(err.Error(), "sessiond feed install") {
		t.Errorf("schema dropped: %v", err)
	}
	if _, err := f.Poll(t.Context(), "1:1:"); !errors.Is(err, feed.ErrNotInstalled) {
		t.Errorf("poll, schema dropped: %v", err)
	}
}

// TestLostPlace is G3: the number of a beat may not be less than the row's, and
// what the store has forgotten counts as removed.
func TestLostPlace(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 0)
	f, other := openFeed(t, dsn), openFeed(t, dsn)
	r := register(t, f)
	if again := register(t, other); again.ID == r.ID {
		t.Error("two registrations have one id")
	}
	news := beat(t, f, feed.Beat{ID: r.ID, Acked: 1, Number: 7, Written: r.Position, Done: r.Position, DoneEra: r.Era, From: r.Position})
	// The answer to 7 may have been lost: 8 says that 1 is the last acknowledged.
	news = beat(t, f, feed.Beat{ID: r.ID, Acked: 1, Number: 8, Written: r.Position, Done: r.Position, DoneEra: r.Era, From: news.Position})
	if _, err := f.Replicas(t.Context(), r.ID, 8); err != nil {
		t.Error(err)
	}
	if _, err := f.Replicas(t.Context(), r.ID, 9); !errors.Is(err, feed.ErrLostPlace) {
		t.Errorf("registry behind the last acknowledged beat: %v", err)
	}
	if _, err := f.Beat(t.Context(), beatOf(r.ID, 9, news)); !errors.Is(err, feed.ErrLostPlace) {
		t.Errorf("beat of a store that went back: %v", err)
	}
	if gone, err := other.Exclude(t.Context(), r.ID, 7); err != nil || gone {
		t.Errorf("excluded at a beat that is not the last: %v, %v", gone, err)
	}
	if gone, err := other.Exclude(t.Context(), r.ID, 8); err != nil || !gone {
		t.Errorf("not excluded: %v, %v", gone, err)
	}
	if gone, err := other.Exclude(t.Context(), r.ID, 8); err != nil || gone {
		t.Errorf("excluded twice: %v, %v", gone, err)
	}
	if _, err := f.Beat(t.Context(), beatOf(r.ID, 8, news)); !errors.Is(err, feed.ErrLostPlace) {
		t.Errorf("beat of a removed row: %v", err)
	}
	if _, err := f.Replicas(t.Context(), r.ID, 8); !errors.Is(err, feed.ErrLostPlace) {
		t.Errorf("registry without the own row: %v", err)
	}
}

// TestExclusionRace lets a beat and its exclusion meet: exactly one of them counts (G4).
func TestExclusionRace(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 0)
	f, other := openFeed(t, dsn), openFeed(t, dsn)
	beats, exclusions := 0, 0
	for range 100 {
		r := register(t, f)
		type outcome struct {
			gone bool
			err  error
		}
		excluded := make(chan outcome, 1)
		go func() {
			gone, err := other.Exclude(context.Background(), r.ID, 1)
			excluded <- outcome{gone, err}
		}()
		_, err := f.Beat(t.Context(), beatOf(r.ID, 1, r.News))
		if err != nil && !errors.Is(err, feed.ErrLostPlace) {
			t.Fatal(err)
		}
		o := <-excluded
		if o.err != nil {
			t.Fatal(o.err)
		}
		if o.gone == (err == nil) {
			t.Fatalf("beat: %v; excluded: %v", err, o.gone)
		}
		if o.gone {
			exclusions++
		} else {
			beats++
		}
	}
	t.Logf("%d beats and %d exclusions won", beats, exclusions)
}

// TestExclusionInAnotherEra leaves the registry alone of a server that is not the
// one whose registry was watched.
func TestExclusionInAnotherEra(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 0)
	f, other := openFeed(t, dsn), openFeed(t, dsn)
	r := register(t, f)
	register(t, other)
	run(t, dsn, "TRUNCATE sessiond.life; INSERT INTO sessiond.life DEFAULT VALUES")
	if gone, err := other.Exclude(t.Context(), r.ID, 1); err != nil || gone {
		t.Errorf("excluded in another era: %v, %v", gone, err)
	}
}

func TestCoverage(t *testing.T) {
	cluster := pgtest.Start(t)
	dsn := installed(t, cluster, 1)
	f := openFeed(t, dsn)
	r := register(t, f)
	acked, last := int64(1), r.News
	next := func() feed.News {
		last = beat(t, f, beatOf(r.ID, acked, last))
		acked++
		return last
	}
	run(t, dsn, "ALTER TABLE session DISABLE TRIGGER sessiond_delete")
	if n := next(); n.Coverage != feed.CoverageBroken || n.Objects == r.Objects || !strings.Contains(n.Problem, "sessiond feed install") {
		t.Errorf("trigger disabled: %+v", n)
	}
	run(t, dsn, "ALTER TABLE session ENABLE ALWAYS TRIGGER sessiond_delete")
	if n := next(); n.Coverage != feed.CoverageFull || n.Objects == r.Objects {
		t.Errorf("trigger enabled again between two beats: coverage %v, the fingerprint changed: %v", n.Coverage, n.Objects != r.Objects)
	}
	before := last.Objects
	run(t, dsn, `VACUUM FULL session`)
	run(t, dsn, `ALTER TABLE session ADD note text`)
	if n := next(); n.Coverage != feed.CoverageFull || n.Objects != before {
		t.Errorf("harmless changes: coverage %v, the fingerprint changed: %v", n.Coverage, n.Objects != before)
	}
	run(t, dsn, "DELETE FROM sessiond.setting")
	if _, err := f.Beat(t.Context(), beatOf(r.ID, acked, last)); !errors.Is(err, feed.ErrNotInstalled) {
		t.Errorf("no setting: %v", err)
	}

	own := cluster.NewDatabase(t)
	install(t, own, 1, postgres.InstallOptions{Bound: bound, WithoutTriggers: true})
	if r := register(t, openFeed(t, own)); r.Coverage != feed.CoverageOwn {
		t.Errorf("without triggers: %+v", r)
	}
}

func TestOverflow(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 0)
	f := openFeed(t, dsn)
	r := register(t, f)
	run(t, dsn, "INSERT INTO sessiond.event(kind, usr) SELECT 'u', i::text FROM generate_series(1, 1000) i")
	if news := poll(t, f, r.Position); news.Overflow || len(news.Events) != 1000 {
		t.Errorf("1,000 events: overflow %v, %d events", news.Overflow, len(news.Events))
	}
	run(t, dsn, "INSERT INTO sessiond.event(kind, usr) VALUES ('u', 'last')")
	for what, news := range map[string]feed.News{"poll": poll(t, f, r.Position), "beat": beat(t, f, beatOf(r.ID, 1, r.News))} {
		if !news.Overflow || len(news.Events) != 0 {
			t.Errorf("%s of 1,001 events: overflow %v, %d events", what, news.Overflow, len(news.Events))
		}
	}
}

// TestOverflowOfLateCommits is the other branch of the statement.
func TestOverflowOfLateCommits(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 0)
	late := connect(t, dsn)
	exec(t, late, "BEGIN; INSERT INTO sessiond.event(kind, usr) SELECT 'u', i::text FROM generate_series(1, 1001) i")
	f := openFeed(t, dsn)
	r := register(t, f)
	if news := poll(t, f, r.Position); len(news.Events) != 0 || news.Overflow {
		t.Errorf("before the commit: %d events", len(news.Events))
	}
	exec(t, late, "COMMIT")
	if news := poll(t, f, r.Position); !news.Overflow {
		t.Errorf("after the commit: %d events, no overflow", len(news.Events))
	}
}

// TestUnreadableEvents never loses one: what cannot be read is "forget all".
func TestUnreadableEvents(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 0)
	f := openFeed(t, dsn)
	r := register(t, f)
	run(t, dsn, "INSERT INTO sessiond.event(kind, key, usr) VALUES ('k', '\\x00', 'u'), ('k', NULL, 'u'), ('u', NULL, NULL)")
	news := poll(t, f, r.Position)
	if len(news.Events) != 3 {
		t.Fatalf("events %+v", news.Events)
	}
	for _, e := range news.Events {
		if e != (feed.Event{Kind: feed.KindAll}) {
			t.Errorf("event %+v", e)
		}
	}
}

// TestBeatWaitsForItsRow is a beat whose row a dead connection of the same replica
// still holds: the caller's deadline ends it, and the answer that comes after all is
// never seen (F6).
func TestBeatWaitsForItsRow(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 1)
	f := openFeed(t, dsn)
	r := register(t, f)
	holder := connect(t, dsn)
	exec(t, holder, "BEGIN; UPDATE sessiond.replica SET beat = beat")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := f.Beat(ctx, beatOf(r.ID, 1, r.News)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the caller's deadline", err)
	}
	// A poll does not wait for the row, and has a connection of its own.
	run(t, dsn, "DELETE FROM session")
	if news := poll(t, f, r.Position); !hasKey(news, "token-0") {
		t.Errorf("poll after the beat was given up: %+v", news.Events)
	}
	exec(t, holder, "COMMIT")
	b := beatOf(r.ID, 1, r.News)
	b.Number = 3
	if news := beat(t, f, b); !hasKey(news, "token-0") {
		t.Errorf("the next beat: %+v", news.Events)
	}
}

func TestFeedClosed(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 1)
	f := openFeed(t, dsn)
	r := register(t, f)
	holder := connect(t, dsn)
	exec(t, holder, "BEGIN; UPDATE sessiond.replica SET beat = beat")
	done := make(chan error, 1)
	go func() {
		_, err := f.Beat(context.Background(), beatOf(r.ID, 1, r.News))
		done <- err
	}()
	watcher := connect(t, dsn)
	eventually(t, "the beat waits", func() bool {
		return scan[bool](t, watcher, "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
	})
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the beat under way: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"poll":   func() error { _, err := f.Poll(t.Context(), r.Position); return err }(),
		"revoke": func() error { _, err := f.Revoke(t.Context(), feed.Target{User: "u0"}); return err }(),
	} {
		if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, feed.ErrRepeat) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
	// What was given up must be gone on the server's side too.
	exec(t, holder, "COMMIT")
	eventually(t, "the server has no connection of the feed", func() bool {
		return scan[int](t, watcher, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sessiond' AND datname = current_database()") == 0
	})
}
