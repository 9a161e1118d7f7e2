package postgres_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/server/internal/store/postgres"
)

// ledger holds which events were committed and which were delivered.
type ledger struct {
	mu        sync.Mutex
	committed []string // acknowledged, in that order
	undone    map[string]bool
	delivered map[string]bool
}

// TestNothingIsMissed has writers commit late, in savepoints that are kept and
// undone, in subtransactions, prepared, and not at all, while one replica polls and
// another beats. Every event that was committed before a statement was sent is
// known after its answer (F1).
func TestNothingIsMissed(t *testing.T) {
	const writers, transactions = 12, 60
	cluster := pgtest.StartOwn(t)
	run(t, cluster.DSN("postgres"), "ALTER SYSTEM SET max_prepared_transactions = 50")
	cluster.Stop(t, pgtest.Fast)
	cluster.Start(t)
	dsn := installed(t, cluster, 0)
	run(t, dsn, "CREATE TABLE scratch (i int)")
	l := &ledger{undone: map[string]bool{}, delivered: map[string]bool{}}

	polling, beating := openFeed(t, dsn), openFeed(t, dsn)
	polled, beaten := register(t, polling), register(t, beating)
	var group sync.WaitGroup
	for w := range writers {
		conn := connect(t, dsn)
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range transactions {
				if err := write(t.Context(), conn, random, fmt.Sprintf("%d-%d", w, i), l); err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()

	var readers sync.WaitGroup
	read := func(name string, next func(feed.Position) (feed.News, error), position feed.Position) {
		known, checked, reads := map[string]bool{}, 0, 0
		for last := false; ; {
			select {
			case <-done:
				last = true
			default:
			}
			l.mu.Lock()
			committed := l.committed
			l.mu.Unlock()
			news, err := next(position)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			if news.Overflow { // all of them together are fewer than one read takes
				t.Errorf("%s %d overflows", name, reads)
			}
			position = news.Position
			for _, e := range news.Events {
				known[e.User] = true
			}
			reads++
			for ; checked < len(committed); checked++ {
				if !known[committed[checked]] {
					t.Errorf("%s %d does not know of %s, committed before it was sent", name, reads, committed[checked])
				}
			}
			if !last {
				continue
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			for user := range known {
				if l.undone[user] {
					t.Errorf("%s: %s was delivered, and undone", name, user)
				}
			}
			t.Logf("%d %ss, %d events", reads, name, checked)
			return
		}
	}
	readers.Go(func() {
		read("poll", func(p feed.Position) (feed.News, error) { return polling.Poll(t.Context(), p) }, polled.Position)
	})
	readers.Go(func() {
		acked, last := int64(1), beaten.News
		read("beat", func(feed.Position) (feed.News, error) {
			news, err := beating.Beat(t.Context(), beatOf(beaten.ID, acked, last))
			if err == nil {
				acked, last = acked+1, news
				err = beating.Clean(t.Context()) // under way all the time
			}
			return news, err
		}, beaten.Position)
	})
	// The polling replica keeps its place, so that nothing it lacks is removed, and
	// never beats: the other one's cleanup must not take from it.
	readers.Wait()
	if n := len(l.committed); n < writers*transactions/3 {
		t.Errorf("only %d transactions were committed", n)
	}
}

// write runs one transaction of a random shape, whose events are by user.
func write(ctx context.Context, conn *pgx.Conn, random *rand.Rand, name string, l *ledger) error {
	event := func(user string) string {
		return fmt.Sprintf("INSERT INTO sessiond.event(kind, usr) VALUES ('u', '%s');", user)
	}
	pause := func() string {
		return fmt.Sprintf("SELECT pg_sleep(%f);", random.ExpFloat64()*0.01)
	}
	sql, kept, undone := "BEGIN;", []string{name}, []string(nil)
	if random.IntN(2) == 0 {
		sql += "SELECT pg_current_xact_id();" + pause() // the xid long before the event
	}
	switch random.IntN(5) {
	case 0:
		sql += event(name)
	case 1:
		sql += "SAVEPOINT s;" + event(name+"-undone") + pause() + "ROLLBACK TO s;" + event(name)
		undone = append(undone, name+"-undone")
	case 2:
		sql += event(name) + "SAVEPOINT s;" + event(name+"-kept") + "RELEASE s;"
		kept = append(kept, name+"-kept")
	case 3: // more subtransactions than a snapshot holds
		sql += "DO $$ BEGIN FOR i IN 1..80 LOOP BEGIN INSERT INTO scratch VALUES (i); EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; BEGIN " +
			event(name) + " EXCEPTION WHEN division_by_zero THEN NULL; END; END $$;"
	case 4:
		sql += event(name) + pause()
	}
	if random.IntN(2) == 0 {
		sql += pause()
	}
	end := "COMMIT"
	switch random.IntN(6) {
	case 0:
		end, kept, undone = "ROLLBACK", nil, append(kept, undone...)
	case 1:
		sql += "PREPARE TRANSACTION '" + name + "';" + pause()
		end = "COMMIT PREPARED '" + name + "'"
	case 2:
		sql += pause() + pause() + pause()
	}
	// Noted first: what a reader may see is said before it can.
	l.mu.Lock()
	for _, u := range undone {
		l.undone[u] = true
	}
	l.mu.Unlock()
	if _, err := conn.Exec(ctx, sql); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, end); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.committed = append(l.committed, kept...)
	return nil
}

// TestIdleWriter is idle in its transaction while the others go on: the outbox is
// cleaned all the same, and its event comes with its commit (F7).
func TestIdleWriter(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 20)
	idle, conn := connect(t, dsn), connect(t, dsn)
	exec(t, idle, "BEGIN; DELETE FROM session WHERE token = 'token-0'")
	f := openFeed(t, dsn)
	r := register(t, f)
	last, acked := r.News, int64(1)
	for i := 1; i < 10; i++ {
		run(t, dsn, fmt.Sprintf("DELETE FROM session WHERE token = 'token-%d'", i))
		news := beat(t, f, beatOf(r.ID, acked, last))
		if !hasKey(news, fmt.Sprintf("token-%d", i)) || hasKey(news, "token-0") {
			t.Errorf("beat %d brought %+v", i, news.Events)
		}
		acked, last = acked+1, news
		if err := f.Clean(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := scan[int](t, conn, "SELECT count(*) FROM sessiond.event"); n > 1 {
		t.Errorf("%d events are kept on account of an idle writer", n)
	}
	exec(t, idle, "COMMIT")
	if err := f.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if news := poll(t, f, last.Position); !hasKey(news, "token-0") {
		t.Errorf("after its commit: %+v", news.Events)
	}
}

// TestCleanKeepsForEveryReplica removes an event when all have written a position
// that is past it, and not before; a row of the registry that nobody beats keeps it.
func TestCleanKeepsForEveryReplica(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 1)
	one, two := openFeed(t, dsn), openFeed(t, dsn)
	first, second := register(t, one), register(t, two)
	run(t, dsn, "DELETE FROM session")
	conn := connect(t, dsn)
	clean := func(want int, when string) {
		t.Helper()
		if err := two.Clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := scan[int](t, conn, "SELECT count(*) FROM sessiond.event"); n != want {
			t.Errorf("%s: %d events, want %d", when, n, want)
		}
	}
	clean(1, "nobody has beaten")
	news := beat(t, one, beatOf(first.ID, 1, first.News))
	// This beat has read the event. Had its answer been lost, it would be read again:
	// from the position that was written, which is the one before (#83).
	clean(1, "read, and not known to be read")
	if again := poll(t, one, first.Position); !hasKey(again, "token-0") {
		t.Error("the event of a beat whose answer was lost is gone")
	}
	news = beat(t, one, beatOf(first.ID, 2, news))
	clean(1, "the other has not beaten")
	last := beat(t, two, beatOf(second.ID, 1, second.News))
	beat(t, two, beatOf(second.ID, 2, last))
	clean(0, "both have written it down")

	run(t, dsn, "INSERT INTO sessiond.event(kind) VALUES ('a')")
	news = beat(t, one, beatOf(first.ID, 3, news))
	beat(t, one, beatOf(first.ID, 4, news))
	clean(1, "the other is silent")
	if gone, err := one.Exclude(t.Context(), second.ID, 3); err != nil || !gone {
		t.Fatalf("exclude: %v, %v", gone, err)
	}
	clean(0, "the other is excluded")
}

// TestCleanRemovesWhatADumpBrought and leaves what is being written alone.
func TestCleanRemovesWhatADumpBrought(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 1)
	f := openFeed(t, dsn)
	r := register(t, f)
	run(t, dsn, "INSERT INTO sessiond.event(xid, kind) SELECT (pg_current_xact_id()::text::bigint + 1000000)::text::xid8, 'a'")
	writer, conn := connect(t, dsn), connect(t, dsn)
	exec(t, writer, "BEGIN; DELETE FROM session")
	if err := f.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := scan[int](t, conn, "SELECT count(*) FROM sessiond.event"); n != 0 {
		t.Errorf("%d rows of another server's life are left", n)
	}
	exec(t, writer, "COMMIT")
	if news := poll(t, f, r.Position); !hasKey(news, "token-0") {
		t.Errorf("the event that was being written: %+v", news.Events)
	}
}

// TestCleanAfterALongAbsence removes what has gathered while no replica ran.
func TestCleanAfterALongAbsence(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 0)
	run(t, dsn, "INSERT INTO sessiond.event(kind) SELECT 'a' FROM generate_series(1, 25000)")
	f := openFeed(t, dsn)
	register(t, f)
	if err := f.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := scan[int](t, connect(t, dsn), "SELECT count(*) FROM sessiond.event"); n != 0 {
		t.Errorf("%d events are left", n)
	}
}

// TestPollUsesTheIndex in the plan that a prepared statement ends with.
func TestPollUsesTheIndex(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 0)
	run(t, dsn, "INSERT INTO sessiond.event(xid, kind, usr) SELECT i::text::xid8, 'u', i::text FROM generate_series(1, 20000) i")
	run(t, dsn, "VACUUM ANALYZE sessiond.event")
	conn := connect(t, dsn)
	exec(t, conn, "SET plan_cache_mode = force_generic_plan")
	exec(t, conn, "PREPARE poll(text) AS "+postgres.PollSQL)
	rows, err := conn.Query(t.Context(), "EXPLAIN EXECUTE poll('100:200:150')")
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if plan := strings.Join(lines, "\n"); strings.Contains(plan, "Seq Scan on event") {
		t.Errorf("plan:\n%s", plan)
	}
}

// TestFeedAndPositionAreOneSnapshot: what commits while a beat waits for its row is
// in the beat's answer or after its position, never neither.
func TestFeedAndPositionAreOneSnapshot(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 1)
	f := openFeed(t, dsn)
	r := register(t, f)
	holder, watcher := connect(t, dsn), connect(t, dsn)
	exec(t, holder, "BEGIN; UPDATE sessiond.replica SET beat = beat")
	type answer struct {
		news feed.News
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		news, err := f.Beat(context.Background(), beatOf(r.ID, 1, r.News))
		answers <- answer{news, err}
	}()
	eventually(t, "the beat waits", func() bool {
		return scan[bool](t, watcher, "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
	})
	run(t, dsn, "DELETE FROM session")
	exec(t, holder, "COMMIT")
	a := <-answers
	if a.err != nil {
		t.Fatal(a.err)
	}
	if !hasKey(a.news, "token-0") && !hasKey(poll(t, f, a.news.Position), "token-0") {
		t.Error("the event is neither in the beat's answer nor after its position")
	}
}
