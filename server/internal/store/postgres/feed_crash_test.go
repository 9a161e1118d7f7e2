package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/postgres"
)

// forgetful is a server that loses what was not committed durably when it crashes:
// nothing writes the log but those who wait for it.
func forgetful(t *testing.T) *pgtest.Cluster {
	t.Helper()
	cluster := pgtest.StartOwn(t)
	for _, setting := range []string{"synchronous_commit = off", "wal_writer_delay = '10s'", "autovacuum = off", "max_prepared_transactions = 10"} {
		run(t, cluster.DSN("postgres"), "ALTER SYSTEM SET "+setting)
	}
	cluster.Stop(t, pgtest.Fast)
	cluster.Start(t)
	return cluster
}

func crash(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	c.Stop(t, pgtest.Immediate)
	c.Start(t)
}

// afterCrash polls until the broken connection is noticed and replaced.
func afterCrash(t *testing.T, f *postgres.Feed, from feed.Position) feed.News {
	t.Helper()
	if _, err := f.Poll(t.Context(), from); err == nil {
		t.Error("a connection that the crash has cut gave an answer")
	}
	return poll(t, f, from)
}

// TestDurability crashes a server with asynchronous commits after each of the
// writes that must not be lost (F3, G1, V1).
func TestDurability(t *testing.T) {
	cluster := forgetful(t)
	dsn := installed(t, cluster, 2)
	crashed := func() (f *postgres.Feed) { crash(t, cluster); return openFeed(t, dsn) }

	// The test shows something only if others do lose their commits.
	run(t, dsn, "CHECKPOINT")
	run(t, dsn, "INSERT INTO \"user\"(id) VALUES ('lost')")
	f := crashed()
	if scan[bool](t, connect(t, dsn), "SELECT EXISTS (SELECT FROM \"user\" WHERE id = 'lost')") {
		t.Fatal("an asynchronous commit has outlived the crash: the test shows nothing")
	}

	r := register(t, f)
	f = crashed()
	if _, err := f.Replicas(t.Context(), r.ID, 1); err != nil {
		t.Errorf("after a registration: %v", err)
	}
	beat(t, f, beatOf(r.ID, 1, r.News))
	f = crashed()
	if _, err := f.Replicas(t.Context(), r.ID, 2); err != nil {
		t.Errorf("after a beat: %v", err)
	}
	if got, err := f.Revoke(t.Context(), feed.Target{Token: "token-0"}); err != nil || got.Sessions != 1 {
		t.Fatalf("revoke: %+v, %v", got, err)
	}
	f = crashed()
	conn := connect(t, dsn)
	if n := scan[int](t, conn, "SELECT count(*) FROM session WHERE token = 'token-0'"); n != 0 {
		t.Error("a session that was revoked is back")
	}
	if n := scan[int](t, conn, "SELECT count(*) FROM sessiond.event WHERE urgent"); n != 1 {
		t.Errorf("%d events of the revocation", n)
	}
	if gone, err := f.Exclude(t.Context(), r.ID, 2); err != nil || !gone {
		t.Fatalf("exclude: %v, %v", gone, err)
	}
	f = crashed()
	if _, err := f.Replicas(t.Context(), r.ID, 2); !errors.Is(err, feed.ErrLostPlace) {
		t.Errorf("a replica that was excluded is back: %v", err)
	}
}

// TestDurabilityWaitsForNoStandby: a default that waits for less than the standby is
// not raised, or a standby that is away would stop every beat.
func TestDurabilityWaitsForNoStandby(t *testing.T) {
	cluster := pgtest.StartOwn(t)
	run(t, cluster.DSN("postgres"), "ALTER SYSTEM SET synchronous_commit = local")
	run(t, cluster.DSN("postgres"), "ALTER SYSTEM SET synchronous_standby_names = 'away'")
	cluster.Stop(t, pgtest.Fast)
	cluster.Start(t)
	dsn := installed(t, cluster, 1)
	f := openFeed(t, dsn)
	r := register(t, f)
	beat(t, f, beatOf(r.ID, 1, r.News))
	if _, err := f.Revoke(t.Context(), feed.Target{Token: "token-0"}); err != nil {
		t.Error(err)
	}
}

// TestCrashTakesBackWhatAPollSaw: the xid of a transaction that a poll saw finished
// is used again. The new event is found from the position of the last acknowledged
// beat, and not from the poll's (F3, #61); and the era tells (F4).
func TestCrashTakesBackWhatAPollSaw(t *testing.T) {
	for _, tt := range []struct{ name, lost string }{
		{"asynchronous commit", "BEGIN; INSERT INTO sessiond.event(kind, usr) VALUES ('u', 'lost'); COMMIT"},
		{"rollback", "BEGIN; INSERT INTO sessiond.event(kind, usr) VALUES ('u', 'lost'); ROLLBACK"},
		{"commit that wrote nothing", "SELECT pg_current_xact_id()"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cluster := forgetful(t)
			dsn := installed(t, cluster, 1)
			f := openFeed(t, dsn)
			r := register(t, f)
			acked := beat(t, f, beatOf(r.ID, 1, r.News))
			conn := connect(t, dsn)
			before := poll(t, f, acked.Position)
			exec(t, conn, tt.lost)
			seen := poll(t, f, acked.Position)
			if seen.Position == before.Position {
				t.Fatal("the poll did not see the transaction's end: the test shows nothing")
			}

			crash(t, cluster)
			// Before the new life is begun, for that takes an xid too.
			run(t, dsn, "INSERT INTO sessiond.event(kind, usr) VALUES ('u', 'new')")
			news := afterCrash(t, f, acked.Position)
			if news.Era == acked.Era {
				t.Errorf("the era %s has outlived the crash", news.Era)
			}
			if len(news.Events) != 1 || news.Events[0].User != "new" {
				t.Errorf("from the last beat's position: %+v", news.Events)
			}
			if missed := poll(t, f, seen.Position); len(missed.Events) != 0 {
				t.Errorf("from the poll's position: %+v: the xid was not used again, so the test shows nothing", missed.Events)
			}
			// A revision of before is met by a read, and covered by nothing that is cached.
			lost := feed.Revision("pg1//" + string(acked.Era) + "/s/" + string(seen.Position))
			if covered, err := f.Covers(news.Position, news.Era, lost); err != nil || covered {
				t.Errorf("covers a revision of before the crash: %v, %v", covered, err)
			}
			if meets, err := f.Meets(news.Era, lost); err != nil || !meets {
				t.Errorf("a read meets a revision of before the crash: %v, %v", meets, err)
			}
		})
	}
}

// TestEra changes at every crash, once for all replicas, and not at a clean restart.
// An answer of any statement has one of its own (F4).
func TestEra(t *testing.T) {
	cluster := forgetful(t)
	dsn := installed(t, cluster, 1)
	one, two := openFeed(t, dsn), openFeed(t, dsn)
	r := register(t, one)
	if got := register(t, two); got.Era != r.Era {
		t.Errorf("two eras at a time: %s and %s", got.Era, r.Era)
	}
	if again := openFeed(t, dsn); poll(t, again, r.Position).Era != r.Era {
		t.Error("another connection shows another era")
	}

	cluster.Stop(t, pgtest.Fast)
	cluster.Start(t)
	if got := afterCrash(t, one, r.Position); got.Era != r.Era {
		t.Errorf("era %s after a clean restart, %s before", got.Era, r.Era)
	}
	if _, err := two.Poll(t.Context(), r.Position); err == nil {
		t.Error("a connection of before the restart gave an answer")
	}

	eras := map[store.Era]bool{r.Era: true}
	for _, first := range []struct {
		name string
		ask  func() (store.Era, error)
	}{
		{"poll", func() (store.Era, error) { n, err := one.Poll(t.Context(), r.Position); return n.Era, err }},
		{"beat", func() (store.Era, error) { n, err := one.Beat(t.Context(), beatOf(r.ID, 1, r.News)); return n.Era, err }},
		{"register", func() (store.Era, error) { n, err := one.Register(t.Context(), bound); return n.Era, err }},
		{"replicas", func() (store.Era, error) { n, err := one.Replicas(t.Context(), r.ID, 1); return n.Era, err }},
		{"revision", func() (store.Era, error) {
			v, err := one.Revision(t.Context())
			parts := strings.Split(string(v), "/")
			return store.Era(parts[min(2, len(parts)-1)]), err
		}},
	} {
		crash(t, cluster)
		var era store.Era
		eventually(t, "an answer to "+first.name, func() bool {
			var err error
			era, err = first.ask()
			return err == nil
		})
		if eras[era] || !strings.HasPrefix(string(era), "00000001:") || len(era) < len("00000001:x") {
			t.Errorf("%s first after a crash: era %q is not new", first.name, era)
		}
		eras[era] = true
		eventually(t, "an answer to a poll", func() bool {
			news, err := two.Poll(t.Context(), r.Position)
			if err == nil && news.Era != era {
				t.Errorf("%s found era %s, the next poll %s", first.name, era, news.Era)
			}
			return err == nil
		})
	}
}

// TestLookupInAnEra refuses the answer of another life (F5).
func TestLookupInAnEra(t *testing.T) {
	for _, mode := range []string{"cache_statement", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			dsn := withOption(t, installed(t, pgtest.Start(t), 2), "default_query_exec_mode", mode)
			s, f := open(t, postgres.Config{DSN: dsn}), openFeed(t, dsn)
			era := register(t, f).Era
			got, err := s.Lookup(t.Context(), era, []string{"token-1", "no-such-token", "token-0", "nul\x00"})
			if err != nil {
				t.Fatal(err)
			}
			if !got[0].Found || got[0].Session.ID != "s1" || got[0].User == nil || got[0].User.ID != "u1" || got[1].Found || !got[2].Found || got[2].Session.ID != "s0" || got[3].Found {
				t.Errorf("records %+v", got)
			}
			if got, err := s.Lookup(t.Context(), era, []string{"no-such-token"}); err != nil || got[0].Found {
				t.Errorf("a token that is not there: %+v, %v", got, err)
			}

			run(t, dsn, "TRUNCATE sessiond.life")
			for _, tokens := range [][]string{{"token-0"}, {"no-such-token"}} {
				var other *store.EraError
				if _, err := s.Lookup(t.Context(), era, tokens); !errors.As(err, &other) || !errors.Is(err, store.ErrUnavailable) || other.Got == era {
					t.Errorf("no life, %v: %v, want EraError", tokens, err)
				}
			}
			next := poll(t, f, "1:1:").Era
			var other *store.EraError
			if _, err := s.Lookup(t.Context(), era, []string{"token-0"}); !errors.As(err, &other) || other.Got != next {
				t.Errorf("another life: %v, want EraError of %s", err, next)
			}
			if got, err := s.Lookup(t.Context(), next, []string{"token-0"}); err != nil || !got[0].Found {
				t.Errorf("in the new life: %+v, %v", got, err)
			}
			if got, err := s.Lookup(t.Context(), "", []string{"token-0"}); err != nil || !got[0].Found {
				t.Errorf("in no era: %+v, %v", got, err)
			}
		})
	}
}

// TestPreparedTransactionOutlivesACrash: its event comes with COMMIT PREPARED.
func TestPreparedTransactionOutlivesACrash(t *testing.T) {
	cluster := forgetful(t)
	dsn := installed(t, cluster, 1)
	run(t, dsn, "BEGIN; DELETE FROM session; PREPARE TRANSACTION 'late'")
	crash(t, cluster)
	f := openFeed(t, dsn)
	r := register(t, f)
	news := beat(t, f, beatOf(r.ID, 1, r.News))
	news = beat(t, f, beatOf(r.ID, 2, news))
	run(t, dsn, "COMMIT PREPARED 'late'")
	if err := f.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := poll(t, f, news.Position); !hasKey(got, "token-0") {
		t.Errorf("after COMMIT PREPARED: %+v", got.Events)
	}
}
