package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/postgres"
)

// TestPromotionOfALaggingStandby moves an address from a primary to a standby that
// lacks its last commit, while the old primary still answers on open connections.
func TestPromotionOfALaggingStandby(t *testing.T) {
	cluster := pgtest.StartOwn(t)
	primary := installed(t, cluster, 3)
	standby := newStandby(t, primary)
	address, dsn := newProxy(t, primary)
	s, f := open(t, postgres.Config{DSN: dsn, MaxConns: 1}), openFeed(t, dsn)
	r := register(t, f)
	last := beat(t, f, beatOf(r.ID, 1, r.News))
	if _, err := s.Lookup(t.Context(), r.Era, []string{"token-0"}); err != nil {
		t.Fatal(err)
	}

	// On the standby there is no feed, and no era for a lookup to have.
	if _, err := postgres.OpenFeed(t.Context(), postgres.Config{DSN: standby}); !errors.Is(err, feed.ErrNotInstalled) || !strings.Contains(err.Error(), "standby") || !strings.Contains(err.Error(), "primary") {
		t.Errorf("a feed on a standby: %v", err)
	}
	onStandby := open(t, postgres.Config{DSN: standby})
	eventually(t, "the standby has the sessions", func() bool {
		got, err := onStandby.Lookup(t.Context(), "", []string{"token-0"})
		return err == nil && got[0].Found
	})
	if _, err := onStandby.Lookup(t.Context(), r.Era, []string{"token-0"}); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "standby") {
		t.Errorf("a lookup in an era on a standby: %v", err)
	}

	// It falls behind, and loses a revocation.
	control, old := connect(t, standby), connect(t, primary)
	eventually(t, "the standby has everything", func() bool {
		return scan[bool](t, control, "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", scan[string](t, old, "SELECT pg_current_wal_insert_lsn()::text"))
	})
	exec(t, control, "ALTER SYSTEM SET primary_conninfo = ''")
	exec(t, control, "SELECT pg_reload_conf()")
	eventually(t, "the standby no longer follows", func() bool {
		return scan[int](t, control, "SELECT count(*) FROM pg_stat_wal_receiver") == 0
	})
	lost, err := f.Revoke(t.Context(), feed.Target{Token: "token-0"})
	if err != nil || lost.Sessions != 1 {
		t.Fatalf("revoke: %+v, %v", lost, err)
	}
	address.leadTo(t, standby)
	exec(t, control, "SELECT pg_promote()")

	// Open connections stay with the old primary, and agree with it.
	if news := poll(t, f, last.Position); news.Era != r.Era || !hasKey(news, "token-0") {
		t.Errorf("the old primary, on a connection of before: %+v", news)
	}
	if got, err := s.Lookup(t.Context(), r.Era, []string{"token-0"}); err != nil || got[0].Found {
		t.Errorf("lookup at the old primary: %+v, %v", got, err)
	}

	// A new connection leads to the new one.
	fresh := openFeed(t, dsn)
	now := register(t, fresh)
	if !strings.HasPrefix(string(now.Era), "00000002:") {
		t.Errorf("era %s after a promotion, %s before", now.Era, r.Era)
	}
	var other *store.EraError
	if _, err := s.Lookup(t.Context(), now.Era, []string{"token-0"}); !errors.As(err, &other) || other.Got != r.Era {
		t.Errorf("lookup in the new era on a connection of before: %v, want EraError of %s", err, r.Era)
	}
	got, err := s.Lookup(t.Context(), now.Era, []string{"token-0", "token-1"})
	if err != nil || !got[0].Found || !got[1].Found {
		t.Errorf("the lookup after it has a new connection: %+v, %v", got, err)
	}

	// The revocation that was lost: its revision is covered by nothing here, and a
	// read of the new server meets it, for there is nothing newer (V4).
	beaten := beat(t, fresh, beatOf(now.ID, 1, now.News))
	if covered, err := fresh.Covers(beaten.Position, beaten.Era, lost.Revision); err != nil || covered {
		t.Errorf("the new server covers a lost revision: %v, %v", covered, err)
	}
	if meets, err := fresh.Meets(now.Era, lost.Revision); err != nil || !meets {
		t.Errorf("a read of the new server meets a revision of the old: %v, %v", meets, err)
	}
	revision, err := fresh.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]*postgres.Feed{"that knows the new server": fresh, "that knows the old": f} {
		if meets, err := f.Meets(r.Era, revision); err != nil || meets {
			t.Errorf("a read of the old server meets a revision of the new, says the feed %s: %v, %v", name, meets, err)
		}
	}

	// When its connections are cut, the first feed arrives too, on all of them.
	address.cut()
	if _, err := f.Poll(t.Context(), last.Position); err == nil {
		t.Error("a connection that was cut gave an answer")
	}
	if news := poll(t, f, last.Position); news.Era != now.Era {
		t.Errorf("era %s, want %s", news.Era, now.Era)
	}
	if _, err := f.Replicas(t.Context(), r.ID, 2); err != nil && !errors.Is(err, feed.ErrLostPlace) {
		t.Errorf("registry of the new server: %v", err)
	}
}

// TestSideConnectionsFollowTheLine: once the line has seen another server, the
// others are not asked on connections to the one before.
func TestSideConnectionsFollowTheLine(t *testing.T) {
	one, two := pgtest.StartOwn(t), pgtest.StartOwn(t)
	first, second := installed(t, one, 1), installed(t, two, 1)
	// Two servers, as one after the other by logical replication: another system identifier.
	address, dsn := newProxy(t, first)
	f := openFeed(t, dsn)
	r := register(t, f)
	revision, err := f.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// A feed whose line has never spoken cannot tell its other connections to move.
	silent := openFeed(t, dsn)
	if _, err := silent.Revision(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 { // both connections are open
		if _, err := f.Replicas(t.Context(), r.ID, 1); err != nil {
			t.Fatal(err)
		}
	}
	// The same address, name and password at the other server.
	database := func(dsn string) string { return dsn[strings.LastIndex(dsn, "/")+1 : strings.Index(dsn, "?")] }
	admin := connect(t, two.DSN("postgres"))
	exec(t, admin, fmt.Sprintf("ALTER DATABASE %s RENAME TO %s", database(second), database(first)))
	password := scan[string](t, connect(t, one.DSN("postgres")), "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'")
	exec(t, admin, "ALTER ROLE postgres PASSWORD '"+password+"'")
	address.leadTo(t, second)

	f.BreakLine()
	next := register(t, f)
	if next.Era == r.Era {
		t.Fatalf("the era is %s at both servers", r.Era)
	}
	registry, err := f.Replicas(t.Context(), next.ID, 1)
	if err != nil || registry.Era != next.Era {
		t.Errorf("registry of era %s, %v, want that of %s", registry.Era, err, next.Era)
	}
	silent.BreakLine()
	mine := register(t, silent)
	if _, err := silent.Replicas(t.Context(), mine.ID, 1); !errors.Is(err, feed.ErrLostPlace) {
		t.Errorf("registry of the server before: %v, want it without the own row", err)
	}
	if registry, err := silent.Replicas(t.Context(), mine.ID, 1); err != nil || registry.Era != mine.Era {
		t.Errorf("the connection was kept: %+v, %v", registry, err)
	}
	if meets, err := f.Meets(next.Era, revision); err != nil || !meets {
		t.Errorf("a read of another server meets a revision: %v, %v", meets, err)
	}
}
